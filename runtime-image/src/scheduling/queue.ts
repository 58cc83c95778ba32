/**
 * Requests that wait for a slot, in order of arrival, bounded. Holds no timers and starts nothing.
 */

/** Thrown when no more requests may wait. */
export class QueueFullError extends Error {
  readonly retryAfterSeconds: number;

  constructor(waiting: number, retryAfterSeconds: number) {
    super(`the server is busy and its queue is full (${waiting} waiting): try again in about ${retryAfterSeconds} s`);
    this.name = 'QueueFullError';
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Longest wait that is suggested to a client, in seconds. */
const LONGEST_RETRY = 60;
/** Weight of a new duration in the running mean. */
const WEIGHT = 0.2;

export class AdmissionQueue<Item> {
  readonly #items: Item[] = [];
  readonly #capacity: number;
  #meanSeconds = 1;

  /** @param capacity requests that may wait */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get length(): number {
    return this.#items.length;
  }

  /**
   * @param freeSlots slots that will take requests at once, so these do not count as waiting
   * @throws QueueFullError
   */
  push(item: Item, freeSlots: number, slots: number): void {
    if (this.#items.length >= this.#capacity + freeSlots) {
      const seconds = Math.ceil((this.#meanSeconds * (this.#items.length + 1)) / slots);
      throw new QueueFullError(this.#items.length, Math.min(LONGEST_RETRY, Math.max(1, seconds)));
    }
    this.#items.push(item);
  }

  first(): Item | undefined {
    return this.#items[0];
  }

  shift(): Item | undefined {
    return this.#items.shift();
  }

  /** Takes out every item that `leaves` says yes to, in order. */
  remove(leaves: (item: Item) => boolean): Item[] {
    const gone = this.#items.filter(leaves);
    if (gone.length > 0) this.#items.splice(0, this.#items.length, ...this.#items.filter((item) => !leaves(item)));
    return gone;
  }

  /** Tells how long a request held its slot, so that Retry-After is an estimate and no guess. */
  learnDuration(seconds: number): void {
    this.#meanSeconds += WEIGHT * (seconds - this.#meanSeconds);
  }
}
