/**
 * Everything of node-llama-cpp that we touch, in one place. Its public API has no way to fill a batch by hand, so this
 * reaches for the addon's own objects; they may change with any release, and the version is therefore checked first.
 */
import { readFile, stat } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Llama, LlamaEmbeddingContext, LlamaModel } from 'node-llama-cpp';
import { StartupError } from '../../failures.ts';
import type { Token } from '../../scheduling/decoder.ts';
import type { LoadObserver } from '../engine.ts';
import { quantizationOf } from './model-file.ts';
import { tokenBytes } from './token-bytes.ts';

/** The release that the types below were taken from; package.json pins the same. */
export const BINDING_VERSION = '3.22.1';

/** The bulk of a header, which the check has no use for. */
const VOCABULARY_KEYS = ['tokens', 'token_type', 'merges', 'scores'].map((key) => `tokenizer.ggml.${key}`);

/** Grammars that stay parsed. */
const KEPT_GRAMMARS = 32;
/** Attributes of tokens (llama_token_attr) that tokenizing obeys only on request: unknown and control. */
const STEERING = 1 | 8;

/** The addon's context. */
export interface AddonContext {
  initBatch(tokens: number): void;
  addToBatch(slot: number, position: number, tokens: Uint32Array, logits: Uint32Array): Uint32Array;
  decodeBatch(): Promise<void>;
  sampleToken(logit: number, sampler: AddonSampler): Promise<number>;
  sampleToken(
    logit: number,
    sampler: AddonSampler,
    probabilities: false,
    confidence: false,
    logits: readonly [tokens: readonly Token[], max: false, min: false, selected: false, top: number],
    weight: true,
  ): Promise<
    readonly [
      token: number,
      probabilities: undefined,
      confidence: undefined,
      /** Tokens and their logits in turns: the likeliest ones first, then those that were named. */
      logits: readonly number[] | undefined,
      /** Sum of all weights, relative to the likeliest one's. */
      weight: number | undefined,
    ]
  >;
  removeTokenCellsFromSequence(slot: number, start: number, end: number): boolean;
  /** Moves the tokens of these positions by `delta`. Ends the process where the model's positions cannot move. */
  shiftSequenceTokenCells(slot: number, start: number, end: number, delta: number): void;
  getSequenceKvCacheMinPosition(slot: number): number;
  copySequenceStateFromOtherSequence(to: number, from: number): Promise<number>;
  /** @returns bytes */
  saveSequenceStateToFile(file: string, slot: number, tokens: Uint32Array): Promise<number>;
  loadSequenceStateFromFile(file: string, slot: number, most: number): Promise<Uint32Array>;
  setThreads(threads: number): void;
}

/** The addon's sampler: one chain with its random state. */
export interface AddonSampler {
  applyConfig(config: SamplerConfig): void;
  dispose(): void;
}

/** Settings of a sampler; what is left out is switched off. */
export type SamplerConfig = Readonly<Record<string, number | Uint32Array | Float32Array | AddonGrammarState>>;

/** How far an answer has come in its grammar. */
export interface AddonGrammarState {
  readonly __grammarState: never;
}

interface AddonGrammar {
  isTextCompatible(text: string): boolean;
}

interface AddonModel {
  getTokenString(token: Token): string;
  getTokenAttributes(token: Token): number;
  getVocabularyType(): number;
  tokenize(text: string, special: boolean): Uint32Array;
  isEogToken(token: Token): boolean;
  getTotalParameters(): number;
}

interface Bindings {
  readonly AddonSampler: new (model: AddonModel) => AddonSampler;
  readonly AddonGrammar: new (gbnf: string, options: { addonExports: object; rootRuleName: string }) => AddonGrammar;
  readonly AddonGrammarEvaluationState: new (model: AddonModel, grammar: AddonGrammar) => AddonGrammarState;
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
  /** Whether tokens can be taken out of the middle of a text, and those after them moved. */
  readonly shifts: boolean;
  readonly metadata: NativeMetadata;
  /** False for a model that sees a text as a whole and cannot continue one. */
  readonly generates: boolean;
  /** Tokens that begin a text. */
  readonly beginning: readonly Token[];
  createSampler(): AddonSampler;
  /** @throws Error for GBNF that llama.cpp does not take */
  createGrammarState(gbnf: string): AddonGrammarState;
  /** Tokens that end an answer; found out on first use. */
  endTokens(): readonly Token[];
  bytesOf(token: Token): Uint8Array;
  /** Texts of the tokens that steer the model; found out on first use. */
  controlTokens(): readonly string[];
  tokenize(text: string, special: boolean): Token[];
  detokenize(tokens: readonly Token[], previous: readonly Token[]): string;
  isEndOfGeneration(token: Token): boolean;
  /** Tokens that stand around every text that is embedded. */
  readonly embeddingFrame: { readonly begin: readonly Token[]; readonly end: readonly Token[] };
  /** Makes a context for embeddings that computes on so many threads; it lives as long as the model. */
  createEmbedder(threads: number): Promise<NativeEmbedder>;
  dispose(): Promise<void>;
}

