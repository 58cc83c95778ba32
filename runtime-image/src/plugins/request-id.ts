/**
 * The id of a request: the client's own where it sent a usable one, and back to it with the answer. Owns the header's name.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance } from 'fastify';

const HEADER = 'x-request-id';

/** What may go into a log line and an answer's header as it is. */
const USABLE = /^[\w.:/+=-]{1,128}$/;

/** For Fastify's genReqId. */
export function requestId(request: IncomingMessage): string {
  const given = request.headers[HEADER];
  return typeof given === 'string' && USABLE.test(given) ? given : randomUUID();
}

export function registerRequestId(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.header(HEADER, request.id);
  });
}
