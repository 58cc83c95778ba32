/**
 * A model and its context as the engine needs them, over the addon of node-llama-cpp. Owns loading, what the model says of itself,
 * and the text side; batches and samplers are the decoder's.
 */
import { stat } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DeviceReport } from '@slm-operator/crds/contract';
import type { DeviceOrder } from '../../devices.ts';
import { StartupError } from '../../failures.ts';
import type { Token } from '../../scheduling/decoder.ts';
import type { LoadObserver } from '../engine.ts';
import { OneAtATime } from '../one-at-a-time.ts';
import { type Adapter, loadAdapters } from './adapters.ts';
import type {
  AddonContext,
  AddonContextOptions,
  AddonGrammar,
  AddonGrammarState,
  AddonModel,
  AddonSampler,
  Bindings,
} from './addon.ts';
import { type GgufHeader, readGgufHeader } from './gguf-header.ts';
import { type Library, observeLog, openLibrary, withDetails } from './library.ts';
import { quantizationOf } from './model-file.ts';
import { BINDING_VERSION } from './native-files.ts';
import { type Offload, offloadIn, reportDevice } from './offload.ts';
import { tokenBytes } from './token-bytes.ts';

export type { AddonContext, AddonGrammarState, AddonSampler, SamplerConfig } from './addon.ts';

/** Grammars that stay parsed. */
const KEPT_GRAMMARS = 32;
/** Attributes of tokens (llama_token_attr) that tokenizing obeys only on request: unknown and control. */
const STEERING = 1 | 8;
/** Tokens before a text that decide whether it begins with a space. */
const LOOK_BACK = 3;
/** llama.cpp rounds contexts up to these. */
const CONTEXT_STEP = 256;
/** ggml's numbers of types. */
const GGML_TYPES = { F16: 1, Q8_0: 8, Q4_0: 2 } as const;
/** More layers than any model has. */
const ALL_LAYERS = 100_000;

