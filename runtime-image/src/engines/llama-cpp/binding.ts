/**
 * Everything of node-llama-cpp that we touch, in one place. Its public API has no way to fill a batch by hand, so this
 * reaches for the addon's own objects; they may change with any release, and the version is therefore checked first.
 */
import { readFile, stat } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Llama, LlamaModel } from 'node-llama-cpp';
import { StartupError } from '../../failures.ts';
import type { SamplingParams, Token } from '../../scheduling/decoder.ts';
import type { LoadObserver } from '../engine.ts';
import { quantizationOf } from './model-file.ts';

/** The release that the types below were taken from; package.json pins the same. */
export const BINDING_VERSION = '3.22.1';

/** The bulk of a header, which the check has no use for. */
const VOCABULARY_KEYS = ['tokens', 'token_type', 'merges', 'scores'].map((key) => `tokenizer.ggml.${key}`);

/** The addon reads whole numbers as 32 bits. */
const MAX_INT32 = 0x7fff_ffff;

/** The addon's context. */
export interface AddonContext {
  initBatch(tokens: number): void;
  addToBatch(slot: number, position: number, tokens: Uint32Array, logits: Uint32Array): Uint32Array;
  decodeBatch(): Promise<void>;
  sampleToken(logit: number, sampler: AddonSampler): Promise<number>;
  removeTokenCellsFromSequence(slot: number, start: number, end: number): boolean;
  getSequenceKvCacheMinPosition(slot: number): number;
  copySequenceStateFromOtherSequence(to: number, from: number): Promise<number>;
  setThreads(threads: number): void;
}

/** The addon's sampler: one chain with its random state. */
export interface AddonSampler {
  applyConfig(config: Record<string, number | Uint32Array | Float32Array>): void;
  dispose(): void;
}

interface AddonModel {
  tokenize(text: string, special: boolean): Uint32Array;
  isEogToken(token: Token): boolean;
  getTotalParameters(): number;
}

interface Bindings {
  readonly AddonSampler: new (model: AddonModel) => AddonSampler;
  getIsArchSupported(architecture: string): boolean;
  getBlockSizeForGgmlType(type: number): number | undefined;
  getTypeSizeForGgmlType(type: number): number | undefined;
}

export interface NativeOptions {
  readonly modelPath: string;
  readonly threads: number;
  readonly parallelRequests: number;
  readonly batchSize: number;
  readonly flashAttention: 'Auto' | 'Enabled' | 'Disabled';
  readonly kvCacheType: 'F16' | 'Q8_0' | 'Q4_0';
  /** Given the tokens that the model was trained for. @returns tokens of context for each slot */
  readonly contextLength: (trained: number) => number;
  readonly observer: LoadObserver;
}

/** A loaded model with one context, as the decoder and the vocabulary need it. */
export interface NativeModel {
  readonly context: AddonContext;
  readonly contextLength: number;
  /** Window of sliding attention in tokens; undefined where every token sees all before it. */
  readonly slidingWindow: number | undefined;
  readonly metadata: NativeMetadata;
  /** Tokens that begin a text. */
  readonly beginning: readonly Token[];
  createSampler(params: SamplingParams, history: readonly Token[]): AddonSampler;
  tokenize(text: string, special: boolean): Token[];
  detokenize(tokens: readonly Token[], previous: readonly Token[]): string;
  isEndOfGeneration(token: Token): boolean;
  dispose(): Promise<void>;
}

export interface NativeMetadata {
  readonly architecture: string;
  readonly parameters: number;
  readonly quantization: string;
  readonly trainedContextLength: number;
  readonly embeddingLength: number;
  readonly vocabularySize: number;
  readonly chatTemplate: string | undefined;
  readonly bosToken: string;
  readonly eosToken: string;
}

/** Thrown for an architecture that llama.cpp does not know, before it tries. */
export class UnknownArchitectureError extends Error {
  readonly architecture: string;
  constructor(architecture: string) {
    super(`unknown model architecture: '${architecture}'`);
    this.architecture = architecture;
  }
}

