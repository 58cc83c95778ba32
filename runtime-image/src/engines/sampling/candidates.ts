/**
 * Looks for the likeliest tokens in a row of logits without sorting all of it: vocabularies have up to 260,000 tokens,
 * and this runs for every token of every stream. Owns order and ties: of equals the lower id comes first.
 */
import type { Token } from '../../scheduling/decoder.ts';

/** Up to so many, a heap is faster than sorting everything. */
const HEAP_LIMIT = 4096;

/** @returns the token with the highest logit; -1 where every logit is NaN or minus infinity */
export function likeliest(logits: Float32Array): Token {
  let best = -1;
  let highest = Number.NEGATIVE_INFINITY;
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token] as number;
    if (logit > highest) {
      highest = logit;
      best = token;
    }
  }
  return best;
}

/** @returns the `count` likeliest tokens, likeliest first; fewer where the others are ruled out (minus infinity, NaN) */
export function topTokens(logits: Float32Array, count: number): Uint32Array {
  return count <= HEAP_LIMIT ? topByHeap(logits, count) : topBySorting(logits, count);
}

/** Tokens with a logit of at least `lowest`, by their ids. */
export function tokensFrom(logits: Float32Array, lowest: number): Uint32Array {
  const found = new Uint32Array(logits.length);
  let size = 0;
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token] as number;
    if (logit >= lowest && logit > Number.NEGATIVE_INFINITY) found[size++] = token;
  }
  return found.subarray(0, size);
}

function topBySorting(logits: Float32Array, count: number): Uint32Array {
  return tokensFrom(logits, Number.NEGATIVE_INFINITY)
    .sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
    .subarray(0, count);
}

/** A heap whose root is the least likely of those kept: most logits are compared with it once and never again. */
function topByHeap(logits: Float32Array, count: number): Uint32Array {
  const heap = new Uint32Array(Math.min(count, logits.length));
  let size = 0;
  const worse = (a: number, b: number) => {
    const difference = (logits[a] as number) - (logits[b] as number);
    return difference < 0 || (difference === 0 && a > b);
  };
  const sink = (from: number, token: Token) => {
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && worse(heap[child + 1] as number, heap[child] as number)) child++;
      if (!worse(heap[child] as number, token)) break;
      heap[at] = heap[child] as number;
      at = child;
    }
    heap[at] = token;
  };
  let lowest = Number.NEGATIVE_INFINITY;
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token] as number;
    // Ids come in ascending order, so a later equal never replaces an earlier one.
    if (!(logit > lowest)) continue;
    if (size < heap.length) {
      let at = size++;
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (!worse(token, heap[parent] as number)) break;
        heap[at] = heap[parent] as number;
        at = parent;
      }
      heap[at] = token;
    } else sink(0, token);
    if (size === heap.length) lowest = logits[heap[0] as number] as number;
  }
  return heap.subarray(0, size).sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
}