export interface NativeEmbedder {
  /** Tokens that one input may have, less one. */
  readonly contextLength: number;
  /** @param tokens with those that begin and end a text */
  embed(tokens: readonly Token[]): Promise<readonly number[]>;
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
  const embeddingContexts: LlamaEmbeddingContext[] = [];
  const grammars = new Map<string, AddonGrammar>();
  const metadata = readMetadata(model);
  const everyToken = Array.from({ length: metadata.vocabularySize }, (_, token) => token);
  const kind = addonModel.getVocabularyType();
  const beginning = tokens.shouldPrependBosToken && tokens.bos !== null ? [tokens.bos] : [];
  return {
    context: addon,
    contextLength,
    slidingWindow: model.fileInsights.swaSize || undefined,
    shifts: canShift(model),
    metadata,
    generates: attentionOf(model).causal,
    beginning,
    createSampler: () => new bindings.AddonSampler(addonModel),
    createGrammarState: (gbnf) => {
      const grammar =
        grammars.get(gbnf) ?? new bindings.AddonGrammar(gbnf, { addonExports: bindings, rootRuleName: 'root' });
      // Clients send the same few schemas again and again; each is parsed once.
      grammars.delete(gbnf);
      grammars.set(gbnf, grammar);
      const [oldest] = grammars.keys();
      if (grammars.size > KEPT_GRAMMARS && oldest !== undefined) grammars.delete(oldest);
      return new bindings.AddonGrammarEvaluationState(addonModel, grammar);
    },
    endTokens: once(() => everyToken.filter((token) => addonModel.isEogToken(token))),
    controlTokens: once(() =>
      everyToken
        .filter((token) => (addonModel.getTokenAttributes(token) & STEERING) !== 0)
        .map((token) => addonModel.getTokenString(token)),
    ),
    bytesOf: (token) => tokenBytes(addonModel.getTokenString(token), kind, addonModel.getTokenAttributes(token)),
    tokenize: (text, special) => Array.from(addonModel.tokenize(text, special)),
    detokenize: (pieces, previous) => model.detokenize(asTokens(pieces), false, asTokens(previous)),
    isEndOfGeneration: (token) => addonModel.isEogToken(token),
    // One by one, and by references of our own: the library knows its contexts weakly, and once one is collected
    // llama.dispose() waits for it for ever.
    embeddingFrame: embeddingFrame(kind, tokens),
    createEmbedder: async (threads) => {
      const { contextSize, batchSize } = embeddingSizes(model, contextLength, options.batchSize);
      const embedding = await model.createEmbeddingContext({
        contextSize,
        batchSize,
        threads,
        ignoreMemorySafetyChecks: true,
      });
      embeddingContexts.push(embedding);
      return {
        contextLength: contextSize,
        embed: async (input) => (await embedding.getEmbeddingFor([...asTokens(input)])).vector,
      };
    },
    dispose: async () => {
      for (const embedding of embeddingContexts) await embedding.dispose();
      await context.dispose();
      await model.dispose();
      await llama.dispose();
    },
  };
}

/** llama_vocab_type. */
const WORD_PIECE = 3;
const UNIGRAM = 4;
const RWKV = 5;

/** The library adds these by itself; they are counted here, so that a cut text keeps its end. */
function embeddingFrame(kind: number, tokens: LlamaModel['tokens']): { begin: Token[]; end: Token[] } {
  const some = (token: Token | null) => (token === null ? [] : [token]);
  if (kind === RWKV) return { begin: [], end: [] };
  if (kind === WORD_PIECE) return { begin: some(tokens.bos), end: some(tokens.sep) };
  if (kind === UNIGRAM) return { begin: [], end: some(tokens.eos) };
  return {
    begin: tokens.shouldPrependBosToken ? some(tokens.bos) : [],
    end: tokens.shouldAppendEosToken ? some(tokens.eos) : [],
  };
}

/**
 * Models that look at a text as a whole, or take the mean of it, need it in one batch; of the others only the last token
 * counts, and a larger batch would cost memory for nothing.
 */
function embeddingSizes(
  model: LlamaModel,
  contextLength: number,
  batchSize: number,
): { contextSize: number; batchSize: number } {
  const { causal, pooling } = attentionOf(model);
  const contextSize = causal ? contextLength : model.trainContextSize;
  return { contextSize, batchSize: causal && pooling !== 'whole' ? Math.min(contextSize, batchSize) : contextSize };
}

/** Architectures that embed, also where their file does not say that they look ahead. */
const ENCODERS = /bert|^t5encoder$|^gemma-embedding$/;

/** How the model file says that it reads a text. */
function attentionOf(model: LlamaModel): { causal: boolean; pooling: 'whole' | 'last' } {
  const { metadata } = model.fileInfo;
  const own = (metadata as unknown as Record<string, unknown>)[metadata.general.architecture] as
    | { readonly attention?: { readonly causal?: boolean }; readonly pooling_type?: number }
    | undefined;
  // llama_pooling_type: 0 none, 1 mean, 2 the first token, 3 the last one.
  const whole = own?.pooling_type === 1 || own?.pooling_type === 2;
  return {
    causal: own?.attention?.causal !== false && !ENCODERS.test(metadata.general.architecture),
    pooling: whole ? 'whole' : 'last',
  };
}

/** Architectures whose positions llama.cpp cannot move for reasons of its own. */
const RIGID: ReadonlySet<string> = new Set(['step35']);

/**
 * A state that runs through the whole text, a window that forgot its beginning, and positions of several dimensions
 * cannot be moved; llama.cpp ends the process when asked to.
 */
function canShift(model: LlamaModel): boolean {
  const { metadata } = model.fileInfo;
  const { architecture } = metadata.general;
  const own = (metadata as unknown as Record<string, unknown>)[architecture] as
    | { readonly rope?: { readonly dimension_sections?: unknown } }
    | undefined;
  const { isRecurrent, isHybrid, swaSize } = model.fileInsights;
  return (
    !isRecurrent && !isHybrid && !swaSize && own?.rope?.dimension_sections === undefined && !RIGID.has(architecture)
  );
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
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
