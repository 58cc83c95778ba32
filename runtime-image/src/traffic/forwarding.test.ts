/** Over real sockets, with servers of the fake engine: what clients get while a part of their requests goes to another revision. */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { ApiError } from '../api-error.ts';
import type { AuditRecord } from '../plugins/audit.ts';
import type { Authenticator } from '../plugins/auth.ts';
import { makeTestServer, steady } from '../routes/testing.ts';
import { shutDown } from '../shutdown.ts';
import { PASSED_ON } from './plugin.ts';
import { ask, chat, cleanUp, count, log, pair, send, serve, stranger, text } from './testing.ts';

vi.setConfig({ testTimeout: 30_000 });
afterEach(cleanUp);

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
