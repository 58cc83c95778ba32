/** Whatever a client sends, it gets an answer of its own making: never a 500. */
import * as fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { makeTestServer } from './testing.ts';

const { app } = makeTestServer({ contextLength: 256 });
afterAll(() => app.close());

const URLS = [
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/embeddings',
  '/v1/responses',
  '/v1/messages',
  '/v1/messages/count_tokens',
  '/api/chat',
  '/api/generate',
  '/api/embed',
  '/api/embeddings',
  '/api/show',
];
/** Names that mean something, so that the fuzz gets past the first check. */
const NAMES = [
  'stream',
  'options',
  'stop',
  'seed',
  'temperature',
  'top_k',
  'max_tokens',
  'logit_bias',
  'n',
  'logprobs',
  'top_logprobs',
  'tool_choice',
  'think',
  'thinking',
  'input',
  'instructions',
  'text',
  'dimensions',
  'encoding_format',
  'stop_sequences',
  'reasoning',
  'echo',
  'tools',
  'format',
  'response_format',
  'context',
  'raw',
  'system',
  'suffix',
  'keep_alive',
  'images',
  'stream_options',
  'messages',
  'prompt',
  'model',
];

const SHAPES: unknown[] = [
  'a',
  ['a'],
  [{ role: 'user', content: 'é🦙' }],
  {},
  'json',
  'required',
  'base64',
  [1, 2],
  { type: 'json_object' },
  {
    type: 'json_schema',
    json_schema: { name: 'x', schema: { type: 'object', properties: { a: { type: 'number' } } } },
  },
  { format: { type: 'json_object' } },
  [{ type: 'function', function: { name: 'time', parameters: { type: 'object' } } }],
  [{ type: 'function', name: 'time', parameters: { type: 'object' } }],
  [{ name: 'time', input_schema: { type: 'object' } }],
  { type: 'any' },
  { type: 'tool', name: 'time' },
  { type: 'function', function: { name: 'time' } },
  { type: 'enabled', budget_tokens: 1024 },
  [{ role: 'assistant', content: null, tool_calls: [{ id: 'a', function: { name: 'time', arguments: '{' } }] }],
  [{ role: 'user', content: [{ type: 'tool_result', tool_use_id: 'a', content: 'b' }] }],
  [{ type: 'function_call_output', call_id: 'a', output: 'b' }],
];

const value = fc.oneof(
  { depthSize: 'small' },
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown>(true, 0, 1, -1, 0.5, 1e300, '', ...SHAPES),
);
const body = fc
  .tuple(fc.boolean(), fc.dictionary(fc.constantFrom(...NAMES), value, { maxKeys: 4 }))
  .map(([sound, rest]) => ({
    ...(sound
      ? { model: 'chat', messages: [{ role: 'user', content: 'hi' }], prompt: 'hi', input: 'hi', max_tokens: 8 }
      : {}),
    ...rest,
  }));

test('any JSON', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...URLS), body, async (url, sent) => {
      const answer = await app.inject({ method: 'POST', url, payload: JSON.stringify(sent) });
      expect([200, 400, 403, 404]).toContain(answer.statusCode);
      if (answer.statusCode === 200 || !url.startsWith('/v1/')) return;
      expect(answer.json()).toMatchObject({ error: { message: expect.any(String), type: expect.any(String) } });
    }),
    { numRuns: 500 },
  );
});

test('any bytes', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...URLS), fc.uint8Array({ maxLength: 200 }), async (url, bytes) => {
      const answer = await app.inject({ method: 'POST', url, payload: Buffer.from(bytes) });
      expect(answer.statusCode).toBe(400);
    }),
    { numRuns: 100 },
  );
});

test('a body that is deep or large', async () => {
  const deep = await app.inject({
    method: 'POST',
    url: '/api/chat',
    payload: '['.repeat(100_000) + ']'.repeat(100_000),
  });
  const large = await app.inject({ method: 'POST', url: '/api/chat', payload: `"${'x'.repeat(5_000_000)}"` });
  expect([deep.statusCode, large.statusCode]).toEqual([400, 413]);
});
