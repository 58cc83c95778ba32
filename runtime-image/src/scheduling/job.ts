/**
 * What the scheduler takes and gives: requests in tokens, where their tokens go, how they ended. Types only.
 */
import type { Pick, SamplerRequest, Token } from './decoder.ts';

/** Why a generation ended. */
export type FinishReason = 'stop' | 'length' | 'aborted';

/** What became of a request; times in milliseconds. */
export interface JobResult {
  readonly reason: FinishReason;
  readonly promptTokens: number;
  /** Prompt tokens that were found in a slot and not computed again. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** Tokens that a full context gave up while the answer went on. */
  readonly discardedTokens: number;
  readonly queuedMs: number;
  readonly promptMs: number;
  readonly decodeMs: number;
}

/** Where a request's tokens go. None of these may throw. */
export interface JobSink {
  /** Called right after sampling, before the next batch starts: cheap work only. @returns true to end here. */
  accept(token: Token, pick: Pick): boolean;
  /** Called while the next batch computes: sends what was accepted. */
  flush(): void;
  /** Called once, last. */
  done(result: JobResult): void;
  /** Called once, last, instead of `done`: the engine failed. */
  failed(error: Error): void;
}

export interface JobRequest {
  /** At least one token, fewer than the context holds. */
  readonly prompt: readonly Token[];
  /** Tokens to generate; Infinity for as many as the context holds. */
  readonly maxTokens: number;
  /** Tokens that prompt and answer may have together, when that is fewer than the context holds. */
  readonly contextLength?: number;
  /**
   * Asked when the context is full: tokens at the beginning to keep while half of the others go, so that the answer can
   * go on. Without it, or where the decoder cannot, the answer ends there.
   */
  readonly keep?: () => number;
  readonly sampling: SamplerRequest;
  /** Whose request this is: waiting tenants take turns. */
  readonly tenant?: string;
  readonly signal?: AbortSignal;
  readonly sink: JobSink;
}

/** What requests are told whose engine can compute nothing any more; it is started anew. */
export class EngineBrokenError extends Error {
  readonly retryAfterSeconds = 5;

  constructor(cause: Error) {
    super(`the engine failed and is started anew (${cause.message}): try again in a few seconds`, { cause });
    this.name = 'EngineBrokenError';
  }
}

/** Whatever turns requests into tokens. */
export interface JobScheduler {
  readonly stats: SchedulerStats;
  /**
   * Takes a request; its sink hears of the rest.
   * @throws QueueFullError when too many wait; EngineBrokenError; Error when it is closed.
   */
  submit(request: JobRequest): void;
  /** Aborts everything and waits until nothing is computed any more. */
  close(): Promise<void>;
}

export interface SchedulerStats {
  /** Requests that wait for a slot. */
  readonly queued: number;
  readonly slotsBusy: number;
  readonly slotsTotal: number;
  /** Requests that may wait for a slot. */
  readonly maxQueue: number;
  /** Tokens whose keys and values the slots hold. */
  readonly kvTokens?: number;
  /** Guesses that were computed, and how many of them were right. */
  readonly guesses?: { readonly made: number; readonly right: number };
  /** Milliseconds since the batch in progress began; 0 while idle. */
  readonly stepAgeMs: number;
  /** Why nothing can be decoded any more. */
  readonly broken?: Error;
  /** Times that a broken engine was loaded again. */
  readonly reloads?: number;
}
