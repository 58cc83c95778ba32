/**
 * What the server is doing as a whole: loading, ready, draining. Owns the phase and the count of running requests; the
 * models are the registry's.
 */
import type { Engine } from './engines/engine.ts';
import { type LoadedModel, makeLoadedModel } from './models/loaded-model.ts';
import { makeSpec } from './models/model-spec.ts';
import { ModelRegistry } from './models/registry.ts';

export type { LoadedModel } from './models/loaded-model.ts';

export type Phase = 'loading' | 'ready' | 'draining';

/** A reason for programs and a sentence for people. */
export interface Unfit {
  readonly reason: 'too-slow';
  readonly message: string;
}

/** How many requests in how long make a rate; what is older says nothing of now. */
const LATELY = { seconds: 60, least: 4, most: 16 } as const;

export class Lifecycle {
  readonly models: ModelRegistry;
  #phase: Phase = 'loading';
  #progress = 0;
  #running = 0;
  #lastEnd: number;
  /** When the last requests began; the oldest first. */
  readonly #begun: number[] = [];
  readonly #now: () => number;
  #unfit: Unfit | undefined;
  #idle: (() => void)[] = [];

  /**
   * @param models default: one model that is given later
   * @param now milliseconds that never go back
   */
  constructor(models: ModelRegistry = oneModel(), now: () => number = () => performance.now()) {
    this.models = models;
    this.#now = now;
    this.#lastEnd = now();
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Of the load that readiness waits for, 0 to 1. */
  get progress(): number {
    return this.#progress;
  }

  set progress(fraction: number) {
    this.#progress = Math.min(1, Math.max(this.#progress, fraction));
    if (this.models.primary) this.models.primary.progress = this.#progress;
  }

  /** The model that the server was started with, also while draining; undefined before, and where there is none. */
  get loaded(): LoadedModel | undefined {
    return this.models.primary?.loaded;
  }

  /** API requests that have begun and not ended. */
  get running(): number {
    return this.#running;
  }

  /** Seconds since the last request ended, or since the start before the first; undefined while one runs. */
  get idleSeconds(): number | undefined {
    return this.#running > 0 ? undefined : (this.#now() - this.#lastEnd) / 1000;
  }

  /** Between the beginnings of two API requests, on average of the last ones; undefined with less than four in the last minute. */
  get secondsBetween(): number | undefined {
    const now = this.#now();
    const lately = this.#begun.filter((at) => now - at <= LATELY.seconds * 1000);
    return lately.length < LATELY.least ? undefined : (now - lately[0]!) / 1000 / lately.length;
  }

  /** Why the server answers and shall not be asked by others. */
  get unfit(): Unfit | undefined {
    return this.#unfit;
  }

  /** Everything was loaded, and yet the server is not ready; for good. */
  refuse(unfit: Unfit): void {
    this.#unfit = unfit;
  }

  /** The model to answer with. @throws ApiError (503) while it loads */
  model(): LoadedModel {
    const { primary } = this.models;
    if (primary?.loaded) return primary.loaded;
    if (!primary) throw new Error('the server was started without a model');
    throw primary.stillLoading();
  }

  /**
   * The model that the server was started with has loaded.
   * @returns a sentence when its template cannot be used
   */
  ready(engine: Engine, tokensPerSecond: number, loadedAt: Date): string | undefined {
    const { primary } = this.models;
    if (!primary) throw new Error('the server was started without a model');
    const { model, problem } = makeLoadedModel(primary.spec, engine, { tokensPerSecond, loadedAt });
    this.models.adopt(primary, model);
    this.started();
    return problem;
  }

  /** Everything that readiness waits for is there. */
  started(): void {
    this.#progress = 1;
    if (this.#phase === 'loading') this.#phase = 'ready';
  }

  /** From now on the server is not ready, and every connection ends with its next answer. */
  drain(): void {
    this.#phase = 'draining';
  }

  /** Counts a request. @returns what to call when it ends; later calls do nothing. */
  begin(): () => void {
    this.#running++;
    this.#begun.push(this.#now());
    if (this.#begun.length > LATELY.most) this.#begun.shift();
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#running--;
      this.#lastEnd = this.#now();
      if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
    };
  }

  /** Resolves when no request is running. */
  idle(): Promise<void> {
    return this.#running === 0
      ? Promise.resolve()
      : new Promise((resolve) => {
          this.#idle.push(resolve);
        });
  }
}

function oneModel(): ModelRegistry {
  return new ModelRegistry([makeSpec({ names: ['model'], path: '', resident: true })], {
    load: () => Promise.reject(new Error('there is nothing to load')),
  });
}
