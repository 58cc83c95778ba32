/**
 * The one interface between the APIs and whatever computes: llama.cpp, ONNX Runtime later, a fake in tests.
 * Owns types and the errors that every engine throws; knows neither HTTP nor any engine.
 */

import type { SamplingParams, Token } from '../scheduling/decoder.ts';
import type { FinishReason, SchedulerStats } from '../scheduling/job.ts';

export type { FinishReason, SamplingParams, SchedulerStats, Token };

/** Facts about the loaded model and how it is run. */
export interface EngineInfo {
  /** llama-cpp, onnx or fake. */
  readonly engine: string;
  /** Where it computes: cpu. */
  readonly device: string;
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
  readonly model: ModelInfo;
}

/** What the model file says of itself. */
export interface ModelInfo {
  /** gguf or onnx. */
  readonly format: string;
  readonly architecture: string;
  /** Number of weights, 0 when unknown. */
  readonly parameters: number;
  /** Such as Q4_1. */
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

export interface GenerateRequest {
  readonly prompt: readonly Token[];
  /** Tokens to generate; Infinity for as many as the context holds. */
  readonly maxTokens: number;
  readonly sampling: SamplingParams;
  /** Texts that end the answer and do not appear in it. */
  readonly stop: readonly string[];
  readonly signal?: AbortSignal;
}

/** A piece of the answer: never part of a character, never the beginning of a stop text. */
export interface TextPart {
  readonly type: 'text';
  readonly text: string;
}

/** The last part of every generation. Times in milliseconds. */
export interface EndPart {
  readonly type: 'end';
  readonly reason: FinishReason;
  readonly promptTokens: number;
  /** Prompt tokens that were known already and cost nothing. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** The generated tokens. */
  readonly tokens: readonly Token[];
  readonly queuedMs: number;
  readonly promptMs: number;
  readonly decodeMs: number;
}

export type GenerationPart = TextPart | EndPart;

/** An answer in the making; leaving the loop early aborts it. */
export type Generation = AsyncIterable<GenerationPart>;

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
   * @throws PromptTooLongError, QueueFullError: before anything is generated.
   */
  generate(request: GenerateRequest): Generation;
  /** Aborts what runs and frees the memory. */
  close(): Promise<void>;
}

/** The prompt does not fit into the context. */
export class PromptTooLongError extends Error {
  readonly promptTokens: number;
  readonly contextLength: number;

  constructor(promptTokens: number, contextLength: number) {
    super(
      `the prompt has ${promptTokens} tokens and this server's context holds ${contextLength}: ` +
        'shorten the prompt, or raise spec.engine.contextLength of the SLMDeployment',
    );
    this.name = 'PromptTooLongError';
    this.promptTokens = promptTokens;
    this.contextLength = contextLength;
  }
}

/** Told while a model is loading. */
export interface LoadObserver {
  /** 0 to 1. */
  progress(fraction: number): void;
  /** Lines that the engine's library prints. */
  log(level: 'debug' | 'info' | 'warn' | 'error', message: string): void;
}
