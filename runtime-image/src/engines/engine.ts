/**
 * The one interface between the APIs and whatever computes: llama.cpp, ONNX Runtime, a fake in tests.
 * Owns types and the errors that every engine throws; knows neither HTTP nor any engine.
 */

import type { DeviceReport } from '@slm-operator/crds/contract';
import type { SamplingParams, Token } from '../scheduling/decoder.ts';
import type { FinishReason, SchedulerStats } from '../scheduling/job.ts';

export type { FinishReason, SamplingParams, SchedulerStats, Token };

/** Facts about the loaded model and how it is run. */
export interface EngineInfo {
  /** llama-cpp, onnx or fake. */
  readonly engine: string;
  /** What computes, as the library found it. */
  readonly device: DeviceReport;
  /** A sentence where the processor computes for want of a device that was to be preferred. */
  readonly fallback?: string;
  /** Bytes that the loaded model takes, with all contexts, and those of them on the GPU. Absent where the processor computes. */
  readonly memory?: { readonly total: number; readonly device: number };
  /** The library and its version. */
  readonly backend: string;
  /** CPU threads that compute. */
  readonly threads: number;
  /** Tokens that one request may hold, prompt and answer together. */
  readonly contextLength: number;
  /** Requests decoded together. */
  readonly parallelRequests: number;
  /** Tokens in one batch. */
  readonly batchSize: number;
  readonly capabilities: Capabilities;
  readonly model: ModelInfo;
}

/** What this engine can do with this model; the rest is refused with an UnsupportedError. */
export interface Capabilities {
  /** False for models that only embed. */
  readonly generate: boolean;
  readonly embed: boolean;
  /** Whether it says how well texts answer a question. Default false. */
  readonly rank?: boolean;
  readonly grammar: boolean;
  readonly logprobs: boolean;
  /** Whether an answer can go on when its context is full. Default false. */
  readonly shift?: boolean;
}

/** What the model file says of itself. */
export interface ModelInfo {
  /** gguf or onnx. */
  readonly format: string;
  readonly architecture: string;
  /** Number of weights, 0 when unknown. */
  readonly parameters: number;
  /** Such as Q4_1 (GGUF), INT4 or FP16 (ONNX). */
  readonly quantization: string;
  /** Bytes on disk. */
  readonly size: number;
  /** Tokens that the model was trained for. */
  readonly trainedContextLength: number;
  readonly embeddingLength: number;
  readonly vocabularySize: number;
  /** Jinja source of the model's own chat template, when it has one. */
  readonly chatTemplate?: string;
  /** Text of the special tokens that a template may use. */
  readonly bosToken: string;
  readonly eosToken: string;
}

/** What an answer must look like. */
export type Grammar =
  /** Any JSON object. */
  | { readonly type: 'json' }
  /** JSON that satisfies a JSON Schema; `true` or an object. */
  | { readonly type: 'json_schema'; readonly schema: unknown }
  /** llama.cpp's grammar notation with a rule `root`. */
  | { readonly type: 'gbnf'; readonly text: string };

export interface GenerateRequest {
  readonly prompt: readonly Token[];
  /** Tokens to generate; Infinity for as many as the context holds. */
  readonly maxTokens: number;
  readonly sampling: SamplingParams;
  /** Tokens that prompt and answer may have together. Default, and at most: the engine's context. */
  readonly contextLength?: number;
  /**
   * When the context is full: tokens at the beginning to keep, while half of the others go and the answer goes on. Asked
   * only then. Without it the answer ends there.
   */
  readonly keep?: () => number;
  /** Texts that end the answer and do not appear in it. */
  readonly stop: readonly string[];
  readonly signal?: AbortSignal;
  readonly grammar?: Grammar;
  /** Alternatives to report with each token's own log probability, 0 to 20; undefined reports nothing. */
  readonly logprobs?: number;
  /** Whose request this is, such as the id of an API key: waiting tenants take turns. Default: all the same. */
  readonly tenant?: string;
  /** Goes on until `maxTokens` or a stop text. Not together with a grammar. */
  readonly ignoreEos?: boolean;
  /** Tokens before which the model may not end the answer. Not together with a grammar. */
  readonly minTokens?: number;
}

/** How likely a token was, before any sampling setting. */
export interface TokenLogprob {
  readonly token: Token;
  /** Empty or with replacement characters where a token is part of a character: see `bytes`. */
  readonly text: string;
  readonly bytes: readonly number[];
  /** Natural logarithm; 0 is certain. */
  readonly logprob: number;
}

export interface GeneratedLogprob extends TokenLogprob {
  /** The likeliest tokens at this place, likeliest first; the generated one need not be among them. */
  readonly top: readonly TokenLogprob[];
}

