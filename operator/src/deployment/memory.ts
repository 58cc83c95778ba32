/**
 * How much memory a server takes, from the model's header and the engine's settings; the default of `spec.resources`.
 * Pure.
 */
import type { Engine, SLMDeploymentSpec, SLMModelStatus } from '@slm-operator/crds';
import { parseQuantity } from './quantity.ts';

const MiB = 1024 * 1024;

/** Tokens of context for each request, when the spec says nothing: enough for chats, and little memory. */
const DEFAULT_CONTEXT_LENGTH = 4096;
const DEFAULT_PARALLEL_REQUESTS = 4;

/**
 * What the process takes besides weights and KV cache. The base covers Node with Fastify (about 100 MiB), the native library, and the
 * compute buffers of a 512-token batch: 247 MiB were measured for 135 million weights at 512 to 4096 tokens and 1 to 4 requests
 * (`npm run bench -- memory`), and a fifth is to spare. The share covers what grows with the model. Weights that llama.cpp packs
 * anew for the processor are counted once: the file's pages, which are not looked at again, are the kernel's to take back.
 */
const GGUF_OVERHEAD = { base: 304 * MiB, share: 0.1 };

/**
 * The same of an ONNX model, whose weights ONNX Runtime packs into a form of its own. Measured as the cgroup's peak in pods, and as
 * anonymous memory of the processes outside of one, with prompts that fill the context: the sum is 3 to 22 % more for 135 million
 * weights of eight bits at 512 to 4096 tokens and 1 to 4 requests, and for MiniLM.
 */
const ONNX_OVERHEAD = { base: 320 * MiB, share: 0.25 };
/** The request that is being computed has its keys and values a second time, and scores for all its tokens. */
const ONNX_REQUEST_AT_WORK = 1.25;

/**
 * What the process takes of the host when a device computes: the base as above, the driver's own library and its buffers for
 * copies (CUDA maps and pins about 200 MiB), and the share of the weights that stays: llama.cpp leaves the token embeddings with
 * the processor, and reads the file through pages that the kernel may take back. ONNX Runtime holds all weights while it loads.
 */
const GGUF_HOST_OF_DEVICE = { base: 512 * MiB, share: 0.25 };
const ONNX_HOST_OF_DEVICE = { base: 640 * MiB, share: 1 };
/** On the device besides weights and KV cache: the driver's context, and compute buffers that grow with the model. */
const DEVICE_OVERHEAD = { base: 512 * MiB, share: 0.05 };

/** KV cache where the header did not tell its size: a quarter of the weights for 1024 tokens of all requests together. */
const UNKNOWN_KV_SHARE = 0.25;

/** Prompts that are remembered, when the spec says nothing: as much again as the slots hold, but memory is not free. */
const MOST_PROMPT_CACHE = 512 * MiB;

/** Quantities that people can read and compare. */
const STEP = 16 * MiB;

/** Bytes for a value of the KV cache, relative to f16: blocks of 32 values take 64, 34 and 18 bytes. */
const kvFactor = { F16: 1, Q8_0: 34 / 64, Q4_0: 18 / 64 } as const;

/** CPU that is reserved when the spec says nothing. No limit: decoding takes what is free, and idles at next to nothing. */
const DEFAULT_CPU_REQUEST = '500m';

/** Settings that both the memory and the server depend on, with their defaults filled in. */
export interface ResolvedEngine {
  /** Tokens for each request. */
  readonly contextLength: number;
  readonly parallelRequests: number;
  readonly kvCacheType: keyof typeof kvFactor;
}

/** Fills in defaults: the smaller of 4096 and what the model was trained for, 4 requests, F16. */
export function resolveEngine(engine: Engine | undefined, model: Pick<SLMModelStatus, 'metadata'>): ResolvedEngine {
  const own = model.metadata?.contextLength || DEFAULT_CONTEXT_LENGTH;
  return {
    contextLength: engine?.contextLength ?? Math.min(own, DEFAULT_CONTEXT_LENGTH),
    parallelRequests: engine?.parallelRequests ?? DEFAULT_PARALLEL_REQUESTS,
    kvCacheType: engine?.kvCache?.type ?? 'F16',
  };
}

/** What the memory is for, in bytes. */
export interface MemoryEstimate {
  readonly weights: number;
  readonly kvCache: number;
  readonly overhead: number;
  readonly promptCache: number;
  /** Memory of the host, rounded up to 16 MiB: the sum, but for what a device holds. */
  readonly total: number;
  /** Memory of the device; 0 when the processor computes. */
  readonly device: number;
}

/** A device computes instead of the processor. */
export interface Offload {
  /** llama.cpp's n_gpu_layers; undefined for all. GGUF models only. */
  readonly gpuLayers?: number | undefined;
}

