/** Over real sockets: what connections, streams and clients live through when a server ends. */
import { Agent, type IncomingMessage, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import type { FakeEngineOptions } from './engines/fake.ts';
import { Lifecycle } from './lifecycle.ts';
import { type Listeners, listen } from './listeners.ts';
import { makeTestServer } from './routes/testing.ts';
import { lingerFor, shutDown } from './shutdown.ts';

const log = pino({ level: 'silent' });
const agent = new Agent({ keepAlive: true });
const open: Listeners[] = [];
afterEach(async () => {
  agent.destroy();
  await Promise.all(open.splice(0).map((listeners) => listeners.close()));
});

async function start(options: FakeEngineOptions = {}) {
  const { app, lifecycle } = makeTestServer({ contextLength: 20_000, clock: () => performance.now(), ...options });
  const listeners = await listen(app, '127.0.0.1', [0, 0]);
  open.push(listeners);
  const [port = 0, second = 0] = listeners.ports;
  return { app, lifecycle, listeners, port, second };
}

/** A request whose answer arrives in pieces. */
function send(port: number, body: unknown): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ agent, host: '127.0.0.1', port, method: 'POST', path: '/v1/chat/completions' }, resolve);
    outgoing.on('error', reject);
    outgoing.end(JSON.stringify(body));
  });
}

async function text(response: IncomingMessage): Promise<string> {
  let all = '';
  for await (const piece of response.setEncoding('utf8')) all += piece;
  return all;
}

const chat = (content: string, stream = true) => ({ model: 'chat', stream, messages: [{ role: 'user', content }] });

/** Lets every batch of the fake wait for a word, or a moment. */
function gate() {
  const released = Promise.withResolvers<void>();
  let batches = 0;
  return {
    release: () => released.resolve(),
    beforeDecode: async () => {
      // The prompt and the first tokens pass, so that the stream has begun.
      if (++batches > 4) await released.promise;
    },
  };
}

test('both ports serve the same', async () => {
  const { port, second } = await start();
  const answers = await Promise.all([port, second].map((one) => fetch(`http://127.0.0.1:${one}/api/version`)));
  expect(answers.map((answer) => answer.status)).toEqual([200, 200]);
});

test('a port that is taken is named', async () => {
  const { app, port } = await start();
  await expect(listen(app, '127.0.0.1', [port])).rejects.toThrow(
    `port ${port} is in use: set SLM_PORT or SLM_OPENAI_PORT to another.`,
  );
});

