/**
 * The models of the server: which there are, which are loaded, and who leaves when another needs the room. Owns loading
 * and unloading; one load at a time, never under a running request. Knows neither HTTP nor any engine.
 */
import { ApiError } from '../api-error.ts';
import type { LoadObserver } from '../engines/engine.ts';
import type { Loaded, LoadedModel } from './loaded-model.ts';
import { ModelEntry } from './model-entry.ts';
import { hasName, type ModelSpec } from './model-spec.ts';

/** What the registry needs of its surroundings. */
export interface RegistryOptions {
  readonly load: (spec: ModelSpec, observer: LoadObserver) => Promise<Loaded>;
  /** Bytes that a model is going to take. */
  readonly estimate?: (spec: ModelSpec) => Promise<number>;
  /** Default 3. */
  readonly maxLoaded?: number;
  /** Bytes for all loaded models together. Default: no limit. */
  readonly maxMemory?: number;
  /** How long a model stays after its last request, in milliseconds. Default five minutes. */
  readonly keepAliveMs?: number;
  /** How long a request waits for a model, in milliseconds. Default five minutes. */
  readonly loadTimeoutMs?: number;
  /** Milliseconds since 1970. Default: Date.now. */
  readonly now?: () => number;
  readonly log?: RegistryLog;
  /** Looks for models that came or went, before the models are listed and when a name is not known. */
  readonly refresh?: () => Promise<readonly ModelSpec[]>;
}

export interface RegistryLog {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
}

export interface UseOptions {
  /** Ends the wait, not the load that others may wait for. */
  readonly signal?: AbortSignal;
  /** Milliseconds; undefined leaves what was asked for last. */
  readonly keepAliveMs?: number;
}

/** A model that stays loaded until it is released. */
export interface ModelUse {
  readonly model: LoadedModel;
  /** How long the request waited for the model, in milliseconds. */
  readonly waitedMs: number;
  /** Later calls do nothing. */
  release(): void;
}

const MINUTES = 60_000;
/** Retry-After where a wait for a model ended without it, in seconds. */
const RETRY = 5;

export class ModelRegistry {
  #entries: ModelEntry[];
  readonly #options: RegistryOptions;
  #turn: Promise<unknown> = Promise.resolve();
  #changed = Promise.withResolvers<void>();
  /** The look at the models outside that goes on, and the one that begins after it. */
  #looking: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #closed = false;

  constructor(specs: readonly ModelSpec[], options: RegistryOptions) {
    this.#options = options;
    this.#entries = specs.map((spec) => this.#makeEntry(spec));
  }

  /** In the order in which they are listed. */
  get entries(): readonly ModelEntry[] {
    return this.#entries;
  }

  /** The model that the server is about: the one that it was started with. */
  get primary(): ModelEntry | undefined {
    return this.#entries.find((entry) => entry.spec.resident);
  }

  get loaded(): readonly ModelEntry[] {
    return this.#entries.filter((entry) => entry.loaded);
  }

  /** A model by the name that a client uses. */
  find(name: string): ModelEntry | undefined {
    return this.#entries.find((entry) => hasName(entry.spec, name));
  }

