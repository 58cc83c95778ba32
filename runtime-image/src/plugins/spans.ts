/**
 * One span for each API request, in the words of OpenTelemetry's conventions for HTTP servers and generative AI; a part of the
 * client's trace where it names one. Never has content. Knows the tracer by its interface alone.
 */
import type { Context, SpanContext, SpanKind, SpanStatusCode, Tracer } from '@opentelemetry/api';
import type { FastifyInstance } from 'fastify';
import { isOperations } from '../routes/operations.ts';
import { CLIENT_GONE, isScoring, operationOf } from './metrics.ts';

/** What is needed of `@opentelemetry/api`, which is loaded only where there is a tracer. */
export interface TraceApi {
  readonly tracer: Tracer;
  /** The context of spans whose parent this is. */
  readonly under: (parent: SpanContext | undefined) => Context;
  readonly server: SpanKind;
  readonly error: SpanStatusCode;
}

export function registerSpans(app: FastifyInstance, { tracer, under, server, error }: TraceApi): void {
  app.addHook('onRequest', async (request, reply) => {
    if (isOperations(request)) return;
    const route = request.routeOptions.url;
    const operation = operationOf(route);
    const span = tracer.startSpan(
      `${request.method} ${route ?? 'unknown'}`,
      {
        kind: server,
        attributes: {
          'http.request.method': request.method,
          'url.scheme': request.protocol,
          ...(route === undefined ? {} : { 'http.route': route }),
          'slm.request.id': request.id,
        },
      },
      under(parentOf(request.headers['traceparent'])),
    );
    reply.raw.once('close', () => {
      const { facts } = request;
      const status = reply.raw.writableEnded ? reply.raw.statusCode : CLIENT_GONE;
      span.setAttribute('http.response.status_code', status);
      if (facts.forwardedTo !== undefined) span.setAttribute('slm.forwarded_to', facts.forwardedTo);
      if (facts.canonicalModel !== undefined) {
        span.updateName(`${operation} ${facts.canonicalModel}`);
        span.setAttributes({
          'gen_ai.operation.name': operation,
          'gen_ai.provider.name': 'slm',
          'gen_ai.request.model': facts.canonicalModel,
          'gen_ai.usage.input_tokens': facts.promptTokens,
          ...(isScoring(operation) ? {} : { 'gen_ai.usage.output_tokens': facts.completionTokens }),
        });
        if (facts.firstPartMs !== undefined)
          span.setAttribute('gen_ai.response.time_to_first_chunk', facts.firstPartMs / 1000);
      }
      if (status >= 400) span.setAttribute('error.type', String(status));
      if (status >= 500) span.setStatus({ code: error });
      span.end();
    });
  });
}

/** Reads a W3C `traceparent`; anything else is no parent. */
export function parentOf(header: string | string[] | undefined): SpanContext | undefined {
  if (typeof header !== 'string') return undefined;
  const [, version, traceId, spanId, flags] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/.exec(header.trim()) ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined || version === 'ff') return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
}
