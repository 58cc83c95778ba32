/** The load client against a server that does what servers do wrong: each fault is called by its name, and nothing is lost. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import type { LoadPlan } from './load-client.ts';
import { countRequests, gapsOf, type LoadLog, parseLoad } from './load-report.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.closeAllConnections();
});

type Answer = (request: IncomingMessage, response: ServerResponse, body: { stream?: boolean }) => unknown;

async function serve(answer: Answer): Promise<{ server: Server; url: string }> {
  const server = createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (piece: string) => {
      text += piece;
    });
    request.on('end', () => answer(request, response, JSON.parse(text) as { stream?: boolean }));
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** Right answers to all that the client asks. */
const right: Answer = (request, response, body) => {
  response.setHeader('x-slm-revision', 'abc');
  if (request.url === '/api/generate') return response.end('{"response":"one","done":true}');
  const choice = { choices: [{ finish_reason: 'length' }] };
  if (body.stream) return response.end(`data: ${JSON.stringify(choice)}\n\ndata: [DONE]\n\n`);
  return response.end(JSON.stringify(choice));
};

/** Runs a client until `enough` lines are there, then asks it to end. */
async function run(plan: Partial<LoadPlan> & { url: string }, enough: number): Promise<LoadLog> {
  const whole = { key: 'secret', model: 'lm', perSecond: 100, ...plan };
  const script = new URL('load-client.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [script, JSON.stringify(whole)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
    if (parseLoad(text).lines.length >= enough) child.kill('SIGTERM');
  });
  await once(child, 'close');
  const log = parseLoad(text);
  expect(gapsOf(log)).toEqual([]);
  expect(log.lines).toHaveLength(log.planned ?? -1);
  return log;
}

test('all is answered, on kept connections and on new ones, and the answers say by which revision', async () => {
  const { url } = await serve(right);
  const counts = countRequests((await run({ url, streamEverySeconds: 0.05 }, 30)).lines);
  expect(counts).toMatchObject({ answered: counts.planned, failed: {}, revisions: { abc: counts.planned } });
  expect([counts.streams, counts.reused, counts.fresh].every((count) => count > 2)).toBe(true);
});

test('the next question comes on the connection of a stream that has just ended', async () => {
  const { url } = await serve(right);
  const { lines } = await run({ url, perSecond: 0, streamEverySeconds: 0.05 }, 8);
  const next = lines.filter(({ kind, connection }) => kind === 'short' && connection === 'talk');
  expect(next.length).toBeGreaterThan(1);
  expect(next.every(({ reused, outcome }) => reused && outcome === 'answered')).toBe(true);
});

test('requests are due at their times, however long answers take', async () => {
  const { url } = await serve(async (...call) => {
    await delay(300);
    await right(...call);
  });
  const { lines } = await run({ url, perSecond: 50 }, 10);
  const due = lines.map(({ at }) => at).sort((a, b) => a - b);
  const pauses = due.slice(1).map((at, index) => at - due[index]!);
  expect(Math.max(...pauses)).toBeLessThanOrEqual(21);
  expect(lines.every(({ ms }) => ms >= 295)).toBe(true);
});

test('what is due while too many are under way is counted as never sent', async () => {
  const { url } = await serve(async (...call) => {
    await delay(200);
    await right(...call);
  });
  const counts = countRequests((await run({ url, maxInFlight: 3 }, 20)).lines);
  expect(counts.failed.unsent).toBeGreaterThan(5);
  expect(counts.answered + counts.failed.unsent!).toBe(counts.planned);
});

test.each<[string, Answer, string, RegExp]>([
  ['another status', (_, response) => response.writeHead(503).end('loading'), 'status', /^503 loading$/],
  ['a connection reset before the answer', (request) => request.socket.resetAndDestroy(), 'reset', /ECONNRESET/],
  [
    'an answer that ends in the middle',
    (_, response) => {
      response.writeHead(200, { 'content-length': 100 });
      response.write('{"response":');
      setTimeout(() => response.destroy(), 20);
    },
    'cut',
    /ECONNRESET/,
  ],
  ['an answer that is shorter than it should be', (_, response) => response.end('{}'), 'cut', /^(not done|no finish)/],
  ['no answer at all', () => undefined, 'unanswered', /no end within 0.1 s/],
])('%s', async (_, answer, outcome, detail) => {
  const { url } = await serve(answer);
  const { lines } = await run({ url, giveUpSeconds: outcome === 'unanswered' ? 0.1 : 10 }, 8);
  expect(new Set(lines.map((line) => line.outcome))).toEqual(new Set([outcome]));
  for (const line of lines) expect(line.detail).toMatch(detail);
});

test.each([
  ['an error in the stream', 'data: {"error":{"message":"the server shut down"}}\n\ndata: [DONE]\n\n', /^an error/],
  ['a stream without its end', 'data: {"choices":[{"finish_reason":"length"}]}\n\n', /^no \[DONE\]/],
  ['a stream that was ended early', 'data: {"choices":[{"delta":{}}]}\n\ndata: [DONE]\n\n', /^no finish_reason/],
])('%s', async (_, text, detail) => {
  const { url } = await serve((_request, response) => response.end(text));
  const { lines } = await run({ url, perSecond: 0, streamEverySeconds: 0.02 }, 4);
  for (const line of lines) {
    expect(line.outcome).toBe('cut');
    expect(line.detail).toMatch(detail);
  }
});

test('a kept connection that the server closes under a request is told from a new one', async () => {
  const used = new WeakSet<object>();
  const { url } = await serve((request, response, body) => {
    if (used.has(request.socket)) return request.socket.resetAndDestroy();
    used.add(request.socket);
    return right(request, response, body);
  });
  const counts = countRequests((await run({ url }, 20)).lines);
  expect(counts.failed.reuse).toBeGreaterThan(0);
  expect(Object.keys(counts.failed)).toEqual(['reuse']);
});

test('nobody listens', async () => {
  const { server, url } = await serve(right);
  server.close();
  await once(server, 'close');
  const { lines } = await run({ url }, 4);
  expect(new Set(lines.map(({ outcome }) => outcome))).toEqual(new Set(['unreachable']));
});
