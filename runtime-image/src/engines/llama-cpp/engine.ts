/**
 * Loads a GGUF file into an engine. Owns the order of the steps and the words for what can go wrong in them.
 */
import { AUTO, type DeviceOrder } from '../../devices.ts';
import { StartupError } from '../../failures.ts';
import { BatchedEngine } from '../batched-engine.ts';
import { type Engine, GrammarError, type LoadObserver } from '../engine.ts';
import { OneAtATime } from '../one-at-a-time.ts';
import type { Adapter } from './adapters.ts';
import { loadNative, UnknownArchitectureError } from './binding.ts';
import { LlamaCppDecoder } from './decoder.ts';
import { LlamaCppEmbedder } from './embedder.ts';
import { checkGguf, explainLoadFailure, unsupportedArchitecture } from './model-file.ts';
import { LlamaCppRanker } from './ranker.ts';

/** Tokens of context for each request when nobody says: enough for chats, and little memory. */
const DEFAULT_CONTEXT = 4096;
/** Lines of llama.cpp's log that are kept to explain a failed load. */
const KEPT_LINES = 20;

export interface LlamaCppOptions {
  /** A GGUF file; of a split model the first. */
  readonly file: string;
  /** Undefined: min(the model's own, 4096). */
  readonly contextLength: number | undefined;
  readonly parallelRequests: number;
  readonly batchSize: number;
  readonly threads: number;
  /** What to compute on, the best first. Default: a GPU if there is one. The first model's order decides for the process. */
  readonly devices?: DeviceOrder;
  /** Layers that the GPU computes. Default: all. */
  readonly gpuLayers?: number | undefined;
  readonly flashAttention: 'Auto' | 'Enabled' | 'Disabled';
  readonly kvCacheType: 'F16' | 'Q8_0' | 'Q4_0';
  readonly maxQueue: number;
  /** Memory for prompts whose slot is gone, in bytes. Default 0: none. */
  readonly promptCacheBytes?: number;
  /** Tokens of an answer that may be guessed at a time, from what was said before. Default 0: none. */
  readonly mostGuesses?: number;
  /** LoRA adapters that every answer is computed with. */
  readonly adapters?: readonly Adapter[];
}

/**
 * Loads the model; takes a fraction of a second for a hundred megabytes that are in the page cache.
 * @throws StartupError
 */
export async function loadLlamaCpp(options: LlamaCppOptions, observer: LoadObserver): Promise<Engine> {
  const { size } = await checkGguf(options.file);
  const log: string[] = [];
  const native = await loadNative({
    modelPath: options.file,
    devices: options.devices ?? AUTO,
    gpuLayers: options.gpuLayers,
    threads: options.threads,
    parallelRequests: options.parallelRequests,
    batchSize: options.batchSize,
    flashAttention: options.flashAttention,
    kvCacheType: options.kvCacheType,
    adapters: options.adapters ?? [],
    contextLength: (trained) => contextLength(options.contextLength, trained),
    observer: {
      progress: (fraction) => observer.progress(fraction),
      log: (level, message) => {
        if (level === 'error' || level === 'warn') log.push(message);
        if (log.length > KEPT_LINES) log.shift();
        observer.log(level, message);
      },
    },
  }).catch((error: Error) => {
    if (error instanceof StartupError) throw error;
    if (error instanceof UnknownArchitectureError)
      throw unsupportedArchitecture(options.file.split('/').at(-1) ?? options.file, error.architecture);
    throw explainLoadFailure(options.file, size, error, log);
  });
  const processor = new OneAtATime();
  const decoder = new LlamaCppDecoder(native, processor, options.parallelRequests, options.batchSize);
  const { chatTemplate, ...metadata } = native.metadata;
  return new BatchedEngine({
    info: {
      engine: 'llama-cpp',
      device: native.device,
      ...(native.memory === undefined ? {} : { memory: native.memory }),
      ...(native.fallback === undefined ? {} : { fallback: native.fallback }),
      backend: native.backend,
      threads: options.threads,
      contextLength: native.contextLength,
      parallelRequests: options.parallelRequests,
      batchSize: options.batchSize,
      capabilities: {
        generate: native.generates,
        embed: !native.ranks,
        rank: native.ranks,
        grammar: native.generates,
        logprobs: native.generates,
        shift: native.generates && native.shifts,
      },
      model: { format: 'gguf', size, ...metadata, ...(chatTemplate === undefined ? {} : { chatTemplate }) },
    },
    decoder,
    vocabulary: native,
    embedder: new LlamaCppEmbedder(native, processor, options.maxQueue, options.threads),
    ...(native.ranks ? { ranker: new LlamaCppRanker(native, processor, options.maxQueue, options.threads) } : {}),
    checkGrammar: (gbnf) => {
      try {
        native.createGrammarState(gbnf);
      } catch (error) {
        throw new GrammarError(
          'llama.cpp cannot read the grammar: check its rules, that one is called root, and that none begins with itself',
          undefined,
          undefined,
          { cause: error },
        );
      }
    },
    maxQueue: options.maxQueue,
    promptCacheBytes: options.promptCacheBytes ?? 0,
    mostGuesses: options.mostGuesses ?? 0,
    // In turn: nothing is freed under a computation.
    dispose: () =>
      processor.run(async () => {
        decoder.dispose();
        await native.dispose();
      }),
  });
}

/** @throws StartupError (ContextTooLong) */
export function contextLength(wanted: number | undefined, trained: number): number {
  if (wanted === undefined) return Math.min(trained, DEFAULT_CONTEXT);
  if (wanted > trained)
    throw new StartupError(
      'ContextTooLong',
      `a context of ${wanted} tokens is more than the ${trained} that the model was trained for: ` +
        `set engine.contextLength to ${trained} or less.`,
    );
  return wanted;
}
