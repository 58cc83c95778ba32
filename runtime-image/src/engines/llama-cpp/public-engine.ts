/**
 * A GGUF file as an engine over node-llama-cpp's public API alone: the way back for releases whose insides differ from what the
 * other engine knows. Owns loading and the vocabulary; slower, and without log probabilities, context shift and adapters.
 */
import type { DeviceReport } from '@slm-operator/crds/contract';
import type { Llama, LlamaContext, LlamaEmbeddingContext, LlamaModel } from 'node-llama-cpp';
import { AUTO, type DeviceOrder, deviceNotFound, fellBack, type Missed, processor } from '../../devices.ts';
import { StartupError } from '../../failures.ts';
import type { Token } from '../../scheduling/decoder.ts';
import { BatchedEngine } from '../batched-engine.ts';
import {
  type Embeddings,
  type EmbedOptions,
  type Engine,
  GrammarError,
  type LoadObserver,
  PromptTooLongError,
} from '../engine.ts';
import { OneAtATime } from '../one-at-a-time.ts';
import { contextLength, type LlamaCppOptions } from './engine.ts';
import { checkGguf, explainLoadFailure, quantizationOf } from './model-file.ts';
import { titleOf } from './native-files.ts';
import { branded, PublicScheduler } from './public-scheduler.ts';

/** The library's levels. */
const LEVELS = { fatal: 'error', error: 'error', warn: 'warn', info: 'info', log: 'debug', debug: 'debug' } as const;

/** @throws StartupError */
export async function loadPublicly(options: LlamaCppOptions, observer: LoadObserver): Promise<Engine> {
  const { size } = await checkGguf(options.file);
  const library = await import('node-llama-cpp');
  const log: string[] = [];
  const found = async (gpu: 'cuda' | 'vulkan' | false) =>
    library.getLlama({
      gpu,
      build: 'never',
      skipDownload: true,
      progressLogs: false,
      maxThreads: options.threads,
      logLevel: library.LlamaLogLevel.warn,
      logger: (level, message) => {
        log.push(message.trimEnd());
        observer.log(LEVELS[level as keyof typeof LEVELS] ?? 'debug', message.trimEnd());
      },
    });
  const { llama, fallback } = await openLlama(options.devices ?? AUTO, found);
  const { model, context } = await load(options, llama, observer).catch((error: Error) => {
    if (error instanceof StartupError) throw error;
    throw explainLoadFailure(options.file, size, error, log.slice(-20));
  });
  const sequences = Array.from({ length: options.parallelRequests }, () => context.getSequence());
  const { tokens, fileInfo } = model;
  const some = (token: number | null) => (token === null ? [] : [token]);
  const all = once(() => [...model.iterateAllTokens()]);
  const parse = (grammar: string) => new library.LlamaGrammar(llama, { grammar });
  const embedder = new PublicEmbedder(model, options);
  const template = fileInfo.metadata.tokenizer?.chat_template;
  return new BatchedEngine({
    info: {
      engine: 'llama-cpp-public',
      device: await deviceOf(llama, model),
      ...(fallback === undefined ? {} : { fallback }),
      backend: 'node-llama-cpp',
      threads: options.threads,
      contextLength: context.contextSize,
      parallelRequests: options.parallelRequests,
      batchSize: options.batchSize,
      capabilities: { generate: true, embed: true, grammar: true, logprobs: false, shift: false },
      model: {
        format: 'gguf',
        architecture: fileInfo.metadata.general.architecture,
        parameters: (fileInfo.fullTensorInfo ?? []).reduce(
          (sum, { dimensions }) => sum + dimensions.reduce<number>((product, size) => product * Number(size), 1),
          0,
        ),
        quantization: quantizationOf(model.typeDescription),
        size,
        trainedContextLength: model.trainContextSize,
        embeddingLength: model.embeddingVectorSize,
        vocabularySize: all().length,
        ...(template === undefined ? {} : { chatTemplate: template }),
        bosToken: tokens.bosString ?? '',
        eosToken: tokens.eosString ?? '',
      },
    },
    decoder: new PublicScheduler({
      library,
      llama,
      model,
      sequences,
      contextLength: context.contextSize,
      maxQueue: options.maxQueue,
    }),
    vocabulary: {
      tokenize: (text, special) => model.tokenize(text, special),
      detokenize: (pieces, previous) => model.detokenize(branded(pieces), false, branded(previous)),
      isEndOfGeneration: (token) => model.isEogToken(branded([token])[0]),
      beginning: tokens.shouldPrependBosToken ? some(tokens.bos) : [],
      bytesOf: (token) => Buffer.from(model.detokenize(branded([token]), true)),
      controlTokens: once(() =>
        all()
          .filter((token) => {
            const { control, unknown } = model.getTokenAttributes(token);
            return control || unknown;
          })
          .map((token) => model.detokenize([token], true)),
      ),
    },
    embedder,
    checkGrammar: (gbnf) => {
      try {
        parse(gbnf);
      } catch (error) {
        throw new GrammarError('llama.cpp cannot read the grammar: check its rules', undefined, undefined, {
          cause: error,
        });
      }
    },
    maxQueue: options.maxQueue,
    dispose: async () => {
      await embedder.dispose();
      await context.dispose();
      await model.dispose();
      await llama.dispose();
    },
  });
}

