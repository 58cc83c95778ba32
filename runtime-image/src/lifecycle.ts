/**
 * What the server is doing as a whole: loading, ready, draining. Owns the loaded model and what belongs to it for the
 * server's life; routes ask here and never hold an engine of their own.
 */
import { ApiError } from './api-error.ts';
import { ChatTemplate } from './chat-template.ts';
import type { Engine } from './engines/engine.ts';

export type Phase = 'loading' | 'ready' | 'draining';

/** A model that can answer. */
export interface LoadedModel {
  readonly engine: Engine;
  /** Undefined when the model has none, or one that cannot be parsed. */
  readonly template: ChatTemplate | undefined;
  /** Tokens a second that one stream got in the warm-up. */
  readonly tokensPerSecond: number;
  readonly loadedAt: Date;
}

/** Retry-After while a model loads, in seconds. */
const RETRY_LOADING = 2;

export class Lifecycle {
  #phase: Phase = 'loading';
  #progress = 0;
  #model: LoadedModel | undefined;
  #running = 0;
  #idle: (() => void)[] = [];

  get phase(): Phase {
    return this.#phase;
  }

  /** Of the load, 0 to 1. */
  get progress(): number {
    return this.#progress;
  }

  set progress(fraction: number) {
    this.#progress = Math.min(1, Math.max(this.#progress, fraction));
  }

  /** The loaded model, also while draining; undefined before. */
  get loaded(): LoadedModel | undefined {
    return this.#model;
  }

  /** API requests that have begun and not ended. */
  get running(): number {
    return this.#running;
  }

  /** The model to answer with. @throws ApiError (503) while it loads */
  model(): LoadedModel {
    if (this.#model) return this.#model;
    throw new ApiError(503, `the model is loading (${Math.round(this.#progress * 100)} %): try again in a moment`, {
      code: 'model_loading',
      retryAfter: RETRY_LOADING,
    });
  }

  /** @returns a sentence when the model's template cannot be used */
  ready(engine: Engine, tokensPerSecond: number, loadedAt: Date): string | undefined {
    let template: ChatTemplate | undefined;
    let problem: string | undefined;
    const { chatTemplate, bosToken, eosToken } = engine.info.model;
    if (chatTemplate !== undefined)
      try {
        template = new ChatTemplate(chatTemplate, { bosToken, eosToken, controlTokens: () => engine.controlTokens });
      } catch (error) {
        problem = `the model's chat template cannot be parsed: ${error instanceof Error ? error.message : String(error)}`;
      }
    this.#model = { engine, template, tokensPerSecond, loadedAt };
    this.#progress = 1;
    if (this.#phase === 'loading') this.#phase = 'ready';
    return problem;
  }

  /** From now on the server is not ready, and every connection ends with its next answer. */
  drain(): void {
    this.#phase = 'draining';
  }

  /** Counts a request. @returns what to call when it ends; later calls do nothing. */
  begin(): () => void {
    this.#running++;
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#running--;
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
