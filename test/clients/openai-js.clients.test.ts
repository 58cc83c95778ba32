/** OpenAI's own client for JavaScript, with an API key. */
import OpenAI, { APIUserAbortError, AuthenticationError, BadRequestError, NotFoundError, RateLimitError } from 'openai';
import type { RunnableToolFunction } from 'openai/lib/RunnableFunction';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MODEL, type RunningServer, startServer } from './server.ts';
import { modelWithTools } from './tools-model.ts';

const apiKey = 'key-of-the-test';
let server: RunningServer;
let client: OpenAI;
beforeAll(async () => {
  server = await startServer({
    model: await modelWithTools(),
    key: apiKey,
    env: { SLM_PARALLEL_REQUESTS: '2', SLM_MAX_QUEUE: '1' },
  });
  client = new OpenAI({ apiKey, baseURL: `${server.secondUrl}/v1`, maxRetries: 0 });
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
  expect(server.output()).not.toContain(apiKey);
});

const messages = [{ role: 'user' as const, content: 'Name the capital of France.' }];
const chat = { model: MODEL, messages, temperature: 0 };
const tools = [
  {
    type: 'function' as const,
    function: {
      name: 'get_weather',
      parameters: { type: 'object', required: ['city'], properties: { city: { type: 'string' } } },
    },
  },
  {
    type: 'function' as const,
    function: {
      name: 'set_alarm',
      parameters: { type: 'object', properties: { hour: { enum: [7] } }, required: ['hour'] },
    },
  },
];
const question = (content: string) => ({ ...chat, messages: [{ role: 'user' as const, content }] });
const long = { ...chat, messages: [{ role: 'user' as const, content: 'Tell a long story.' }], max_tokens: 900 };

describe('chat', () => {
  test('in one piece, with usage', async () => {
    const answer = await client.chat.completions.create(chat);
    expect(answer.choices).toEqual([
      {
        index: 0,
        message: { role: 'assistant', content: 'The capital of France is Paris.', refusal: null },
        finish_reason: 'stop',
        logprobs: null,
      },
    ]);
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage ?? {};
    expect([completion_tokens, total_tokens]).toEqual([7, (prompt_tokens ?? 0) + 7]);
  });

  test('as a stream, with usage at its end when asked for', async () => {
    const stream = client.chat.completions.stream({ ...chat, stream_options: { include_usage: true } });
    const deltas: string[] = [];
    stream.on('content', (delta) => deltas.push(delta));
    const answer = await stream.finalChatCompletion();
    expect(deltas.length).toBeGreaterThan(3);
    expect([deltas.join(''), answer.choices[0]?.finish_reason]).toEqual(['The capital of France is Paris.', 'stop']);
    expect(answer.usage).toMatchObject({ completion_tokens: 7 });
  });

  test('several answers, limits, stop texts and seeds', async () => {
    const several = await client.chat.completions.create({ ...chat, temperature: 1, n: 3, seed: 1, max_tokens: 5 });
    expect(several.choices.map((choice) => [choice.index, choice.finish_reason])).toEqual([
      [0, 'length'],
      [1, 'length'],
      [2, 'length'],
    ]);
    const again = await client.chat.completions.create({ ...chat, temperature: 1, n: 3, seed: 1, max_tokens: 5 });
    expect(again.choices).toEqual(several.choices);
    const stopped = await client.chat.completions.create({ ...chat, stop: [' Paris', '!'], max_completion_tokens: 50 });
    expect(stopped.choices[0]).toMatchObject({
      message: { content: 'The capital of France is' },
      finish_reason: 'stop',
    });
  });

  test('log probabilities', async () => {
    const answer = await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 3, max_tokens: 4 });
    const content = answer.choices[0]?.logprobs?.content ?? [];
    expect(content.map((one) => one.token).join('')).toBe(answer.choices[0]?.message.content);
    // Greedy: what was taken is the likeliest.
    expect(content.map((one) => one.top_logprobs[0]?.token)).toEqual(content.map((one) => one.token));
  });

  test('structured output by a JSON schema, parsed by the client', async () => {
    const answer = await client.chat.completions.parse({
      ...chat,
      response_format: {
        type: 'json_schema',
        json_schema: {
          name: 'capital',
          strict: true,
          schema: {
            type: 'object',
            properties: { city: { type: 'string', enum: ['Paris', 'Rome'] }, sure: { type: 'boolean' } },
            required: ['city', 'sure'],
            additionalProperties: false,
          },
        },
      },
    });
    expect(answer.choices[0]?.message.parsed).toEqual({ city: 'Paris', sure: expect.any(Boolean) });
  });
});

