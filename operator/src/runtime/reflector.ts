/**
 * Keeps a store equal to what the API server has: a paged list, then a watch from there, for as long as the process
 * lives. Owns reconnection; never gives up, never lets an error out, never interprets an object.
 */
import type { KubeClient, Selector } from '../kube/client.ts';
import { ApiError, isExpired } from '../kube/errors.ts';
import { type KubeObject, type ResourceType, resourceName } from '../kube/resource.ts';
import { type Clock, sleep, systemClock } from './clock.ts';
import type { Logger } from './log.ts';
import { deepFreeze, type Transform, type WritableStore } from './store.ts';

export interface ReflectorOptions<T extends KubeObject> {
  readonly client: Pick<KubeClient, 'list' | 'watch'>;
  readonly type: ResourceType<T>;
  readonly selector?: Selector | undefined;
  /** What the store keeps of each object. Default: all but managedFields. */
  readonly transform?: Transform<T> | undefined;
  readonly store: WritableStore<T>;
  readonly log: Logger;
  readonly clock?: Clock | undefined;
  /** Numbers in [0, 1). Default Math.random. */
  readonly random?: (() => number) | undefined;
  /** Objects in one page of a list. Default 500. */
  readonly pageSize?: number | undefined;
  /** Pauses after failures: doubled from the first to the longest, then up to as much again by chance. Default 800 and 30 000 ms. */
  readonly backoff?: { readonly baseMs: number; readonly maxMs: number } | undefined;
  /** Bounds of the time after which the server is asked to end a watch, drawn anew each time. Default 300 to 600 s. */
  readonly watchSeconds?: readonly [number, number] | undefined;
  /**
   * A watch that says nothing for so long is opened anew: servers send a bookmark each minute, so the connection is
   * half-open (its other end gone without a word). Default 180 000 ms.
   */
  readonly quietMs?: number | undefined;
  readonly onEvent?: ((event: 'list' | 'watch' | 'watch_error' | 'list_error') => void) | undefined;
}

/** How much longer than asked a watch may last before we end it ourselves. */
const DEADLINE_SLACK_MS = 30_000;
/** A watch that ended well but sooner than this counts as a failure, or a sick server would be asked in a tight loop. */
const SHORT_WATCH_MS = 1000;
/** Refusals in a row after which the resource version itself is suspect and everything is listed anew. */
const REFUSALS_BEFORE_RELIST = 3;
const FAILURES_BEFORE_RELIST = 10;

class QuietWatchError extends Error {
  override readonly name: string = 'QuietWatchError';
}

/** Runs until the signal is aborted; then resolves. Never rejects. */
export async function runReflector<T extends KubeObject>(
  options: ReflectorOptions<T>,
  signal: AbortSignal,
): Promise<void> {
  await new Reflector(options, signal).run();
}

