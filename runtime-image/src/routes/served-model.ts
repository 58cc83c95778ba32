/**
 * The one way from a name in a request to a model that answers it, for every API: the name is checked and noted, the model is
 * loaded if need be, and stays loaded until the answer has ended.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from '../api-error.ts';
import type { LoadedModel } from '../models/loaded-model.ts';
import type { ModelEntry } from '../models/model-entry.ts';
import type { ModelRegistry } from '../models/registry.ts';
import { CLIENT_GONE } from '../plugins/metrics.ts';

export class ServedModels {
  readonly registry: ModelRegistry;

  constructor(registry: ModelRegistry) {
    this.registry = registry;
  }

  /**
   * Accepts a served name, with or without `:latest`, and notes it for the audit log. Loads nothing; a name that is not known
   * may be that of a model that came since.
   * @throws ApiError (404) for any other
   */
  async require(name: string, request: FastifyRequest): Promise<ModelEntry> {
    if (!this.registry.find(name)) await this.registry.refresh();
    const entry = this.registry.find(name);
    if (!entry) throw this.#unknown(name);
    request.facts.model = name;
    return entry;
  }

  /**
   * Waits for the model of a name that was required before. It is released when the answer has ended, or the client is gone.
   * @param keepAliveMs how long the model stays after this request, in milliseconds
   * @throws ApiError (503) when it takes too long, and what else keeps a model from loading
   */
  async use(entry: ModelEntry, reply: FastifyReply, keepAliveMs?: number): Promise<LoadedModel> {
    const gone = new AbortController();
    const { deadline } = reply.request.facts;
    let release: (() => void) | undefined;
    reply.raw.once('close', () => {
      gone.abort();
      release?.();
    });
    if (reply.raw.destroyed) gone.abort();
    try {
      const use = await this.registry.use(entry, {
        signal: deadline ? AbortSignal.any([gone.signal, deadline]) : gone.signal,
        ...(keepAliveMs === undefined ? {} : { keepAliveMs }),
      });
      release = () => use.release();
      reply.request.facts.loadMs = use.waitedMs;
      reply.request.facts.canonicalModel = use.model.name;
      return use.model;
    } catch (error) {
      if (deadline?.aborted === true) throw deadline.reason as Error;
      if (gone.signal.aborted) throw new ApiError(CLIENT_GONE, 'the client hung up while the model was loading');
      throw error;
    }
  }

  /** Unloads the model once nothing uses it; the one that the server was started with stays. */
  async expire(entry: ModelEntry): Promise<void> {
    this.registry.expire(entry);
    // Whoever asks right after must not find it loaded.
    await entry.closing;
  }

  #unknown(name: string): ApiError {
    const names = this.registry.entries.flatMap((entry) => entry.spec.names);
    const has = names.length === 0 ? 'no models' : names.join(', ');
    return new ApiError(404, `model '${name}' not found: this server has ${has}`, {
      code: 'model_not_found',
      param: 'model',
    });
  }
}
