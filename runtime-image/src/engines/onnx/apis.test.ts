/** Every API over real ONNX models: a client cannot tell which engine answers. */
import { minilmOnnx } from '@slm-operator/test/fixtures/onnx/minilm';
import { smollm2Onnx } from '@slm-operator/test/fixtures/onnx/smollm2';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { call, makeTestServer, type TestServer } from '../../routes/testing.ts';
import type { Engine } from '../engine.ts';
import { loadOnnx } from './engine.ts';

vi.setConfig({ testTimeout: 120_000 });

async function serve(modelPath: string): Promise<TestServer & { readonly engine: Engine }> {
  const engine = await loadOnnx(
    { modelPath, contextLength: 512, parallelRequests: 2, batchSize: 128, threads: 1, maxQueue: 8 },
    { progress: () => undefined, log: () => undefined },
  );
  const server = makeTestServer({ loading: true });
  server.lifecycle.ready(engine, 50, new Date(Date.UTC(2026, 10, 22)));
  return { ...server, engine };
}

const messages = [{ role: 'user', content: 'Name the capital of France.' }];
const CAPITAL = 'The capital of France is Paris.';
const schema = {
  type: 'object',
  properties: { city: { type: 'string', maxLength: 12 } },
  required: ['city'],
  additionalProperties: false,
};

