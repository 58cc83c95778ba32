/**
 * Log probabilities on their way out: each leaves with the text that its token completes, and those of a stop text never
 * do. Owns what waits.
 */
import type { GeneratedLogprob } from './engine.ts';

export class ScoreQueue {
  #waiting: { readonly start: number; readonly score: GeneratedLogprob }[] = [];

  /** @param start where the token's text begins in the answer */
  push(start: number, score: GeneratedLogprob): void {
    this.#waiting.push({ start, score });
  }

  /** @returns those of tokens whose text begins before `released`; Infinity for all. */
  take(released: number): GeneratedLogprob[] {
    const ready = this.#waiting.filter(({ start }) => start < released);
    if (ready.length > 0) this.#waiting = this.#waiting.filter(({ start }) => start >= released);
    return ready.map(({ score }) => score);
  }
}
