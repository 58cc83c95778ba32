/**
 * An engine made of a decoder, a tokenizer and our scheduler. Owns the way from tokens to text; the decoder decides
 * what computes. llama.cpp and the fake are both built from this, so tests of the fake test the same path.
 */
import type { Decoder, Token } from '../scheduling/decoder.ts';
import type { JobResult, SchedulerStats } from '../scheduling/job.ts';
import { Scheduler } from '../scheduling/scheduler.ts';
import {
  type Engine,
  type EngineInfo,
  type GenerateRequest,
  type Generation,
  type GenerationPart,
  PromptTooLongError,
} from './engine.ts';
import { type Detokenizer, OutputText } from './output-text.ts';
import { PartStream } from './part-stream.ts';

/** The text side of a model. */
export interface Vocabulary {
  tokenize(text: string, special: boolean): Token[];
  readonly detokenize: Detokenizer;
  isEndOfGeneration(token: Token): boolean;
  /** The tokens that begin a text: none or one. */
  readonly beginning: readonly Token[];
}

export interface BatchedEngineParts {
  readonly info: EngineInfo;
  readonly decoder: Decoder;
  readonly vocabulary: Vocabulary;
  /** Requests that may wait for a slot. */
  readonly maxQueue: number;
  /** Frees the decoder. */
  readonly dispose: () => Promise<void>;
}

export class BatchedEngine implements Engine {
  readonly info: EngineInfo;
  readonly #parts: BatchedEngineParts;
  readonly #scheduler: Scheduler;

  constructor(parts: BatchedEngineParts) {
    this.info = parts.info;
    this.#parts = parts;
    this.#scheduler = new Scheduler(parts.decoder, {
      maxQueue: parts.maxQueue,
      now: () => performance.now(),
      isEndOfGeneration: (token) => parts.vocabulary.isEndOfGeneration(token),
    });
  }

  get stats(): SchedulerStats {
    return this.#scheduler.stats;
  }

  get beginning(): readonly Token[] {
    return this.#parts.vocabulary.beginning;
  }

  tokenize(text: string, special: boolean): Token[] {
    return this.#parts.vocabulary.tokenize(text, special);
  }

  generate(request: GenerateRequest): Generation {
    const { contextLength } = this.info;
    if (request.prompt.length >= contextLength) throw new PromptTooLongError(request.prompt.length, contextLength);

    const leave = new AbortController();
    const stream = new PartStream<GenerationPart>(() => leave.abort());
    const output = new OutputText(this.#parts.vocabulary.detokenize, request.prompt, request.stop);
    const tokens: Token[] = [];
    let unsent = '';
    let stopped = false;
    const flush = () => {
      if (unsent !== '') stream.push({ type: 'text', text: unsent });
      unsent = '';
    };
    this.#scheduler.submit({
      prompt: request.prompt,
      maxTokens: request.maxTokens,
      sampling: request.sampling,
      signal: request.signal ? AbortSignal.any([leave.signal, request.signal]) : leave.signal,
      sink: {
        accept: (token) => {
          tokens.push(token);
          const piece = output.push(token);
          unsent += piece.text;
          stopped = piece.stopped;
          return stopped;
        },
        flush,
        done: (result: JobResult) => {
          if (!stopped) unsent += output.end();
          flush();
          stream.push({ type: 'end', tokens, ...result });
          stream.end();
        },
        failed: (error) => stream.end(error),
      },
    });
    return stream;
  }

  async close(): Promise<void> {
    await this.#scheduler.close();
    await this.#parts.dispose();
  }
}
