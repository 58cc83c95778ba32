/**
 * What the scheduler knows of its slots and of the requests in them, and the pure questions about these.
 */
import type { Token, TokenSampler } from './decoder.ts';
import type { FinishReason, JobRequest, JobResult } from './job.ts';
import { guessesEach, Speculation } from './speculation.ts';

export interface Slot {
  readonly id: number;
  tokens: Token[];
  /** Of the tokens, how many at the beginning were computed after nothing but each other: what others may use. */
  pure: number;
  job: Job | undefined;
  lastUsed: number;
}

export interface Job extends JobRequest {
  /** Tokens that its slot may hold. */
  readonly room: number;
  readonly arrival: number;
  readonly submitted: number;
  started: number;
  firstToken: number;
  sampler: TokenSampler | undefined;
  cached: number;
  /** Sampled and not decoded yet. */
  next: Token | undefined;
  /** Undefined until it generates, and where nothing is guessed. */
  speculation: Speculation | undefined;
  /** What may follow `next`. */
  guesses: readonly Token[];
  generated: number;
  discarded: number;
}

export function emptySlot(id: number): Slot {
  return { id, tokens: [], pure: Number.POSITIVE_INFINITY, job: undefined, lastUsed: 0 };
}

export function newJob(request: JobRequest, facts: Pick<Job, 'room' | 'arrival' | 'submitted'>): Job {
  return {
    ...request,
    ...facts,
    started: 0,
    firstToken: 0,
    sampler: undefined,
    cached: 0,
    next: undefined,
    speculation: undefined,
    guesses: [],
    generated: 0,
    discarded: 0,
  };
}

/** @param now milliseconds */
export function resultOf(job: Job, reason: FinishReason, now: number): JobResult {
  const started = job.started || now;
  const first = job.firstToken || now;
  return {
    reason,
    promptTokens: job.prompt.length,
    cachedTokens: job.cached,
    completionTokens: job.generated,
    discardedTokens: job.discarded,
    queuedMs: started - job.submitted,
    promptMs: first - started,
    decodeMs: now - first,
  };
}

/**
 * Thinks of what may follow the next tokens, where the processor has time for it.
 * @param most tokens that may be guessed at a time
 */
export function guessAhead(active: readonly Slot[], most: number): void {
  if (most === 0) return;
  const streams = active.filter(({ job }) => job?.next !== undefined);
  const each = guessesEach(most, streams.length);
  for (const { job, tokens } of streams) {
    if (job?.next === undefined) continue;
    job.speculation ??= new Speculation([...job.prompt, job.next], most);
    // One token more than the guesses comes of each batch, and none may be too many.
    const room = Math.min(job.room - tokens.length - 1, job.maxTokens - job.generated - 1);
    job.guesses = job.speculation.guess(Math.min(each, room));
  }
}
