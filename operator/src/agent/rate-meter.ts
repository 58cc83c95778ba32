/** Bytes per second over the last seconds. The time is an argument; owns no timer. */

const WINDOW_MS = 5000;
const BUCKET_MS = 250;

export class RateMeter {
  #buckets: { readonly at: number; bytes: number }[] = [];
  #startedAt: number | undefined;

  /** Counts bytes that came at `now` (milliseconds, monotonic). */
  add(bytes: number, now: number): void {
    this.#startedAt ??= now;
    const last = this.#buckets.at(-1);
    if (last !== undefined && now - last.at < BUCKET_MS) last.bytes += bytes;
    else this.#buckets.push({ at: now, bytes });
    this.#forget(now);
  }

  /** Mean over the window, or since the first byte when that is later; undefined in the first quarter second. */
  perSecond(now: number): number | undefined {
    this.#forget(now);
    if (this.#startedAt === undefined) return undefined;
    const span = Math.min(WINDOW_MS, now - this.#startedAt);
    if (span < BUCKET_MS) return undefined;
    const bytes = this.#buckets.reduce((sum, bucket) => sum + bucket.bytes, 0);
    return Math.round((bytes * 1000) / span);
  }

  reset(): void {
    this.#buckets = [];
    this.#startedAt = undefined;
  }

  #forget(now: number): void {
    const first = this.#buckets.findIndex((bucket) => now - bucket.at <= WINDOW_MS);
    if (first > 0) this.#buckets.splice(0, first);
    else if (first < 0) this.#buckets = [];
  }
}
