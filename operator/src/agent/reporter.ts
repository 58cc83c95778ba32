/**
 * Writes SLMNodeCache.status of this node: at once when an entry changes its state or a device is another, at most every two seconds while bytes
 * come, and never when nothing changed. Owns that timing; what is written is computed in `status.ts`.
 */
import { isDeepStrictEqual } from 'node:util';
import type { NodeDevice, SLMNodeCache, SLMNodeCacheStatus } from '@slm-operator/crds';
import type { Clock, Timer } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import type { DiskSpace } from './blob-store.ts';
import type { PullEntry } from './puller.ts';
import { desiredStatus } from './status.ts';

/** Least time between two writes that only tell of more bytes. */
export const PROGRESS_INTERVAL_MS = 2000;
/** Changes that come together are written together. */
const SETTLE_MS = 20;
const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 30_000;
/** How long our own write may take to come back by watch: until then a differing status is only old. */
const ECHO_MS = 10_000;

export interface ReporterOptions {
  /** The node's object as last seen; undefined when it does not exist (yet). */
  readonly read: () => SLMNodeCache | undefined;
  /** Writes the status; rejects when that failed. */
  readonly write: (status: SLMNodeCacheStatus) => Promise<void>;
  readonly entries: () => readonly PullEntry[];
  readonly disk: () => Promise<DiskSpace & { readonly usedBytes: number }>;
  /** What the node can compute on; undefined while nobody has looked. */
  readonly devices: () => readonly NodeDevice[] | undefined;
  /** Generation of the spec that the entries answer to. */
  readonly observedGeneration: () => number | undefined;
  readonly agentVersion: string;
  readonly clock: Clock;
  readonly log: Logger;
}

export class Reporter {
  readonly #options: ReporterOptions;
  #timer: Timer | undefined;
  #dueAt = Number.POSITIVE_INFINITY;
  #running: Promise<void> | undefined;
  #wroteAt = Number.NEGATIVE_INFINITY;
  #written: { readonly uid: string | undefined; readonly status: SLMNodeCacheStatus } | undefined;
  #disk: (DiskSpace & { readonly usedBytes: number }) | undefined;
  #diskOf = '';
  #failures = 0;
  #stopped = false;

  constructor(options: ReporterOptions) {
    this.#options = options;
  }

  /** Something changed. `state`: tell at once. `progress`: tell with the next regular write. */
  changed(kind: 'state' | 'progress'): void {
    const { clock } = this.#options;
    const now = clock.monotonic();
    const soon = kind === 'state' ? now + SETTLE_MS : Math.max(now + SETTLE_MS, this.#wroteAt + PROGRESS_INTERVAL_MS);
    // After a failed write only its retry counts: an API server that is away is not asked more often because of progress.
    if (this.#failures > 0) return;
    this.#schedule(soon);
  }

  /** The object was read anew. Heals a status that somebody else changed, and one of an object made anew. */
  observed(): void {
    const now = this.#options.clock.monotonic();
    const object = this.#options.read();
    if (object === undefined) return;
    if (this.#written === undefined || this.#written.uid !== object.metadata.uid) this.changed('state');
    else if (now - this.#wroteAt > ECHO_MS && !isDeepStrictEqual(object.status, this.#written.status)) {
      this.#written = undefined;
      this.changed('state');
    }
  }

  /** Writes what is due and ends. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  #schedule(at: number): void {
    if (this.#stopped || at >= this.#dueAt) return;
    this.#timer?.cancel();
    this.#dueAt = at;
    this.#timer = this.#options.clock.schedule(at - this.#options.clock.monotonic(), () => {
      this.#dueAt = Number.POSITIVE_INFINITY;
      // One write at a time; what changes meanwhile is told by the next.
      this.#running = (this.#running ?? Promise.resolve()).then(() => this.#report());
    });
  }

  async #report(): Promise<void> {
    const { clock, log } = this.#options;
    try {
      await this.#writeIfChanged();
      this.#failures = 0;
    } catch (error) {
      this.#failures++;
      const delay = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (this.#failures - 1));
      log.warn({ err: error, retryMs: delay }, 'the status could not be written');
      this.#dueAt = Number.POSITIVE_INFINITY;
      this.#schedule(clock.monotonic() + delay);
    }
  }

  async #writeIfChanged(): Promise<void> {
    const { clock, read, write } = this.#options;
    const object = read();
    if (object === undefined) return;
    const { uid } = object.metadata;
    const previous = this.#written?.uid === uid ? this.#written?.status : object.status;
    const entries = this.#options.entries();
    await this.#refreshDisk(entries, previous);
    const status = desiredStatus({
      entries,
      observedGeneration: this.#options.observedGeneration(),
      disk: this.#disk,
      // Could it not be read, what the agent before this one saw stands.
      devices: this.#options.devices() ?? previous?.devices,
      agentVersion: this.#options.agentVersion,
      now: clock.now(),
      previous,
    });
    if (isDeepStrictEqual(status, previous)) {
      this.#written = { uid, status };
      return;
    }
    await write(status);
    this.#wroteAt = clock.monotonic();
    this.#written = { uid, status };
  }

  /** Free space changes all the time; it is only looked at when an entry came, went or changed its state. */
  async #refreshDisk(entries: readonly PullEntry[], previous: SLMNodeCacheStatus | undefined): Promise<void> {
    const key = entries
      .map((entry) => `${entry.digest} ${entry.state}`)
      .sort()
      .join('\n');
    if (this.#disk !== undefined && key === this.#diskOf) return;
    if (this.#disk === undefined && previous !== undefined && key === keyOfStatus(previous)) {
      // The agent started anew and nothing else did: what is written already stands.
      const { capacityBytes, freeBytes, usedBytes } = previous;
      if (capacityBytes !== undefined && freeBytes !== undefined && usedBytes !== undefined) {
        this.#disk = { capacityBytes, freeBytes, usedBytes };
        this.#diskOf = key;
        return;
      }
    }
    this.#disk = await this.#options.disk();
    this.#diskOf = key;
  }
}

function keyOfStatus(status: SLMNodeCacheStatus): string {
  return (status.entries ?? [])
    .map((entry) => `${entry.digest} ${entry.state}`)
    .sort()
    .join('\n');
}
