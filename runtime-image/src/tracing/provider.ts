/**
 * Sends spans to an OpenTelemetry collector. Owns the SDK, which nothing else loads: who wants no traces pays nothing for them.
 * Endpoint, headers and timeouts are read by the exporter from OpenTelemetry's own environment.
 */
import { DiagLogLevel, diag, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import type { FastifyBaseLogger } from 'fastify';
import type { TraceApi } from '../plugins/spans.ts';
import { VERSION } from '../version.ts';
import type { TracingSettings } from './settings.ts';

export interface Tracing extends TraceApi {
  /** Sends what is left; takes no longer than the exporter's timeout. */
  close(): Promise<void>;
}

export function startTracing(settings: TracingSettings, log: FastifyBaseLogger): Tracing {
  // A collector that is away is worth a line, not an error of ours.
  const warn = (message: string) => log.warn({ from: 'opentelemetry' }, message);
  const quiet = () => undefined;
  diag.setLogger({ error: warn, warn, info: quiet, debug: quiet, verbose: quiet }, DiagLogLevel.WARN);
  const provider = new TracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ 'service.name': 'slm-server', 'service.version': VERSION }))
      .merge(detectResources({ detectors: [envDetector] })),
    sampler: makeSampler(settings),
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  });
  return {
    tracer: provider.getTracer('slm-server', VERSION),
    under: (parent) => (parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent)),
    server: SpanKind.SERVER,
    error: SpanStatusCode.ERROR,
    // What could not be sent was told by then.
    close: () => provider.shutdown().catch(() => undefined),
  };
}

function makeSampler({ sampler, ratio }: TracingSettings): Sampler {
  const [, parentBased, name] = /^(parentbased_)?(.*)$/.exec(sampler) ?? [];
  const root =
    name === 'traceidratio'
      ? new TraceIdRatioBasedSampler(ratio)
      : name === 'always_off'
        ? new AlwaysOffSampler()
        : new AlwaysOnSampler();
  return parentBased === undefined ? root : new ParentBasedSampler({ root });
}
