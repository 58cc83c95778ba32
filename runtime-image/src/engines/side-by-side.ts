/**
 * Small computations of many requests, several at a time: each on one thread in a context of its own, because short texts
 * leave nothing for a second thread to do; one that is alone gets all threads. Owns their order and the contexts; knows
 * nothing of what is computed.
 */
import { QueueFullError } from '../scheduling/queue.ts';
import type { OneAtATime } from './one-at-a-time.ts';

/** Retry-After when too many wait, in seconds: a text takes a fraction of a second. */
const RETRY = 2;

export interface Computation<Context, Result> {
  /** Any measure of the work: those that take about as long are computed together. */
  readonly size: number;
  readonly run: (context: Context) => Promise<Result>;
}

export interface SideBySideOptions<Context> {
  /** Whose turns these computations take, a few of them at a time. */
  readonly processor: OneAtATime;
  readonly makeContext: (threads: number) => Promise<Context>;
  readonly threads: number;
  /** Computations at a time; each takes memory for a context of its own. */
  readonly lanes: number;
  /** Requests that may wait. */
  readonly maxQueue: number;
}

interface Task<Context> {
  readonly size: number;
  /** Never throws. */
  readonly run: (context: Context) => Promise<void>;
  readonly failed: (error: unknown) => void;
}

/** What is left of a request. */
interface Waiting<Context> {
  readonly tasks: Task<Context>[];
  readonly signal: AbortSignal | undefined;
}

export class SideBySide<Context> {
  readonly #options: SideBySideOptions<Context>;
  /** All threads. */
  #wide: Promise<Context> | undefined;
  /** One thread each. */
  readonly #narrow: Context[] = [];
  /** Whose turn it is comes first. */
  #waiting: Waiting<Context>[] = [];
  #running = false;

  constructor(options: SideBySideOptions<Context>) {
    this.#options = options;
  }

  /** @throws QueueFullError */
  checkRoom(): void {
    const waiting = this.#waiting.length;
    if (waiting > this.#options.maxQueue) throw new QueueFullError(waiting, RETRY);
  }

  /** A context to ask for its limits; made on first use. */
  async context(): Promise<Context> {
    return this.#wide ?? this.#options.processor.run(() => this.#widest());
  }

  /**
   * @returns results in the order of the computations
   * @throws what one of them throws; the signal's reason
   */
  async run<Result>(
    computations: readonly Computation<Context, Result>[],
    signal: AbortSignal | undefined,
  ): Promise<Result[]> {
    const tasks: Task<Context>[] = [];
    const results = computations.map(
      ({ size, run }) =>
        new Promise<Result>((done, failed) => {
          const runAndTell = async (context: Context) => {
            try {
              done(await run(context));
            } catch (error) {
              failed(error);
            }
          };
          tasks.push({ size, failed, run: runAndTell });
        }),
    );
    tasks.sort((a, b) => b.size - a.size);
    this.#waiting.push({ tasks, signal });
    void this.#work();
    return Promise.all(results);
  }

  async #work(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    for (;;) {
      const round = this.#nextRound();
      if (round.length === 0) break;
      // One round a turn: a running stream gets its token between them.
      await this.#options.processor.run(() => this.#compute(round));
    }
    this.#running = false;
  }

  /** The next ones, one of each request in turn until the lanes are full. */
  #nextRound(): Task<Context>[] {
    for (const { tasks, signal } of this.#waiting)
      if (signal?.aborted === true) for (const { failed } of tasks.splice(0)) failed(signal.reason);
    const round: Task<Context>[] = [];
    while (round.length < this.#options.lanes) {
      this.#waiting = this.#waiting.filter(({ tasks }) => tasks.length > 0);
      const next = this.#waiting.shift();
      const task = next?.tasks.shift();
      if (!next || !task) break;
      round.push(task);
      this.#waiting.push(next);
    }
    return round;
  }

  async #compute(round: readonly Task<Context>[]): Promise<void> {
    const contexts = round.length > 1 ? await this.#narrowest(round.length) : undefined;
    if (contexts) {
      await Promise.all(round.map((task, lane) => task.run(contexts[lane] as Context)));
      return;
    }
    for (const task of round)
      try {
        await task.run(await this.#widest());
      } catch (error) {
        task.failed(error);
      }
  }

  /** @returns undefined where there is no memory for so many */
  async #narrowest(count: number): Promise<Context[] | undefined> {
    try {
      while (this.#narrow.length < count) this.#narrow.push(await this.#options.makeContext(1));
    } catch {
      return undefined;
    }
    return this.#narrow.slice(0, count);
  }

  async #widest(): Promise<Context> {
    this.#wide ??= this.#options.makeContext(this.#options.threads).catch((error: unknown) => {
      // Memory that lacked then may be there the next time.
      this.#wide = undefined;
      throw error;
    });
    return this.#wide;
  }
}
