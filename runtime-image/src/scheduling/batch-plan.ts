/**
 * What goes into the next batch. Pure policy: every running stream gets its token first, prompts share what is left in
 * order of arrival.
 */
import { TILE } from './chunk-size.ts';

/** What the plan sees of a running request. */
export interface ActiveRequest {
  readonly slot: number;
  /** Growing number given on submission. */
  readonly arrival: number;
  /** Tokens of the prompt that are not computed yet; 0 once the request generates. */
  readonly promptLeft: number;
  /** Guesses that would go along with its token. Default 0. */
  readonly guesses?: number;
}

export interface PlannedItem {
  readonly slot: number;
  /** Tokens to compute. */
  readonly count: number;
  /** Whether this ends the prompt or is a generated token: then the next token is sampled after it. */
  readonly sampled: boolean;
}

export interface BatchLimits {
  /** Tokens in a batch. */
  readonly batchSize: number;
  /** Tokens of prompts in a batch. */
  readonly prefillChunk: number;
}

/**
 * Plans one batch, sorted by slot: llama.cpp puts neighbouring sequences of growing ids into one graph run and starts a
 * new run at each step back.
 */
export function planBatch(active: readonly ActiveRequest[], limits: BatchLimits): PlannedItem[] {
  const generating = active.filter((request) => request.promptLeft === 0);
  const prompts = active.filter((request) => request.promptLeft > 0).sort((a, b) => a.arrival - b.arrival);
  const items: { slot: number; count: number; sampled: boolean }[] = generating
    .slice(0, limits.batchSize)
    .map((request) => ({ slot: request.slot, count: 1, sampled: true }));

  // Guesses come last: they must not cost anybody's token, nor a part of a prompt.
  let spare = prompts.length > 0 ? 0 : limits.batchSize - items.length;
  for (const item of items) {
    const guesses = Math.min(spare, generating.find((request) => request.slot === item.slot)?.guesses ?? 0);
    item.count += guesses;
    spare -= guesses;
  }

  let left = Math.min(limits.batchSize - items.length, Math.max(1, limits.prefillChunk));
  for (const request of prompts) {
    if (left <= 0) break;
    const count = request.promptLeft <= left ? request.promptLeft : wholeTiles(left, items);
    const ends = count === request.promptLeft;
    items.push({ slot: request.slot, count, sampled: ends });
    // Nobody overtakes, also where rounding left something.
    left = ends ? left - count : 0;
  }
  return items.sort((a, b) => a.slot - b.slot);
}

/**
 * How many of `left` tokens a prompt gets that does not end in this batch. llama.cpp computes as many tokens of every sequence as
 * the shortest has in one run, and the others in further ones: what remains for those should be whole tiles.
 */
function wholeTiles(left: number, others: readonly { readonly count: number }[]): number {
  const together = others.length === 0 ? 0 : Math.min(...others.map((item) => item.count)) % TILE;
  const tiles = Math.floor((left - together) / TILE);
  return tiles > 0 ? tiles * TILE + together : left;
}
