/**
 * A server with the fake engine for the tests of the routes. Not part of the image.
 */
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { createFakeEngine, type FakeEngineOptions } from '../engines/fake.ts';
import { Lifecycle } from '../lifecycle.ts';
import { DEFAULT_LIMITS, type Limits } from '../limits.ts';
import { makeSpec } from '../models/model-spec.ts';
import { ModelRegistry } from '../models/registry.ts';
import { ALL_APIS, type Apis } from '../plugins/api-switch.ts';
import type { AuditOptions } from '../plugins/audit.ts';
import type { Authenticator } from '../plugins/auth.ts';
import { makeApp } from '../server.ts';
import type { Forwarding } from '../traffic/forwarding.ts';

export interface TestServer {
  readonly app: FastifyInstance;
  readonly lifecycle: Lifecycle;
}

/** A server that is ready, unless `loading`. Its clock stands still. */
export function makeTestServer(
  options: FakeEngineOptions & {
    readonly loading?: boolean;
    /** Milliseconds. Default: stands still. */
    readonly clock?: () => number;
    readonly auth?: Authenticator;
    readonly apis?: Partial<Apis>;
    readonly origins?: readonly string[];
    readonly audit?: AuditOptions;
    readonly limits?: Partial<Limits>;
    readonly traffic?: Forwarding;
  } = {},
): TestServer {
  const lifecycle = new Lifecycle(
    new ModelRegistry(
      [makeSpec({ names: ['chat', 'phi4:mini'], path: '', digest: `sha256:${'ab'.repeat(32)}`, resident: true })],
      { load: () => Promise.reject(new Error('there is nothing to load')) },
    ),
    options.clock ?? (() => 0),
  );
  const app = makeApp({
    lifecycle,
    auth: options.auth,
    apis: { ...ALL_APIS, ...options.apis },
    origins: options.origins,
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    audit: options.audit,
    traffic: options.traffic,
    log: pino({ level: 'silent' }),
    now: () => Date.UTC(2026, 10, 23),
  });
  if (options.loading !== true) lifecycle.ready(createFakeEngine(options), 50, new Date(Date.UTC(2026, 10, 22)));
  return { app, lifecycle };
}

/** The answer's status, type and body, with what differs from run to run made equal. */
export async function call(
  app: FastifyInstance,
  method: 'GET' | 'POST' | 'DELETE' | 'HEAD',
  url: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; type: string | undefined; body: unknown; retryAfter?: string | undefined }> {
  const response = await app.inject({
    method,
    url,
    headers: { 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const type = response.headers['content-type'];
  const text = steady(response.body);
  const json = typeof type === 'string' && type.startsWith('application/json');
  return { status: response.statusCode, type: String(type), body: json ? JSON.parse(text) : text };
}

/** Ids and durations, which no two runs share. */
export function steady(text: string): string {
  return text
    .replace(/"(chatcmpl|cmpl|call|resp|msg|fc|rs|toolu)([-_])[0-9a-f]{24}"/g, '"$1$2ID"')
    .replace(/"([a-z_]+_duration)":\d+/g, '"$1":1');
}
