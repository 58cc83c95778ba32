/**
 * Which requests are passed on: exactly the part that was asked for, whatever the rhythm in which clients ask. Pure.
 */

/** One over the golden ratio: of all numbers the one that fractions come closest to latest. */
const STEP = (Math.sqrt(5) - 1) / 2;

/**
 * Deals requests out one by one. Each takes the next point of a sequence that fills the unit interval as evenly as any does
 * (multiples of the golden ratio), and goes to the candidate when its point lies in the candidate's part. After n requests the
 * candidate has its part of them, give or take two or three, and so has every regular choice of them: with every tenth request
 * taken, clients that take turns would always, or never, be the tenth.
 */
export class Splitter {
  #point: number;

  /** @param start where to begin, 0 to 1; servers that begin apart are not all off in the same direction */
  constructor(start: number) {
    this.#point = start % 1;
  }

  /** @param percent 0 to 100 @returns whether the next request is passed on */
  next(percent: number): boolean {
    const taken = this.#point < percent / 100;
    this.#point = (this.#point + STEP) % 1;
    return taken;
  }
}
