/**
 * Counts running API requests and refuses new ones once the server drains. Owns neither signals nor listeners.
 */
import type { FastifyInstance } from 'fastify';
import { Lifecycle } from '../lifecycle.ts';
import { isOperations } from '../routes/operations.ts';

export function registerDrain(app: FastifyInstance, lifecycle: Lifecycle): void {
  app.addHook('onRequest', async (request, reply) => {
    if (isOperations(request)) return;
    if (lifecycle.phase === 'draining') {
      // The client's next request must find another server, so this connection ends here.
      reply.header('connection', 'close');
      throw Lifecycle.drainingError();
    }
    const end = lifecycle.begin();
    // Fastify's onResponse stays silent when the client hangs up; the socket does not.
    reply.raw.once('close', end);
    reply.raw.once('finish', end);
  });
}
