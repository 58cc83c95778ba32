/** When a failed pull is tried again. Pure: randomness is an argument. */
import type { SourceFailure } from '../sources/http-errors.ts';

interface Range {
  readonly firstMs: number;
  readonly maxMs: number;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
/** The network or the server is at fault: it may be over in a second. */
const TRANSIENT: Range = { firstMs: SECOND, maxMs: 5 * MINUTE };
/** Only a person can help. Asked rarely, so that it heals by itself once that person has, and costs next to nothing. */
const TERMINAL: Range = { firstMs: MINUTE, maxMs: 15 * MINUTE };
/** All bytes were transferred and were wrong: each try costs the whole file. */
const WRONG_BYTES: Range = { firstMs: 15 * MINUTE, maxMs: 6 * 60 * MINUTE };
/** Something has to be removed from the disk first. */
const DISK: Range = { firstMs: 30 * SECOND, maxMs: 5 * MINUTE };

/**
 * Milliseconds until the next attempt: doubling from attempt to attempt, 75 to 100 % of it by chance so that nodes do not
 * come at the same moment, never before the server's Retry-After.
 * @param attempts failures in a row, 1 or more
 * @param random in [0, 1)
 */
export function retryDelay(failure: SourceFailure, attempts: number, random: number): number {
  const range = rangeOf(failure);
  const doubled = Math.min(range.maxMs, range.firstMs * 2 ** Math.min(attempts - 1, 30));
  return Math.round(Math.max(doubled * (0.75 + 0.25 * random), failure.retryAfterMs ?? 0));
}

function rangeOf(failure: SourceFailure): Range {
  if (failure.reason === 'DigestMismatch') return WRONG_BYTES;
  if (failure.reason === 'InsufficientDisk') return DISK;
  return failure.terminal ? TERMINAL : TRANSIENT;
}
