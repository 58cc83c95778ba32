/**
 * An engine made of a decoder, a tokenizer and our scheduler. Owns the way from tokens to text; the decoder decides
 * what computes. llama.cpp, ONNX Runtime and the fake are all built from this, so tests of the fake test the same path.
 */
import type { Decoder, Pick, Score, Token } from '../scheduling/decoder.ts';
import type { JobResult, JobScheduler, SchedulerStats } from '../scheduling/job.ts';
import { Scheduler } from '../scheduling/scheduler.ts';
import {
  type Embeddings,
  type EmbedOptions,
  type Engine,
  type EngineInfo,
  type GeneratedLogprob,
  type GenerateRequest,
  type Generation,
  type GenerationPart,
  GrammarError,
  PromptTooLongError,
  type Ranking,
  type TokenLogprob,
  UnsupportedError,
} from './engine.ts';
import { toGbnf } from './grammar/grammar.ts';
import { type Detokenizer, OutputText } from './output-text.ts';
import { PartStream } from './part-stream.ts';
import { ScoreQueue } from './score-queue.ts';

/** The text side of a model. */
export interface Vocabulary {
  tokenize(text: string, special: boolean): Token[];
  readonly detokenize: Detokenizer;
  isEndOfGeneration(token: Token): boolean;
  /** The tokens that begin a text: none or one. */
  readonly beginning: readonly Token[];
  /** The bytes that a token stands for. */
  bytesOf(token: Token): Uint8Array;
  /** Texts of the tokens that steer the model. */
  controlTokens(): readonly string[];
}

/** Turns texts into vectors. */
export interface Embedder {
  embed(inputs: readonly (string | readonly Token[])[], options: EmbedOptions): Promise<Embeddings>;
}

/** Says how well documents answer a query. */
export interface Ranker {
  rank(query: string, documents: readonly string[], signal: AbortSignal | undefined): Promise<Ranking>;
}

export interface BatchedEngineParts {
  readonly info: EngineInfo;
  /** What our scheduler drives, or a scheduler of the engine's own. */
  readonly decoder: Decoder | JobScheduler;
  readonly vocabulary: Vocabulary;
  readonly embedder: Embedder;
  /** Of a model that ranks. */
  readonly ranker?: Ranker;
  /** @throws GrammarError for GBNF that the decoder would not take */
  readonly checkGrammar: (gbnf: string) => void;
  /** Requests that may wait for a slot. */
  readonly maxQueue: number;
  /** Memory for prompts whose slot is gone, in bytes. Default 0: none. */
  readonly promptCacheBytes?: number;
  /** Tokens of an answer that may be guessed at a time. Default 0: none. */
  readonly mostGuesses?: number;
  /** Frees the decoder. */
  readonly dispose: () => Promise<void>;
}

/** Times its context that an answer may be long when the context shifts. */
const LONGEST_SHIFTED = 10;

export class BatchedEngine implements Engine {
  readonly info: EngineInfo;
  readonly #parts: BatchedEngineParts;
  readonly #scheduler: JobScheduler;
  #closed = false;

