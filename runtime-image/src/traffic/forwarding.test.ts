/** Over real sockets, with servers of the fake engine: what clients get while a part of their requests goes to another revision. */
import { once } from 'node:events';
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { Agent, createServer, type IncomingMessage, request, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeAuthority, makeServingCertificate } from '@slm-operator/operator/broker/certificates';
import { pino } from 'pino';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { ApiError } from '../api-error.ts';
import type { Certificate } from '../certificate.ts';
import type { FakeEngineOptions } from '../engines/fake.ts';
import { DEFAULT_LIMITS } from '../limits.ts';
import { listen } from '../listeners.ts';
import type { AuditRecord } from '../plugins/audit.ts';
import type { Authenticator } from '../plugins/auth.ts';
import { makeTestServer, steady } from '../routes/testing.ts';
import { shutDown } from '../shutdown.ts';
import { Forwarding } from './forwarding.ts';
import { type OwnCertificate, Peer } from './peer.ts';
import { PASSED_ON } from './plugin.ts';
import { PodInfo } from './pod-info.ts';
import type { Target } from './setting.ts';

vi.setConfig({ testTimeout: 30_000 });

const log = pino({ level: 'silent' });
const agent = new Agent({ keepAlive: true, maxSockets: 4 });
const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  agent.destroy();
  for (const step of cleanUp.splice(0).toReversed()) await step();
});

interface Options extends FakeEngineOptions {
  readonly target?: Partial<Target>;
  readonly auth?: Authenticator;
  readonly certificate?: OwnCertificate & { pair: { cert: string; key: string } };
  readonly audit?: AuditRecord[];
  readonly now?: () => number;
  readonly requestTimeoutSeconds?: number;
}

/** A server of a revision that can pass requests on; its target may be changed. */
async function serve(revision: string, options: Options = {}) {
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
  cleanUp.push(() => listeners.close());
  const [port = 0] = listeners.ports;
  const metric = async (name: string) =>
    (await app.inject('/metrics')).body
      .split('\n')
      .filter((line) => line.startsWith(name))
      .join('\n');
  return { app, lifecycle, listeners, port, aim, info, metric };
}

/** An old revision that passes on to a new one. */
async function pair(weight: number, options: { readonly old?: Options; readonly new?: Options } = {}) {
  const candidate = await serve('new', options.new);
  const stable = await serve('old', { ...options.old, target: { weight, port: candidate.port } });
  return { stable, candidate };
}

const chat = (content: string, stream = false) => ({ model: 'chat', stream, messages: [{ role: 'user', content }] });

function send(
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

async function text(response: IncomingMessage): Promise<string> {
  let all = '';
  for await (const piece of response.setEncoding('utf8')) all += piece;
  return all;
}

async function ask(port: number, body: unknown = chat('hi'), options: Parameters<typeof send>[2] = {}) {
  const response = await send(port, body, options);
  const all = await text(response);
  return { status: response.statusCode, by: response.headers['x-slm-revision'], text: all, headers: response.headers };
}

/** How many of `count` requests each revision answered; every one must have been answered. */
async function count(port: number, requests: number, options: Parameters<typeof send>[2] = {}) {
  const by: Record<string, number> = {};
  for (let begun = 0; begun < requests; begun += 20) {
    const answers = await Promise.all(
      Array.from({ length: Math.min(20, requests - begun) }, () => ask(port, chat('hi'), options)),
    );
    for (const answer of answers) {
      expect(answer.status).toBe(200);
      const name = String(answer.by);
      by[name] = (by[name] ?? 0) + 1;
    }
  }
  return by;
}

/** Something on a port that is no server of ours. */
async function stranger(
  listener: Parameters<typeof createServer>[1] & object,
): Promise<{ port: number; server: Server }> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanUp.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, server };
}

