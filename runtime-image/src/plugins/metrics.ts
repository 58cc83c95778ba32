/**
 * What Prometheus reads of requests and answers. Owns the names; routes and generations report here and know nothing of
 * Prometheus. Names and buckets are those of OpenTelemetry's conventions for generative AI where it has any. Labels never
 * take what a client makes up: models by their canonical names, routes by their patterns, errors by their codes.
 */
import type { FastifyInstance } from 'fastify';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { EndPart } from '../engines/engine.ts';
import type { Lifecycle } from '../lifecycle.ts';
import type { ForwardOutcome } from '../traffic/forwarding.ts';
import { registerModelGauges } from './model-gauges.ts';

/** nginx's number for a client that hung up before the answer. */
export const CLIENT_GONE = 499;

/** What an answer is counted under. */
export interface AnswerLabels {
  /** The model's canonical name. */
  readonly model: string;
  readonly operation: Operation;
}

/** OpenTelemetry's `gen_ai.operation.name`; it has no word of its own for `rerank`. */
export type Operation = 'chat' | 'text_completion' | 'embeddings' | 'rerank';

/** What a route does, in OpenTelemetry's words. */
export function operationOf(route: string | undefined): Operation {
  if (route === '/api/generate' || route === '/v1/completions') return 'text_completion';
  if (/rerank/.test(route ?? '')) return 'rerank';
  return /embed/.test(route ?? '') ? 'embeddings' : 'chat';
}

/** Whether an operation reads texts and generates none. */
export function isScoring(operation: Operation): boolean {
  return operation === 'embeddings' || operation === 'rerank';
}

/** What else is worth a number, known to those who own it. */
export interface MetricSources {
  /** Server processes that crashed before this one, by cause. */
  readonly restarts?: Readonly<Record<string, number>> | undefined;
  readonly certificate?: { readonly expires: number; readonly failures: number } | undefined;
}

const GEN_AI = ['gen_ai_request_model', 'gen_ai_operation_name'] as const;
const genAi = ({ model, operation }: AnswerLabels) => ({
  gen_ai_request_model: model,
  gen_ai_operation_name: operation,
});

/**
 * OpenTelemetry's bounds and more between them: the operator compares revisions by percentiles of this, and within a bucket a
 * percentile is a guess.
 */
const FIRST_TOKEN_BUCKETS = [
  0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4,
  0.5, 0.6, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 10, 12.5, 15, 20, 30, 45, 60, 120,
];

