/** Over real sockets: what the audit log has of a request, and what no log ever has. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createFakeEngine } from '../engines/fake.ts';
import { Lifecycle } from '../lifecycle.ts';
import { makeApp } from '../server.ts';
import type { AuditRecord } from './audit.ts';
import { KeyStore } from './auth.ts';

let folder: string;
let audit: string[];
let log: string[];
let app: FastifyInstance;
let url: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-audit-'));
  await writeFile(path.join(folder, 'first'), 'very-secret-key');
  [audit, log] = [[], []];
});
afterEach(async () => {
  await app.close();
  await rm(folder, { recursive: true });
});

async function serve(options: { content?: boolean; broken?: boolean } = {}): Promise<void> {
  const logger = pino({ level: 'trace' }, { write: (line: string) => void log.push(line) });
  const keys = new KeyStore(folder, logger);
  await keys.open();
  const lifecycle = new Lifecycle();
  app = makeApp({
    lifecycle,
    auth: keys,
    audit: { write: (line) => void audit.push(line), content: options.content },
    log: logger,
    now: () => Date.UTC(2026, 10, 23),
  });
  const beforeDecode = () => (options.broken ? Promise.reject(new Error('the device is gone')) : Promise.resolve());
  lifecycle.ready(createFakeEngine({ beforeDecode }), 50, new Date());
  await app.listen({ port: 0, host: '127.0.0.1' });
  url = `http://127.0.0.1:${(app.server.address() as { port: number }).port}`;
}

/** Sends a request and answers its audit record. */
async function send(route: string, body: unknown, headers: Record<string, string> = {}): Promise<AuditRecord> {
  const before = audit.length;
  const response = await fetch(url + route, {
    method: 'POST',
    headers: { authorization: 'Bearer very-secret-key', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  await response.text();
  await expect.poll(() => audit.length).toBe(before + 1);
  const record = JSON.parse(audit.at(-1) ?? '') as AuditRecord;
  expect(record.requestId).toBe(response.headers.get('x-request-id'));
  return record;
}

const prompt = { model: 'model', prompt: 'private words' };

test('a line says who asked which model for how much, and how it ended', async () => {
  await serve();
  const { latencyMs, firstTokenMs, ...record } = await send('/api/generate', prompt, { 'x-request-id': 'trace-7' });
  expect(record).toEqual({
    type: 'audit',
    time: '2026-11-23T00:00:00.000Z',
    requestId: 'trace-7',
    client: '127.0.0.1',
    caller: { type: 'APIKey', name: 'first', id: expect.stringMatching(/^[0-9a-f]{8}$/) as string },
    method: 'POST',
    route: '/api/generate',
    model: 'model',
    promptTokens: 17,
    completionTokens: 23,
    status: 200,
  });
  expect(firstTokenMs).toBeLessThanOrEqual(latencyMs);
  await fetch(`${url}/healthz`);
  expect(audit).toHaveLength(1);
});

test('a stranger, and a model that is not there', async () => {
  await serve();
  expect(await send('/api/generate', prompt, { authorization: 'Bearer wrong-secret' })).toMatchObject({
    caller: null,
    model: null,
    status: 401,
    firstTokenMs: null,
  });
  expect(await send('/v1/completions', { ...prompt, model: 'private name' })).toMatchObject({
    caller: { name: 'first' },
    model: null,
    status: 404,
  });
});

test('an id that could forge lines of a log is replaced', async () => {
  await serve();
  const { requestId } = await send('/api/generate', prompt, { 'x-request-id': 'a{"type":"audit"}' });
  expect(requestId).toMatch(/^[0-9a-f-]{36}$/);
});

test('content is there when it is asked for, and then only in the audit log', async () => {
  await serve({ content: true });
  for (const stream of [true, false])
    expect(await send('/api/generate', { ...prompt, stream })).toMatchObject({
      request: { ...prompt, stream },
      answer: 'You said: private words',
    });
  expect(log.join('')).not.toContain('private words');
  expect(audit.join('')).not.toContain('very-secret-key');
});

describe('no log at any level has a prompt, an answer or a key', () => {
  const chat = { model: 'model', messages: [{ role: 'user', content: 'private words' }] };
  const requests: readonly (readonly [string, unknown])[] = [
    ['/api/generate', prompt],
    ['/api/chat', chat],
    ['/v1/chat/completions', { ...chat, stream: true }],
    ['/v1/responses', { model: 'model', input: 'private words' }],
    ['/v1/messages', { ...chat, max_tokens: 5 }],
    ['/v1/embeddings', { model: 'model', input: 'private words' }],
    // Those that fail: by schema, by syntax, by name, by grammar.
    ['/api/generate', { ...prompt, options: { temperature: 'private words' } }],
    ['/api/chat', { ...chat, 'private words': 1 }],
    ['/api/generate', '{"prompt": "private words", '],
    ['/private words', prompt],
    ['/api/generate?key=very-secret-key', { ...prompt, model: 'private words' }],
    [
      '/v1/chat/completions',
      {
        ...chat,
        response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'private words' } } },
      },
    ],
  ];
  test.each([false, true])('engine broken: %s', async (broken) => {
    await serve({ broken });
    for (const [route, body] of requests) await send(route, body);
    await send('/api/generate', prompt, { authorization: 'Bearer very-secret-key-of-somebody' });
    expect(log.length).toBeGreaterThan(requests.length);
    expect(log.join('') + audit.join('')).not.toMatch(/private(%20| )words|very-secret-key|You said/);
    if (broken) expect(log.join('')).toContain('the device is gone');
  });
});