describe('tools', () => {
  test('the model decides, and several calls come in a stream', async () => {
    const stream = client.chat.completions.stream({
      ...question('What is the weather in Paris and in Berlin?'),
      tools,
      max_tokens: 90,
    });
    const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0] ?? {};
    expect(finish_reason).toBe('tool_calls');
    expect(message?.tool_calls?.map((call) => call.type === 'function' && JSON.parse(call.function.arguments))).toEqual(
      [{ city: 'Paris' }, { city: 'Berlin' }],
    );
    const ids = message?.tool_calls?.map((call) => call.id) ?? [];
    expect(new Set(ids).size).toBe(2);
  });

  test('one must be called; a certain one must be called; none may', async () => {
    const ask = async (tool_choice: OpenAI.ChatCompletionToolChoiceOption) => {
      const answer = await client.chat.completions.create({ ...chat, tools, tool_choice, max_tokens: 60 });
      const { message, finish_reason } = answer.choices[0] ?? {};
      const names = message?.tool_calls?.map((call) => (call.type === 'function' ? call.function.name : ''));
      return [finish_reason, names, message?.content];
    };
    expect(await ask('required')).toEqual(['tool_calls', [expect.stringMatching(/get_weather|set_alarm/)], null]);
    expect(await ask({ type: 'function', function: { name: 'set_alarm' } })).toEqual([
      expect.stringMatching(/^(stop|tool_calls)$/),
      ['set_alarm'],
      null,
    ]);
    expect(await ask('none')).toEqual(['stop', undefined, expect.stringContaining('Paris')]);
  });

  test('the helper runs a tool and brings its result back', async () => {
    const asked: string[] = [];
    const weather: RunnableToolFunction<{ city: string }> = {
      type: 'function',
      function: {
        name: 'get_weather',
        description: 'The weather in a city',
        parse: (text: string) => JSON.parse(text) as { city: string },
        function: ({ city }: { city: string }) => {
          asked.push(city);
          return 'sunny';
        },
        parameters: { type: 'object', properties: { city: { type: 'string' } } },
      },
    };
    const runner = client.chat.completions.runTools(
      { ...question('What is the weather in Paris?'), max_tokens: 60, tools: [weather] },
      { maxChatCompletions: 2 },
    );
    const results: unknown[] = [];
    runner.on('functionToolCallResult', (result) => results.push(result));
    await runner.done();
    expect([asked[0], results[0]]).toEqual(['Paris', 'sunny']);
  });
});

test('completions of texts', async () => {
  const prompt = 'One, two, three, four,';
  const whole = await client.completions.create({ model: MODEL, prompt, max_tokens: 4, temperature: 0, logprobs: 1 });
  expect(whole.choices[0]?.text).toMatch(/five/);
  expect(whole.choices[0]?.logprobs?.tokens?.join('')).toBe(whole.choices[0]?.text);
  let text = '';
  for await (const part of await client.completions.create({
    model: MODEL,
    prompt,
    max_tokens: 4,
    temperature: 0,
    stream: true,
  }))
    text += part.choices[0]?.text ?? '';
  expect(text).toBe(whole.choices[0]?.text);
});

test('responses, in one piece and as a stream', async () => {
  const input = 'Name the capital of France.';
  const whole = await client.responses.create({ model: MODEL, input, temperature: 0 });
  expect([whole.output_text, whole.status]).toEqual(['The capital of France is Paris.', 'completed']);
  const stream = client.responses.stream({ model: MODEL, input, temperature: 0 });
  const deltas: string[] = [];
  stream.on('response.output_text.delta', (event) => deltas.push(event.delta));
  const final = await stream.finalResponse();
  expect([deltas.join(''), final.output_text]).toEqual([whole.output_text, whole.output_text]);
  expect(final.usage).toMatchObject({ output_tokens: 7 });
});

