/**
 * What is known of a request beyond its body: whose it is, and what it cost. Filled in on the way, read by the audit
 * log and by the scheduler's fair turns. Holds content only where the audit log is told to have it.
 */
import type { FastifyInstance } from 'fastify';
import type { Caller } from './auth.ts';

export interface RequestFacts {
  /** By performance.now(). */
  readonly started: number;
  /** Who asks; undefined where nobody needs to say, and for strangers. */
  caller: Caller | undefined;
  /** Whose turn it takes: the caller's name. */
  tenant: string | undefined;
  /** The name that the client used. */
  model: string | undefined;
  /** The canonical name of that model, once it is used. */
  canonicalModel: string | undefined;
  promptTokens: number;
  completionTokens: number;
  /** Revision of the pods that answer instead; undefined: this server does. */
  forwardedTo: string | undefined;
  /** Milliseconds from the request to the first part of its answer; undefined: there was none. */
  firstPartMs: number | undefined;
  /** The answer's text, for an audit log that is to have it; undefined: nobody wants it. */
  answer: string | undefined;
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
      started: performance.now(),
      caller: undefined,
      tenant: undefined,
      model: undefined,
      canonicalModel: undefined,
      forwardedTo: undefined,
      promptTokens: 0,
      completionTokens: 0,
      firstPartMs: undefined,
      answer: undefined,
      loadMs: 0,
      deadline: undefined,
    };
  });
}
