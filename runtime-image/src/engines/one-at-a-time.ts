/**
 * Lets several parts of a program use the same processor in turn: computing side by side on the same threads would slow
 * all of them far more than waiting does. First come, first served; owns nothing but the line.
 */
export class OneAtATime {
  readonly #line: (() => void)[] = [];
  #busy = false;

  /** Runs `work` when everything before it has ended, well or not: at once when nothing is running. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy) await new Promise<void>((resolve) => this.#line.push(resolve));
    this.#busy = true;
    try {
      return await work();
    } finally {
      const next = this.#line.shift();
      // Whoever is next keeps the processor busy, so that nobody slips in between.
      if (next) next();
      else this.#busy = false;
    }
  }
}