/**
 * Loads a model and makes its context.
 * @throws StartupError (EngineMismatch) when the library is not the one that this file knows; the library's own errors.
 */
export async function loadNative(options: NativeOptions): Promise<NativeModel> {
  ensureHome();
  const { getLlama, LlamaLogLevel } = await import('node-llama-cpp');
  await checkVersion();
  const levels = { fatal: 'error', error: 'error', warn: 'warn', info: 'info', log: 'debug', debug: 'debug' } as const;
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    maxThreads: options.threads,
    logLevel: LlamaLogLevel.warn,
    logger: (level, message) =>
      options.observer.log(levels[level as keyof typeof levels] ?? 'debug', message.trimEnd()),
  });
  const bindings = (internals(llama) as { _bindings: Bindings })._bindings;
  try {
    const model = await llama.loadModel({
      modelPath: options.modelPath,
      gpuLayers: 0,
      // The container's limit is what counts, and the library looks at the machine's memory instead.
      ignoreMemorySafetyChecks: true,
      onLoadProgress: (fraction) => options.observer.progress(fraction),
    });
    return await makeContext(llama, model, bindings, options);
  } catch (error) {
    // Nothing is disposed: after a failed load the library may wait for ever for what it lost, and the process ends.
    if (error instanceof StartupError) throw error;
    // llama.cpp's last lines, which say why, are still on their way to the observer.
    await nextTurn();
    // The library only says that it failed. Reading the header takes a fifth of a second: only now is it worth that.
    await checkHeader(bindings, options);
    throw error;
  }
}

/**
 * Finds out what llama.cpp says to its log alone, where it gets lost easily.
 * @throws UnknownArchitectureError; Error for a file that ends before its tensors do
 */
async function checkHeader(bindings: Bindings, options: NativeOptions): Promise<void> {
  const { readGgufFileInfo } = await import('node-llama-cpp');
  const file = await readGgufFileInfo(options.modelPath, {
    sourceType: 'filesystem',
    ignoreKeys: VOCABULARY_KEYS,
    spliceSplitFiles: false,
    logWarnings: false,
  });
  const general: { readonly architecture?: string } | undefined = file.metadata.general;
  const architecture = general?.architecture ?? '';
  if (!bindings.getIsArchSupported(architecture)) throw new UnknownArchitectureError(architecture);
  const { size } = await stat(options.modelPath);
  for (const tensor of file.tensorInfo ?? []) {
    const elements = tensor.dimensions.reduce<number>((product, dimension) => product * Number(dimension), 1);
    const block = bindings.getBlockSizeForGgmlType(tensor.ggmlType) ?? 1;
    const bytes = (elements / block) * (bindings.getTypeSizeForGgmlType(tensor.ggmlType) ?? 0);
    if (Number(tensor.fileOffset) + bytes > size)
      throw new Error(`the data of tensor ${tensor.name} is not within the file bounds`);
  }
}

async function makeContext(
  llama: Llama,
  model: LlamaModel,
  bindings: Bindings,
  options: NativeOptions,
): Promise<NativeModel> {
  const contextLength = options.contextLength(model.trainContextSize);
  const context = await model.createContext({
    contextSize: contextLength,
    sequences: options.parallelRequests,
    batchSize: options.batchSize,
    threads: options.threads,
    flashAttention: options.flashAttention === 'Auto' ? 'auto' : options.flashAttention === 'Enabled',
    experimentalKvCacheKeyType: options.kvCacheType,
    experimentalKvCacheValueType: options.kvCacheType,
    failedCreationRemedy: false,
    ignoreMemorySafetyChecks: true,
  });
  const addon = (internals(context) as { _ctx: AddonContext })._ctx;
  const addonModel = (internals(model) as { _model: AddonModel })._model;
  addon.setThreads(options.threads);
  const { tokens } = model;
  const beginning = tokens.shouldPrependBosToken && tokens.bos !== null ? [tokens.bos] : [];
  return {
    context: addon,
    contextLength,
    slidingWindow: model.fileInsights.swaSize || undefined,
    metadata: readMetadata(model),
    beginning,
    createSampler: (params, history) => {
      const sampler = new bindings.AddonSampler(addonModel);
      sampler.applyConfig(samplerConfig(params, history, contextLength));
      return sampler;
    },
    tokenize: (text, special) => Array.from(addonModel.tokenize(text, special)),
    detokenize: (pieces, previous) => model.detokenize(asTokens(pieces), false, asTokens(previous)),
    isEndOfGeneration: (token) => addonModel.isEogToken(token),
    // One by one, and by references of our own: the library knows its contexts weakly, and once one is collected
    // llama.dispose() waits for it for ever.
    dispose: async () => {
      await context.dispose();
      await model.dispose();
      await llama.dispose();
    },
  };
}

