/**
 * Requests to node-llama-cpp's own `evaluate()`, one sequence each: the library makes the batches. Owns the queue and the
 * sequences; touches public API alone, so that it works with releases whose insides nobody has looked at. Slower than our
 * scheduler, less fair, and it shares no prefixes between sequences.
 */

import type * as NodeLlamaCpp from 'node-llama-cpp';
import type {
  Token as LibraryToken,
  Llama,
  LlamaContextSequence,
  LlamaModel,
  SequenceEvaluateOptions,
} from 'node-llama-cpp';
import type { SamplerRequest, Token } from '../../scheduling/decoder.ts';
import type { FinishReason, JobRequest, JobScheduler, SchedulerStats } from '../../scheduling/job.ts';
import { AdmissionQueue } from '../../scheduling/queue.ts';
import { type Job, newJob, resultOf } from '../../scheduling/running.ts';
import { commonPrefix } from '../../scheduling/slots.ts';
import { UnsupportedError } from '../engine.ts';

/** Tokens of a prompt that are computed before an abort is looked for. */
const CHUNK = 128;

export interface PublicSchedulerOptions {
  readonly library: Pick<typeof NodeLlamaCpp, 'TokenBias' | 'LlamaGrammar' | 'LlamaGrammarEvaluationState'>;
  readonly llama: Llama;
  readonly model: LlamaModel;
  readonly sequences: readonly LlamaContextSequence[];
  /** Tokens that a sequence holds. */
  readonly contextLength: number;
  readonly maxQueue: number;
}

export class PublicScheduler implements JobScheduler {
  readonly #options: PublicSchedulerOptions;
  readonly #queue: AdmissionQueue<Job>;
  readonly #free: LlamaContextSequence[];
  readonly #running = new Set<Promise<void>>();
  #arrivals = 0;
  #closed = false;

  constructor(options: PublicSchedulerOptions) {
    this.#options = options;
    this.#queue = new AdmissionQueue(options.maxQueue);
    this.#free = [...options.sequences];
  }