/**
 * @param weights bytes of the model's files
 * @param model what its files say of it; GGUF when they say nothing
 * @param spec what it says of the prompt cache, and of a limit that the cache must leave room in
 * @param offload undefined: the processor computes all of it
 */
export function estimateMemory(
  weights: number,
  model: Pick<SLMModelStatus, 'metadata' | 'estimate'>,
  engine: ResolvedEngine,
  spec: Pick<SLMDeploymentSpec, 'engine' | 'resources'> = {},
  offload?: Offload,
): MemoryEstimate {
  const kvCachePer1kTokens = model.estimate?.kvCachePer1kTokens;
  const isOnnx = model.metadata?.format === 'ONNX';
  const requests = engine.parallelRequests + (isOnnx ? ONNX_REQUEST_AT_WORK : 0);
  const tokens = engine.contextLength * requests;
  const exported = kvCachePer1kTokens === undefined ? weights * UNKNOWN_KV_SHARE : kvCachePer1kTokens * (tokens / 1024);
  const kvCache = Math.ceil(isOnnx ? exported : exported * kvFactor[engine.kvCacheType]);
  const offloaded = offload === undefined ? 0 : offloadedShare(offload, isOnnx, model);
  const overhead = Math.ceil(hostOverhead(weights, isOnnx, offloaded, offload !== undefined));
  const without = Math.ceil(((weights + kvCache) * (1 - offloaded) + overhead) / STEP) * STEP;
  // Where the header tells no size, the engine may well keep nothing that could be put aside.
  const promptCache = promptCacheOf(spec, kvCachePer1kTokens === undefined ? 0 : kvCache, without);
  return {
    weights,
    kvCache,
    overhead,
    promptCache,
    total: Math.ceil((without + promptCache) / STEP) * STEP,
    device:
      offload === undefined
        ? 0
        : Math.ceil((weights * (1 + DEVICE_OVERHEAD.share) + kvCache) * offloaded + DEVICE_OVERHEAD.base),
  };
}

/** Part of the model that the device holds. The output layer counts as one, as llama.cpp counts. */
function offloadedShare(offload: Offload, isOnnx: boolean, model: Pick<SLMModelStatus, 'metadata'>): number {
  if (isOnnx || offload.gpuLayers === undefined) return 1;
  const layers = model.metadata?.layers;
  if (layers === undefined || layers === 0) return offload.gpuLayers === 0 ? 0 : 1;
  return Math.min(1, offload.gpuLayers / (layers + 1));
}

function hostOverhead(weights: number, isOnnx: boolean, offloaded: number, onDevice: boolean): number {
  const own = isOnnx ? ONNX_OVERHEAD : GGUF_OVERHEAD;
  if (!onDevice) return own.base + weights * own.share;
  const device = isOnnx ? ONNX_HOST_OF_DEVICE : GGUF_HOST_OF_DEVICE;
  return device.base + weights * (device.share * offloaded + own.share * (1 - offloaded));
}

/** @param without bytes that the server takes without it */
function promptCacheOf(
  { engine, resources }: Pick<SLMDeploymentSpec, 'engine' | 'resources'>,
  kvCache: number,
  without: number,
): number {
  const wanted = parseQuantity(engine?.promptCache?.maxSize);
  if (wanted !== undefined) return wanted;
  // Without a limit of memory a request alone says what was planned for.
  const limit = parseQuantity(resources?.limits?.['memory'] ?? resources?.requests?.['memory']);
  const room = limit === undefined ? MOST_PROMPT_CACHE : Math.max(0, limit - without);
  return Math.floor(Math.min(kvCache, MOST_PROMPT_CACHE, room) / STEP) * STEP;
}

/** Resources of a container. */
export interface Resources {
  readonly requests?: Readonly<Record<string, string>>;
  readonly limits?: Readonly<Record<string, string>>;
}

/**
 * Resources of the server: the spec's, and where that says nothing of memory or CPU, the defaults. Request and limit of
 * memory are the same, so that a server is never ended because of its neighbours.
 */
export function resourcesFor(spec: SLMDeploymentSpec['resources'], memory: MemoryEstimate): Resources {
  const requests = texts(spec?.requests);
  const limits = texts(spec?.limits);
  if (requests['memory'] === undefined && limits['memory'] === undefined) {
    requests['memory'] = limits['memory'] = `${memory.total / MiB}Mi`;
  }
  if (requests['cpu'] === undefined && limits['cpu'] === undefined) requests['cpu'] = DEFAULT_CPU_REQUEST;
  return {
    ...(Object.keys(requests).length === 0 ? {} : { requests }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  };
}

/** A plain number and its text mean the same quantity; the text is what Kubernetes answers. */
function texts(list: Readonly<Record<string, number | string>> | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(list ?? {}).map(([name, amount]) => [name, String(amount)]));
}
