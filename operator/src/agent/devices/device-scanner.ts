/**
 * Looks at the node's devices at start and every minute, and tells when something is different. Owns that timing and the last
 * answer; what a device is stands in `pci-devices.ts` and `processors.ts`. Never writes anything.
 */
import { isDeepStrictEqual } from 'node:util';
import type { NodeDevice } from '@slm-operator/crds';
import type { Clock, Timer } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { HostFiles } from './host-files.ts';
import { pciDevices } from './pci-devices.ts';
import { processors } from './processors.ts';

/** A driver that is loaded, or a card that falls off its bus, is seen after this long at most. */
export const SCAN_INTERVAL_MS = 60_000;
/** The API's bound. */
const MAX_DEVICES = 64;

/** Everything that models can be computed on, processors first, then by address on the bus. */
export async function scanDevices(host: HostFiles): Promise<NodeDevice[]> {
  const [cpuinfo, cards] = await Promise.all([host.read('proc/cpuinfo'), pciDevices(host)]);
  const cpu = processors(cpuinfo ?? '');
  return [...(cpu === undefined ? [] : [cpu]), ...cards].slice(0, MAX_DEVICES);
}

export interface DeviceScannerOptions {
  readonly host: HostFiles;
  readonly clock: Clock;
  readonly log: Logger;
  /** The devices are not what they were. */
  readonly onChange: () => void;
}

export class DeviceScanner {
  readonly #options: DeviceScannerOptions;
  #devices: readonly NodeDevice[] | undefined;
  #timer: Timer | undefined;
  #scanning: Promise<void> | undefined;
  #stopped = false;
  #complaint: string | undefined;

  constructor(options: DeviceScannerOptions) {
    this.#options = options;
  }

  /** What was last seen; undefined before the first answer. */
  get devices(): readonly NodeDevice[] | undefined {
    return this.#devices;
  }

  /** Resolves after the first look. Never rejects: a node whose devices cannot be read still holds models. */
  async start(): Promise<void> {
    this.#scanning = this.#scan();
    await this.#scanning;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#scanning;
  }

  async #scan(): Promise<void> {
    const { host, log, clock, onChange } = this.#options;
    try {
      const devices = await scanDevices(host);
      this.#complaint = undefined;
      if (!isDeepStrictEqual(devices, this.#devices)) {
        this.#devices = devices;
        log.info({ devices: devices.map(describe) }, 'devices of this node');
        onChange();
      }
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      // The same every minute helps nobody.
      if (message !== this.#complaint) log.warn({ err: error }, 'the devices of this node could not be read');
      this.#complaint = message;
    }
    if (this.#stopped) return;
    this.#timer = clock.schedule(SCAN_INTERVAL_MS, () => {
      this.#scanning = this.#scan();
    });
  }
}

function describe({ id, name, driver, usable, message }: NodeDevice): string {
  return `${id} ${name ?? ''}${driver === undefined ? '' : ` (${driver})`}${usable ? '' : `: ${message}`}`;
}