describe('draining', () => {
  test('lets the running stream finish, answers what was on its way and ends its connection, then closes', async () => {
    const held = gate();
    const { lifecycle, listeners, port } = await start(held);
    const stream = await send(port, chat('a story'));
    expect(stream.statusCode).toBe(200);

    const down = shutDown({ lifecycle, listeners, timeoutSeconds: 30, log });
    const late = send(port, chat('on its way', false));
    expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(503);
    held.release();
    const answer = await late;
    expect([answer.statusCode, answer.headers.connection]).toEqual([200, 'close']);
    expect(JSON.parse(await text(answer))).toMatchObject({ choices: [{ finish_reason: 'stop' }] });

    const whole = await text(stream);
    expect(whole).toContain('"finish_reason":"stop"');
    expect(whole.endsWith('data: [DONE]\n\n')).toBe(true);
    expect(await down).toBe(true);
    await expect(fetch(`http://127.0.0.1:${port}/readyz`)).rejects.toThrow('fetch failed');
  });

  test('ends what runs too long, with an error that the client sees', async () => {
    const { lifecycle, listeners, port } = await start({ beforeDecode: () => delay(1) });
    const stream = await send(port, chat('x'.repeat(9000)));
    const whole = send(port, chat('x'.repeat(9000), false));
    await expect.poll(() => lifecycle.running).toBe(2);
    expect(await shutDown({ lifecycle, listeners, timeoutSeconds: 0, log })).toBe(false);
    const lines = (await text(stream)).trim().split('\n\n');
    expect(lines.at(-1)).toContain('the server shut down before the answer was complete');
    expect((await whole).statusCode).toBe(503);
  });

  test('serves new connections for a while, and closes each with its answer', async () => {
    const { lifecycle, listeners, port } = await start();
    const down = shutDown({ lifecycle, listeners, delaySeconds: 0.3, timeoutSeconds: 30, log });
    const answer = await send(port, chat('new here', false));
    expect([answer.statusCode, answer.headers.connection]).toEqual([200, 'close']);
    await text(answer);
    expect(await down).toBe(true);
    await expect(fetch(`http://127.0.0.1:${port}/readyz`)).rejects.toThrow('fetch failed');
  });

  test('answers the next question on a connection whose stream has just ended, which no head told to close', async () => {
    const held = gate();
    const { lifecycle, listeners, port } = await start(held);
    const one = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = (body: unknown) =>
      new Promise<IncomingMessage>((resolve, reject) => {
        const options = { agent: one, host: '127.0.0.1', port, method: 'POST', path: '/v1/chat/completions' };
        request(options, resolve).on('error', reject).end(JSON.stringify(body));
      });
    const stream = await ask(chat('a story'));
    const down = shutDown({ lifecycle, listeners, delaySeconds: 0.5, timeoutSeconds: 30, log });
    await delay(600);
    held.release();
    expect((await text(stream)).endsWith('data: [DONE]\n\n')).toBe(true);
    await delay(100);
    const next = await ask(chat('and then?', false));
    expect([next.statusCode, next.headers.connection]).toEqual([200, 'close']);
    await text(next);
    expect(await down).toBe(true);
    one.destroy();
  });

  test('waits for requests to stay away longer where few come', () => {
    let now = 0;
    const lifecycle = new Lifecycle(undefined, () => now);
    const lingerAfter = (requests: number, everyMs: number) => {
      for (let i = 0; i < requests; i++) {
        lifecycle.begin()();
        now += everyMs;
      }
      return lingerFor(lifecycle.secondsBetween);
    };
    expect([lingerAfter(0, 0), lingerAfter(3, 1000)]).toEqual([2000, 2000]);
    expect(lingerAfter(20, 10)).toBe(2000);
    expect(lingerAfter(20, 500)).toBe(4000);
    expect(lingerAfter(20, 1500)).toBe(12_000);
    expect(lingerAfter(20, 10_000)).toBe(15_000);
    // A minute without a request: nobody is expected.
    now += 60_001;
    expect(lingerFor(lifecycle.secondsBetween)).toBe(2000);
  });

  test('with nothing to do takes no time', async () => {
    const { lifecycle, listeners } = await start();
    expect(await shutDown({ lifecycle, listeners, timeoutSeconds: 30, log })).toBe(true);
  });
});

describe('a client that hangs up', () => {
  test.each([true, false])('frees its slot (stream: %s)', async (stream) => {
    const { app, lifecycle, port } = await start({ beforeDecode: () => delay(1) });
    const leaving = new AbortController();
    const answer = fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify(chat('x'.repeat(9000), stream)),
      signal: leaving.signal,
    }).then((response) => response.text());
    await expect.poll(() => lifecycle.loaded?.engine.stats.slotsBusy).toBe(1);
    leaving.abort();
    await expect(answer).rejects.toThrow('aborted');
    await expect.poll(() => lifecycle.loaded?.engine.stats.slotsBusy).toBe(0);
    await expect.poll(() => lifecycle.running).toBe(0);
    const metrics = (await app.inject('/metrics')).body;
    expect(metrics).toContain('slm_requests_total{route="/v1/chat/completions",code="499"} 1');
  });

  test('a client that reads slowly gets everything', async () => {
    const { port } = await start();
    const response = await send(port, chat('x'.repeat(9000)));
    response.pause();
    await delay(50);
    const whole = await text(response);
    expect(whole.match(/"content":"x"/g)).toHaveLength(9000);
    expect(whole.endsWith('data: [DONE]\n\n')).toBe(true);
  });
});
