/**
 * A queue of keys: each key waits at most once, is held by at most one worker, and is delayed longer after each failure.
 * Owns order and delays; knows nothing of what a key means.
 *
 * A key is in one of these states: absent, delayed (a timer runs), waiting, processing, or processing and dirty (to be
 * done again). Delays never hold back an `add` that comes meanwhile.
 */
import { type Clock, systemClock, type Timer } from './clock.ts';

/** Told about everything that happens, for metrics. Must not throw. */
export interface QueueObserver {
  /** A key was accepted that was not waiting already. */
  added(): void;
  /** `depth` keys are waiting now. */
  depth(depth: number): void;
  /** A worker took a key after that many seconds. */
  taken(waitedSeconds: number): void;
  /** A worker gave it back after that many seconds. */
  finished(workedSeconds: number): void;
  /** A key was added with a failure delay. */
  retried(): void;
}

export interface WorkQueueOptions {
  /** Delay after the first failure in a row. Default 5 ms. */
  readonly baseDelayMs?: number | undefined;
  /** Longest delay. Default 1 000 000 ms. */
  readonly maxDelayMs?: number | undefined;
  readonly clock?: Clock | undefined;
  readonly observer?: QueueObserver | undefined;
}

export interface WorkQueue {
  /** Makes the key ready. Already waiting: nothing. Being processed: once more afterwards. */
  add(key: string): void;
  /** Adds it after `ms`; the earliest of several delays counts. Not positive: at once. */
  addAfter(key: string, ms: number): void;
  /**
   * Counts a failure and adds the key after `base · 2^(failures - 1)`, at most `max`; never before `atLeastMs`.
   * Answers the delay in milliseconds.
   */
  addRateLimited(key: string, atLeastMs?: number): number;
  /** The key did well: its next failure is its first. */
  forget(key: string): void;
  /** Failures in a row. */
  failures(key: string): number;
  /** Waits for a key. Undefined when the queue is shut down and empty. The caller must call `done`. */
  take(): Promise<string | undefined>;
  /** Gives a key back; a dirty one becomes ready again. */
  done(key: string): void;
  /** Takes no more keys, drops delayed ones; those waiting are still handed out. */
  shutDown(): void;
  /** Drops the waiting keys as well. */
  clear(): void;
  /** Resolves when nothing waits and nobody works. */
  whenIdle(): Promise<void>;
  /** Keys waiting now. */
  readonly depth: number;
  /** Keys with a running timer. */
  readonly delayed: number;
  /** Seconds for which each key in work has been worked on. */
  inWork(): number[];
}

/** The exponent is bounded, or 2^failures overflows into Infinity after a thousand failures. */
const MAX_EXPONENT = 60;

export function makeWorkQueue(options: WorkQueueOptions = {}): WorkQueue {
  return new KeyQueue(options);
}

class KeyQueue implements WorkQueue {
  readonly #clock: Clock;
  readonly #observer: QueueObserver | undefined;
  readonly #baseMs: number;
  readonly #maxMs: number;
  /** Keys ready to be taken, with the time they became so. A Map keeps insertion order. */
  readonly #waiting = new Map<string, number>();
  /** Keys in work, with the time they were taken. */
  readonly #processing = new Map<string, number>();
  readonly #dirty = new Set<string>();
  readonly #delayed = new Map<string, { readonly at: number; readonly timer: Timer }>();
  readonly #failures = new Map<string, number>();
  readonly #takers: ((key: string | undefined) => void)[] = [];
  readonly #idlers: (() => void)[] = [];
  #shut = false;

  constructor(options: WorkQueueOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#observer = options.observer;
    this.#baseMs = options.baseDelayMs ?? 5;
    this.#maxMs = options.maxDelayMs ?? 1_000_000;
  }

  get depth(): number {
    return this.#waiting.size;
  }

  get delayed(): number {
    return this.#delayed.size;
  }

  add(key: string): void {
    if (this.#shut || this.#waiting.has(key) || this.#dirty.has(key)) return;
    this.#observer?.added();
    if (this.#processing.has(key)) {
      this.#dirty.add(key);
      return;
    }
    this.#enqueue(key);
  }

  addAfter(key: string, ms: number): void {
    if (this.#shut) return;
    if (!(ms > 0)) {
      this.add(key);
      return;
    }
    const at = this.#clock.monotonic() + ms;
    const earlier = this.#delayed.get(key);
    if (earlier !== undefined && earlier.at <= at) return;
    earlier?.timer.cancel();
    this.#delayed.set(key, { at, timer: this.#clock.schedule(ms, () => this.#wake(key, at)) });
  }

  addRateLimited(key: string, atLeastMs = 0): number {
    const before = this.#failures.get(key) ?? 0;
    this.#failures.set(key, before + 1);
    const backoff = Math.min(this.#maxMs, this.#baseMs * 2 ** Math.min(before, MAX_EXPONENT));
    const delay = Math.max(backoff, atLeastMs);
    if (!this.#shut) this.#observer?.retried();
    this.addAfter(key, delay);
    return delay;
  }

  forget(key: string): void {
    this.#failures.delete(key);
  }

  failures(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  take(): Promise<string | undefined> {
    const [next] = this.#waiting;
    if (next !== undefined) {
      const [key, since] = next;
      this.#waiting.delete(key);
      this.#observer?.depth(this.#waiting.size);
      this.#hand(key, since);
      return Promise.resolve(key);
    }
    if (this.#shut) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#takers.push(resolve);
    });
  }

  done(key: string): void {
    const since = this.#processing.get(key);
    if (since === undefined) return;
    this.#processing.delete(key);
    this.#observer?.finished((this.#clock.monotonic() - since) / 1000);
    if (this.#dirty.delete(key)) this.#enqueue(key);
    this.#settle();
  }

  shutDown(): void {
    if (this.#shut) return;
    this.#shut = true;
    for (const { timer } of this.#delayed.values()) timer.cancel();
    this.#delayed.clear();
    for (const resolve of this.#takers.splice(0)) resolve(undefined);
    this.#settle();
  }

  clear(): void {
    this.#waiting.clear();
    this.#dirty.clear();
    this.#observer?.depth(0);
    this.#settle();
  }

  whenIdle(): Promise<void> {
    if (this.#isIdle()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idlers.push(resolve);
    });
  }

  inWork(): number[] {
    const now = this.#clock.monotonic();
    return Array.from(this.#processing.values(), (since) => (now - since) / 1000);
  }

  #enqueue(key: string): void {
    const now = this.#clock.monotonic();
    const taker = this.#takers.shift();
    if (taker !== undefined) {
      this.#hand(key, now);
      taker(key);
      return;
    }
    this.#waiting.set(key, now);
    this.#observer?.depth(this.#waiting.size);
  }

  #hand(key: string, since: number): void {
    const now = this.#clock.monotonic();
    this.#processing.set(key, now);
    this.#observer?.taken((now - since) / 1000);
  }

  #wake(key: string, at: number): void {
    const entry = this.#delayed.get(key);
    if (entry?.at !== at) return;
    // Timers are cut at Node's largest delay and may fire a little early.
    const left = at - this.#clock.monotonic();
    this.#delayed.delete(key);
    if (left > 1) this.addAfter(key, left);
    else this.add(key);
  }

  #isIdle(): boolean {
    return this.#waiting.size === 0 && this.#processing.size === 0;
  }

  #settle(): void {
    if (this.#isIdle()) for (const resolve of this.#idlers.splice(0)) resolve();
  }
}
