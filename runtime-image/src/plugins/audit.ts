/**
 * The audit log: one line of JSON for each API request, on the standard output. Says who asked which model for how much
 * and how it ended; what was asked and answered only where that is switched on, never a key.
 */
import type { FastifyInstance } from 'fastify';
import { isOperations } from '../routes/operations.ts';
import type { Caller } from './auth.ts';
import { CLIENT_GONE } from './metrics.ts';

/** A line of the log. */
export interface AuditRecord {
  readonly type: 'audit';
  /** RFC 3339. */
  readonly time: string;
  /** As in the answer's header X-Request-Id. */
  readonly requestId: string;
  /** The address at the other end of the connection: a proxy's, where there is one. */
  readonly client: string;
  /** Null where nobody needs to say who they are, or nobody known did. */
  readonly caller: Caller | null;
  readonly method: string;
  /** The route's pattern. */
  readonly route: string;
  /** As the client named it; null where it named none that is served. */
  readonly model: string | null;
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Revision of the pod that answered instead; its own line has the same request's id. Absent: this one did. */
  readonly forwardedTo?: string;
  /** 499: the client hung up. */
  readonly status: number;
  readonly latencyMs: number;
  /** To the first part of the answer; null where there was none. */
  readonly firstTokenMs: number | null;
  /** The request's body, where content is asked for. */
  readonly request?: unknown;
  /** The answer's text, where content is asked for. */
  readonly answer?: string;
}

export interface AuditOptions {
  /** Takes a line with its end. */
  readonly write: (line: string) => void;
  /** Adds what was asked and answered. Default false. */
  readonly content?: boolean | undefined;
}

/** @param now milliseconds since 1970 */
export function registerAudit(app: FastifyInstance, { write, content = false }: AuditOptions, now: () => number): void {
  app.addHook('onRequest', async (request, reply) => {
    if (isOperations(request)) return;
    const time = new Date(now()).toISOString();
    const { facts } = request;
    if (content) facts.answer = '';
    // `close` comes last, also after `finish`: by then the answer's tokens are counted.
    reply.raw.once('close', () => {
      const record: AuditRecord = {
        type: 'audit',
        time,
        requestId: request.id,
        client: request.ip,
        caller: facts.caller ?? null,
        method: request.method,
        route: request.routeOptions.url ?? 'unknown',
        model: facts.model ?? null,
        promptTokens: facts.promptTokens,
        completionTokens: facts.completionTokens,
        ...(facts.forwardedTo === undefined ? {} : { forwardedTo: facts.forwardedTo }),
        status: reply.raw.writableEnded ? reply.raw.statusCode : CLIENT_GONE,
        latencyMs: Math.round(performance.now() - facts.started),
        firstTokenMs: facts.firstPartMs === undefined ? null : Math.round(facts.firstPartMs),
        ...(content ? { request: request.body ?? null, answer: facts.answer ?? '' } : {}),
      };
      write(`${JSON.stringify(record)}\n`);
    });
  });
}
