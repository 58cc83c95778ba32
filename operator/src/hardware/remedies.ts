/**
 * What to write into a spec so that its pods fit: computed with the same arithmetic that sizes them, so that following the
 * advice helps. Pure.
 */
import type { SLMDeployment } from '@slm-operator/crds';
import { estimateMemory, type MemoryEstimate, type ResolvedEngine } from '../deployment/memory.ts';
import type { Tier } from './tiers.ts';

const MiB = 2 ** 20;

/** Contexts shorter than this are no help to anybody who did not ask for one. */
const SHORTEST_CONTEXT = 2048;
const SHORTEST_CONTEXT_AT_ALL = 512;

/** `3.1 GiB`, `640 MiB`: as Kubernetes counts memory. */
export function formatMemory(bytes: number): string {
  if (bytes >= 1024 * MiB) return `${(Math.round((bytes / (1024 * MiB)) * 10) / 10).toString()} GiB`;
  return `${Math.max(0, Math.floor(bytes / MiB))} MiB`;
}

/** Memory of the node or of the device. */
export type MemoryPlace = 'total' | 'device';

/**
 * The smallest change with which a pod needs no more than `limit` bytes, as an imperative clause: `lower engine.contextLength to
 * 4096`. Undefined when only other files or other hardware help.
 */
export function memoryRemedy(
  tier: Tier,
  deployment: SLMDeployment,
  place: MemoryPlace,
  limit: number,
): string | undefined {
  const { spec } = deployment;
  const asked = spec.resources?.requests?.['memory'] ?? spec.resources?.limits?.['memory'];
  if (place === 'total' && asked !== undefined) {
    const least = need(tier, deployment, tier.engine, 0).total;
    return least <= limit ? `lower resources.requests.memory to ${Math.floor(limit / MiB)}Mi` : undefined;
  }
  const fits = (engine: ResolvedEngine) => need(tier, deployment, engine)[place] <= limit;
  const { engine, memory } = tier;

  const cache = memory.promptCache;
  if (place === 'total' && cache > 0 && memory.total - cache <= limit) {
    const left = Math.floor((limit - (memory.total - cache)) / (16 * MiB)) * 16;
    return `lower engine.promptCache.maxSize to ${left === 0 ? '0' : `${left}Mi`}`;
  }
  const context = largest(contexts(engine.contextLength, SHORTEST_CONTEXT), (contextLength) =>
    fits({ ...engine, contextLength }),
  );
  if (context !== undefined) return `lower engine.contextLength to ${context}`;
  const parallel = largest(below(engine.parallelRequests), (parallelRequests) => fits({ ...engine, parallelRequests }));
  if (parallel !== undefined) return `lower engine.parallelRequests to ${parallel}`;
  const least = { ...engine, parallelRequests: 1 };
  const both = largest(contexts(engine.contextLength, SHORTEST_CONTEXT_AT_ALL), (contextLength) =>
    fits({ ...least, contextLength }),
  );
  if (both !== undefined) return `lower engine.parallelRequests to 1 and engine.contextLength to ${both}`;
  return place === 'device' ? fewerLayers(tier, deployment, limit) : undefined;
}

function need(tier: Tier, deployment: SLMDeployment, engine: ResolvedEngine, promptCache?: number): MemoryEstimate {
  const { spec } = deployment;
  const own = promptCache === undefined ? spec.engine : { ...spec.engine, promptCache: { maxSize: promptCache } };
  const offload = tier.class === 'cpu' ? undefined : { gpuLayers: spec.engine?.gpuLayers };
  return estimateMemory(tier.bytes.size, tier.bytes, engine, { ...spec, engine: own ?? {} }, offload);
}

/** Part of a GGUF model can stay with the processor. */
function fewerLayers(tier: Tier, deployment: SLMDeployment, limit: number): string | undefined {
  const layers = tier.bytes.metadata?.layers;
  if (layers === undefined || tier.bytes.metadata?.format === 'ONNX') return undefined;
  const most = Math.min(layers, (deployment.spec.engine?.gpuLayers ?? layers + 1) - 1);
  for (let gpuLayers = most; gpuLayers > 0; gpuLayers--) {
    const { device } = estimateMemory(tier.bytes.size, tier.bytes, tier.engine, deployment.spec, { gpuLayers });
    if (device <= limit) return `set engine.gpuLayers to ${gpuLayers}`;
  }
  return undefined;
}

/** Round numbers below a context, the largest first. */
function contexts(from: number, least: number): number[] {
  const step = from > 65_536 ? 4096 : from > 2048 ? 512 : 128;
  const values: number[] = [];
  for (let value = Math.floor((from - 1) / step) * step; value >= least; value -= step) values.push(value);
  return values;
}

function below(count: number): number[] {
  return Array.from({ length: count - 1 }, (_, index) => count - 1 - index);
}

function largest(values: readonly number[], fits: (value: number) => boolean): number | undefined {
  return values.find(fits);
}