/** The first device of the order that the library opens. */
async function openLlama(
  order: DeviceOrder,
  open: (gpu: 'cuda' | 'vulkan' | false) => Promise<Llama>,
): Promise<{ readonly llama: Llama; readonly fallback: string | undefined }> {
  const missed: Missed[] = [];
  const fallback = () => (missed.length > 0 && !order.auto ? fellBack(order, missed) : undefined);
  for (const word of order.words) {
    if (word === 'cpu') return { llama: await open(false), fallback: fallback() };
    const backends = word === 'gpu' ? (['cuda', 'vulkan'] as const) : ([word] as const);
    for (const gpu of backends) {
      if (gpu !== 'cuda' && gpu !== 'vulkan') {
        missed.push({ why: `${gpu} computes no GGUF model in this image`, lacking: 'image' });
        continue;
      }
      const llama = await open(gpu).catch(() => undefined);
      if (llama?.gpu === gpu) return { llama, fallback: undefined };
      await llama?.dispose();
      missed.push({ why: `the library opens no ${gpu}`, lacking: 'device' });
    }
  }
  throw deviceNotFound(order, missed);
}

async function deviceOf(llama: Llama, model: LlamaModel): Promise<DeviceReport> {
  if (llama.gpu === false) return processor();
  const [names, { total }] = await Promise.all([llama.getGpuDeviceNames(), llama.getVramState()]);
  return {
    class: 'gpu',
    backend: titleOf(llama.gpu),
    name: [...new Set(names)].join(', '),
    memoryBytes: total,
    layersOffloaded: model.gpuLayers,
  };
}

async function load(
  options: LlamaCppOptions,
  llama: Llama,
  observer: LoadObserver,
): Promise<{ model: LlamaModel; context: LlamaContext }> {
  const unused = [
    ...((options.mostGuesses ?? 0) > 0 ? ['speculation'] : []),
    ...((options.promptCacheBytes ?? 0) > 0 ? ['the prompt cache'] : []),
  ];
  if (unused.length > 0)
    observer.log('warn', `${unused.join(' and ')} cannot be had with the library's public API: left out.`);
  if ((options.adapters ?? []).length > 0)
    throw new StartupError('EngineMismatch', "LoRA adapters need the library's insides as this server knows them.");
  const model = await llama.loadModel({
    modelPath: options.file,
    gpuLayers: llama.gpu === false ? 0 : (options.gpuLayers ?? 'max'),
    ignoreMemorySafetyChecks: true,
    onLoadProgress: (fraction) => observer.progress(fraction),
  });
  if (model.fileInsights.hasEncoder)
    throw new StartupError(
      'EngineMismatch',
      "a model that only embeds needs the library's insides as this server knows them.",
    );
  const context = await model.createContext({
    contextSize: contextLength(options.contextLength, model.trainContextSize),
    sequences: options.parallelRequests,
    batchSize: options.batchSize,
    threads: options.threads,
    flashAttention: options.flashAttention === 'Auto' ? 'auto' : options.flashAttention === 'Enabled',
    experimentalKvCacheKeyType: options.kvCacheType,
    experimentalKvCacheValueType: options.kvCacheType,
    failedCreationRemedy: false,
    ignoreMemorySafetyChecks: true,
  });
  return { model, context };
}

/** One text after another, in a context that is made when the first one comes. */
class PublicEmbedder {
  readonly #model: LlamaModel;
  readonly #options: LlamaCppOptions;
  readonly #line = new OneAtATime();
  #context: Promise<LlamaEmbeddingContext> | undefined;

  constructor(model: LlamaModel, options: LlamaCppOptions) {
    this.#model = model;
    this.#options = options;
  }

  async embed(inputs: readonly (string | readonly Token[])[], options: EmbedOptions): Promise<Embeddings> {
    const length = contextLength(this.#options.contextLength, this.#model.trainContextSize);
    this.#context ??= this.#model.createEmbeddingContext({ contextSize: length, ignoreMemorySafetyChecks: true });
    const context = await this.#context;
    const prepared = inputs.map((input) => {
      const tokens = typeof input === 'string' ? this.#model.tokenize(input) : branded(input);
      // The library adds up to two tokens of its own.
      if (tokens.length > length - 3 && options.truncate !== true)
        throw new PromptTooLongError(tokens.length + 2, length);
      return tokens.slice(0, length - 3);
    });
    const embeddings: Float32Array[] = [];
    for (const tokens of prepared) {
      options.signal?.throwIfAborted();
      const { vector } = await this.#line.run(() => context.getEmbeddingFor(tokens));
      const scale = options.normalize === false ? 1 : 1 / (Math.hypot(...vector) || 1);
      embeddings.push(Float32Array.from(vector, (value) => value * scale));
    }
    return { embeddings, promptTokens: prepared.reduce((sum, tokens) => sum + tokens.length, 0) };
  }

  async dispose(): Promise<void> {
    await (await this.#context)?.dispose();
  }
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