test('embeddings, in the base64 that the client asks for and as numbers', async () => {
  const input = ['a cat', 'a kitten'];
  const packed = await client.embeddings.create({ model: MODEL, input });
  const plain = await client.embeddings.create({ model: MODEL, input, encoding_format: 'float' });
  expect(packed.data.map((one) => [one.index, one.embedding.length])).toEqual([
    [0, 576],
    [1, 576],
  ]);
  plain.data.forEach(({ embedding }, index) =>
    embedding.forEach((value, at) => expect(value).toBeCloseTo(packed.data[index]?.embedding[at] ?? 9, 5)),
  );
  const short = await client.embeddings.create({ model: MODEL, input: 'a cat', dimensions: 64 });
  expect(Math.hypot(...(short.data[0]?.embedding ?? []))).toBeCloseTo(1, 4);
});

test('models', async () => {
  expect((await client.models.list()).data.map((model) => model.id)).toEqual([MODEL]);
  expect((await client.models.retrieve(MODEL)).id).toBe(MODEL);
});

describe('errors are the client’s own classes, with a sentence to act on', () => {
  const failure = async (promise: Promise<unknown>) =>
    promise.then(
      () => 'no error',
      (error: unknown) => error,
    );

  test('no key, a wrong key', async () => {
    for (const defaultHeaders of [{}, { authorization: null }]) {
      const stranger = new OpenAI({ apiKey: 'wrong', baseURL: `${server.url}/v1`, defaultHeaders });
      const error = await failure(stranger.chat.completions.create(chat));
      expect(error).toBeInstanceOf(AuthenticationError);
      expect(error).toMatchObject({ code: 'invalid_api_key', message: expect.stringContaining('API key') });
    }
  });

  test('a model that is not here', async () => {
    const error = await failure(client.chat.completions.create({ ...chat, model: 'gpt-4' }));
    expect(error).toBeInstanceOf(NotFoundError);
    expect(error).toMatchObject({ code: 'model_not_found', param: 'model', message: expect.stringContaining(MODEL) });
  });

  test('a prompt that is too long, a setting out of bounds, one that is not supported', async () => {
    const content = 'one more word '.repeat(1000);
    const cases = [
      [{ messages: [{ role: 'user', content }] }, { code: 'context_length_exceeded' }],
      [{ temperature: 3 }, { param: 'temperature', message: expect.stringContaining('a number from 0 to 2') }],
      [{ audio: { voice: 'alloy', format: 'wav' } }, { param: 'audio', code: 'unsupported_parameter' }],
    ] as const;
    for (const [more, expected] of cases) {
      const error = await failure(client.chat.completions.create({ ...chat, ...more } as typeof chat));
      expect(error).toBeInstanceOf(BadRequestError);
      expect(error).toMatchObject(expected);
    }
  });

  test('a full queue', async () => {
    const aborts = new AbortController();
    const busy = Array.from({ length: 3 }, () =>
      failure(client.chat.completions.create(long, { signal: aborts.signal })),
    );
    await expect.poll(() => server.metric('slm_queue_depth')).toBe(1);
    const error = await failure(client.chat.completions.create(long));
    expect(error).toBeInstanceOf(RateLimitError);
    expect(Number((error as RateLimitError).headers.get('retry-after'))).toBeGreaterThan(0);
    aborts.abort();
    for (const one of await Promise.all(busy)) expect(one).toBeInstanceOf(APIUserAbortError);
    await expect.poll(() => server.metric('slm_slots', { state: 'busy' })).toBe(0);
  });
});

test('a stream that the client leaves, and a request that it aborts, give their slots back', async () => {
  let pieces = 0;
  for await (const _ of await client.chat.completions.create({ ...long, stream: true })) if (++pieces === 3) break;
  const aborts = new AbortController();
  const whole = client.chat.completions.create(long, { signal: aborts.signal });
  await expect.poll(() => server.metric('slm_slots', { state: 'busy' })).toBeGreaterThan(0);
  aborts.abort();
  await expect(whole).rejects.toBeInstanceOf(APIUserAbortError);
  await expect.poll(() => server.metric('slm_slots', { state: 'busy' })).toBe(0);
});
