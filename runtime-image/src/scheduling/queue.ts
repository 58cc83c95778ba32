/**
 * Requests that wait for a slot, bounded. Waiting tenants take turns, and each one's requests go in order of arrival.
 * Holds no timers and starts nothing.
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
  /** Tenants in the order of their turns; one without requests is not here. */
  readonly #tenants = new Map<string, Item[]>();
  readonly #capacity: number;
  #length = 0;
  #meanSeconds = 1;

  /** @param capacity requests that may wait */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get length(): number {
    return this.#length;
  }

  /**
   * @param freeSlots slots that will take requests at once, so these do not count as waiting
   * @param tenant whose turn this request takes
   * @throws QueueFullError; not for the first request of a tenant when it is others who fill the queue, up to twice its size
   */
  push(item: Item, freeSlots: number, slots: number, tenant = ''): void {
    const room = this.#capacity + freeSlots;
    const shutOut = !this.#tenants.has(tenant) && this.#length > 0 && this.#length < 2 * room;
    if (this.#length >= room && !shutOut) {
      const seconds = Math.ceil((this.#meanSeconds * (this.#length + 1)) / slots);
      throw new QueueFullError(this.#length, Math.min(LONGEST_RETRY, Math.max(1, seconds)));
    }
    const waiting = this.#tenants.get(tenant);
    // A tenant that comes anew goes last: whoever waits already is before it.
    if (waiting) waiting.push(item);
    else this.#tenants.set(tenant, [item]);
    this.#length++;
  }

  /** The request that `shift` would take. */
  first(): Item | undefined {
    const [next] = this.#tenants.values();
    return next?.[0];
  }

  /** Takes the next request; its tenant's other requests wait until all other tenants had their turn. */
  shift(): Item | undefined {
    const [next] = this.#tenants.entries();
    if (!next) return undefined;
    const [tenant, items] = next;
    const item = items.shift();
    this.#tenants.delete(tenant);
    if (items.length > 0) this.#tenants.set(tenant, items);
    this.#length--;
    return item;
  }

  /** Takes out every item that `leaves` says yes to. */
  remove(leaves: (item: Item) => boolean): Item[] {
    const gone: Item[] = [];
    for (const [tenant, items] of this.#tenants) {
      const staying = items.filter((item) => !leaves(item));
      if (staying.length === items.length) continue;
      gone.push(...items.filter(leaves));
      // Setting a key that is there keeps its place.
      if (staying.length > 0) this.#tenants.set(tenant, staying);
      else this.#tenants.delete(tenant);
    }
    this.#length -= gone.length;
    return gone;
  }

  /** Tells how long a request held its slot, so that Retry-After is an estimate and no guess. */
  learnDuration(seconds: number): void {
    this.#meanSeconds += WEIGHT * (seconds - this.#meanSeconds);
  }
}