describe('a weight', () => {
  test.each([
    ['kept-alive connections', true],
    ['a connection for each request', false],
  ])('of 10 % over 1,000 requests on %s', async (_, keep) => {
    const { stable, candidate } = await pair(10);
    const by = await count(stable.port, 1000, { keep });
    expect(by['new']).toBeGreaterThanOrEqual(97);
    expect(by['new']).toBeLessThanOrEqual(103);
    expect(by['old']).toBe(1000 - (by['new'] ?? 0));
    // Each request is in the numbers of the server that answered it, and in no other's.
    expect(await stable.metric('slm_requests_total{route="/v1/chat')).toMatch(`code="200"} ${by['old']}`);
    expect(await candidate.metric('slm_requests_total{route="/v1/chat')).toMatch(`code="200"} ${by['new']}`);
    expect(await stable.metric('slm_forwarded')).toBe(`slm_forwarded_requests_total{outcome="answered"} ${by['new']}`);
  });

  test('of 10 % is 10 % of all when two servers share the requests', async () => {
    const { stable, candidate } = await pair(10);
    const second = await serve('old', { target: { weight: 10, port: candidate.port } });
    const [one, two] = await Promise.all([count(stable.port, 700), count(second.port, 300)]);
    const passed = (one['new'] ?? 0) + (two['new'] ?? 0);
    expect(passed).toBeGreaterThanOrEqual(94);
    expect(passed).toBeLessThanOrEqual(106);
  });

  test('of 0 is none, of 100 is all, and a new one holds from the next request', async () => {
    const { stable, candidate } = await pair(0);
    expect(await count(stable.port, 40)).toEqual({ old: 40 });
    stable.aim({ weight: 100, port: candidate.port });
    expect(await count(stable.port, 40)).toEqual({ new: 40 });
    stable.info.target = undefined;
    expect(await count(stable.port, 40)).toEqual({ old: 40 });
  });

  test('is told at /readyz', async () => {
    const { stable } = await pair(10);
    const traffic = async () => (await stable.app.inject('/readyz')).json<{ traffic?: object }>().traffic;
    expect(await traffic()).toEqual({ weight: 10, revision: 'new' });
    stable.info.target = undefined;
    expect(await traffic()).toEqual({});
  });
});

describe('what is passed on', () => {
  test.each<[string, object]>([
    ['/v1/chat/completions', chat('hello')],
    ['/v1/completions', { model: 'chat', prompt: 'hello' }],
    ['/v1/embeddings', { model: 'chat', input: 'hello' }],
    ['/v1/messages', { model: 'chat', max_tokens: 9, messages: [{ role: 'user', content: 'hello' }] }],
    ['/v1/messages/count_tokens', { model: 'chat', messages: [{ role: 'user', content: 'hello' }] }],
    ['/v1/responses', { model: 'chat', input: 'hello' }],
    ['/v1/rerank', { model: 'chat', query: 'a', documents: ['b'] }],
    ['/v2/rerank', { model: 'chat', query: 'a', documents: ['b'] }],
    ['/rerank', { model: 'chat', query: 'a', documents: ['b'] }],
    ['/api/chat', { ...chat('hello'), stream: true }],
    ['/api/generate', { model: 'chat', prompt: 'hello' }],
    ['/api/embed', { model: 'chat', input: 'hello' }],
    ['/api/embeddings', { model: 'chat', prompt: 'hello' }],
  ])('%s, as if its server had been asked', async (url, body) => {
    expect(PASSED_ON).toContain(url);
    const { stable, candidate } = await pair(100);
    const there = await ask(stable.port, body, { path: url });
    const direct = await ask(candidate.port, body, { path: url });
    expect([there.by, there.status, there.headers['content-type']]).toEqual([
      'new',
      direct.status,
      direct.headers['content-type'],
    ]);
    expect(steady(there.text)).toBe(steady(direct.text));
  });

  test('every route that asks the model something, and none that is about this server', async () => {
    const { app } = makeTestServer();
    const paths = (await app.inject('/openapi.json')).json<{ paths: Record<string, Record<string, unknown>> }>().paths;
    const posts = Object.entries(paths).flatMap(([url, methods]) => (methods['post'] === undefined ? [] : [url]));
    const here = ['/api/show', '/api/pull', '/api/push', '/api/create', '/api/copy', '/api/blobs/{digest}'];
    expect(posts.filter((url) => !here.includes(url)).toSorted()).toEqual([...PASSED_ON].toSorted());
  });

  test.each<[string, unknown, number]>([
    ['a body that is no JSON', '{', 400],
    ['a body that is no object', '7', 400],
    ['a request that has been passed on before', chat('hi'), 200],
  ])('not %s', async (what, body, status) => {
    const { stable } = await pair(100);
    const headers: Record<string, string> = what.includes('before') ? { 'x-slm-forwarded': 'other' } : {};
    expect(await ask(stable.port, body, { headers })).toMatchObject({ status, by: 'old' });
  });

  test('two servers that point at each other answer all the same', async () => {
    const { stable, candidate } = await pair(100);
    candidate.aim({ weight: 100, port: stable.port, revision: 'old' });
    expect(await count(stable.port, 10)).toEqual({ new: 10 });
    expect(await count(candidate.port, 10)).toEqual({ old: 10 });
  });

  test('the request’s id, and the caller’s key; the audit logs of both have a line', async () => {
    const lines = { old: [] as AuditRecord[], new: [] as AuditRecord[] };
    const auth: Authenticator = {
      missing: 'a key is missing',
      authenticate: (key) => {
        if (key !== 'secret') throw new ApiError(401, 'wrong key');
        return { type: 'APIKey', name: 'primary', id: 'abcd' };
      },
    };
    const { stable } = await pair(100, { old: { auth, audit: lines.old }, new: { auth, audit: lines.new } });
    const headers = { authorization: 'Bearer secret', 'x-request-id': 'mine' };
    const answer = await ask(stable.port, chat('hi'), { headers });
    expect([answer.by, answer.headers['x-request-id']]).toEqual(['new', 'mine']);
    await expect.poll(() => lines.old.length).toBe(1);
    expect(lines.old[0]).toMatchObject({ requestId: 'mine', forwardedTo: 'new', status: 200, completionTokens: 0 });
    expect(lines.new[0]).toMatchObject({ requestId: 'mine', caller: { name: 'primary' }, status: 200 });
    expect(lines.new[0]).not.toHaveProperty('forwardedTo');

    // Nobody is passed on who may not ask here.
    expect(await ask(stable.port, chat('hi'), { headers: { authorization: 'Bearer no' } })).toMatchObject({
      status: 401,
      by: 'old',
    });
    expect(lines.new).toHaveLength(1);
  });
});

