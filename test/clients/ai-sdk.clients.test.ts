/** Vercel's AI SDK through both of its providers for OpenAI's API. */
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, embedMany, generateText, jsonSchema, Output, streamText, tool } from 'ai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MODEL, type RunningServer, startServer } from './server.ts';
import { modelWithTools } from './tools-model.ts';

const apiKey = 'key-of-the-test';
let server: RunningServer;
beforeAll(async () => {
  server = await startServer({ model: await modelWithTools(), key: apiKey, env: { SLM_PARALLEL_REQUESTS: '2' } });
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

const prompt = 'Name the capital of France.';
const city = jsonSchema<{ city: string }>({
  type: 'object',
  properties: { city: { type: 'string', enum: ['Paris', 'Rome'] } },
  required: ['city'],
  additionalProperties: false,
});
const providers = {
  'openai, chat': () => createOpenAI({ baseURL: `${server.url}/v1`, apiKey }).chat(MODEL),
  'openai, responses': () => createOpenAI({ baseURL: `${server.url}/v1`, apiKey }).responses(MODEL),
  'openai-compatible': () =>
    createOpenAICompatible({
      name: 'slm',
      baseURL: `${server.url}/v1`,
      apiKey,
      supportsStructuredOutputs: true,
      includeUsage: true,
    }).chatModel(MODEL),
};

describe.each(Object.entries(providers))('%s', (_, provider) => {
  const settings = () => ({ model: provider(), temperature: 0, maxOutputTokens: 60, maxRetries: 0 });

  test('text in one piece and as a stream, with usage', async () => {
    const whole = await generateText({ ...settings(), prompt });
    expect([whole.text, whole.finishReason]).toEqual(['The capital of France is Paris.', 'stop']);
    const stream = streamText({ ...settings(), prompt });
    const pieces: string[] = [];
    for await (const piece of stream.textStream) pieces.push(piece);
    expect(pieces.length).toBeGreaterThan(3);
    expect(pieces.join('')).toBe(whole.text);
    expect((await stream.usage).outputTokens).toBe(7);
    expect(whole.usage.outputTokens).toBe(7);
  });

  test('an object of a schema', async () => {
    const { output } = await generateText({ ...settings(), prompt, output: Output.object({ schema: city }) });
    expect(output).toEqual({ city: 'Paris' });
  });

  test('a tool that runs', async () => {
    const asked: string[] = [];
    const tools = {
      get_weather: tool({
        inputSchema: city,
        execute: (input) => {
          asked.push(input.city);
          return 'sunny';
        },
      }),
    };
    const { toolResults } = await generateText({ ...settings(), prompt: 'What is the weather in Paris?', tools });
    expect([asked, toolResults.map((result) => result.output)]).toEqual([['Paris'], ['sunny']]);
    const stream = streamText({
      ...settings(),
      prompt: 'What is the weather in Paris?',
      tools,
      toolChoice: { type: 'tool', toolName: 'get_weather' },
    });
    expect((await stream.toolCalls).map((call) => call.input)).toEqual([{ city: 'Paris' }]);
  });

  test('an error says what the server said', async () => {
    const error: unknown = await generateText({ ...settings(), prompt: 'one more word '.repeat(1000) }).catch(
      (thrown: unknown) => thrown,
    );
    expect(APICallError.isInstance(error)).toBe(true);
    expect(error).toMatchObject({ statusCode: 400, message: expect.stringMatching(/the prompt has \d+ tokens/) });
  });

  test('an abort gives the slot back', async () => {
    const aborts = new AbortController();
    const stream = streamText({
      ...settings(),
      prompt: 'Tell a long story.',
      maxOutputTokens: 900,
      abortSignal: aborts.signal,
      onError: () => undefined,
    });
    let pieces = 0;
    for await (const part of stream.fullStream) if (part.type === 'text-delta' && ++pieces === 3) aborts.abort();
    expect(pieces).toBeLessThan(800);
    await expect.poll(() => server.metric('slm_slots', { state: 'busy' })).toBe(0);
  });
});

test('embeddings', async () => {
  const provider = createOpenAICompatible({ name: 'slm', baseURL: `${server.url}/v1`, apiKey });
  const { embeddings, usage } = await embedMany({
    model: provider.embeddingModel(MODEL),
    values: ['a cat', 'a kitten', 'tax law'],
  });
  expect(embeddings.map((vector) => vector.length)).toEqual([576, 576, 576]);
  expect(usage.tokens).toBeGreaterThan(5);
});
