/** With a real collector's address: what arrives there, and what does not. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createFakeEngine } from '../engines/fake.ts';
import { Lifecycle } from '../lifecycle.ts';
import { parentOf } from '../plugins/spans.ts';
import { makeApp } from '../server.ts';
import { startTracing } from './provider.ts';
import { readTracing } from './settings.ts';

interface ReceivedSpan {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly parentSpanId?: string;
  readonly attributes: readonly { readonly key: string; readonly value: Record<string, unknown> }[];
}

let collector: Server;
let received: { headers: unknown; body: string }[];
beforeEach(async () => {
  received = [];
  collector = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (data: string) => {
      body += data;
    });
    request.once('end', () => {
      received.push({ headers: request.headers, body });
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => {
    collector.listen(0, '127.0.0.1', resolve);
  });
  const { port } = collector.address() as AddressInfo;
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', `http://127.0.0.1:${port}`);
  vi.stubEnv('OTEL_EXPORTER_OTLP_HEADERS', 'x-tenant=team');
  vi.stubEnv('OTEL_SERVICE_NAME', 'chat');
  vi.stubEnv('OTEL_RESOURCE_ATTRIBUTES', 'k8s.namespace.name=demo');
});
afterEach(() => {
  vi.unstubAllEnvs();
  collector.close();
});

/** Sends requests to a server with traces, and answers the spans that the collector got. */
async function spansOf(send: (url: string) => Promise<unknown>): Promise<ReceivedSpan[]> {
  const settings = readTracing(process.env);
  if (!settings) throw new Error('tracing is off');
  const log = pino({ level: 'silent' });
  const tracing = startTracing(settings, log);
  const lifecycle = new Lifecycle();
  const app = makeApp({ lifecycle, auth: undefined, log, tracing });
  lifecycle.ready(createFakeEngine(), 50, new Date());
  await app.listen({ port: 0, host: '127.0.0.1' });
  await send(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`);
  await app.close();
  await tracing.close();
  return received.flatMap(({ body }) => {
    const { resourceSpans } = JSON.parse(body) as {
      resourceSpans: { scopeSpans: { spans: ReceivedSpan[] }[] }[];
    };
    return resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
  });
}

const attributes = (span: ReceivedSpan | undefined) =>
  Object.fromEntries((span?.attributes ?? []).map(({ key, value }) => [key, Object.values(value)[0]]));

const generate = (url: string, body: object, headers = {}) =>
  fetch(`${url}/api/generate`, { method: 'POST', headers, body: JSON.stringify(body) }).then((answer) => answer.text());

test('a request is one span of the client’s trace, with its tokens and without its content', async () => {
  const traceId = 'ab'.repeat(16);
  const [span, ...more] = await spansOf(async (url) => {
    await generate(
      url,
      { model: 'model', prompt: 'private words' },
      {
        traceparent: `00-${traceId}-${'cd'.repeat(8)}-01`,
        'x-request-id': 'r1',
      },
    );
    await fetch(`${url}/healthz`);
  });
  expect(more).toEqual([]);
  expect(span).toMatchObject({ name: 'text_completion model', kind: 2, traceId, parentSpanId: 'cd'.repeat(8) });
  const { 'gen_ai.response.time_to_first_chunk': first, ...rest } = attributes(span);
  expect(first).toBeGreaterThan(0);
  expect(rest).toEqual({
    'http.request.method': 'POST',
    'url.scheme': 'http',
    'http.route': '/api/generate',
    'http.response.status_code': 200,
    'slm.request.id': 'r1',
    'gen_ai.operation.name': 'text_completion',
    'gen_ai.provider.name': 'slm',
    'gen_ai.request.model': 'model',
    'gen_ai.usage.input_tokens': 17,
    'gen_ai.usage.output_tokens': 23,
  });
  const [sent] = received;
  expect(sent?.headers).toMatchObject({ 'x-tenant': 'team' });
  expect(sent?.body).toContain('"chat"');
  expect(sent?.body).toContain('k8s.namespace.name');
  expect(sent?.body).not.toMatch(/private|You said/);
});

test('a request that fails says so, without what was wrong in it', async () => {
  const [span] = await spansOf((url) => generate(url, { model: 'private name', prompt: 'x' }));
  expect(span?.name).toBe('POST /api/generate');
  expect(attributes(span)).toMatchObject({ 'error.type': '404', 'http.response.status_code': 404 });
  expect(received.map(({ body }) => body).join('')).not.toContain('private');
});

test('a trace that the client does not record is not recorded here', async () => {
  const headers = { traceparent: `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-00` };
  expect(await spansOf((url) => generate(url, { model: 'model', prompt: 'x' }, headers))).toEqual([]);
});

test('a collector that is away costs no request', async () => {
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', 'http://127.0.0.1:1');
  vi.stubEnv('OTEL_EXPORTER_OTLP_TIMEOUT', '200');
  await spansOf(async (url) => expect(await generate(url, { model: 'model', prompt: 'x' })).toContain('"done":true'));
});

describe('OpenTelemetry’s settings', () => {
  const on = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };
  test.each<[string, Record<string, string>, unknown]>([
    ['nothing: no traces', {}, undefined],
    ['an endpoint', on, { sampler: 'parentbased_always_on', ratio: 1 }],
    [
      'an endpoint for traces',
      { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://c/v1/traces' },
      { sampler: 'parentbased_always_on', ratio: 1 },
    ],
    ['switched off', { ...on, OTEL_SDK_DISABLED: 'true' }, undefined],
    ['no exporter', { ...on, OTEL_TRACES_EXPORTER: 'none' }, undefined],
    [
      'a tenth',
      { ...on, OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.1' },
      { sampler: 'traceidratio', ratio: 0.1 },
    ],
  ])('%s', (_, env, expected) => {
    expect(readTracing(env)).toEqual(expected);
  });

  test('what cannot be honoured is refused', () => {
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'collector',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      OTEL_TRACES_EXPORTER: 'zipkin',
      OTEL_TRACES_SAMPLER: 'some',
      OTEL_TRACES_SAMPLER_ARG: '2',
    };
    expect(() => readTracing(env)).toThrow(
      'OTEL_EXPORTER_OTLP_ENDPOINT=collector must be http://HOST:4318 or https://HOST. OTEL_TRACES_EXPORTER=zipkin must be otlp or none. OTEL_EXPORTER_OTLP_PROTOCOL=grpc must be http/json',
    );
  });
});

test.each([
  ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 1],
  ['01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-later', 0],
  ['ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', undefined],
  ['00-00000000000000000000000000000000-b7ad6b7169203331-01', undefined],
  ['00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01', undefined],
  ['hello', undefined],
])('traceparent %s', (header, flags) => {
  expect(parentOf(header)?.traceFlags).toBe(flags);
});
