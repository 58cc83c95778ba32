/**
 * What is known of a request beyond its body: whose it is, and what it cost. Filled in on the way, read by the audit
 * log and by the scheduler's fair turns. Never holds content.
 */
import type { FastifyInstance } from 'fastify';

export interface RequestFacts {
  /** The name of the API key; undefined where nobody needs one. */
  tenant: string | undefined;
  /** The first digits of the key's SHA-256: tells keys apart and gives none away. */
  keyId: string | undefined;
  /** The name that the client used. */
  model: string | undefined;
  promptTokens: number;
  completionTokens: number;
  /** How long the request waited for its model, in milliseconds. */
  loadMs: number;
  /** Aborted with an ApiError when the time of the request is over; undefined: it has all the time. */
  deadline: AbortSignal | undefined;
}

declare module 'fastify' {
  interface FastifyRequest {
    facts: RequestFacts;
  }
}

export function registerFacts(app: FastifyInstance): void {
  // Fastify refuses shared objects as defaults; the hook sets one for each request before anything reads it.
  app.decorateRequest('facts');
  app.addHook('onRequest', async (request) => {
    request.facts = {
      tenant: undefined,
      keyId: undefined,
      model: undefined,
      promptTokens: 0,
      completionTokens: 0,
      loadMs: 0,
      deadline: undefined,
    };
  });
}
