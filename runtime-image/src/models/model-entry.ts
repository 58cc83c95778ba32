/**
 * One model of the registry: whether it is loaded, how many use it, and when it may go. Owns its own timer; what others
 * need is the registry's business.
 */
import { ApiError } from '../api-error.ts';
import type { LoadedModel } from './loaded-model.ts';
import type { ModelSpec } from './model-spec.ts';

/** Retry-After while the server starts, in seconds. */
const RETRY_LOADING = 2;
/** A timer takes no more milliseconds than this. */
const LONGEST_TIMER = 2 ** 31 - 1;

export interface EntryOptions {
  /** Milliseconds; Infinity for ever. */
  readonly keepAliveMs: number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly unloaded: () => void;
}

export class ModelEntry {
  readonly spec: ModelSpec;
  loaded: LoadedModel | undefined;
  /** Of the load in progress, 0 to 1. */
  progress = 0;
  /** The load that is waiting or going on. */
  pending: Promise<void> | undefined;
  /** The unloading that is going on. */
  closing: Promise<void> | undefined;
  /** Makes room for another: new requests wait until it comes back. */
  leaving = false;
  /** Requests that wait for the model. */
  waiting = 0;
  /** Estimated, while loaded. */
  bytes = 0;
  /** Milliseconds since 1970. */
  lastUsed = 0;
  readonly #options: EntryOptions;
  #uses = 0;
  #keepAliveMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(spec: ModelSpec, options: EntryOptions) {
    this.spec = spec;
    this.#options = options;
    this.#keepAliveMs = options.keepAliveMs;
  }

  get name(): string {
    return this.spec.names[0];
  }

  /** Requests that the model is answering. */
  get uses(): number {
    return this.#uses;
  }

  /** When the model goes if nothing more comes; undefined: never. */
  get expiresAt(): Date | undefined {
    if (this.spec.resident || !Number.isFinite(this.#keepAliveMs)) return undefined;
    return new Date((this.#uses > 0 ? this.#options.now() : this.lastUsed) + this.#keepAliveMs);
  }

  /** Whether this entry already serves what a spec says. */
  isFor(spec: ModelSpec): boolean {
    return JSON.stringify(spec) === JSON.stringify(this.spec);
  }

  /** Counts a request. @returns what to call at its end; later calls do nothing */
  begin(keepAliveMs: number | undefined): () => void {
    clearTimeout(this.#timer);
    this.#uses++;
    this.lastUsed = this.#options.now();
    if (keepAliveMs !== undefined) this.#keepAliveMs = keepAliveMs;
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#uses--;
      this.lastUsed = this.#options.now();
      if (this.#uses === 0) this.#settle();
    };
  }

  /** Sets how long the model stays after its last request, and starts that time when nothing runs. */
  keepFor(ms: number): void {
    this.#keepAliveMs = ms;
    if (this.#uses === 0 && this.loaded) this.#settle();
  }

  setLoaded(model: LoadedModel): void {
    this.loaded = model;
    this.leaving = false;
    this.lastUsed = this.#options.now();
    // Whoever waited begins at once and takes the timer away; nobody may be left.
    if (this.waiting === 0) this.#settle();
  }

  /** Frees the memory; what still runs is aborted. Resolves when it is free. */
  async unload(): Promise<void> {
    clearTimeout(this.#timer);
    const { loaded } = this;
    if (!loaded) return this.closing;
    this.loaded = undefined;
    this.leaving = false;
    this.#keepAliveMs = this.#options.keepAliveMs;
    this.closing = loaded.engine.close().finally(() => {
      this.closing = undefined;
      this.#options.unloaded();
    });
    return this.closing;
  }

  /** What a client is told that comes while the server starts. */
  stillLoading(): ApiError {
    return new ApiError(503, `the model is loading (${Math.round(this.progress * 100)} %): try again in a moment`, {
      code: 'model_loading',
      retryAfter: RETRY_LOADING,
    });
  }

  #settle(): void {
    clearTimeout(this.#timer);
    if (this.spec.resident || !this.loaded) return;
    if (this.#keepAliveMs === 0) void this.unload();
    else if (Number.isFinite(this.#keepAliveMs)) {
      this.#timer = setTimeout(() => void this.unload(), Math.min(this.#keepAliveMs, LONGEST_TIMER));
      this.#timer.unref();
    }
  }
}
