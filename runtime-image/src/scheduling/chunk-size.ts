/**
 * How many prompt tokens go into one batch. Pure policy: long enough chunks to be efficient, short enough that neither
 * a running stream nor a client that hangs up waits long.
 */

/** Smaller chunks lose more to the fixed cost of a batch than they win in response. */
const SMALLEST = 32;
/**
 * Tokens of one sequence that ggml's flash attention takes together on a CPU. What does not fill a tile is computed token by token:
 * behind 475 tokens of a small model 64 take 140 ms, 63 take 250 and 32 take 120.
 */
export const TILE = 64;
/** Longest pause in running streams that a prompt may cause, in milliseconds: longer ones are seen. */
const STREAMING_BUDGET = 100;
/** Longest time until an abort is noticed when nobody else waits, in milliseconds. */
const IDLE_BUDGET = 500;
/** Weight of a new measurement: half of the estimate renews itself in about three batches. */
const WEIGHT = 0.2;

/** Running estimate of how fast prompts are computed. */
export interface PrefillSpeed {
  /** Tokens per millisecond; undefined before the first measurement. */
  readonly tokensPerMs?: number;
}

/** @returns the estimate after a batch of `tokens` tokens took `ms` milliseconds; small batches teach nothing. */
export function learnSpeed(speed: PrefillSpeed, tokens: number, ms: number): PrefillSpeed {
  if (tokens < SMALLEST || ms <= 0) return speed;
  const measured = tokens / ms;
  const before = speed.tokensPerMs;
  return { tokensPerMs: before === undefined ? measured : before + WEIGHT * (measured - before) };
}

/**
 * @param streaming whether somebody's stream is running and would pause
 * @returns tokens, at most `batchSize`: whole tiles, and one more beside streams, because llama.cpp first computes one token of
 *   every sequence in a run of its own; 32 where even one tile would take twice the budget
 */
export function prefillChunk(speed: PrefillSpeed, streaming: boolean, batchSize: number): number {
  const { tokensPerMs } = speed;
  const wanted = tokensPerMs === undefined ? TILE : tokensPerMs * (streaming ? STREAMING_BUDGET : IDLE_BUDGET);
  if (wanted < TILE / 2) return Math.min(SMALLEST, batchSize);
  const tiles = Math.max(1, Math.floor(wanted / TILE));
  return Math.min(tiles * TILE + (streaming ? 1 : 0), batchSize);
}
