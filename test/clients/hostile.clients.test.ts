/**
 * Clients that mean no good, or are just badly connected: they send slowly, stop half-way, vanish at every point, ask for too
 * much. Afterwards the server answers as before, and no slot is lost.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MODEL, type RunningServer, startServer } from './server.ts';

let server: RunningServer;
beforeAll(async () => {
  server = await startServer({
    env: { SLM_PARALLEL_REQUESTS: '2', SLM_MAX_QUEUE: '4', SLM_RECEIVE_TIMEOUT_SECONDS: '2' },
  });
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

const question = { model: MODEL, messages: [{ role: 'user', content: 'Name the capital of France.' }], temperature: 0 };
const story = { model: MODEL, messages: [{ role: 'user', content: 'Tell a long story.' }], max_tokens: 500 };

/** What there is once everybody has gone: nothing held, and the answer as ever. */
async function aftermath(): Promise<unknown> {
  await expect.poll(() => server.metric('slm_slots', { state: 'busy' }), { timeout: 10_000 }).toBe(0);
  const answer = (await (await ask('/v1/chat/completions', question)).json()) as {
    choices: { message: { content: string } }[];
  };
  return { queued: await server.metric('slm_queue_depth'), answer: answer.choices[0]?.message.content };
}
const unharmed = { queued: 0, answer: 'The capital of France is Paris.' };

function ask(url: string, body: unknown): Promise<Response> {
  return fetch(server.url + url, { method: 'POST', body: JSON.stringify(body) });
}

async function open(): Promise<Socket> {
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  await once(socket, 'connect');
  // Whoever vanishes sees resets.
  socket.on('error', () => undefined);
  return socket;
}

function request(body: string, url = '/v1/chat/completions'): string {
  return `POST ${url} HTTP/1.1\r\nhost: a\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

/** What the server says until it closes the connection. */
async function wholeAnswer(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (data: Buffer) => (text += data.toString()));
  await once(socket, 'close');
  return text;
}

describe('a client that vanishes', () => {
  const sent = request(JSON.stringify({ ...story, stream: true }));
  const points: [string, number][] = [
    ['before it has said anything', 0],
    ['in the first line', 9],
    ['in the headers', 50],
    ['after the headers', sent.indexOf('{')],
    ['in the middle of the body', sent.length - 20],
    ['one byte before the end', sent.length - 1],
    ['right after its request', sent.length],
  ];
  test.each(points)('%s', async (_, length) => {
    for (let time = 0; time < 5; time++) {
      const socket = await open();
      if (length > 0) await new Promise((resolve) => socket.write(sent.slice(0, length), resolve));
      socket.resetAndDestroy();
    }
    expect(await aftermath()).toEqual(unharmed);
  });

  test.each([1, 2, 5])('after %i pieces of a stream', async (pieces) => {
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        const socket = await open();
        socket.write(sent);
        for (let piece = 0; piece < pieces; piece++) await once(socket, 'data');
        socket.resetAndDestroy();
      }),
    );
    expect(await aftermath()).toEqual(unharmed);
  });

  test('while its request waits in the queue', async () => {
    const sockets = await Promise.all(Array.from({ length: 6 }, open));
    for (const socket of sockets) socket.write(sent);
    await expect.poll(() => server.metric('slm_queue_depth')).toBe(4);
    for (const socket of sockets) socket.resetAndDestroy();
    expect(await aftermath()).toEqual(unharmed);
  });

  test('while a long prompt is read, and in front of one that nobody waits for', async () => {
    const content = 'A word and another. '.repeat(180);
    for (let time = 0; time < 3; time++) {
      const socket = await open();
      socket.write(request(JSON.stringify({ ...story, messages: [{ role: 'user', content }] })));
      await expect.poll(() => server.metric('slm_slots', { state: 'busy' })).toBeGreaterThan(0);
      socket.resetAndDestroy();
    }
    expect(await aftermath()).toEqual(unharmed);
  });
});

test('a client that reads nothing is not waited for in memory, and holds up nobody', async () => {
  const socket = await open();
  socket.pause();
  socket.write(request(JSON.stringify({ ...story, stream: true })));
  await expect.poll(() => server.metric('slm_slots', { state: 'busy' })).toBe(1);
  expect((await ask('/v1/chat/completions', question)).status).toBe(200);
  socket.resetAndDestroy();
  expect(await aftermath()).toEqual(unharmed);
});

test('bodies that come too slowly end with a 408 while others are answered', async () => {
  const body = JSON.stringify(question);
  const slow = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const socket = await open();
      socket.write(request(body).slice(0, -5));
      return socket;
    }),
  );
  const said = Promise.all(slow.map(wholeAnswer));
  expect((await ask('/v1/chat/completions', question)).status).toBe(200);
  for (const text of await said) expect(text).toMatch(/^HTTP\/1\.1 408 /);
  expect(await aftermath()).toEqual(unharmed);
});

test('what is no HTTP is told so', async () => {
  for (const bytes of [
    '\x16\x03\x01\x02\x00\x01\x00',
    'GET\r\n\r\n',
    `GET / HTTP/1.1\r\n${'a: b\r\n'.repeat(10_000)}\r\n`,
  ]) {
    const socket = await open();
    socket.write(bytes);
    expect(await wholeAnswer(socket)).toMatch(/^HTTP\/1\.1 4\d\d /);
  }
  expect(await aftermath()).toEqual(unharmed);
});

test('prompts of ten thousand tokens and more, in every API', async () => {
  const content = 'word '.repeat(12_000);
  const messages = [{ role: 'user', content }];
  const cases: [string, unknown, number][] = [
    ['/v1/chat/completions', { model: MODEL, messages, max_tokens: 4 }, 400],
    ['/v1/completions', { model: MODEL, prompt: content, max_tokens: 4 }, 400],
    ['/v1/responses', { model: MODEL, input: content, max_output_tokens: 16 }, 400],
    ['/v1/messages', { model: MODEL, messages, max_tokens: 4 }, 400],
    ['/v1/embeddings', { model: MODEL, input: content }, 400],
    ['/api/generate', { model: MODEL, prompt: content, truncate: false }, 400],
    ['/api/chat', { model: MODEL, messages, truncate: false }, 400],
    // Ollama cuts by default.
    ['/api/generate', { model: MODEL, prompt: content, options: { num_predict: 4 }, stream: false }, 200],
    ['/api/embed', { model: MODEL, input: content }, 200],
  ];
  for (const [url, body, status] of cases) {
    const answer = await ask(url, body);
    const text = await answer.text();
    expect([url, answer.status]).toEqual([url, status]);
    if (status === 400) expect(text).toMatch(/has \d{5} tokens and this server's context holds 1024/);
  }
  expect(await aftermath()).toEqual(unharmed);
});

test('hundreds of requests at once: each is answered or told to come back', async () => {
  const answers = await Promise.all(
    Array.from({ length: 200 }, () => ask('/v1/chat/completions', { ...question, max_tokens: 2 })),
  );
  const counts = new Map<number, number>();
  for (const { status } of answers) counts.set(status, (counts.get(status) ?? 0) + 1);
  expect(new Set(counts.keys())).toEqual(new Set([200, 429]));
  for (const answer of answers) await answer.body?.cancel();
  expect(await aftermath()).toEqual(unharmed);
});
