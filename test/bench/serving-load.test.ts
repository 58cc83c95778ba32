/** The real generator in its own process, against a server that answers as scripted. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { Reply, Target, Task } from './serving-load.ts';
import { makePrompts } from './serving-prompts.ts';

type WithoutTarget<T> = T extends unknown ? Omit<T, 'target'> : never;
type Answering = (prompt: string, response: ServerResponse, count: number) => void;

const cleanup: (() => void)[] = [];
afterEach(() => {
  for (const clean of cleanup.splice(0)) clean();
});

/** Performs one task against a server that answers each chat with `answering`. */
async function perform(task: WithoutTarget<Task>, answering: Answering): Promise<Reply> {
  let count = 0;
  const server = createServer((request: IncomingMessage, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      if (request.method === 'GET') return response.writeHead(200).end();
      const { messages } = JSON.parse(body) as { messages: { content: string }[] };
      return answering(messages.at(-1)?.content ?? '', response, ++count);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const child = fork(path.join(import.meta.dirname, 'serving-load.ts'), { execArgv: [] });
  cleanup.push(() => {
    child.kill();
    server.closeAllConnections();
    server.close();
  });
  const target: Target = { port: (server.address() as AddressInfo).port, model: 'model', keepAlive: true };
  child.send({ ...task, target });
  const [reply] = (await once(child, 'message')) as [Reply];
  return reply;
}

const piece = (text: string) => `data: {"choices":[{"delta":{"content":"${text}"}}]}\n\n`;
const usage = 'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\ndata: [DONE]\n\n';
const answerAll: Answering = (_, response) => {
  // One piece comes in two halves, and an empty one is no token.
  const all = `${piece('')}${piece('one')}${piece(' two')}${piece(' three')}${usage}`;
  response.write(all.slice(0, 90));
  setImmediate(() => response.end(all.slice(90)));
};

describe('the load generator', () => {
  test('counts pieces of text and takes token counts from the server', async () => {
    const asks = Array.from({ length: 5 }, () => ({ prompt: 'hello', maxTokens: 3 }));
    const reply = await perform({ kind: 'series', clients: 2, asks }, answerAll);
    if ('error' in reply) throw new Error(reply.error);
    expect(reply.answers).toHaveLength(5);
    for (const { asked, first, pieces, promptTokens, completionTokens } of reply.answers) {
      expect(pieces).toHaveLength(3);
      expect(pieces[0]).toBe(first);
      expect(first).toBeGreaterThan(asked);
      expect([promptTokens, completionTokens]).toEqual([7, 3]);
    }
  });

  test('says what a server answered that refuses', async () => {
    const reply = await perform(
      { kind: 'series', clients: 1, asks: [{ prompt: 'hello', maxTokens: 3 }] },
      (_, response) => response.writeHead(429).end('{"error":"queue is full"}'),
    );
    expect(reply).toEqual({ error: 'HTTP 429, 0 pieces of text: {"error":"queue is full"}' });
  });

  test('asks in the middle of an answer', async () => {
    const order: string[] = [];
    const reply = await perform(
      {
        kind: 'intrude',
        stream: { prompt: 'long', maxTokens: 9 },
        after: 2,
        intruder: { prompt: 'short', maxTokens: 1 },
      },
      (prompt, response) => {
        order.push(prompt);
        if (prompt === 'short') return answerAll(prompt, response, 0);
        response.write(piece('one') + piece('two'));
        // Ends only once somebody has asked in between.
        const wait = setInterval(() => {
          if (order.length < 2) return;
          clearInterval(wait);
          response.end(piece('three') + usage);
        }, 1);
        return undefined;
      },
    );
    expect(reply).toMatchObject({ answers: [{ pieces: { length: 3 } }, { pieces: { length: 3 } }] });
    expect(order).toEqual(['long', 'short']);
  });

  test('hangs up on everything, then asks once more', async () => {
    let gone = 0;
    const asks = Array.from({ length: 3 }, (_, index) => ({ prompt: `long ${index}`, maxTokens: 9 }));
    const reply = await perform(
      { kind: 'hangUp', asks, afterMs: 50, next: { prompt: 'next', maxTokens: 3 } },
      (prompt, response) => {
        if (prompt === 'next') return answerAll(prompt, response, 0);
        response.on('close', () => gone++);
        return undefined;
      },
    );
    expect(reply).toMatchObject({ answers: [{ completionTokens: 3 }] });
    await expect.poll(() => gone).toBe(3);
  });

  test('does not take a server that answers before its client hangs up for one that was hung up on', async () => {
    const asks = [{ prompt: 'quick', maxTokens: 3 }];
    const reply = await perform(
      { kind: 'hangUp', asks, afterMs: 60_000, next: { prompt: 'next', maxTokens: 3 } },
      answerAll,
    );
    expect(reply).toEqual({ error: 'an answer ended before its client hung up' });
  });
});

test('prompts are the same for the same run and others for the next', () => {
  const [first, again, other] = ['1', '1', '2'].map((seed) => makePrompts(seed).story('eight', 3, 40));
  expect(first).toBe(again);
  expect(first).not.toBe(other);
  expect(first?.split(' ')).toHaveLength(48);
});