  /** Takes over what came, changed or went outside; what is loaded and unchanged stays as it is. */
  async refresh(): Promise<void> {
    if (!this.#options.refresh) return;
    // One look at a time; whoever comes meanwhile shares the next.
    const looking = this.#looking;
    this.#next ??= (looking ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => {
        this.#looking = this.#next;
        this.#next = undefined;
        return this.#look();
      });
    await this.#next;
  }

  async #look(): Promise<void> {
    const specs = await this.#options.refresh?.();
    if (!specs || this.#closed) return;
    const before = this.#entries;
    this.#entries = specs.map((spec) => {
      const known = before.find((entry) => entry.isFor(spec));
      return known ?? this.#makeEntry(spec);
    });
    for (const entry of before) if (!this.#entries.includes(entry)) void this.#retire(entry);
  }

  /**
   * Waits for the model and keeps it loaded until the release.
   * @throws ApiError (503) while the model that the server was started with loads, after too long a wait, and where there is
   * no room; ApiError (500) when it cannot be loaded; AbortError
   */
  async use(entry: ModelEntry, options: UseOptions = {}): Promise<ModelUse> {
    const started = performance.now();
    options.signal?.throwIfAborted();
    if (entry.spec.resident && !entry.loaded) throw entry.stillLoading();
    const limit = this.#options.loadTimeoutMs ?? 5 * MINUTES;
    const late = AbortSignal.timeout(limit);
    const ended = options.signal ? AbortSignal.any([options.signal, late]) : late;
    entry.waiting++;
    try {
      // An engine that broke answers nobody; the one that the server was started with is the kubelet's business.
      if (entry.loaded?.engine.stats.broken && !entry.spec.resident) void entry.unload();
      while (!entry.loaded || entry.leaving) await within(this.#ensure(entry), ended);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!late.aborted) throw error;
      throw new ApiError(
        503,
        `model '${entry.name}' was not loaded within ${Math.round(limit / 1000)} s: try again later, or raise SLM_LOAD_TIMEOUT_SECONDS`,
        { code: 'model_loading', retryAfter: RETRY },
      );
    } finally {
      entry.waiting--;
      this.#notify();
    }
    const release = entry.begin(options.keepAliveMs);
    return {
      model: entry.loaded,
      waitedMs: performance.now() - started,
      release: () => {
        release();
        this.#notify();
      },
    };
  }

  /** Unloads a model as soon as nothing uses it; the one that the server was started with stays. */
  expire(entry: ModelEntry): void {
    if (!entry.spec.resident) entry.keepFor(0);
  }

  /** Gives a model that was loaded outside, such as the server's first. */
  adopt(entry: ModelEntry, model: LoadedModel): void {
    entry.loaded = model;
    this.#notify();
  }

  /** Ends every engine; what runs is aborted. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#notify();
    await Promise.all(this.#entries.map((entry) => entry.unload()));
  }

  #makeEntry(spec: ModelSpec): ModelEntry {
    return new ModelEntry(spec, {
      keepAliveMs: this.#options.keepAliveMs ?? 5 * MINUTES,
      now: this.#options.now ?? Date.now,
      unloaded: () => this.#options.log?.info({ model: spec.names[0] }, 'model unloaded'),
    });
  }

  async #retire(entry: ModelEntry): Promise<void> {
    entry.leaving = true;
    while (entry.uses > 0 && !this.#closed) await this.#changed.promise;
    await entry.unload();
  }

  /** One load at a time: each finds the room that the one before left. */
  #ensure(entry: ModelEntry): Promise<void> {
    if (entry.pending) return entry.pending;
    const pending = this.#turn
      .then(() => this.#load(entry))
      .finally(() => {
        entry.pending = undefined;
      });
    entry.pending = pending;
    this.#turn = pending.catch(() => undefined);
    return pending;
  }

  async #load(entry: ModelEntry): Promise<void> {
    if (entry.loaded && !entry.leaving) return;
    await entry.closing;
    if (entry.waiting === 0) return;
    if (!this.#entries.includes(entry)) throw gone(entry);
    // What cannot be read is the loader's to explain.
    entry.bytes = (await this.#options.estimate?.(entry.spec).catch(() => 0)) ?? 0;
    await this.#makeRoom(entry);
    if (entry.waiting === 0) return;
    if (this.#closed) throw new ApiError(503, 'the server is shutting down');
    const { log } = this.#options;
    log?.info({ model: entry.name, bytes: entry.bytes }, 'loading a model');
    entry.progress = 0;
    const { model, problem } = await this.#options
      .load(entry.spec, {
        progress: (fraction) => {
          entry.progress = Math.max(entry.progress, fraction);
        },
        log: () => undefined,
      })
      .catch((error: unknown) => {
        const said = error instanceof Error ? error.message : String(error);
        log?.warn({ model: entry.name, error: said }, 'a model cannot be loaded');
        throw new ApiError(500, `model '${entry.name}' cannot be loaded: ${said}`, { code: 'model_load_failed' });
      });
    if (problem !== undefined) log?.warn({ model: entry.name }, problem);
    if (this.#closed) {
      await model.engine.close();
      throw new ApiError(503, 'the server is shutting down');
    }
    entry.setLoaded(model);
    log?.info({ model: entry.name, ms: Math.round(model.loadMs) }, 'model loaded');
  }

  /** Unloads what was not used for longest until there is room, and waits for those that are in use. */
  async #makeRoom(entry: ModelEntry): Promise<void> {
    const maxLoaded = this.#options.maxLoaded ?? 3;
    const maxMemory = this.#options.maxMemory ?? Number.POSITIVE_INFINITY;
    for (;;) {
      await Promise.all(this.#entries.flatMap((one) => one.closing ?? []));
      const others = this.loaded.filter((one) => one !== entry);
      const bytes = others.reduce((sum, one) => sum + one.bytes, entry.bytes);
      if (others.length < maxLoaded && bytes <= maxMemory) return;
      const removable = others.filter((one) => !one.spec.resident);
      if (removable.length === 0) throw noRoom(entry, bytes, maxMemory, maxLoaded);
      const victim = removable.reduce((best, one) => (ranked(one) < ranked(best) ? one : best));
      victim.leaving = true;
      while (victim.uses > 0 && entry.waiting > 0 && !this.#closed) await this.#changed.promise;
      if (entry.waiting === 0 || this.#closed) {
        victim.leaving = false;
        return;
      }
      await victim.unload();
    }
  }

  #notify(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }
}

/** Idle ones first; among those, the one whose last use is longest ago. */
function ranked(entry: ModelEntry): number {
  return entry.lastUsed + (entry.uses + entry.waiting > 0 ? Number.MAX_SAFE_INTEGER / 2 : 0);
}

function gone(entry: ModelEntry): ApiError {
  return new ApiError(404, `model '${entry.name}' was removed`, { code: 'model_not_found', param: 'model' });
}

function noRoom(entry: ModelEntry, bytes: number, maxMemory: number, maxLoaded: number): ApiError {
  const message =
    bytes > maxMemory
      ? `model '${entry.name}' needs about ${gibibytes(entry.bytes)} and ${gibibytes(Math.max(0, maxMemory - bytes + entry.bytes))} of the server's ` +
        `${gibibytes(maxMemory)} are free: raise SLM_MAX_MEMORY, or take a smaller model or context`
      : `model '${entry.name}' cannot be loaded beside the ${maxLoaded} that stay loaded: raise SLM_MAX_LOADED_MODELS`;
  return new ApiError(503, message, { code: 'insufficient_memory' });
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

/** Waits for work that goes on when the wait ends. */
function within<T>(work: Promise<T>, ended: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(ended.reason as Error);
    if (ended.aborted) return abort();
    ended.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => ended.removeEventListener('abort', abort));
  });
}
