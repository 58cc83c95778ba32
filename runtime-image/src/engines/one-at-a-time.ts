/**
 * Lets several parts of a program use the same processor in turn: computing side by side on the same threads would slow
 * all of them far more than waiting does. First come, first served; owns nothing but the line.
 */
export class OneAtATime {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `work` when everything before it has ended, well or not. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work, work);
    this.#last = mine.catch(() => undefined);
    return mine;
  }
}
