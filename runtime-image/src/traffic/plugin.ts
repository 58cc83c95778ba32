/**
 * Puts the weighted front before the routes, and the revision on every answer. Owns which routes are passed on: those that ask the
 * model something. What changes or describes this very server is not.
 */

import { serverHeaders } from '@slm-operator/crds/contract';
import type { FastifyInstance } from 'fastify';
import type { Lifecycle } from '../lifecycle.ts';
import type { Metrics } from '../plugins/metrics.ts';
import type { Forwarding } from './forwarding.ts';

/** By their patterns; all are POST. */
export const PASSED_ON: ReadonlySet<string> = new Set([
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/embeddings',
  '/v1/messages',
  '/v1/messages/count_tokens',
  '/v1/responses',
  '/v1/rerank',
  '/v2/rerank',
  '/rerank',
  '/api/chat',
  '/api/generate',
  '/api/embed',
  '/api/embeddings',
]);

export interface TrafficOptions {
  readonly forwarding: Forwarding;
  readonly lifecycle: Pick<Lifecycle, 'phase'>;
  readonly metrics: Pick<Metrics, 'forwarded'>;
}

/** Requests are looked at when their body is there, after whoever says who may ask: nobody is passed on who may not. */
export function registerTraffic(app: FastifyInstance, { forwarding, lifecycle, metrics }: TrafficOptions): void {
  const { revision } = forwarding;
  if (revision !== undefined)
    app.addHook('onRequest', async (_request, reply) => {
      reply.header(serverHeaders.revision, revision);
    });
  app.addHook('preHandler', async (request, reply) => {
    const { body } = request;
    if (!PASSED_ON.has(request.routeOptions.url ?? '') || typeof body !== 'object' || body === null) return;
    // It may begin to drain while the other side is thinking.
    const isLast = () => lifecycle.phase === 'draining';
    const count = metrics.forwarded.bind(metrics);
    // Fastify leaves a reply alone that was taken from it.
    const taken = await forwarding.take({ request, reply, limits: app.limits, isLast, count });
    if (!taken && isLast()) reply.raw.shouldKeepAlive = false;
  });
}