describe('a stream', () => {
  test('comes as it is made, and ends as it should', async () => {
    const released = Promise.withResolvers<void>();
    let batches = 0;
    const beforeDecode = async () => {
      if (++batches > 4) await released.promise;
    };
    const { stable } = await pair(100, { new: { beforeDecode } });
    const response = await send(stable.port, chat('a story', true));
    expect([response.statusCode, response.headers['x-slm-revision'], response.headers['content-type']]).toEqual([
      200,
      'new',
      'text/event-stream; charset=utf-8',
    ]);
    const [first] = (await once(response, 'data')) as [Buffer];
    expect(first.toString()).toContain('data: ');
    released.resolve();
    expect((await text(response)).endsWith('data: [DONE]\n\n')).toBe(true);
  });

  test('stays where it is when the weight goes', async () => {
    const { stable } = await pair(100, { new: { beforeDecode: () => delay(1) } });
    const response = await send(stable.port, chat('x'.repeat(200), true));
    stable.info.target = undefined;
    const whole = await text(response);
    expect(whole.match(/"content":"x"/g)).toHaveLength(200);
    expect(whole.endsWith('data: [DONE]\n\n')).toBe(true);
  });

  test('a client that reads slowly gets everything', async () => {
    const { stable } = await pair(100);
    const response = await send(stable.port, chat('x'.repeat(9000), true));
    response.pause();
    await delay(50);
    expect((await text(response)).match(/"content":"x"/g)).toHaveLength(9000);
  });

  test.each([true, false])('a client that hangs up frees the other side too (stream: %s)', async (stream) => {
    const { stable, candidate } = await pair(100, { new: { beforeDecode: () => delay(1) } });
    const leaving = new AbortController();
    const answer = fetch(`http://127.0.0.1:${stable.port}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify(chat('x'.repeat(9000), stream)),
      signal: leaving.signal,
    }).then((response) => response.text());
    await expect.poll(() => candidate.lifecycle.loaded?.engine.stats.slotsBusy).toBe(1);
    leaving.abort();
    await expect(answer).rejects.toThrow('aborted');
    await expect.poll(() => candidate.lifecycle.loaded?.engine.stats.slotsBusy).toBe(0);
    await expect.poll(() => [stable.lifecycle.running, candidate.lifecycle.running]).toEqual([0, 0]);
    expect(await stable.metric('slm_forwarded')).toBe('slm_forwarded_requests_total{outcome="hung_up"} 1');
    expect(await candidate.metric('slm_requests_total{route="/v1/chat')).toContain('code="499"} 1');
    expect(await stable.metric('slm_requests_total{route="/v1/chat')).toBe('');
  });

  test('is waited for when the server that passes it on drains', async () => {
    const { stable } = await pair(100, { new: { beforeDecode: () => delay(1) } });
    const stream = await send(stable.port, chat('x'.repeat(300), true));
    const { lifecycle, listeners } = stable;
    const down = shutDown({ lifecycle, listeners, timeoutSeconds: 30, log });
    const late = ask(stable.port, chat('on its way'));
    expect(await late).toMatchObject({ status: 200, by: 'new', headers: { connection: 'close' } });
    expect((await text(stream)).endsWith('data: [DONE]\n\n')).toBe(true);
    expect(await down).toBe(true);
  });

  test('that breaks off in the middle breaks off for the client too', async () => {
    const { port } = await stranger((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: {}\n\n');
      setTimeout(() => response.destroy(), 20);
    });
    const stable = await serve('old', { target: { port } });
    const response = await send(stable.port, chat('hi', true));
    await expect(text(response)).rejects.toThrow('aborted');
    expect(await stable.metric('slm_forwarded')).toBe('slm_forwarded_requests_total{outcome="broken"} 1');
  });
});

describe('a candidate that cannot answer costs no answer:', () => {
  test('nobody listens there', async () => {
    const stable = await serve('old', { target: { port: 1 } });
    expect(await count(stable.port, 40)).toEqual({ old: 40 });
    expect(await stable.metric('slm_forwarded')).toBe('slm_forwarded_requests_total{outcome="unreachable"} 40');
    expect(await stable.metric('slm_requests_total{route="/v1/chat')).toContain('code="200"} 40');
  });

  test('again and again: /readyz says why', async () => {
    let now = 0;
    const stable = await serve('old', { now: () => now });
    stable.aim({ port: 1 });
    for (now of [0, 2000, 4000]) await ask(stable.port);
    expect((await stable.app.inject('/readyz')).json<{ traffic: object }>().traffic).toEqual({
      weight: 100,
      revision: 'new',
      problem: 'revision new at 127.0.0.1 port 1: connect ECONNREFUSED 127.0.0.1:1',
    });
  });

  test.each([500, 502, 503, 504, 429, 401, 403, 404])('it answers %d', async (status) => {
    const { port } = await stranger((incoming, response) => {
      incoming.resume();
      response.writeHead(status).end('{"error":"no"}');
    });
    const stable = await serve('old', { target: { port } });
    expect(await ask(stable.port)).toMatchObject({ status: 200, by: 'old' });
    expect(await stable.metric('slm_forwarded')).toBe('slm_forwarded_requests_total{outcome="refused"} 1');
  });

  test('what the client did wrong is told as it is', async () => {
    const { stable } = await pair(100);
    const answer = await ask(stable.port, { model: 'chat', messages: 'hello' });
    expect(answer).toMatchObject({ status: 400, by: 'new' });
  });

  test('it dies before it answers', async () => {
    const { port } = await stranger((incoming) => incoming.socket.destroy());
    const stable = await serve('old', { target: { port } });
    expect(await count(stable.port, 10)).toEqual({ old: 10 });
    expect(await stable.metric('slm_forwarded')).toBe('slm_forwarded_requests_total{outcome="failed"} 10');
  });

  test('it dies in the middle of an answer that is no stream', async () => {
    const { port } = await stranger((incoming, response) => {
      incoming.resume();
      response.writeHead(200, { 'content-length': 100 }).write('{"half":');
      setTimeout(() => response.destroy(), 10);
    });
    const stable = await serve('old', { target: { port } });
    expect(await ask(stable.port)).toMatchObject({ status: 200, by: 'old' });
  });

  test('it gets in order again', async () => {
    let now = 0;
    const { stable, candidate } = await pair(100, { old: { now: () => now } });
    stable.aim({ port: 1 });
    for (now of [0, 2000, 4000, 6000]) expect((await ask(stable.port)).by).toBe('old');
    stable.aim({ port: candidate.port });
    expect((await ask(stable.port)).by).toBe('new');
    expect((await stable.app.inject('/readyz')).json<{ traffic: object }>().traffic).toEqual({
      weight: 100,
      revision: 'new',
    });
  });

  test('it takes longer than a request may', async () => {
    const { port } = await stranger((incoming) => incoming.resume());
    const stable = await serve('old', { target: { port }, requestTimeoutSeconds: 1 });
    expect(await ask(stable.port)).toMatchObject({ status: 504, by: 'old' });
    expect(await stable.metric('slm_forwarded')).toBe('slm_forwarded_requests_total{outcome="late"} 1');
  });
});

describe('with TLS', async () => {
  const authority = await makeAuthority(Date.now());
  const made = () => makeServingCertificate(authority, ['localhost'], Date.now());
  const holder = (pair: { cert: string; key: string }) => {
    const listeners: ((pair: { cert: string; key: string }) => void)[] = [];
    const certificate = {
      pair,
      onChange: (listener: (pair: { cert: string; key: string }) => void) => void listeners.push(listener),
    };
    const replace = (next: { cert: string; key: string }) => {
      certificate.pair = next;
      for (const listener of listeners) listener(next);
    };
    return { certificate, replace };
  };
  const askTls = async (port: number) => {
    const { request: requestTls } = await import('node:https');
    return new Promise<string | undefined>((resolve, reject) => {
      const options = { port, host: '127.0.0.1', path: '/v1/chat/completions', method: 'POST', ca: authority.cert };
      requestTls({ ...options, servername: 'localhost', agent: false }, (response) => {
        response.resume().once('end', () => resolve(String(response.headers['x-slm-revision'])));
      })
        .once('error', reject)
        .end(JSON.stringify(chat('hi')));
    });
  };

  test('the other side must have the very certificate that this server has, or had before', async () => {
    const [first, second, third] = await Promise.all([made(), made(), made()]);
    const own = holder(first);
    const candidate = await serve('new', { certificate: holder(first).certificate });
    const stable = await serve('old', { certificate: own.certificate, target: { port: candidate.port } });
    expect(await askTls(stable.port)).toBe('new');
    // One of the two reads the new Secret before the other.
    own.replace(second);
    expect(await askTls(stable.port)).toBe('new');
    own.replace(third);
    expect(await askTls(stable.port)).toBe('old');
    expect(await stable.metric('slm_forwarded')).toContain('{outcome="unreachable"} 1');
  });

  test('a server without a certificate, or with another of the same authority, is sent nothing', async () => {
    const own = holder(await made());
    let bytes = '';
    const plain = createTcpServer((socket) => socket.on('data', (data) => (bytes += data.toString('latin1'))));
    plain.listen(0, '127.0.0.1');
    await once(plain, 'listening');
    cleanUp.push(() => plain.close());
    const stable = await serve('old', {
      certificate: own.certificate,
      target: { port: (plain.address() as AddressInfo).port },
    });
    expect(await askTls(stable.port)).toBe('old');
    expect(bytes).not.toContain('chat');
    const other = await serve('new', { certificate: holder(await made()).certificate });
    stable.aim({ port: other.port });
    expect(await askTls(stable.port)).toBe('old');
    expect(await other.metric('slm_requests_total{route="/v1/chat')).toBe('');
  });
});

describe('what the operator tells a pod', () => {
  async function folder() {
    const root = await mkdtemp(path.join(tmpdir(), 'slm-pod-'));
    cleanUp.push(() => rm(root, { recursive: true }));
    for (const name of ['traffic', 'revision']) await symlink(`..data/${name}`, path.join(root, name));
    /** As the kubelet writes: a new folder, and a symlink swapped to it. */
    const write = async (traffic: string) => {
      const data = `..${Math.random()}`;
      await mkdir(path.join(root, data));
      await writeFile(path.join(root, data, 'traffic'), traffic);
      await writeFile(path.join(root, data, 'revision'), '0123456789');
      await symlink(data, path.join(root, '..data_tmp'));
      await rename(path.join(root, '..data_tmp'), path.join(root, '..data'));
    };
    return { root, write };
  }

  test('holds as soon as the kubelet has written it', async () => {
    const { root, write } = await folder();
    await write('{}');
    const info = new PodInfo(root, log);
    await info.open();
    cleanUp.push(() => info.close());
    expect([info.revision, info.target]).toEqual(['0123456789', undefined]);
    await write('{"weight":10,"address":"10.0.0.1:11434","revision":"abc"}');
    await expect.poll(() => info.target?.weight, { timeout: 5000 }).toBe(10);
    await write('{"weight":1000}');
    await expect.poll(() => info.target, { timeout: 5000 }).toBeUndefined();
  });

  test('a folder without files says nothing', async () => {
    const root = await mkdtemp(path.join(tmpdir(), 'slm-pod-'));
    cleanUp.push(() => rm(root, { recursive: true }));
    const info = new PodInfo(root, log);
    await info.open();
    cleanUp.push(() => info.close());
    expect([info.revision, info.target]).toEqual([undefined, undefined]);
  });
});
