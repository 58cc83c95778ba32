/** Over real sockets: a candidate that refuses, fails or is not there is noticed by the operator and by no client. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { ask, cleanUp, count, pair, serve, stranger } from './testing.ts';

vi.setConfig({ testTimeout: 30_000 });
afterEach(cleanUp);

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

  test.each([
    [401, 'revision new at 127.0.0.1 port PORT: it answers 401'],
    [404, 'revision new at 127.0.0.1 port PORT: it answers 404'],
    [429, undefined],
    [500, undefined],
  ])('it answers %d again and again: /readyz tells what will not pass by itself', async (status, problem) => {
    const { port } = await stranger((incoming, response) => {
      incoming.resume();
      response.writeHead(status).end();
    });
    const stable = await serve('old', { target: { port } });
    expect(await count(stable.port, 5)).toEqual({ old: 5 });
    const { traffic } = (await stable.app.inject('/readyz')).json<{ traffic: { problem?: string } }>();
    expect(traffic.problem?.replace(String(port), 'PORT')).toBe(problem);
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
