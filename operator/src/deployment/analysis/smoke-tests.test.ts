/** What becomes of servers that fail; the same against real ones with a real model is in smoke-tests.clients.test.ts. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { SmokeTest } from '@slm-operator/crds';
import { afterEach, describe, expect, it } from 'vitest';
import { makeFastClock } from '../../runtime/testing/clocks.ts';
import { deployment } from '../testing/objects.ts';
import { AskError, makeModelClient } from './model-client.ts';
import { runSmokeTests } from './smoke-tests.ts';

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

const good = JSON.stringify({ choices: [{ message: { role: 'assistant', content: 'Paris' } }] });

/** A server that gives these answers, the last one again and again; undefined: none at all. */
async function serve(...answers: (readonly [number, string] | undefined)[]) {
  const asked: unknown[] = [];
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (data: Buffer) => (body += data.toString()));
    request.on('end', () => {
      const answer = answers[Math.min(asked.length, answers.length - 1)];
      asked.push(JSON.parse(body));
      if (answer !== undefined) response.writeHead(answer[0]).end(answer[1]);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { asked, port: (server.address() as AddressInfo).port };
}

function run(port: number, test: Partial<SmokeTest> = {}) {
  const options = {
    client: makeModelClient(),
    access: () => Promise.resolve({ key: undefined, certificate: undefined }),
    embedderOf: () => {
      throw new AskError('unreachable', 'it has no pod that is ready');
    },
    clock: makeFastClock(1000),
  };
  const full = { name: 'capital', prompt: 'Capital of France?', contains: 'Paris', ...test };
  return runSmokeTests(options, { deployment: deployment(), ip: '127.0.0.1', port }, [full]);
}

it('a test is asked as a client would, at temperature 0 with a fixed seed', async () => {
  const { asked, port } = await serve([200, good]);
  await run(port, { system: 'Be short.', maxTokens: 8, jsonSchema: '{"type":"string"}' });
  expect(asked).toEqual([
    {
      model: 'chat',
      messages: [
        { role: 'system', content: 'Be short.' },
        { role: 'user', content: 'Capital of France?' },
      ],
      max_tokens: 8,
      temperature: 0,
      seed: 1,
      response_format: { type: 'json_schema', json_schema: { name: 'answer', schema: { type: 'string' } } },
    },
  ]);
});

describe('a server', () => {
  const error = (message: string) => JSON.stringify({ error: { message } });
  const rows: [string, Parameters<typeof serve>, object, number][] = [
    [
      'that fails once is asked again',
      [
        [500, 'oops'],
        [200, good],
      ],
      { passed: true },
      2,
    ],
    [
      'that keeps failing fails',
      [[500, error('the server failed to answer')]],
      { passed: false, message: 'the server answered 500: the server failed to answer' },
      3,
    ],
    [
      'that keeps giving something else fails',
      [[200, '{}']],
      { passed: false, message: 'the server gave an answer of another form' },
      3,
    ],
    [
      'that refuses is asked once',
      [[400, error('too long')]],
      { passed: false, message: 'the server answered 400: too long' },
      1,
    ],
    [
      'whose model only thought has said nothing',
      [[200, '{"choices":[{"message":{"content":null}}]}']],
      { passed: false, message: 'the answer does not contain "Paris": it is empty' },
      1,
    ],
  ];
  it.each(rows)('%s', async (_, answers, outcome, times) => {
    const { asked, port } = await serve(...answers);
    expect(await run(port)).toMatchObject([outcome]);
    expect(asked).toHaveLength(times);
  });

  it('that does not answer in time fails', async () => {
    const { asked, port } = await serve(undefined);
    const message = 'there is no answer within 0.05 s';
    expect(await run(port, { timeoutSeconds: 0.05 })).toMatchObject([{ passed: false, message }]);
    expect(asked).toHaveLength(3);
  });

  const unreachable: [string, Parameters<typeof serve>, Partial<SmokeTest>, string][] = [
    ['has no free slot', [[429, error('busy')]], {}, 'the server answered 429: busy'],
    ['is not ready', [[503, '']], {}, 'the server answered 503'],
    ['does not know the operator', [[403, '']], {}, "the server answered 403; the operator's key is not taken"],
    [
      'needs an embedder that is not there',
      [[200, good]],
      { similarity: { to: 'x', atLeast: 0.5, embedder: 'embed' } },
      'embedder embed: it has no pod that is ready',
    ],
  ];
  it.each(unreachable)('has not failed when it %s', async (_, answers, test, message) => {
    const { port } = await serve(...answers);
    await expect(run(port, test)).rejects.toMatchObject({ kind: 'unreachable', message });
  });
});
