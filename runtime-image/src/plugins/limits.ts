/**
 * Applies the limits to requests and answers: how deep a body nests, how long an answer may be and take, and how long a client
 * may leave it unread. The sockets' own limits are the listeners'.
 */
import type { ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../api-error.ts';
import type { Limits } from '../limits.ts';
import { isOperations } from '../routes/operations.ts';

declare module 'fastify' {
  interface FastifyInstance {
    limits: Limits;
  }
}

export function registerLimits(app: FastifyInstance, limits: Limits): void {
  app.decorate('limits', limits);
  const { requestTimeoutSeconds: seconds } = limits;
  if (seconds !== undefined)
    app.addHook('onRequest', async (request, reply) => {
      if (isOperations(request)) return;
      const late = new AbortController();
      request.facts.deadline = late.signal;
      const timer = setTimeout(() => late.abort(tooLate(seconds)), seconds * 1000);
      reply.raw.once('close', () => clearTimeout(timer));
    });
  // From here on only the client can be slow.
  app.addHook('onSend', async (_request, reply) => {
    expectReading(reply.raw, limits, true);
  });
}

/**
 * Drops the connection when the client reads nothing for too long; the answer's `close` then ends what it cost.
 * @param last nothing more comes after what was written
 */
export function expectReading(raw: ServerResponse, limits: Limits, last = false): void {
  const { socket } = raw;
  // Injected requests have no socket of the network.
  if (!(socket instanceof Socket)) return;
  // The socket's own clock, which stands still while bytes move.
  socket.setTimeout(limits.sendTimeoutSeconds * 1000);
  // Before Node sets the time for an idle connection; the next answer on this one may take as long as it likes.
  if (last) raw.prependOnceListener('finish', () => socket.setTimeout(0));
}

/** The answer goes on: silence is the model's from here. */
export function expectNothing(raw: ServerResponse): void {
  if (raw.socket instanceof Socket) raw.socket.setTimeout(0);
}

/** For a body that only somebody hostile would send. */
export function tooDeep(): ApiError {
  return new ApiError(400, 'the request body nests too many objects or arrays in each other: 200 levels are taken');
}

/**
 * The tokens that one answer may have.
 * @param asked Infinity when the client leaves it open
 * @throws ApiError (400) when it asks for more than this server gives
 */
export function limitTokens(asked: number, { maxTokens }: Limits): number {
  if (maxTokens === undefined || asked <= maxTokens) return asked;
  if (asked === Number.POSITIVE_INFINITY) return maxTokens;
  throw new ApiError(400, `${asked} tokens are asked for, and this server gives ${maxTokens} at most: ask for fewer`, {
    code: 'max_tokens_too_large',
  });
}

function tooLate(seconds: number): ApiError {
  return new ApiError(504, `the answer was not complete within the ${seconds} s that this server gives a request`, {
    code: 'timeout',
  });
}
