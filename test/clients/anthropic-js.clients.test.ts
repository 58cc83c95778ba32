/** Anthropic's own client for JavaScript, with an API key in its header `x-api-key`. */
import Anthropic, { AuthenticationError, BadRequestError, NotFoundError } from '@anthropic-ai/sdk';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MODEL, type RunningServer, startServer } from './server.ts';
import { modelWithTools } from './tools-model.ts';

const apiKey = 'key-of-the-test';
let server: RunningServer;
let client: Anthropic;
beforeAll(async () => {
  server = await startServer({ model: await modelWithTools(), key: apiKey, env: { SLM_PARALLEL_REQUESTS: '2' } });
  client = new Anthropic({ apiKey, baseURL: server.url, maxRetries: 0 });
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

const ask = (content: string) => ({
  model: MODEL,
  max_tokens: 90,
  temperature: 0,
  messages: [{ role: 'user' as const, content }],
});
const capital = ask('Name the capital of France.');
const tools = [
  {
    name: 'get_weather',
    input_schema: { type: 'object' as const, properties: { city: { type: 'string' } }, required: ['city'] },
  },
];

test('a message in one piece', async () => {
  const message = await client.messages.create(capital);
  expect(message).toMatchObject({
    type: 'message',
    role: 'assistant',
    content: [{ type: 'text', text: 'The capital of France is Paris.' }],
    stop_reason: 'end_turn',
    usage: { output_tokens: 7 },
  });
});

test('a message as a stream', async () => {
  const stream = client.messages.stream({ ...capital, system: 'You are brief.' });
  const deltas: string[] = [];
  stream.on('text', (delta) => deltas.push(delta));
  const message = await stream.finalMessage();
  expect(deltas.length).toBeGreaterThan(2);
  expect(message.content).toMatchObject([{ type: 'text', text: deltas.join('') }]);
  expect(await stream.finalText()).toContain('Paris');
});

test('limits and stop texts', async () => {
  expect(await client.messages.create({ ...capital, max_tokens: 3 })).toMatchObject({ stop_reason: 'max_tokens' });
  const stopped = await client.messages.create({ ...capital, stop_sequences: [' Paris'] });
  expect(stopped.content).toMatchObject([{ text: 'The capital of France is' }]);
  expect([stopped.stop_reason, stopped.stop_sequence]).toEqual(['stop_sequence', ' Paris']);
});

test('tools: calls in one piece, in a stream, forced, and the result of one', async () => {
  const question = { ...ask('What is the weather in Paris and in Berlin?'), tools };
  const calls = [
    { type: 'tool_use', name: 'get_weather', input: { city: 'Paris' } },
    { type: 'tool_use', name: 'get_weather', input: { city: 'Berlin' } },
  ];
  const message = await client.messages.create(question);
  expect(message).toMatchObject({ content: calls, stop_reason: 'tool_use' });
  expect(await client.messages.stream(question).finalMessage()).toMatchObject({ content: calls });
  const forced = await client.messages.create({
    ...capital,
    tools,
    tool_choice: { type: 'tool', name: 'get_weather' },
  });
  expect(forced).toMatchObject({ content: [{ type: 'tool_use', name: 'get_weather' }], stop_reason: 'tool_use' });
  const uses = message.content.filter((block) => block.type === 'tool_use');
  const next = await client.messages.create({
    ...question,
    max_tokens: 20,
    tool_choice: { type: 'none' },
    messages: [
      ...question.messages,
      { role: 'assistant', content: message.content },
      {
        role: 'user',
        content: uses.map((use) => ({ type: 'tool_result' as const, tool_use_id: use.id, content: 'sunny' })),
      },
    ],
  });
  expect(next.content).toMatchObject([{ type: 'text' }]);
});

test('tokens are counted as they are read', async () => {
  const { input_tokens } = await client.messages.countTokens({ model: MODEL, messages: capital.messages });
  const { usage } = await client.messages.create(capital);
  expect(usage.input_tokens + (usage.cache_read_input_tokens ?? 0)).toBe(input_tokens);
});

test('models', async () => {
  const names = [];
  for await (const model of client.models.list()) names.push([model.type, model.id, model.display_name]);
  expect(names).toEqual([['model', MODEL, MODEL]]);
  expect(await client.models.retrieve(MODEL)).toMatchObject({ type: 'model', id: MODEL });
  await expect(client.models.retrieve('other')).rejects.toBeInstanceOf(NotFoundError);
});

test('errors are the client’s own classes', async () => {
  const failure = async (promise: Promise<unknown>) =>
    promise.then(
      () => 'no error',
      (error: unknown) => error,
    );
  const other = await failure(client.messages.create({ ...capital, model: 'claude-opus' }));
  expect(other).toBeInstanceOf(NotFoundError);
  expect((other as Error).message).toContain(`this server has ${MODEL}`);
  const long = await failure(client.messages.create(ask('one more word '.repeat(1000))));
  expect(long).toBeInstanceOf(BadRequestError);
  expect(long).toMatchObject({ error: { type: 'error', error: { type: 'invalid_request_error' } } });
  const stranger = new Anthropic({ apiKey: 'wrong', baseURL: server.url, maxRetries: 0 });
  expect(await failure(stranger.messages.create(capital))).toBeInstanceOf(AuthenticationError);
});

test('a stream that the client aborts gives its slot back', async () => {
  const stream = client.messages.stream({ ...ask('Tell a long story.'), max_tokens: 900 });
  let pieces = 0;
  stream.on('text', () => {
    if (++pieces === 3) stream.abort();
  });
  await expect(stream.finalMessage()).rejects.toThrow(/abort/i);
  await expect.poll(() => server.metric('slm_slots', { state: 'busy' })).toBe(0);
});
