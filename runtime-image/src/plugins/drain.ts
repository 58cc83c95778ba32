/**
 * Counts running API requests and, once the server drains, has every connection end with its answer. A request that comes
 * while draining is answered all the same: it was on its way before its client could know. Owns neither signals nor listeners.
 */
import type { ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';
import type { Lifecycle } from '../lifecycle.ts';
import { isOperations } from '../routes/operations.ts';

export function registerDrain(app: FastifyInstance, lifecycle: Lifecycle): void {
  app.addHook('onRequest', async (request, reply) => {
    if (isOperations(request)) return;
    const end = lifecycle.begin();
    // Fastify's onResponse stays silent when the client hangs up; the socket does not.
    reply.raw.once('close', end);
    reply.raw.once('finish', end);
  });
  const endConnection = (raw: ServerResponse) => {
    // The client's next request must find another server.
    if (lifecycle.phase === 'draining') raw.shouldKeepAlive = false;
  };
  // Streams write their head themselves, so both: what begins while draining, and what was waiting for its answer.
  app.addHook('preHandler', async (_request, reply) => endConnection(reply.raw));
  app.addHook('onSend', async (_request, reply) => endConnection(reply.raw));
}