/** A piece of the answer: never part of a character, never the beginning of a stop text. */
export interface TextPart {
  readonly type: 'text';
  readonly text: string;
  /** Tokens that were generated since the part before. */
  readonly tokens?: number;
  /** Of the tokens that this text completes, when they were asked for. */
  readonly logprobs?: readonly GeneratedLogprob[];
}

/** The last part of every generation. Times in milliseconds. */
export interface EndPart {
  readonly type: 'end';
  readonly reason: FinishReason;
  /** The stop text that ended the answer, when one did. */
  readonly stop?: string;
  readonly promptTokens: number;
  /** Prompt tokens that were known already and cost nothing. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** Of these, thoughts; known to whoever reads the text. */
  readonly reasoningTokens?: number;
  /** Tokens that a full context gave up while the answer went on. */
  readonly discardedTokens: number;
  /** The generated tokens. */
  readonly tokens: readonly Token[];
  readonly queuedMs: number;
  readonly promptMs: number;
  readonly decodeMs: number;
}

export type GenerationPart = TextPart | EndPart;

/** An answer in the making; leaving the loop early aborts it. */
export type Generation = AsyncIterable<GenerationPart>;

export interface EmbedOptions {
  readonly signal?: AbortSignal;
  /** Scales each vector to length 1. Default true. */
  readonly normalize?: boolean;
  /** Cuts inputs that are too long, instead of refusing them. Default false. */
  readonly truncate?: boolean;
}

export interface Embeddings {
  /** One for each input, in their order. */
  readonly embeddings: readonly Float32Array[];
  /** Of all inputs, with the tokens that begin and end each. */
  readonly promptTokens: number;
}

export interface Ranking {
  /** How well each document answers the query, 0 to 1, in the order of the documents. */
  readonly scores: readonly number[];
  /** Of all pairs of query and document. */
  readonly promptTokens: number;
}

/** A loaded model. */
export interface Engine {
  readonly info: EngineInfo;
  readonly stats: SchedulerStats;
  /**
   * @param special whether `<|im_end|>` and its like become the tokens they name (templates) or stay text
   * @returns tokens, without the one that begins a text
   */
  tokenize(text: string, special: boolean): Token[];
  /** The tokens that begin a text for this model: none or one. */
  readonly beginning: readonly Token[];
  /**
   * Starts an answer.
   * @throws PromptTooLongError, QueueFullError, GrammarError, UnsupportedError: before anything is generated.
   */
  generate(request: GenerateRequest): Generation;
  /**
   * Vectors of texts, or of tokens without those that begin and end a text.
   * @throws PromptTooLongError, QueueFullError, UnsupportedError, AbortError
   */
  embed(inputs: readonly (string | readonly Token[])[], options?: EmbedOptions): Promise<Embeddings>;
  /**
   * How well documents answer a query. Of a document that is too long, its best part counts.
   * @throws PromptTooLongError for the query; QueueFullError, UnsupportedError, AbortError
   */
  rank(query: string, documents: readonly string[], signal?: AbortSignal): Promise<Ranking>;
  /** Texts such as `<|im_end|>` that steer the model; found out on first use. */
  readonly controlTokens: readonly string[];
  /** Aborts what runs and frees the memory. */
  close(): Promise<void>;
}

/** The prompt does not fit into the context. */
export class PromptTooLongError extends Error {
  readonly promptTokens: number;
  readonly contextLength: number;

  /** @param most tokens that the server's context holds, when the request asked for fewer */
  constructor(promptTokens: number, contextLength: number, most = contextLength) {
    super(
      most > contextLength
        ? `the prompt has ${promptTokens} tokens and the request asks for a context of ${contextLength}: ` +
            `shorten the prompt, or ask for up to ${most}`
        : `the prompt has ${promptTokens} tokens and this server's context holds ${contextLength}: ` +
            'shorten the prompt, or raise spec.engine.contextLength of the SLMDeployment',
    );
    this.name = 'PromptTooLongError';
    this.promptTokens = promptTokens;
    this.contextLength = contextLength;
  }
}

/** A grammar or schema that cannot be used; the request's fault. */
export class GrammarError extends Error {
  /** The schema's keyword that is to blame. */
  readonly keyword: string | undefined;
  /** Where it stands, as a JSON pointer such as `#/properties/age`. */
  readonly path: string | undefined;

  constructor(message: string, keyword?: string, path?: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'GrammarError';
    this.keyword = keyword;
    this.path = path;
  }
}

/** This engine cannot do that with this model; the request's fault. */
export class UnsupportedError extends Error {
  /** Of GenerateRequest, or `embed` or `generate`. */
  readonly feature: string;

  constructor(feature: string, message: string) {
    super(message);
    this.name = 'UnsupportedError';
    this.feature = feature;
  }
}

/** Told while a model is loading. */
export interface LoadObserver {
  /** 0 to 1. */
  progress(fraction: number): void;
  /** Lines that the engine's library prints. */
  log(level: 'debug' | 'info' | 'warn' | 'error', message: string): void;
}
