/**
 * What llama.cpp put where: read from the lines in which it says so, because its objects do not tell. Pure.
 */
import type { DeviceReport } from '@slm-operator/crds/contract';
import { processor } from '../../devices.ts';
import type { Library } from './library.ts';
import { titleOf } from './native-files.ts';

/** Gathered while a model loads. */
export interface Offload {
  /** The devices that it uses, by their drivers' names. */
  readonly devices: string[];
  /** Layers that they compute, and that there are; the output layer included. */
  offloaded?: number;
  layers?: number;
}

/** Takes what a line says into `offload`. */
export function offloadIn(line: string, offload: Offload): void {
  const [, offloaded, layers] = /offloaded (\d+)\/(\d+) layers to GPU/.exec(line) ?? [];
  if (offloaded !== undefined && layers !== undefined) {
    offload.offloaded = Number(offloaded);
    offload.layers = Number(layers);
  }
  // The name may have brackets of its own: `Vulkan0 (llvmpipe (LLVM 15.0.6, 256 bits)) (unknown id) - 2048 MiB free`.
  for (const [, name = ''] of line.matchAll(/using device \S+ \((.+)\) \([^()]*\) - \d+ MiB free/g))
    offload.devices.push(name);
}

/** What is asked of the library. */
interface OpenedBy extends Pick<Library, 'gpu'> {
  readonly bindings: Pick<Library['bindings'], 'getGpuVramInfo' | 'getGpuDeviceInfo'>;
}

/** What the engine opened, for whoever looks after it. */
export function reportDevice({ bindings, gpu }: OpenedBy, offload: Offload): DeviceReport {
  if (gpu === undefined) return processor();
  const { total, unifiedSize } = bindings.getGpuVramInfo();
  const names = offload.devices.length > 0 ? offload.devices : bindings.getGpuDeviceInfo().deviceNames;
  const own = total - unifiedSize;
  return {
    class: 'gpu',
    backend: titleOf(gpu),
    name: counted(names),
    ...(own > 0 ? { memoryBytes: own } : {}),
    ...(offload.offloaded === undefined ? {} : { layersOffloaded: offload.offloaded }),
    ...(offload.layers === undefined ? {} : { layers: offload.layers }),
  };
}

/** Several of one kind are counted: `2 × NVIDIA L4`. */
function counted(names: readonly string[]): string {
  const kinds = new Map<string, number>();
  for (const name of names) kinds.set(name, (kinds.get(name) ?? 0) + 1);
  return [...kinds].map(([name, count]) => (count === 1 ? name : `${count} × ${name}`)).join(', ');
}