class Reflector<T extends KubeObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #signal: AbortSignal;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #backoff: { readonly baseMs: number; readonly maxMs: number };
  /** Where the next watch starts; undefined when a list is due. */
  #resourceVersion: string | undefined;
  #failures = 0;
  #refusals = 0;

  constructor(options: ReflectorOptions<T>, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#backoff = options.backoff ?? { baseMs: 800, maxMs: 30_000 };
  }

  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      const listing = this.#resourceVersion === undefined;
      try {
        if (listing) await this.#list();
        else await this.#watch();
      } catch (error) {
        if (this.#signal.aborted) return;
        await this.#recover(error, listing);
      }
    }
  }

  async #list(): Promise<void> {
    const { client, type, selector, store, pageSize } = this.#options;
    this.#options.onEvent?.('list');
    const objects: T[] = [];
    let next: string | undefined;
    let version: string | undefined;
    do {
      const page = await client.list(type, {
        ...selector,
        limit: pageSize ?? 500,
        continue: next,
        signal: this.#signal,
      });
      for (const object of page.items) objects.push(this.#prepare(object));
      // The first page's version: later pages of the same list carry the same, and the watch must not start later.
      version ??= page.resourceVersion;
      next = page.continue;
    } while (next !== undefined);
    if (this.#signal.aborted) return;
    store.replace(objects);
    this.#resourceVersion = version;
    this.#refusals = 0;
    // `failures` stays: only a watch that works proves that the trouble is over. A server that answers every watch
    // with 410 would be listed in a tight loop otherwise.
  }

  async #watch(): Promise<void> {
    const { client, type, selector, watchSeconds, onEvent } = this.#options;
    const [least, most] = watchSeconds ?? [300, 600];
    const timeoutSeconds = Math.round(least + this.#random() * (most - least));
    const started = this.#clock.monotonic();
    const guard = new WatchGuard(this.#clock, this.#signal, timeoutSeconds, this.#options.quietMs ?? 180_000);
    onEvent?.('watch');
    try {
      const events = client.watch(type, {
        ...selector,
        resourceVersion: this.#resourceVersion,
        timeoutSeconds,
        signal: guard.signal,
      });
      for await (const event of events) {
        if (this.#signal.aborted) return;
        guard.heard();
        this.#failures = 0;
        this.#refusals = 0;
        if (event.type === 'BOOKMARK') {
          this.#resourceVersion = event.resourceVersion;
          continue;
        }
        const object = this.#prepare(event.object);
        if (event.type === 'DELETED') this.#options.store.remove(object);
        else this.#options.store.put(object);
        this.#resourceVersion = object.metadata?.resourceVersion ?? this.#resourceVersion;
      }
    } catch (error) {
      if (!guard.wasQuiet || this.#signal.aborted) throw error;
      this.#options.log.info({ resource: resourceName(type) }, 'watch said nothing for too long, opening a new one');
    } finally {
      guard.end();
    }
    const lasted = this.#clock.monotonic() - started;
    if (lasted >= SHORT_WATCH_MS) this.#failures = 0;
    else if (!this.#signal.aborted) await this.#pause(0);
  }

  async #recover(error: unknown, listing: boolean): Promise<void> {
    const { type, log, onEvent } = this.#options;
    const resource = resourceName(type);
    onEvent?.(listing ? 'list_error' : 'watch_error');
    if (isExpired(error)) {
      log.info({ resource, listing }, 'resource version is too old for the server, listing again');
      this.#resourceVersion = undefined;
      // The first time is normal business and costs no pause; again and again is not.
      if (this.#failures === 0) this.#failures = 1;
      else await this.#pause(0);
      return;
    }
    if (error instanceof ApiError) this.#refusals += 1;
    const asked = error instanceof ApiError ? (error.retryAfterSeconds ?? 0) * 1000 : 0;
    if (this.#refusals >= REFUSALS_BEFORE_RELIST || this.#failures >= FAILURES_BEFORE_RELIST) {
      this.#resourceVersion = undefined;
    }
    log.warn({ resource, err: error, failures: this.#failures + 1 }, listing ? 'list failed' : 'watch failed');
    await this.#pause(Math.min(asked, this.#backoff.maxMs * 2));
  }

  /** Waits longer after each failure in a row. */
  async #pause(atLeastMs: number): Promise<void> {
    const { baseMs, maxMs } = this.#backoff;
    const base = Math.min(maxMs, baseMs * 2 ** Math.min(this.#failures, 30));
    this.#failures += 1;
    const pause = Math.max(atLeastMs, Math.min(maxMs, base * (1 + this.#random())));
    await sleep(this.#clock, pause, this.#signal).catch(() => undefined);
  }

  /** Objects come fresh from the parser, so they may be changed until they are frozen. */
  #prepare(object: T): T {
    const metadata = object.metadata as { managedFields?: unknown } | undefined;
    // Often half of an object's size, and nobody here reads it.
    if (metadata !== undefined) delete metadata.managedFields;
    return deepFreeze(this.#options.transform?.(object) ?? object);
  }
}

/** Ends a watch that lasts longer than the server was asked for, or that says nothing. */
class WatchGuard {
  readonly #clock: Clock;
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal;
  readonly #quietMs: number;
  readonly #deadline: { cancel(): void };
  #silence: { cancel(): void };
  #heardAt: number;
  #wasQuiet = false;

  constructor(clock: Clock, outer: AbortSignal, timeoutSeconds: number, quietMs: number) {
    this.#clock = clock;
    this.#outer = outer;
    this.#quietMs = quietMs;
    this.#heardAt = clock.monotonic();
    outer.addEventListener('abort', this.#forward, { once: true });
    if (outer.aborted) this.#forward();
    const longest = timeoutSeconds * 1000 + DEADLINE_SLACK_MS;
    this.#deadline = clock.schedule(longest, () => this.#cut(`the watch outlived its ${timeoutSeconds} s`));
    this.#silence = clock.schedule(quietMs, this.#check);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get wasQuiet(): boolean {
    return this.#wasQuiet;
  }

  heard(): void {
    this.#heardAt = this.#clock.monotonic();
  }

  end(): void {
    this.#deadline.cancel();
    this.#silence.cancel();
    this.#outer.removeEventListener('abort', this.#forward);
  }

  readonly #forward = (): void => this.#controller.abort(this.#outer.reason);

  /** One timer for many events: it looks how long ago the last one came, and sleeps for the rest. */
  readonly #check = (): void => {
    const left = this.#heardAt + this.#quietMs - this.#clock.monotonic();
    if (left > 0) this.#silence = this.#clock.schedule(left, this.#check);
    else this.#cut(`the watch said nothing for ${this.#quietMs} ms`);
  };

  #cut(why: string): void {
    this.#wasQuiet = true;
    this.#controller.abort(new QuietWatchError(why));
  }
}