export class Metrics {
  readonly registry = new Registry();
  readonly #requests = this.#counter(
    'slm_requests_total',
    'Requests answered, by route and status code (499: the client hung up).',
    ['route', 'code'],
  );
  readonly #duration = this.#histogram(
    'slm_request_duration_seconds',
    'Time from a request to the end of its answer.',
    ['route'],
    [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300],
  );
  readonly #errors = this.#counter('slm_errors_total', 'Errors that clients were told, by code.', ['kind']);
  readonly #broken = this.#counter(
    'slm_broken_streams_total',
    'Streams that began well, and so count as answered with 200, and ended with an error of the server.',
    ['route'],
  );
  readonly #dropped = this.#counter(
    'slm_connections_dropped_total',
    'Connections that were closed because there were too many.',
    [],
  );
  readonly #forwarded = this.#counter(
    'slm_forwarded_requests_total',
    'Requests that were to be answered by the pods of another revision, by outcome; those that were are in no other number here.',
    ['outcome'],
  );
  readonly #answered = this.#histogram(
    'gen_ai_server_request_duration_seconds',
    'Time from a request to the end of what was generated for it.',
    GEN_AI,
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84],
  );
  readonly #firstToken = this.#histogram(
    'gen_ai_server_time_to_first_token_seconds',
    'Time from a request to its first generated token, waiting and loading included.',
    GEN_AI,
    FIRST_TOKEN_BUCKETS,
  );
  readonly #perToken = this.#histogram(
    'gen_ai_server_time_per_output_token_seconds',
    'Mean time for each token of an answer after its first.',
    GEN_AI,
    [0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
  );
  readonly #gap = this.#histogram(
    'slm_inter_token_seconds',
    'Time between two pieces of an answer, mostly a token each: how much a stream stalls.',
    ['model'],
    [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
  );
  readonly #queued = this.#histogram(
    'slm_queue_wait_seconds',
    'Time that a request waited for a slot.',
    ['model'],
    [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
  );
  readonly #generated = this.#counter('slm_generated_tokens_total', 'Tokens generated.', ['model']);
  readonly #prompt = this.#counter('slm_prompt_tokens_total', 'Tokens of prompts.', ['model']);
  readonly #cached = this.#counter(
    'slm_cached_prompt_tokens_total',
    'Tokens of prompts that were known from an earlier request.',
    ['model'],
  );
  readonly #speed = this.#histogram(
    'slm_tokens_per_second',
    'Tokens a second of each answer after its first token.',
    ['model'],
    [1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 400, 800],
  );

  constructor(lifecycle: Lifecycle, { restarts = {}, certificate }: MetricSources = {}) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    const restarted = this.#counter(
      'slm_engine_restarts_total',
      'Restarts of the server process inside its container after a crash, by signal; exception for an error in JavaScript.',
      ['signal'],
    );
    for (const [signal, times] of Object.entries(restarts)) restarted.inc({ signal }, times);
    registerModelGauges(this.registry, lifecycle);
    if (!certificate) return;
    const expires: Gauge = new Gauge({
      name: 'slm_certificate_expiry_timestamp_seconds',
      help: 'When the certificate that is served ends, in seconds since 1970.',
      registers,
      collect: () => expires.set(certificate.expires / 1000),
    });
    const failures: Gauge = new Gauge({
      name: 'slm_certificate_reload_failures',
      help: 'Replacements of the certificate that could not be used.',
      registers,
      collect: () => failures.set(certificate.failures),
    });
  }

  /** A generation is over, whether it came to its end or its client left. */
  tokens({ model }: AnswerLabels, promptTokens: number, completionTokens: number): void {
    this.#prompt.inc({ model }, promptTokens);
    this.#generated.inc({ model }, completionTokens);
  }

  firstToken(labels: AnswerLabels, seconds: number): void {
    this.#firstToken.observe(genAi(labels), seconds);
  }

  tokenGap({ model }: AnswerLabels, seconds: number): void {
    this.#gap.observe({ model }, seconds);
  }

  /** A generation came to its end. @param seconds since its request */
  generationEnded(labels: AnswerLabels, end: EndPart, seconds: number): void {
    const { model } = labels;
    this.#answered.observe(genAi(labels), seconds);
    this.#cached.inc({ model }, end.cachedTokens);
    this.#queued.observe({ model }, end.queuedMs / 1000);
    if (end.completionTokens < 2 || end.decodeMs <= 0) return;
    const perToken = end.decodeMs / 1000 / (end.completionTokens - 1);
    this.#perToken.observe(genAi(labels), perToken);
    this.#speed.observe({ model }, 1 / perToken);
  }

  /** Texts were read and nothing was generated: vectors or scores. @param seconds since the request */
  scored(labels: AnswerLabels, promptTokens: number, seconds: number): void {
    this.#answered.observe(genAi(labels), seconds);
    this.#prompt.inc({ model: labels.model }, promptTokens);
  }

  requestEnded(route: string, code: number, seconds: number): void {
    this.#requests.inc({ route, code });
    this.#duration.observe({ route }, seconds);
  }

  /** @param kind a code from our own table, never a client's word */
  error(kind: string): void {
    this.#errors.inc({ kind });
  }

  forwarded(outcome: ForwardOutcome): void {
    this.#forwarded.inc({ outcome });
  }

  /** A stream that had begun ended with an error of ours. */
  streamBroken(route: string): void {
    this.#broken.inc({ route });
  }

  connectionDropped(): void {
    this.#dropped.inc();
  }

  #counter<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #histogram<Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
    buckets: number[],
  ): Histogram<Label> {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.registry] });
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    metrics: Metrics;
  }
}

/** Counts every request that this server answers. */
export function registerMetrics(app: FastifyInstance, metrics: Metrics): void {
  app.addHook('onRequest', async (request, reply) => {
    let ended = false;
    const end = () => {
      if (ended) return;
      ended = true;
      const code = reply.raw.writableEnded ? reply.raw.statusCode : CLIENT_GONE;
      // The route's pattern, never the path: a label must not grow with what clients make up.
      const { facts } = request;
      // Whoever answered has counted it.
      if (facts.forwardedTo !== undefined) return;
      const route = request.routeOptions.url ?? 'unknown';
      const seconds = (performance.now() - facts.started) / 1000;
      metrics.requestEnded(route, code, seconds);
      const operation = operationOf(route);
      if (facts.canonicalModel !== undefined && code === 200 && isScoring(operation))
        metrics.scored({ model: facts.canonicalModel, operation }, facts.promptTokens, seconds);
      request.log.debug({ route, code, seconds }, 'request');
    };
    reply.raw.once('finish', end);
    reply.raw.once('close', end);
  });
}
