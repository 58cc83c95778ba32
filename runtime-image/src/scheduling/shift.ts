/**
 * What a full context gives up so that an answer can go on: the tokens after its beginning, half of what there is. Pure
 * policy.
 */

/** A beginning may be as long as it likes, but so many tokens less than the context: an answer needs room to go on in. */
const LEAST_ROOM = 8;

export interface Shift {
  /** Tokens at the beginning that stay where they are. */
  readonly keep: number;
  /** Tokens after them that go. */
  readonly discard: number;
}

/**
 * @param length tokens that the slot holds
 * @param keep tokens at the beginning that are to stay
 * @returns undefined when too little would be won
 */
export function planShift(length: number, keep: number): Shift | undefined {
  const kept = Math.max(0, Math.min(keep, length - LEAST_ROOM));
  const discard = Math.floor((length - kept) / 2);
  return discard > 0 ? { keep: kept, discard } : undefined;
}
