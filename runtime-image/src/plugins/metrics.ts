/**
 * What Prometheus reads. Owns the names; routes and generations report here and know nothing of Prometheus.
 */
import type { FastifyInstance } from 'fastify';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { EndPart } from '../engines/engine.ts';
import type { Lifecycle } from '../lifecycle.ts';

/** nginx's number for a client that hung up before the answer. */
export const CLIENT_GONE = 499;

export class Metrics {
  readonly registry = new Registry();
  readonly #requests: Counter<'route' | 'code'>;
  readonly #duration: Histogram<'route'>;
  readonly #firstToken: Histogram<'model'>;
  readonly #generated: Counter<'model'>;
  readonly #prompt: Counter<'model'>;
  readonly #cached: Counter<'model'>;
  readonly #speed: Histogram<'model'>;

  /** @param restarts server processes that crashed before this one, by cause */
  constructor(lifecycle: Lifecycle, restarts: Readonly<Record<string, number>> = {}) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.#requests = new Counter({
      name: 'slm_requests_total',
      help: 'Requests answered, by route and status code (499: the client hung up).',
      labelNames: ['route', 'code'],
      registers,
    });
    this.#duration = new Histogram({
      name: 'slm_request_duration_seconds',
      help: 'Time from a request to the end of its answer.',
      labelNames: ['route'],
      buckets: [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300],
      registers,
    });
    this.#firstToken = new Histogram({
      name: 'slm_time_to_first_token_seconds',
      help: 'Time from a request to its first generated token, waiting included.',
      labelNames: ['model'],
      buckets: [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers,
    });
    const labelNames = ['model'] as const;
    this.#generated = new Counter({
      name: 'slm_generated_tokens_total',
      help: 'Tokens generated.',
      labelNames,
      registers,
    });
    this.#prompt = new Counter({
      name: 'slm_prompt_tokens_total',
      help: 'Tokens of prompts.',
      labelNames,
      registers,
    });
    this.#cached = new Counter({
      name: 'slm_cached_prompt_tokens_total',
      help: 'Tokens of prompts that were known from an earlier request.',
      labelNames,
      registers,
    });
    this.#speed = new Histogram({
      name: 'slm_tokens_per_second',
      help: 'Tokens a second of each answer after its first token.',
      labelNames,
      buckets: [1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 400, 800],
      registers,
    });
    const restarted = new Counter({
      name: 'slm_engine_restarts_total',
      help: 'Restarts of the server process inside its container after a crash, by signal; exception for an error in JavaScript.',
      labelNames: ['signal'],
      registers,
    });
    for (const [signal, times] of Object.entries(restarts)) restarted.inc({ signal }, times);
    const { models } = lifecycle;
    const queue: Gauge<'model'> = new Gauge({
      name: 'slm_queue_depth',
      help: 'Requests that wait for a slot, or for their model to be loaded.',
      labelNames,
      registers,
      collect: () => {
        queue.reset();
        for (const { name, loaded, waiting } of models.entries)
          queue.set({ model: name }, waiting + (loaded?.engine.stats.queued ?? 0));
      },
    });
    const slots: Gauge<'state' | 'model'> = new Gauge({
      name: 'slm_slots',
      help: 'Places for requests that are decoded together, by state.',
      labelNames: ['model', 'state'],
      registers,
      collect: () => {
        slots.reset();
        for (const { name: model, loaded } of models.entries) {
          const stats = loaded?.engine.stats;
          slots.set({ model, state: 'busy' }, stats?.slotsBusy ?? 0);
          slots.set({ model, state: 'idle' }, stats ? stats.slotsTotal - stats.slotsBusy : 0);
        }
      },
    });
    const state: Gauge<'model'> = new Gauge({
      name: 'slm_model_loaded',
      help: 'Whether a model is loaded.',
      labelNames,
      registers,
      collect: () => {
        state.reset();
        for (const { name, loaded } of models.entries) state.set({ model: name }, loaded ? 1 : 0);
      },
    });
  }

  /** Tells of a finished generation. @param model its canonical name */
  generationEnded(end: EndPart, model: string): void {
    this.#prompt.inc({ model }, end.promptTokens);
    this.#cached.inc({ model }, end.cachedTokens);
    this.#generated.inc({ model }, end.completionTokens);
    if (end.completionTokens > 0) this.#firstToken.observe({ model }, (end.queuedMs + end.promptMs) / 1000);
    if (end.completionTokens > 1 && end.decodeMs > 0)
      this.#speed.observe({ model }, (1000 * (end.completionTokens - 1)) / end.decodeMs);
  }

  requestEnded(route: string, code: number, seconds: number): void {
    this.#requests.inc({ route, code });
    this.#duration.observe({ route }, seconds);
  }
}

/** Counts every request. */
export function registerMetrics(app: FastifyInstance, metrics: Metrics): void {
  app.addHook('onRequest', async (request, reply) => {
    const started = performance.now();
    let ended = false;
    const end = () => {
      if (ended) return;
      ended = true;
      const code = reply.raw.writableEnded ? reply.raw.statusCode : CLIENT_GONE;
      // The route's pattern, never the path: a label must not grow with what clients make up.
      const seconds = (performance.now() - started) / 1000;
      metrics.requestEnded(request.routeOptions.url ?? 'unknown', code, seconds);
      request.log.debug({ route: request.routeOptions.url, code, seconds }, 'request');
    };
    reply.raw.once('finish', end);
    reply.raw.once('close', end);
  });
}
