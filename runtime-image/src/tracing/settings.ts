/**
 * Reads OpenTelemetry's own environment as far as traces need it. Owns which of its values this server can honour; the rest is
 * refused rather than ignored. Loads no part of OpenTelemetry.
 */
import { StartupError } from '../failures.ts';

export interface TracingSettings {
  readonly sampler: SamplerName;
  /** Part of the traces, 0 to 1, for the samplers that take one. */
  readonly ratio: number;
}

const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const;
export type SamplerName = (typeof SAMPLERS)[number];

/**
 * @returns undefined when nobody wants traces
 * @throws StartupError (InvalidConfiguration)
 */
export function readTracing(env: Readonly<Record<string, string | undefined>>): TracingSettings | undefined {
  const text = (name: string) => env[name]?.trim() || undefined;
  const endpoint = text('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT') ?? text('OTEL_EXPORTER_OTLP_ENDPOINT');
  if (endpoint === undefined || text('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return undefined;
  const exporter = text('OTEL_TRACES_EXPORTER') ?? 'otlp';
  if (exporter === 'none') return undefined;

  const problems: string[] = [];
  if (!/^https?:\/\/[^/]/.test(endpoint))
    problems.push(`OTEL_EXPORTER_OTLP_ENDPOINT=${endpoint} must be http://HOST:4318 or https://HOST.`);
  if (exporter !== 'otlp') problems.push(`OTEL_TRACES_EXPORTER=${exporter} must be otlp or none.`);
  const protocol = text('OTEL_EXPORTER_OTLP_TRACES_PROTOCOL') ?? text('OTEL_EXPORTER_OTLP_PROTOCOL') ?? 'http/json';
  // A collector takes JSON and protobuf at the same address.
  if (protocol !== 'http/json' && protocol !== 'http/protobuf')
    problems.push(`OTEL_EXPORTER_OTLP_PROTOCOL=${protocol} must be http/json: give the collector's HTTP port, 4318.`);
  const sampler = text('OTEL_TRACES_SAMPLER') ?? 'parentbased_always_on';
  const known = SAMPLERS.find((one) => one === sampler);
  if (known === undefined) problems.push(`OTEL_TRACES_SAMPLER=${sampler} must be one of ${SAMPLERS.join(', ')}.`);
  const ratio = Number(text('OTEL_TRACES_SAMPLER_ARG') ?? '1');
  if (!(ratio >= 0 && ratio <= 1)) problems.push('OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1.');
  if (problems.length > 0) throw new StartupError('InvalidConfiguration', problems.join(' '));
  return { sampler: known ?? 'parentbased_always_on', ratio };
}
