/** Over real sockets: what clients that are slow, greedy or gone can do to the server, and to each other. */
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { FakeEngineOptions } from './engines/fake.ts';
import { DEFAULT_LIMITS, type Limits } from './limits.ts';
import { type Listeners, listen } from './listeners.ts';
import { makeTestServer } from './routes/testing.ts';

vi.setConfig({ testTimeout: 30_000 });

const open: Listeners[] = [];
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(open.splice(0).map((listeners) => listeners.close()));
});

async function start(limits: Partial<Limits> = {}, options: FakeEngineOptions = {}) {
  const server = makeTestServer({ contextLength: 200_000, ...options, limits });
  let dropped = 0;
  const listeners = await listen(server.app, '127.0.0.1', [0], {
    limits: { ...DEFAULT_LIMITS, ...limits },
    onDrop: () => dropped++,
  });
  open.push(listeners);
  const [port = 0] = listeners.ports;
  const busy = () => server.lifecycle.loaded?.engine.stats.slotsBusy;
  return { ...server, port, busy, dropped: () => dropped };
}

/** A connection, and everything that came over it. */
function dial(port: number) {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  let received = '';
  socket.setEncoding('utf8').on('data', (data: string) => {
    received += data;
  });
  const closed = new Promise<void>((resolve) => {
    socket.once('error', () => undefined).once('close', () => resolve());
  });
  return { socket, closed, received: () => received };
}

const post = (path: string, body: string, headers = '') =>
  `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`;
const generate = (prompt: string, more = {}) => JSON.stringify({ model: 'chat', prompt, ...more });

async function ask(port: number, body: string | object, path = '/api/generate'): Promise<[number, unknown]> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return [response.status, await response.json()];
}

describe('a client that sends slowly', () => {
  test.each([
    ['its headers', 'POST /api/generate HTTP/1.1\r\nhost:', 'a'],
    ['its body', 'POST /api/generate HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{', ' '],
    ['its chunks', 'POST /api/generate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n', '1\r\n \r\n'],
  ])('%s gets 408, even when it drips', async (_, beginning, drop) => {
    const { port } = await start({ receiveTimeoutSeconds: 1 });
    const { socket, closed, received } = dial(port);
    socket.write(beginning);
    const drip = setInterval(() => socket.write(drop), 100);
    await closed;
    clearInterval(drip);
    expect(received()).toMatch(/^HTTP\/1\.1 408 Request Timeout/);
  });

  test('nothing at all is closed', async () => {
    const { port } = await start({ receiveTimeoutSeconds: 1 });
    await expect(dial(port).closed).resolves.toBeUndefined();
  });
});

describe('a client that reads nothing of its answer', () => {
  test('is dropped, and its slot is free', async () => {
    // Soon more than the kernel's buffers take, and then so slow that it never comes to its end.
    let batches = 0;
    const beforeDecode = () => (++batches < 6000 ? undefined : delay(50));
    const content = 'x'.repeat(10_000);
    const long = {
      model: 'chat',
      messages: [{ role: 'user', content }],
      stream: true,
      logprobs: true,
      top_logprobs: 20,
    };
    const options = { parallelRequests: 1, beforeDecode };
    const { port, busy, lifecycle } = await start({ sendTimeoutSeconds: 1 }, options);
    const { socket, closed } = dial(port);
    socket.pause();
    socket.write(post('/v1/chat/completions', JSON.stringify(long)));
    await expect.poll(busy).toBe(1);
    await expect.poll(() => lifecycle.running, { timeout: 20_000 }).toBe(0);
    await expect.poll(busy).toBe(0);
    socket.resume();
    await closed;
    expect((await ask(port, generate('hello', { stream: false })))[0]).toBe(200);
  });

  test('not even when the answer comes in one piece', async () => {
    const { port, lifecycle } = await start({ sendTimeoutSeconds: 1 });
    const { socket, closed } = dial(port);
    socket.pause();
    const input = Array.from({ length: 2000 }, () => 'a');
    socket.write(post('/v1/embeddings', JSON.stringify({ model: 'chat', input })));
    for (let more = 0; more < 20; more++)
      socket.write(post('/v1/embeddings', JSON.stringify({ model: 'chat', input })));
    await expect.poll(() => lifecycle.running).toBeGreaterThan(0);
    await expect.poll(() => lifecycle.running, { timeout: 20_000 }).toBe(0);
    socket.resume();
    await closed;
  });

  test('that only pauses gets everything', async () => {
    const { port } = await start({ sendTimeoutSeconds: 2 });
    const { socket, received } = dial(port);
    const messages = [{ role: 'user', content: 'x'.repeat(2000) }];
    const body = JSON.stringify({ model: 'chat', messages, stream: true, logprobs: true, top_logprobs: 20 });
    socket.write(post('/v1/chat/completions', body, 'connection: close\r\n'));
    for (let pause = 0; pause < 5; pause++) {
      await delay(50);
      socket.pause();
      await delay(200);
      socket.resume();
    }
    await expect.poll(() => received().includes('data: [DONE]'), { timeout: 20_000 }).toBe(true);
  });
});