  get stats(): SchedulerStats {
    const { sequences, maxQueue } = this.#options;
    const slotsTotal = sequences.length;
    const slotsBusy = slotsTotal - this.#free.length;
    return { queued: this.#queue.length, slotsBusy, slotsTotal, maxQueue, stepAgeMs: 0 };
  }

  submit(request: JobRequest): void {
    if (this.#closed) throw new Error('the engine is closed');
    const { ignoreEos, minTokens = 0 } = request.sampling;
    if (ignoreEos === true || minTokens > 0)
      throw new UnsupportedError(
        ignoreEos === true ? 'ignoreEos' : 'minTokens',
        "the library's public API lets a model end its answer when it likes: leave the setting out",
      );
    const room = Math.min(request.contextLength ?? Number.POSITIVE_INFINITY, this.#options.contextLength);
    const job = newJob(request, { room, arrival: this.#arrivals++, submitted: performance.now() });
    this.#queue.push(job, this.#free.length, this.#options.sequences.length, request.tenant);
    request.signal?.addEventListener('abort', () => this.#leave(), { once: true });
    this.#admit();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#leave();
    await Promise.all(this.#running);
  }

  /** Lets those go that wait in vain. */
  #leave(): void {
    for (const job of this.#queue.remove(({ signal }) => this.#closed || signal?.aborted === true))
      job.sink.done(resultOf(job, 'aborted', performance.now()));
  }

  #admit(): void {
    while (this.#free.length > 0) {
      const job = this.#queue.shift();
      if (!job) return;
      const sequence = this.#take(job.prompt);
      job.started = performance.now();
      const serving: Promise<void> = this.#serve(sequence, job).finally(() => {
        this.#running.delete(serving);
        this.#free.push(sequence);
        this.#queue.learnDuration((performance.now() - job.started) / 1000);
        this.#admit();
      });
      this.#running.add(serving);
    }
  }

  /** The free sequence that knows most of a prompt. */
  #take(prompt: readonly Token[]): LlamaContextSequence {
    const known = this.#free.map((sequence) => commonPrefix(tokensOf(sequence), prompt));
    const [sequence] = this.#free.splice(known.indexOf(Math.max(...known)), 1);
    if (!sequence) throw new Error('no sequence is free');
    return sequence;
  }

  /** Never throws. */
  async #serve(sequence: LlamaContextSequence, job: Job): Promise<void> {
    try {
      const reason = await this.#generate(sequence, job);
      job.sink.done(resultOf(job, reason, performance.now()));
    } catch (error) {
      await sequence.clearHistory().catch(() => undefined);
      job.sink.failed(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #generate(sequence: LlamaContextSequence, job: Job): Promise<FinishReason> {
    const gone = () => this.#closed || job.signal?.aborted === true;
    // The last token of a prompt is always computed: the first sampled token comes from it.
    const last = job.prompt.length - 1;
    await sequence.adaptStateToTokens(branded(job.prompt.slice(0, last)), false);
    job.cached = sequence.nextTokenIndex;
    for (let at = job.cached; at < last; at += CHUNK) {
      if (gone()) return 'aborted';
      await sequence.evaluateWithoutGeneratingNewTokens(branded(job.prompt.slice(at, Math.min(last, at + CHUNK))));
    }
    if (gone()) return 'aborted';
    const tokens = sequence.evaluate(branded(job.prompt.slice(last)), this.#settings(job));
    for await (const token of tokens) {
      if (job.firstToken === 0) job.firstToken = performance.now();
      if (gone()) return 'aborted';
      if (this.#options.model.isEogToken(token)) return 'stop';
      job.generated++;
      if (job.sink.accept(token, { token })) return 'stop';
      if (job.generated >= job.maxTokens || sequence.nextTokenIndex >= job.room) return 'length';
      job.sink.flush();
    }
    if (gone()) return 'aborted';
    throw new Error('no token can be sampled: the settings leave none to choose from');
  }

  #settings(job: Job): SequenceEvaluateOptions {
    const { sampling } = job;
    return {
      temperature: sampling.temperature,
      topK: sampling.topK,
      topP: sampling.topP,
      minP: sampling.minP,
      seed: sampling.seed,
      yieldEogToken: true,
      ...this.#penalties(job),
      ...this.#biases(job),
      ...this.#grammar(sampling),
    };
  }

  #penalties({ sampling, prompt, room }: Job): Pick<SequenceEvaluateOptions, 'repeatPenalty'> {
    const { repeatPenalty, repeatLastN, presencePenalty, frequencyPenalty } = sampling;
    const lookBack = repeatLastN < 0 ? room : Math.min(repeatLastN, room);
    if (lookBack === 0 || (repeatPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0)) return {};
    return {
      repeatPenalty: {
        punishTokens: branded(prompt.slice(-lookBack)),
        maxPunishTokens: lookBack,
        penalty: repeatPenalty,
        presencePenalty,
        frequencyPenalty,
      },
    };
  }

  #biases({ sampling }: Job): Pick<SequenceEvaluateOptions, 'tokenBias'> {
    if (sampling.logitBias.length === 0) return {};
    const tokenBias = this.#options.library.TokenBias.for(this.#options.model);
    for (const [token, value] of sampling.logitBias)
      tokenBias.set(branded([token]), value === Number.NEGATIVE_INFINITY ? 'never' : { logit: value });
    return { tokenBias };
  }

  #grammar({ grammar }: SamplerRequest): Pick<SequenceEvaluateOptions, 'grammarEvaluationState'> {
    if (grammar === undefined) return {};
    const { llama, model, library } = this.#options;
    const parsed = new library.LlamaGrammar(llama, { grammar });
    return { grammarEvaluationState: new library.LlamaGrammarEvaluationState({ model, grammar: parsed }) };
  }
}

function tokensOf(sequence: LlamaContextSequence): readonly Token[] {
  return sequence.contextTokens;
}

/** The library brands its tokens; ours are plain numbers. */
export function branded(tokens: readonly Token[]): LibraryToken[] {
  return tokens as LibraryToken[];
}