/** The chain is told its settings once: the addon itself feeds sampled tokens into the penalties. */
function samplerConfig(
  params: SamplingParams,
  history: readonly Token[],
  contextLength: number,
): Record<string, number | Uint32Array | Float32Array> {
  // The addon allocates a ring of this size: nothing beyond the context, whatever a client asks for.
  const lookBack = params.repeatLastN < 0 ? contextLength : Math.min(params.repeatLastN, contextLength);
  const penalised =
    lookBack > 0 && (params.repeatPenalty !== 1 || params.presencePenalty !== 0 || params.frequencyPenalty !== 0);
  return {
    temperature: params.temperature,
    topK: Math.min(params.topK, MAX_INT32),
    topP: params.topP,
    minP: params.minP,
    seed: params.seed,
    ...(penalised
      ? {
          repeatPenalty: params.repeatPenalty,
          repeatPenaltyMaxTokens: lookBack,
          repeatPenaltyTokens: Uint32Array.from(history.slice(-lookBack)),
          repeatPenaltyPresencePenalty: params.presencePenalty,
          repeatPenaltyFrequencyPenalty: params.frequencyPenalty,
        }
      : {}),
    ...(params.logitBias.length > 0
      ? {
          tokenBiasKeys: Uint32Array.from(params.logitBias, ([token]) => token),
          tokenBiasValues: Float32Array.from(params.logitBias, ([, bias]) => bias),
        }
      : {}),
  };
}

function readMetadata(model: LlamaModel): NativeMetadata {
  const { metadata } = model.fileInfo;
  const vocabulary = metadata.tokenizer?.ggml?.tokens?.length;
  return {
    architecture: metadata.general.architecture,
    quantization: quantizationOf(model.typeDescription),
    parameters: (internals(model) as { _model: AddonModel })._model.getTotalParameters(),
    trainedContextLength: model.trainContextSize,
    embeddingLength: model.embeddingVectorSize,
    vocabularySize: typeof vocabulary === 'number' ? vocabulary : 0,
    chatTemplate: metadata.tokenizer?.chat_template,
    bosToken: model.tokens.bosString ?? '',
    eosToken: model.tokens.eosString ?? '',
  };
}

/**
 * The library asks for the home folder, to shorten paths in its messages. A container's user often has none, and asking
 * then throws.
 */
function ensureHome(): void {
  try {
    homedir();
  } catch {
    process.env['HOME'] = tmpdir();
  }
}

/** @throws StartupError (EngineMismatch) */
async function checkVersion(): Promise<void> {
  const entry = fileURLToPath(import.meta.resolve('node-llama-cpp'));
  const { version } = JSON.parse(await readFile(entry.replace(/dist[/\\]index\.js$/, 'package.json'), 'utf8')) as {
    version: string;
  };
  if (version !== BINDING_VERSION)
    throw new StartupError(
      'EngineMismatch',
      `this server was made for node-llama-cpp ${BINDING_VERSION} and found ${version}: install the pinned version.`,
    );
}

/** The library's types hide these fields; the version check above vouches for them. */
function internals(object: object): unknown {
  return object;
}

/** The library brands its tokens; ours are plain numbers. */
function asTokens(tokens: readonly Token[]): Parameters<LlamaModel['detokenize']>[0] {
  return tokens as unknown as Parameters<LlamaModel['detokenize']>[0];
}
