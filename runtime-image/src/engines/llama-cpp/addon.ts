/**
 * The native addon of node-llama-cpp as we use it: types of its objects. The library's public API has no way to fill a batch by
 * hand and reads the whole vocabulary before it loads, so these objects are driven directly. They may change with any release:
 * native-files.ts lets in the one that they were taken from. Types only.
 */
import type { Token } from '../../scheduling/decoder.ts';

/** One context of a model. */
export interface AddonContext {
  /** @returns false when it failed; the reason is in the log */
  init(): Promise<boolean>;
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
  /** The vector of the last text that was decoded in slot 0. */
  getEmbedding(tokens: number): Float64Array;
  /** Bytes of keys, values and what is computed with. */
  getMemoryBreakdown(): MemoryBreakdown;
  /** Adds adapters to what the model computes, in place of those before. */
  setLoras(adapters: readonly AddonLora[], scales: readonly number[]): void;
  dispose(): Promise<void>;
}

/** Settings of a context; sizes in tokens. */
export interface AddonContextOptions {
  readonly contextSize: number;
  readonly batchSize: number;
  readonly sequences: number;
  readonly flashAttention: 'auto' | boolean;
  readonly threads: number;
  readonly embeddings?: boolean;
  /** Scores instead of vectors. */
  readonly ranking?: boolean;
  /** ggml's numbers of types. */
  readonly kvCacheKeyType?: number;
  readonly kvCacheValueType?: number;
}

/** A LoRA adapter; it lives as long as the model. */
export interface AddonLora {
  readonly filePath: string;
}

/** One chain of samplers with its random state. */
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

export interface AddonGrammar {
  isTextCompatible(text: string): boolean;
}

/** -1 stands for a token that the model has not. */
export interface AddonModel {
  /** @returns false when it failed; the reason is in the log */
  init(): Promise<boolean>;
  tokenBos(): Token;
  tokenEos(): Token;
  sepToken(): Token;
  shouldPrependBosToken(): boolean;
  shouldAppendEosToken(): boolean;
  getTokenString(token: Token): string;
  getTokenAttributes(token: Token): number;
  getVocabularyType(): number;
  tokenize(text: string, special: boolean): Uint32Array;
  detokenize(tokens: Uint32Array, special: boolean): string;
  isEogToken(token: Token): boolean;
  getTotalParameters(): number;
  getTrainContextSize(): number;
  getEmbeddingVectorSize(): number;
  /** Such as `llama 135M Q4_1`. */
  getModelDescription(): string;
  /** Bytes of the weights. */
  getMemoryBreakdown(): MemoryBreakdown;
  /** @throws Error for an adapter of another model; the reason is in the log */
  loadLora(adapter: AddonLora): Promise<void>;
  dispose(): Promise<void>;
}

export interface AddonModelOptions {
  readonly addonExports: object;
  /** Layers that the GPU computes, the output layer included; more than there are for all. */
  readonly gpuLayers: number;
  readonly useMmap: boolean;
  readonly onLoadProgress: (fraction: number) => void;
}

/** Bytes by where they lie. */
export interface MemoryBreakdown {
  readonly cpuRam: number;
  readonly gpuVram: number;
}

/** What the addon exports. */
export interface Bindings {
  readonly AddonModel: new (file: string, options: AddonModelOptions) => AddonModel;
  readonly AddonModelLora: new (model: AddonModel, file: string) => AddonLora;
  readonly AddonContext: new (model: AddonModel, options: AddonContextOptions) => AddonContext;
  readonly AddonSampler: new (model: AddonModel) => AddonSampler;
  readonly AddonGrammar: new (gbnf: string, options: { addonExports: object; rootRuleName: string }) => AddonGrammar;
  readonly AddonGrammarEvaluationState: new (model: AddonModel, grammar: AddonGrammar) => AddonGrammarState;
  setLogger(log: (level: number, text: string) => void): void;
  setLoggerLogLevel(level: number): void;
  /** Without a folder those that are part of the addon. */
  loadBackends(folder?: string): void;
  init(): Promise<void>;
  /** All GPUs that the backends found, as their drivers name them. */
  getGpuDeviceInfo(): { readonly deviceNames: readonly string[] };
  /** Bytes of all GPUs together, and those of them that are the computer's own memory. */
  getGpuVramInfo(): { readonly total: number; readonly used: number; readonly unifiedSize: number };
  /** What the processor has and the backend uses, as one line. */
  systemInfo(): string;
  getIsArchSupported(architecture: string): boolean;
  getIsArchRecurrent(architecture: string): boolean | undefined;
  getIsArchHybrid(architecture: string): boolean | undefined;
  getBlockSizeForGgmlType(type: number): number | undefined;
  getTypeSizeForGgmlType(type: number): number | undefined;
}
