/**
 * A queue between the scheduler, which pushes, and one reader, which awaits. Owns what was pushed and not read yet;
 * bounded in practice by the tokens of one answer.
 */
export class PartStream<Part> implements AsyncIterable<Part> {
  readonly #onLeave: () => void;
  #parts: Part[] = [];
  #waiting: { resolve(result: IteratorResult<Part>): void; reject(error: Error): void } | undefined;
  #ended = false;
  #error: Error | undefined;

  /** @param onLeave called when the reader leaves before the end */
  constructor(onLeave: () => void) {
    this.#onLeave = onLeave;
  }

  push(part: Part): void {
    if (this.#ended) return;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) waiting.resolve({ value: part, done: false });
    else this.#parts.push(part);
  }

  /** Ends the stream; with an error, the reader gets it after everything that was pushed. */
  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (!waiting) return;
    if (error) waiting.reject(error);
    else waiting.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): AsyncIterator<Part> {
    return {
      next: () => {
        const part = this.#parts.shift();
        if (part !== undefined) return Promise.resolve({ value: part, done: false });
        if (this.#ended) {
          const error = this.#error;
          this.#error = undefined;
          return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true });
        }
        return new Promise((resolve, reject) => {
          this.#waiting = { resolve, reject };
        });
      },
      return: () => {
        if (!this.#ended) this.#onLeave();
        this.end();
        this.#parts = [];
        return Promise.resolve({ value: undefined, done: true });
      },
    };
  }
}