describe('an answer', () => {
  test('that takes longer than a request may is ended, and says so', async () => {
    const slow = { beforeDecode: () => delay(20) };
    const { port, busy } = await start({ requestTimeoutSeconds: 1 }, slow);
    const sentence = 'the answer was not complete within the 1 s that this server gives a request';
    expect(await ask(port, generate('x'.repeat(5000), { stream: false }))).toEqual([504, { error: sentence }]);
    const stream = await fetch(`http://127.0.0.1:${port}/api/generate`, {
      method: 'POST',
      body: generate('x'.repeat(5000)),
    });
    expect([stream.status, (await stream.text()).trim().split('\n').at(-1)]).toEqual([
      200,
      JSON.stringify({ error: sentence }),
    ]);
    await expect.poll(busy).toBe(0);
  });

  test('has the tokens that the server gives, when the client leaves it open', async () => {
    const { port } = await start({ maxTokens: 5 });
    expect(await ask(port, generate('hello world', { stream: false }))).toMatchObject([
      200,
      { eval_count: 5, done_reason: 'length' },
    ]);
    expect(await ask(port, generate('hello world', { stream: false, options: { num_predict: 3 } }))).toMatchObject([
      200,
      { eval_count: 3 },
    ]);
  });

  test('is refused when more is asked for, in every API', async () => {
    const { port } = await start({ maxTokens: 5 });
    const messages = [{ role: 'user', content: 'hi' }];
    const answers = await Promise.all([
      ask(port, generate('hi', { options: { num_predict: 6 } })),
      ask(port, { model: 'chat', messages, max_tokens: 6 }, '/v1/chat/completions'),
      ask(port, { model: 'chat', messages, max_tokens: 6 }, '/v1/messages'),
      ask(port, { model: 'chat', input: 'hi', max_output_tokens: 6 }, '/v1/responses'),
    ]);
    expect(answers.map(([status]) => status)).toEqual([400, 400, 400, 400]);
    expect(answers[0]?.[1]).toEqual({
      error: '6 tokens are asked for, and this server gives 5 at most: ask for fewer',
    });
  });
});

describe('a body', () => {
  test('that is too large is refused while it comes', async () => {
    const { port } = await start({ maxBodyBytes: 1024 });
    expect(await ask(port, generate('x'.repeat(1024)))).toEqual([
      413,
      { error: 'the request body is larger than this server takes: send less, or raise SLM_MAX_BODY_BYTES' },
    ]);
    const { socket, received } = dial(port);
    socket.write('POST /v1/models HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n');
    const piece = `400\r\n${'x'.repeat(1024)}\r\n`;
    const flood = setInterval(() => socket.write(piece), 1);
    await expect.poll(received).toMatch(/^HTTP\/1\.1 4\d\d/);
    clearInterval(flood);
  });

  test('that nests too deep is refused', async () => {
    const { port } = await start();
    const [status, body] = await ask(port, `{"model":"chat","format":${'['.repeat(1_000_000)}`);
    expect([status, body]).toEqual([
      400,
      { error: 'the request body nests too many objects or arrays in each other: 200 levels are taken' },
    ]);
  });
});

describe('connections', () => {
  test('beyond the limit are closed, and the others go on', async () => {
    const { port, dropped } = await start({ maxConnections: 3 });
    const [first, ...rest] = Array.from({ length: 6 }, () => dial(port));
    await expect.poll(dropped).toBe(3);
    first?.socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n');
    await expect.poll(() => first?.received()).toMatch(/^HTTP\/1\.1 200 OK/);
    expect(rest).toHaveLength(5);
  });

  test('with another request in the pipe are not ended while that one is computed', async () => {
    const pause = { held: true };
    const beforeDecode = async () => {
      if (pause.held) await delay(1500);
      pause.held = false;
    };
    const { port } = await start({ sendTimeoutSeconds: 1 }, { beforeDecode });
    const { socket, received } = dial(port);
    socket.write(
      `GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n${post('/api/generate', generate('hello', { stream: false }))}`,
    );
    await expect.poll(received, { timeout: 10_000 }).toContain('You said: hello');
  });

  test('that are idle by the hundred cost nobody anything', async () => {
    const { port } = await start();
    for (let count = 0; count < 500; count++) dial(port);
    expect((await ask(port, generate('hello', { stream: false })))[0]).toBe(200);
  });

  test('with a hundred requests at once are answered in their order, while others are served', async () => {
    const { port } = await start({}, { parallelRequests: 2, maxQueue: 1000 });
    const { socket, received } = dial(port);
    const bodies = Array.from({ length: 100 }, (_, nth) => generate(`number ${nth}.`, { stream: false }));
    socket.write(bodies.map((body) => post('/api/generate', body)).join(''));
    expect((await ask(port, generate('hello', { stream: false })))[0]).toBe(200);
    const numbers = () => [...received().matchAll(/"response":"[^"]*number (\d+)\./g)].map(([, nth]) => Number(nth));
    await expect.poll(() => numbers().length, { timeout: 20_000 }).toBe(100);
    expect(numbers()).toEqual(bodies.map((_, nth) => nth));
  });
});
