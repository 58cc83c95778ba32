/**
 * Probes, metrics and the API's description: what the kubelet, Prometheus and the operator read. They need no key and answer while draining.
 */
import { type ReadyReport, serverPaths, type TrafficReport } from '@slm-operator/crds/contract';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Lifecycle, LoadedModel } from '../lifecycle.ts';
import type { ModelSpec } from '../models/model-spec.ts';
import type { ModelRegistry } from '../models/registry.ts';
import type { Metrics } from '../plugins/metrics.ts';

/** A batch that takes longer than this will not end: even one CPU at its slowest decodes a chunk in less. */
const STUCK_MS = 120_000;

/** Names under which Foundry Local's and Ollama's monitoring looks for the same. */
const ALIASES = { health: '/api/health', metrics: '/api/metrics' } as const;

const PATHS: readonly string[] = [...Object.values(serverPaths), ...Object.values(ALIASES), '/openapi.json'];

/** Whether a request is for the routes of this file. */
export function isOperations(request: FastifyRequest): boolean {
  return PATHS.includes(request.routeOptions.url ?? '');
}

/** What /readyz says of the model that the server is about, besides what the operator reads. */
export interface ModelReport {
  /** The canonical name. */
  readonly model: string;
  readonly digest: string | null;
  readonly engine: string;
  readonly backend: string;
  readonly threads: number;
  readonly contextLength: number;
  readonly parallelRequests: number;
}

export interface OperationsOptions {
  readonly lifecycle: Lifecycle;
  readonly metrics: Metrics;
  /** What is passed on to other pods; undefined: nothing ever is. */
  readonly traffic?: { readonly report: TrafficReport } | undefined;
}

export function registerOperations(app: FastifyInstance, options: OperationsOptions): void {
  const { lifecycle, metrics } = options;

  const health = async (_request: FastifyRequest, reply: FastifyReply) => {
    for (const { loaded } of lifecycle.models.loaded) {
      const stats = loaded?.engine.stats;
      if (stats?.broken) return reply.code(503).send({ status: 'broken', message: stats.broken.message });
      if (stats && stats.stepAgeMs > STUCK_MS) {
        const message = `one batch has been computing for ${Math.round(stats.stepAgeMs / 1000)} s`;
        return reply.code(503).send({ status: 'stuck', message });
      }
    }
    return { status: 'ok' };
  };
  app.get(serverPaths.healthz, health);
  app.get(ALIASES.health, health);

  app.get(serverPaths.readyz, async (_request, reply) => {
    const { models, phase, unfit, running, idleSeconds } = lifecycle;
    const notReady = phase === 'ready' ? unfit : WAITING[phase];
    const { primary } = models;
    const found: ReadyReport & { readonly status: string } = {
      status: notReady?.reason ?? 'ready',
      ...(primary?.loaded ? report(primary.loaded, primary.spec) : {}),
      running,
      ...(options.traffic === undefined ? {} : { traffic: options.traffic.report }),
      ...(idleSeconds === undefined ? {} : { idleSeconds: rounded(idleSeconds) }),
      ...notReady,
    };
    if (notReady) reply.code(503);
    if (phase === 'loading') return { ...found, progress: Math.round(lifecycle.progress * 100) / 100 };
    return primary ? found : { ...found, models: overview(models) };
  });

  for (const url of [serverPaths.metrics, ALIASES.metrics])
    app.get(url, async (_request, reply) => {
      reply.type(metrics.registry.contentType);
      return metrics.registry.metrics();
    });
}

/** Why a server in order is not ready. */
const WAITING = {
  loading: { reason: 'loading', message: 'the model is being loaded' },
  draining: { reason: 'draining', message: 'the server ends when its running requests have ended' },
} as const;

function overview(models: ModelRegistry): readonly { readonly name: string; readonly loaded: boolean }[] {
  return models.entries.map(({ name, loaded }) => ({ name, loaded: loaded !== undefined }));
}

function report(loaded: LoadedModel, spec: ModelSpec): ModelReport & ReadyReport {
  const { info } = loaded.engine;
  return {
    model: spec.names[0],
    digest: spec.digest ?? null,
    engine: info.engine,
    device: info.device,
    backend: info.backend,
    threads: info.threads,
    contextLength: info.contextLength,
    parallelRequests: info.parallelRequests,
    tokensPerSecond: rounded(loaded.tokensPerSecond),
    ...(info.fallback === undefined ? {} : { message: info.fallback }),
  };
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}
