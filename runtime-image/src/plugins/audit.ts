/**
 * The audit log: one line of JSON for each API request, on the standard output. Says who asked which model for how much
 * and how it ended; never what was asked or answered, never a key.
 */
import type { FastifyInstance } from 'fastify';
import { isOperations } from '../routes/operations.ts';
import { CLIENT_GONE } from './metrics.ts';

/** A line of the log. */
export interface AuditRecord {
  readonly type: 'audit';
  /** RFC 3339. */
  readonly time: string;
  /** The first digits of the key's SHA-256; null where nobody needs a key, or none was known. */
  readonly key: string | null;
  readonly method: string;
  /** The route's pattern. */
  readonly route: string;
  /** As the client named it; null where it named none that is served. */
  readonly model: string | null;
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** 499: the client hung up. */
  readonly status: number;
  readonly latencyMs: number;
}

/** @param now milliseconds since 1970 */
export function registerAudit(app: FastifyInstance, write: (line: string) => void, now: () => number): void {
  app.addHook('onRequest', async (request, reply) => {
    if (isOperations(request)) return;
    const started = performance.now();
    const time = new Date(now()).toISOString();
    // `close` comes last, also after `finish`: by then the answer's tokens are counted.
    reply.raw.once('close', () => {
      const { facts } = request;
      const record: AuditRecord = {
        type: 'audit',
        time,
        key: facts.keyId ?? null,
        method: request.method,
        route: request.routeOptions.url ?? 'unknown',
        model: facts.model ?? null,
        promptTokens: facts.promptTokens,
        completionTokens: facts.completionTokens,
        status: reply.raw.writableEnded ? reply.raw.statusCode : CLIENT_GONE,
        latencyMs: Math.round(performance.now() - started),
      };
      write(`${JSON.stringify(record)}\n`);
    });
  });
}