  constructor(parts: BatchedEngineParts) {
    this.info = parts.info;
    this.#parts = parts;
    this.#scheduler =
      'submit' in parts.decoder
        ? parts.decoder
        : new Scheduler(parts.decoder, {
            maxQueue: parts.maxQueue,
            promptCacheBytes: parts.promptCacheBytes ?? 0,
            mostGuesses: parts.mostGuesses ?? 0,
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

  get controlTokens(): readonly string[] {
    return this.#parts.vocabulary.controlTokens();
  }

  async embed(inputs: readonly (string | readonly Token[])[], options: EmbedOptions = {}): Promise<Embeddings> {
    if (this.#closed) throw new Error('the engine is closed');
    if (!this.info.capabilities.embed) throw new UnsupportedError('embed', 'this model gives no embeddings');
    return this.#parts.embedder.embed(inputs, options);
  }

  async rank(query: string, documents: readonly string[], signal?: AbortSignal): Promise<Ranking> {
    if (this.#closed) throw new Error('the engine is closed');
    const { ranker } = this.#parts;
    if (!ranker || this.info.capabilities.rank !== true)
      throw new UnsupportedError(
        'rank',
        'this model does not rank documents: use one that was made for reranking, such as bge-reranker',
      );
    return ranker.rank(query, documents, signal);
  }

  generate(request: GenerateRequest): Generation {
    const { contextLength, capabilities } = this.info;
    if (!capabilities.generate)
      throw new UnsupportedError(
        'generate',
        capabilities.rank === true
          ? 'this model ranks documents and writes none: ask /v1/rerank'
          : 'this model turns texts into embeddings and writes none: ask it to embed',
      );
    const grammar = this.#grammarOf(request);
    const room = Math.min(contextLength, request.contextLength ?? Number.POSITIVE_INFINITY);
    if (request.prompt.length >= room) throw new PromptTooLongError(request.prompt.length, room, contextLength);
    const keep = this.#keepOf(request);

    const leave = new AbortController();
    const stream = new PartStream<GenerationPart>(() => leave.abort());
    const output = new OutputText(this.#parts.vocabulary.detokenize, request.prompt, request.stop);
    const scored = request.logprobs === undefined ? undefined : new ScoreQueue();
    const tokens: Token[] = [];
    let unsent = '';
    let counted = 0;
    let stopped = false;
    let ended = false;
    const flush = () => {
      const scores = scored?.take(ended && !stopped ? Number.POSITIVE_INFINITY : output.released) ?? [];
      if (unsent === '' && scores.length === 0) return;
      stream.push({
        type: 'text',
        text: unsent,
        tokens: tokens.length - counted,
        ...(scored ? { logprobs: scores } : {}),
      });
      unsent = '';
      counted = tokens.length;
    };
    this.#scheduler.submit({
      prompt: request.prompt,
      // An answer that never meets a full context, nor an end of its own, would never leave its slot.
      maxTokens: keep ? Math.min(request.maxTokens, LONGEST_SHIFTED * room) : request.maxTokens,
      contextLength: room,
      ...(keep ? { keep } : {}),
      sampling: {
        ...request.sampling,
        ...(grammar === undefined ? {} : { grammar }),
        ...(request.logprobs === undefined ? {} : { logprobs: request.logprobs }),
        ...(request.ignoreEos === true ? { ignoreEos: true } : {}),
        ...(request.minTokens === undefined ? {} : { minTokens: request.minTokens }),
      },
      ...(request.tenant === undefined ? {} : { tenant: request.tenant }),
      signal: request.signal ? AbortSignal.any([leave.signal, request.signal]) : leave.signal,
      sink: {
        accept: (token, pick) => {
          tokens.push(token);
          scored?.push(output.decoded, this.#score(pick));
          const piece = output.push(token);
          unsent += piece.text;
          stopped = piece.stopped;
          return stopped;
        },
        flush,
        done: (result: JobResult) => {
          ended = true;
          if (!stopped) unsent += output.end();
          flush();
          stream.push({ type: 'end', tokens, ...result, ...(output.met === undefined ? {} : { stop: output.met }) });
          stream.end();
        },
        failed: (error) => stream.end(error),
      },
    });
    return stream;
  }

  /** @throws UnsupportedError */
  #keepOf({ keep }: GenerateRequest): (() => number) | undefined {
    if (keep && this.info.capabilities.shift !== true)
      throw new UnsupportedError(
        'shift',
        'this model cannot forget the middle of a text, so an answer that fills the context ends there: leave shift out',
      );
    return keep;
  }

  /** @throws GrammarError, UnsupportedError */
  #grammarOf({ grammar, logprobs, ignoreEos, minTokens }: GenerateRequest): string | undefined {
    const { capabilities } = this.info;
    if (logprobs !== undefined && !capabilities.logprobs)
      throw new UnsupportedError('logprobs', 'this engine gives no log probabilities: leave logprobs out');
    if (!grammar) return undefined;
    if (!capabilities.grammar)
      throw new UnsupportedError('grammar', 'this engine cannot hold an answer to a grammar: leave it out');
    if (ignoreEos === true || (minTokens ?? 0) > 0)
      throw new GrammarError(
        'an answer that follows a grammar ends where the grammar says: leave ignoreEos and minTokens out',
      );
    const gbnf = toGbnf(grammar);
    this.#parts.checkGrammar(gbnf);
    return gbnf;
  }

  #score(pick: Pick): GeneratedLogprob {
    return {
      ...this.#describe([pick.token, pick.logprob ?? 0]),
      top: (pick.top ?? []).map((one) => this.#describe(one)),
    };
  }

  #describe([token, logprob]: Score): TokenLogprob {
    const bytes = this.#parts.vocabulary.bytesOf(token);
    return { token, text: Buffer.from(bytes).toString(), bytes: [...bytes], logprob };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#scheduler.close();
    await this.#parts.dispose();
  }
}