export interface NativeOptions {
  readonly modelPath: string;
  readonly devices: DeviceOrder;
  /** Undefined: all. */
  readonly gpuLayers: number | undefined;
  readonly threads: number;
  readonly parallelRequests: number;
  readonly batchSize: number;
  readonly flashAttention: 'Auto' | 'Enabled' | 'Disabled';
  readonly kvCacheType: 'F16' | 'Q8_0' | 'Q4_0';
  /** Given the tokens that the model was trained for. @returns tokens of context for each slot */
  readonly contextLength: (trained: number) => number;
  /** LoRA adapters that every answer is computed with. */
  readonly adapters: readonly Adapter[];
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
  /** What computes, for people: the library, its version and how it uses threads. */
  readonly backend: string;
  readonly device: DeviceReport;
  /** Bytes, all and on the GPU; undefined where the processor computes. */
  readonly memory: { readonly total: number; readonly device: number } | undefined;
  /** A sentence where the processor computes for want of a device. */
  readonly fallback: string | undefined;
  /** False for a model that sees a text as a whole and cannot continue one. */
  readonly generates: boolean;
  /** Whether it scores pairs of texts instead of giving vectors. */
  readonly ranks: boolean;
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
  /** Tokens around and between the two texts of a pair that is scored. */
  readonly rankingFrame: {
    readonly begin: readonly Token[];
    readonly middle: readonly Token[];
    readonly end: readonly Token[];
  };
  /** Whether scores are probabilities already, and not their logits. */
  readonly rankNormalized: boolean;
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

/** llama.cpp's loading is not made for two at once. */
const loading = new OneAtATime();

/**
 * Loads a model and makes its context.
 * @throws StartupError (EngineMismatch) when the library is not the one that our types know; Error with what failed
 */
export async function loadNative(options: NativeOptions): Promise<NativeModel> {
  const library = await openLibrary(options.devices);
  const { bindings } = library;
  const offload: Offload = { devices: [] };
  const forget = observeLog((level, message) => {
    offloadIn(message, offload);
    options.observer.log(level, message);
  });
  // Read while llama.cpp loads; a file that has no header fails there as well.
  const reading = readGgufHeader(options.modelPath);
  reading.catch(() => undefined);
  try {
    const model = new bindings.AddonModel(options.modelPath, {
      addonExports: bindings,
      gpuLayers: library.gpu ? (options.gpuLayers ?? ALL_LAYERS) : 0,
      useMmap: true,
      onLoadProgress: (fraction) => options.observer.progress(fraction),
    });
    const load = () => loading.run(() => model.init());
    if (!(await (library.gpu ? withDetails(library, load) : load())))
      throw new Error('llama.cpp could not load the model');
    const header = await reading;
    if (!library.openmp)
      options.observer.log(
        'warn',
        'this CPU backend has no OpenMP, so that several threads gain little: use the server image, or compile the backends with npm run images',
      );
    try {
      return await makeModel(library, model, header, options, offload, forget);
    } catch (error) {
      await model.dispose();
      throw error;
    }
  } catch (error) {
    // llama.cpp's last lines, which say why, are still on their way to the observer.
    await nextTurn();
    forget();
    if (error instanceof StartupError) throw error;
    await checkHeader(bindings, await reading, options.modelPath);
    throw error;
  }
}

/**
 * Finds out what llama.cpp says to its log alone, where it gets lost easily.
 * @throws UnknownArchitectureError; Error for a file that ends before its tensors do
 */
async function checkHeader(bindings: Bindings, header: GgufHeader, file: string): Promise<void> {
  const architecture = architectureOf(header);
  if (!bindings.getIsArchSupported(architecture)) throw new UnknownArchitectureError(architecture);
  const { size } = await stat(file);
  for (const { name, type, elements, start } of header.tensors) {
    const block = bindings.getBlockSizeForGgmlType(type) ?? 1;
    if (start + (elements / block) * (bindings.getTypeSizeForGgmlType(type) ?? 0) > size)
      throw new Error(`the data of tensor ${name} is not within the file bounds`);
  }
}

async function makeContext(bindings: Bindings, model: AddonModel, options: AddonContextOptions): Promise<AddonContext> {
  const context = new bindings.AddonContext(model, options);
  if (!(await loading.run(() => context.init()))) {
    await context.dispose();
    throw new Error('llama.cpp could not make the context');
  }
  return context;
}

async function makeModel(
  library: Library,
  model: AddonModel,
  header: GgufHeader,
  options: NativeOptions,
  offload: Offload,
  forget: () => void,
): Promise<NativeModel> {
  const { bindings, openmp } = library;
  const trained = model.getTrainContextSize();
  const contextLength = padded(options.contextLength(trained), trained);
  const slidingWindow = slidingWindowOf(header, trained);
  const adapters = await loadAdapters(bindings, model, options.adapters);
  const context = await makeContext(bindings, model, {
    contextSize: contextLength * options.parallelRequests,
    // One more where a window slides: its oldest token makes room only after the batch.
    batchSize: Math.max(options.batchSize, options.parallelRequests) + (slidingWindow === undefined ? 0 : 1),
    sequences: options.parallelRequests,
    threads: options.threads,
    flashAttention: options.flashAttention === 'Auto' ? 'auto' : options.flashAttention === 'Enabled',
    kvCacheKeyType: GGML_TYPES[options.kvCacheType],
    kvCacheValueType: GGML_TYPES[options.kvCacheType],
  });
  adapters.apply(context);
  const tokens = specialTokens(model);
  const embedders: AddonContext[] = [];
  const grammars = new Map<string, AddonGrammar>();
  const metadata = readMetadata(model, header, tokens);
  const everyToken = Array.from({ length: metadata.vocabularySize }, (_, token) => token);
  const kind = model.getVocabularyType();
  const sizes = [model.getMemoryBreakdown(), context.getMemoryBreakdown()];
  const onDevice = sizes.reduce((sum, { gpuVram }) => sum + gpuVram, 0);
  return {
    context,
    device: reportDevice(library, offload),
    fallback: library.fallback,
    memory: library.gpu && {
      total: sizes.reduce((sum, { cpuRam }) => sum + cpuRam, onDevice),
      device: onDevice,
    },
    contextLength,
    slidingWindow,
    shifts: canShift(bindings, header, slidingWindow),
    metadata,
    backend: `llama.cpp (node-llama-cpp ${BINDING_VERSION}${openmp ? ', openmp' : ''})`,
    generates: attentionOf(header).causal && !ranks(header),
    ranks: ranks(header),
    rankingFrame: rankingFrame(kind, tokens),
    rankNormalized: /^qwen3(vl)?$/.test(architectureOf(header)),
    beginning: tokens.addBos && tokens.bos !== undefined ? [tokens.bos] : [],
    createSampler: () => new bindings.AddonSampler(model),
    createGrammarState: (gbnf) => {
      const grammar =
        grammars.get(gbnf) ?? new bindings.AddonGrammar(gbnf, { addonExports: bindings, rootRuleName: 'root' });
      // Clients send the same few schemas again and again; each is parsed once.
      grammars.delete(gbnf);
      grammars.set(gbnf, grammar);
      const [oldest] = grammars.keys();
      if (grammars.size > KEPT_GRAMMARS && oldest !== undefined) grammars.delete(oldest);
      return new bindings.AddonGrammarEvaluationState(model, grammar);
    },
    endTokens: once(() => everyToken.filter((token) => model.isEogToken(token))),
    controlTokens: once(() =>
      everyToken
        .filter((token) => (model.getTokenAttributes(token) & STEERING) !== 0)
        .map((token) => model.getTokenString(token)),
    ),
    bytesOf: (token) => tokenBytes(model.getTokenString(token), kind, model.getTokenAttributes(token)),
    tokenize: (text, special) => (text === '' ? [] : Array.from(model.tokenize(text, special))),
    detokenize: (pieces, previous) => detokenize(model, pieces, previous),
    isEndOfGeneration: (token) => model.isEogToken(token),
    embeddingFrame: embeddingFrame(kind, tokens),
    createEmbedder: async (threads) => {
      const { contextSize, batchSize } = embeddingSizes(header, trained, contextLength, options.batchSize);
      const embedding = await makeContext(bindings, model, {
        contextSize: padded(contextSize, Number.POSITIVE_INFINITY),
        batchSize,
        sequences: 1,
        threads,
        flashAttention: 'auto',
        embeddings: true,
        ranking: ranks(header),
      });
      adapters.apply(embedding);
      embedders.push(embedding);
      return { contextLength: contextSize, embed: (input) => embed(embedding, input, batchSize) };
    },
    dispose: async () => {
      forget();
      for (const embedding of embedders) await embedding.dispose();
      await context.dispose();
      await model.dispose();
    },
  };
}

/** As llama.cpp rounds it, but no more than the model was trained for. */
function padded(tokens: number, most: number): number {
  const up = Math.ceil(Math.max(2, tokens) / CONTEXT_STEP) * CONTEXT_STEP;
  return up <= most ? up : tokens;
}

async function embed(context: AddonContext, tokens: readonly Token[], batchSize: number): Promise<readonly number[]> {
  context.removeTokenCellsFromSequence(0, 0, -1);
  for (let at = 0; at < tokens.length; at += batchSize) {
    const part = Uint32Array.from(tokens.slice(at, at + batchSize));
    context.initBatch(part.length);
    context.addToBatch(0, at, part, Uint32Array.of(part.length - 1));
    await context.decodeBatch();
  }
  return Array.from(context.getEmbedding(tokens.length));
}

/** What `pieces` add to the text of the tokens before them: some models write a space before the first word only. */
function detokenize(model: AddonModel, pieces: readonly Token[], previous: readonly Token[]): string {
  if (pieces.length === 0) return '';
  const alone = () => model.detokenize(Uint32Array.from(pieces), false);
  const before = previous.slice(-LOOK_BACK);
  if (before.length === 0) return alone();
  const prefix = model.detokenize(Uint32Array.from(before), false);
  if (prefix === '') return alone();
  const text = model.detokenize(Uint32Array.from([...before, ...pieces]), false);
  return text.startsWith(prefix) ? text.slice(prefix.length) : alone();
}

interface SpecialTokens {
  readonly bos: Token | undefined;
  readonly eos: Token | undefined;
  readonly sep: Token | undefined;
  readonly addBos: boolean;
  readonly addEos: boolean;
}

function specialTokens(model: AddonModel): SpecialTokens {
  const known = (token: Token) => (token < 0 ? undefined : token);
  return {
    bos: known(model.tokenBos()),
    eos: known(model.tokenEos()),
    sep: known(model.sepToken()),
    addBos: model.shouldPrependBosToken(),
    addEos: model.shouldAppendEosToken(),
  };
}

/** llama_vocab_type. */
const WORD_PIECE = 3;
const UNIGRAM = 4;
const RWKV = 5;

/** What llama.cpp's own tokenizing puts around a text, by the kind of vocabulary. */
function embeddingFrame(kind: number, tokens: SpecialTokens): { begin: Token[]; end: Token[] } {
  const some = (token: Token | undefined, wanted = true) => (wanted && token !== undefined ? [token] : []);
  if (kind === RWKV) return { begin: [], end: [] };
  if (kind === WORD_PIECE) return { begin: some(tokens.bos), end: some(tokens.sep) };
  if (kind === UNIGRAM) return { begin: [], end: some(tokens.eos) };
  return { begin: some(tokens.bos, tokens.addBos), end: some(tokens.eos, tokens.addEos) };
}

/** A question and a text, as the model learnt to read them together. */
function rankingFrame(kind: number, tokens: SpecialTokens): { begin: Token[]; middle: Token[]; end: Token[] } {
  const some = (token: Token | undefined) => (token === undefined ? [] : [token]);
  const eos = tokens.eos ?? tokens.sep;
  if (kind === WORD_PIECE) return { begin: some(tokens.bos), middle: some(tokens.sep), end: some(tokens.sep) };
  return { begin: some(tokens.bos), middle: [...some(eos), ...some(tokens.sep ?? eos)], end: some(eos) };
}

/** llama_pooling_type: 4 is for ranking. */
function ranks(header: GgufHeader): boolean {
  return own(header, 'pooling_type') === 4;
}

/**
 * Models that look at a text as a whole, or take the mean of it, need it in one batch; of the others only the last token
 * counts, and a larger batch would cost memory for nothing.
 */
function embeddingSizes(
  header: GgufHeader,
  trained: number,
  contextLength: number,
  batchSize: number,
): { contextSize: number; batchSize: number } {
  const { causal, pooling } = attentionOf(header);
  const contextSize = causal ? contextLength : trained;
  return { contextSize, batchSize: causal && pooling !== 'whole' ? Math.min(contextSize, batchSize) : contextSize };
}

function architectureOf({ values }: GgufHeader): string {
  return String(values.get('general.architecture') ?? '');
}

/** A value of the model's architecture. */
function own(header: GgufHeader, key: string): unknown {
  return header.values.get(`${architectureOf(header)}.${key}`);
}

/** Architectures that embed, also where their file does not say that they look ahead. */
const ENCODERS = /bert|^t5encoder$|^gemma-embedding$/;

/** How the model file says that it reads a text. */
function attentionOf(header: GgufHeader): { causal: boolean; pooling: 'whole' | 'last' } {
  // llama_pooling_type: 0 none, 1 mean, 2 the first token, 3 the last one.
  const pooling = own(header, 'pooling_type');
  return {
    causal: own(header, 'attention.causal') !== false && !ENCODERS.test(architectureOf(header)),
    pooling: pooling === 1 || pooling === 2 || pooling === 4 ? 'whole' : 'last',
  };
}

/** A window as long as the whole context is none. */
function slidingWindowOf(header: GgufHeader, trained: number): number | undefined {
  const window = Number(own(header, 'attention.sliding_window') ?? 0);
  return window > 0 && window < trained ? window : undefined;
}

/**
 * A state that runs through the whole text, a window that forgot its beginning, and positions of several dimensions
 * cannot be moved; llama.cpp ends the process when asked to.
 */
function canShift(bindings: Bindings, header: GgufHeader, slidingWindow: number | undefined): boolean {
  const architecture = architectureOf(header);
  return (
    bindings.getIsArchRecurrent(architecture) !== true &&
    bindings.getIsArchHybrid(architecture) !== true &&
    slidingWindow === undefined &&
    own(header, 'rope.dimension_sections') === undefined &&
    architecture !== 'step35'
  );
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function readMetadata(model: AddonModel, header: GgufHeader, tokens: SpecialTokens): NativeMetadata {
  const template = header.values.get('tokenizer.chat_template');
  const text = (token: Token | undefined) => (token === undefined ? '' : model.getTokenString(token));
  return {
    architecture: architectureOf(header),
    quantization: quantizationOf(model.getModelDescription()),
    parameters: model.getTotalParameters(),
    trainedContextLength: model.getTrainContextSize(),
    embeddingLength: model.getEmbeddingVectorSize(),
    vocabularySize: header.lengths.get('tokenizer.ggml.tokens') ?? 0,
    chatTemplate: typeof template === 'string' ? template : undefined,
    bosToken: text(tokens.bos),
    eosToken: text(tokens.eos),
  };
}
