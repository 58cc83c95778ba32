/**
 * Servers of the fake engine on real sockets for the tests of this folder, as pods of two revisions. Not part of the image. Whoever
 * uses it calls `cleanUp` after each test.
 */
import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import type { Certificate } from '../certificate.ts';
import type { FakeEngineOptions } from '../engines/fake.ts';
import { DEFAULT_LIMITS } from '../limits.ts';
import { listen } from '../listeners.ts';
import type { AuditRecord } from '../plugins/audit.ts';
import type { Authenticator } from '../plugins/auth.ts';
import { makeTestServer } from '../routes/testing.ts';
import { Forwarding } from './forwarding.ts';
import { type OwnCertificate, Peer } from './peer.ts';
import type { Target } from './setting.ts';

export const log = pino({ level: 'silent' });
const agent = new Agent({ keepAlive: true, maxSockets: 4 });
const steps: (() => unknown)[] = [];

/** To be done after the test, the last first. */
export function later(step: () => unknown): void {
  steps.push(step);
}

/** Closes what the test has opened. */
export async function cleanUp(): Promise<void> {
  agent.destroy();
  for (const step of steps.splice(0).toReversed()) await step();
}

interface Options extends FakeEngineOptions {
  readonly target?: Partial<Target>;
  readonly auth?: Authenticator;
  readonly certificate?: OwnCertificate & { pair: { cert: string; key: string } };
  readonly audit?: AuditRecord[];
  readonly now?: () => number;
  readonly requestTimeoutSeconds?: number;
}

/** A server of a revision that can pass requests on; its target may be changed. */
export async function serve(revision: string, options: Options = {}) {
  const info: { target: Target | undefined; readonly revision: string } = { revision, target: undefined };
  const aim = (target: Partial<Target>) => {
    info.target = { weight: 100, host: '127.0.0.1', port: 1, revision: 'new', ...target };
  };
  if (options.target) aim(options.target);
  const { certificate, now, requestTimeoutSeconds } = options;
  const limits = { ...DEFAULT_LIMITS, requestTimeoutSeconds };
  const { app, lifecycle } = makeTestServer({
    contextLength: 100_000,
    ...options,
    limits,
    audit: { write: (line) => options.audit?.push(JSON.parse(line) as AuditRecord) },
    traffic: new Forwarding({ info, peer: new Peer(certificate), log, start: 0, now }),
  });
  const listeners = await listen(app, '127.0.0.1', [0], {
    limits,
    certificate: certificate as Certificate | undefined,
  });
  later(() => listeners.close());
  const [port = 0] = listeners.ports;
  const metric = async (name: string) =>
    (await app.inject('/metrics')).body
      .split('\n')
      .filter((line) => line.startsWith(name))
      .join('\n');
  return { app, lifecycle, listeners, port, aim, info, metric };
}

/** An old revision that passes on to a new one. */
export async function pair(weight: number, options: { readonly old?: Options; readonly new?: Options } = {}) {
  const candidate = await serve('new', options.new);
  const stable = await serve('old', { ...options.old, target: { weight, port: candidate.port } });
  return { stable, candidate };
}

export const chat = (content: string, stream = false) => ({
  model: 'chat',
  stream,
  messages: [{ role: 'user', content }],
});

export function send(
  port: number,
  body: unknown,
  options: { path?: string; headers?: Record<string, string>; keep?: boolean } = {},
) {
  return new Promise<IncomingMessage>((resolve, reject) => {
    const { path: url = '/v1/chat/completions', headers = {}, keep = true } = options;
    const outgoing = request(
      { agent: keep ? agent : false, host: '127.0.0.1', port, method: 'POST', path: url, headers },
      resolve,
    );
    outgoing.on('error', reject).end(typeof body === 'string' ? body : JSON.stringify(body));
  });
}

export async function text(response: IncomingMessage): Promise<string> {
  let all = '';
  for await (const piece of response.setEncoding('utf8')) all += piece;
  return all;
}

export async function ask(port: number, body: unknown = chat('hi'), options: Parameters<typeof send>[2] = {}) {
  const response = await send(port, body, options);
  const all = await text(response);
  return { status: response.statusCode, by: response.headers['x-slm-revision'], text: all, headers: response.headers };
}

/** How many of `count` requests each revision answered; every one must have been answered. */
export async function count(port: number, requests: number, options: Parameters<typeof send>[2] = {}) {
  const by: Record<string, number> = {};
  for (let begun = 0; begun < requests; begun += 20) {
    const answers = await Promise.all(
      Array.from({ length: Math.min(20, requests - begun) }, () => ask(port, chat('hi'), options)),
    );
    for (const answer of answers) {
      if (answer.status !== 200) throw new Error(`${answer.status}: ${answer.text}`);
      const name = String(answer.by);
      by[name] = (by[name] ?? 0) + 1;
    }
  }
  return by;
}

/** Something on a port that is no server of ours. */
export async function stranger(
  listener: Parameters<typeof createServer>[1] & object,
): Promise<{ port: number; server: Server }> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  later(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, server };
}