describe('a language model', () => {
  let server: Awaited<ReturnType<typeof serve>>;
  beforeAll(async () => {
    server = await serve(await smollm2Onnx('genai'));
  }, 600_000);
  afterAll(async () => {
    await server.app.close();
    await server.engine.close();
  });
  const post = async (url: string, body: object) => call(server.app, 'POST', url, { model: 'chat', ...body });

  test('Ollama: chat, generate, and what it is', async () => {
    const options = { temperature: 0, num_predict: 20 };
    expect((await post('/api/chat', { messages, stream: false, options })).body).toMatchObject({
      message: { role: 'assistant', content: CAPITAL },
      done: true,
      done_reason: 'stop',
      prompt_eval_count: 36,
      eval_count: 7,
    });
    const streamed = (await post('/api/chat', { messages, options })).body as string;
    const lines = streamed
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { message: { content: string }; done: boolean });
    expect(lines.length).toBeGreaterThan(4);
    expect(lines.map((line) => line.message.content).join('')).toBe(CAPITAL);
    const generated = await post('/api/generate', { prompt: 'Name the capital of France.', stream: false, options });
    expect(generated.body).toMatchObject({ response: CAPITAL, context: expect.any(Array) });
    expect((await call(server.app, 'GET', '/api/tags')).body).toMatchObject({
      models: [{ details: { format: 'onnx', family: 'llama', quantization_level: 'INT8' } }, {}],
    });
    expect((await post('/api/show', {})).body).toMatchObject({
      details: { format: 'onnx' },
      capabilities: expect.arrayContaining(['completion']),
      template: expect.stringContaining('<|im_start|>'),
    });
  });

  test('Ollama: an answer in a format, and embeddings that it does not have', async () => {
    const { body } = await post('/api/chat', { messages, stream: false, format: schema, options: { temperature: 0 } });
    const { content } = (body as { message: { content: string } }).message;
    expect(JSON.parse(content)).toEqual({ city: expect.any(String) });
    expect(await post('/api/embed', { input: 'a' })).toMatchObject({
      status: 400,
      body: { error: expect.stringContaining('no embeddings') },
    });
  });

  test('OpenAI: chat, completions, responses, a stream, scores and a schema', async () => {
    const settings = { messages, temperature: 0, max_completion_tokens: 20 };
    const chat = await post('/v1/chat/completions', { ...settings, logprobs: true, top_logprobs: 2 });
    expect(chat.body).toMatchObject({
      choices: [{ message: { content: CAPITAL }, finish_reason: 'stop', logprobs: { content: expect.any(Array) } }],
      usage: { prompt_tokens: 36, completion_tokens: expect.any(Number) },
    });
    const stream = (await post('/v1/chat/completions', { ...settings, stream: true })).body as string;
    const events = stream.split('\n\n').filter((line) => line.startsWith('data: {'));
    const texts = events.map(
      (event) =>
        (JSON.parse(event.slice(6)) as { choices: { delta: { content?: string } }[] }).choices[0]?.delta.content ?? '',
    );
    expect([texts.join(''), stream.trimEnd().endsWith('data: [DONE]')]).toEqual([CAPITAL, true]);
    const held = await post('/v1/chat/completions', {
      ...settings,
      max_completion_tokens: 60,
      response_format: { type: 'json_schema', json_schema: { name: 'city', strict: true, schema } },
    });
    const { choices } = held.body as { choices: { message: { content: string } }[] };
    expect(JSON.parse(choices[0]?.message.content ?? '')).toEqual({ city: expect.any(String) });
    expect(
      (await post('/v1/completions', { prompt: 'Monday, Tuesday, Wednesday,', max_tokens: 4, temperature: 0 })).body,
    ).toMatchObject({
      choices: [{ text: expect.stringContaining('Thursday') }],
    });
    const response = await post('/v1/responses', { input: 'Name the capital of France.', temperature: 0 });
    expect(JSON.stringify(response.body)).toContain(CAPITAL);
  });

  test('OpenAI: tools', async () => {
    const parameters = { type: 'object', properties: { city: { type: 'string', maxLength: 12 } }, required: ['city'] };
    const { body } = await post('/v1/chat/completions', {
      messages,
      temperature: 0,
      max_completion_tokens: 60,
      tools: [{ type: 'function', function: { name: 'weather', parameters } }],
      tool_choice: 'required',
    });
    const called = { function: { name: 'weather', arguments: expect.stringMatching(/^\{"city":"[^"]{0,12}"\}$/) } };
    expect(body).toMatchObject({ choices: [{ finish_reason: 'tool_calls', message: { tool_calls: [called] } }] });
  });

  test('Anthropic: messages', async () => {
    const { body } = await post('/v1/messages', { messages, max_tokens: 20, temperature: 0 });
    expect(body).toMatchObject({ content: [{ type: 'text', text: CAPITAL }], stop_reason: 'end_turn' });
  });

  test('health and metrics', async () => {
    expect((await call(server.app, 'GET', '/readyz')).status).toBe(200);
    expect((await call(server.app, 'GET', '/metrics')).body).toContain('slm_');
  });
});

describe('a model that embeds', () => {
  let server: Awaited<ReturnType<typeof serve>>;
  beforeAll(async () => {
    server = await serve(await minilmOnnx());
  }, 600_000);
  afterAll(async () => {
    await server.app.close();
    await server.engine.close();
  });
  const post = async (url: string, body: object) => call(server.app, 'POST', url, { model: 'chat', ...body });

  test('Ollama and OpenAI give the same vectors', async () => {
    const ours = (await post('/api/embed', { input: ['Hello world', 'Hi'] })).body as { embeddings: number[][] };
    const old = (await post('/api/embeddings', { prompt: 'Hello world' })).body as { embedding: number[] };
    const theirs = (await post('/v1/embeddings', { input: ['Hello world', 'Hi'] })).body as {
      data: { embedding: number[] }[];
      usage: object;
    };
    expect(ours).toMatchObject({ prompt_eval_count: 7 });
    expect(theirs.usage).toEqual({ prompt_tokens: 7, total_tokens: 7 });
    expect(ours.embeddings.map((one) => one.length)).toEqual([384, 384]);
    theirs.data.forEach(({ embedding }, index) =>
      embedding.forEach((value, place) => expect(value).toBeCloseTo(ours.embeddings[index]?.[place] ?? 9, 5)),
    );
    expect(old.embedding).toHaveLength(384);
  });

  test('it says what it can do, and writes nothing', async () => {
    expect((await post('/api/show', {})).body).toMatchObject({ capabilities: ['embedding'] });
    expect(await post('/api/chat', { messages })).toMatchObject({ status: 400 });
  });
});
