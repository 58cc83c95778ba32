/** Ollama's own client for JavaScript, as an application uses it. */
import { Ollama } from 'ollama';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MODEL, type RunningServer, startServer } from './server.ts';
import { modelWithTools } from './tools-model.ts';

let server: RunningServer;
let client: Ollama;
beforeAll(async () => {
  server = await startServer({ model: await modelWithTools(), env: { SLM_PARALLEL_REQUESTS: '2' } });
  client = new Ollama({ host: server.url });
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

const messages = [{ role: 'user', content: 'Name the capital of France.' }];
// Without it the model avoids the words of the question, which no answer can.
const exact = { temperature: 0, repeat_penalty: 1 };
const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather in a city',
    parameters: { type: 'object', required: ['city'], properties: { city: { type: 'string', description: 'a city' } } },
  },
};
const idle = () => expect.poll(() => server.metric('slm_slots', { state: 'busy' })).toBe(0);

describe('chat', () => {
  test('in one piece, with the numbers that the client shows', async () => {
    const answer = await client.chat({ model: MODEL, messages, options: exact });
    expect(answer.message).toEqual({ role: 'assistant', content: 'The capital of France is Paris.' });
    expect(answer).toMatchObject({ model: MODEL, done: true, done_reason: 'stop', eval_count: 7 });
    for (const value of [answer.prompt_eval_count, answer.prompt_eval_duration, answer.eval_duration])
      expect(value).toBeGreaterThan(0);
    expect(answer.total_duration).toBeGreaterThanOrEqual(answer.prompt_eval_duration + answer.eval_duration);
    expect(Date.parse(answer.created_at as unknown as string)).toBeGreaterThan(0);
  });

  test('as a stream, which adds up to the same', async () => {
    const pieces = [];
    for await (const part of await client.chat({ model: MODEL, messages, options: exact, stream: true }))
      pieces.push(part);
    expect(pieces.length).toBeGreaterThan(3);
    expect(pieces.map((part) => part.message.content).join('')).toBe('The capital of France is Paris.');
    expect(pieces.map((part) => part.done)).toEqual([...pieces.slice(1).map(() => false), true]);
    expect(pieces.at(-1)).toMatchObject({ done_reason: 'stop', eval_count: 7 });
  });

  test('options: length, stop texts and seeds', async () => {
    const ask = async (options: Record<string, unknown>) => {
      const answer = await client.chat({ model: MODEL, messages, options });
      return [answer.message.content, answer.done_reason];
    };
    expect(await ask({ ...exact, num_predict: 3 })).toEqual(['The capital of', 'length']);
    expect(await ask({ ...exact, stop: [' Paris'] })).toEqual(['The capital of France is', 'stop']);
    const seeded = { temperature: 1.5, seed: 7, num_predict: 12 };
    expect(await ask(seeded)).toEqual(await ask(seeded));
  });

  test('structured output by a JSON schema', async () => {
    const format = {
      type: 'object',
      properties: { capital: { enum: ['Paris', 'Rome'] }, people: { type: 'integer', minimum: 1, maximum: 99 } },
      required: ['capital', 'people'],
      additionalProperties: false,
    };
    const answer = await client.chat({ model: MODEL, messages, format, options: exact });
    expect(JSON.parse(answer.message.content)).toEqual({ capital: 'Paris', people: expect.any(Number) });
  });

  test('log probabilities', async () => {
    const answer = await client.chat({
      model: MODEL,
      messages,
      options: { ...exact, num_predict: 4 },
      logprobs: true,
      top_logprobs: 2,
    });
    expect(answer.logprobs?.map((one) => one.token).join('')).toBe(answer.message.content);
    expect(answer.logprobs?.map((one) => one.top_logprobs?.length)).toEqual([2, 2, 2, 2]);
    for (const one of answer.logprobs ?? []) expect(one.logprob).toBeLessThanOrEqual(0);
  });
});

describe('tools', () => {
  const ask = (content: string) => ({
    model: MODEL,
    messages: [{ role: 'user', content }],
    tools: [weather],
    options: { ...exact, num_predict: 80 },
  });
  const call = (city: string) => ({ function: { name: 'get_weather', arguments: { city } } });

  test('a call, and the answer to its result', async () => {
    const { message } = await client.chat(ask('What is the weather in Paris?'));
    expect(message).toMatchObject({ content: '', tool_calls: [call('Paris')] });
    const next = await client.chat({
      model: MODEL,
      messages: [
        { role: 'user', content: 'What is the weather in Paris?' },
        message,
        { role: 'tool', tool_name: 'get_weather', content: 'Sunny, 21 degrees.' },
      ],
      options: { ...exact, num_predict: 20 },
    });
    expect(next.message.content).not.toBe('');
  });

  test('several calls in a stream', async () => {
    const calls = [];
    for await (const part of await client.chat({ ...ask('What is the weather in Paris and in Berlin?'), stream: true }))
      calls.push(...(part.message.tool_calls ?? []));
    expect(calls).toMatchObject([call('Paris'), call('Berlin')]);
  });
});

describe('generate', () => {
  test('with a system text, and on from the context that it returned', async () => {
    const first = await client.generate({
      model: MODEL,
      system: 'You answer in one word.',
      prompt: 'Name the capital of France.',
      options: exact,
    });
    expect(first.response).toContain('Paris');
    expect(first.context.length).toBe(first.prompt_eval_count + first.eval_count);
    const next = await client.generate({
      model: MODEL,
      prompt: 'And of Italy?',
      context: first.context,
      options: { ...exact, num_predict: 16 },
    });
    expect(next.prompt_eval_count).toBeGreaterThan(first.context.length);
  });

  test('raw: the prompt as it is, in a stream', async () => {
    let text = '';
    const stream = await client.generate({
      model: MODEL,
      prompt: 'One, two, three, four,',
      raw: true,
      stream: true,
      options: { ...exact, num_predict: 4 },
    });
    for await (const part of stream) text += part.response;
    expect(text).toMatch(/five/);
  });
});

test('a conversation that is too long loses its oldest turns', async () => {
  const long = { role: 'user', content: 'one more word '.repeat(1000) };
  const answer = await client.chat({
    model: MODEL,
    messages: [long, { role: 'assistant', content: 'Well.' }, ...messages],
    options: exact,
  });
  expect(answer.message.content).toBe('The capital of France is Paris.');
  expect(answer.prompt_eval_count).toBeLessThan(100);
});

test('null stands for nothing, as in Go', async () => {
  const said = { ...messages[0], role: 'user', thinking: null, tool_calls: null, tool_name: null, images: null };
  const body = {
    model: MODEL,
    messages: [said],
    options: { ...exact, seed: null },
    format: null,
    tools: null,
    think: null,
  };
  const response = await fetch(`${server.url}/api/chat`, {
    method: 'POST',
    body: JSON.stringify({ ...body, keep_alive: null, stream: false }),
  });
  expect(await response.json()).toMatchObject({ message: { content: 'The capital of France is Paris.' } });
});

test('embeddings: many texts, and the older endpoint for one', async () => {
  const { embeddings, prompt_eval_count } = await client.embed({
    model: MODEL,
    input: ['a cat', 'a kitten', 'tax law'],
  });
  expect(embeddings.map((vector) => vector.length)).toEqual([576, 576, 576]);
  for (const vector of embeddings) expect(Math.hypot(...vector)).toBeCloseTo(1, 3);
  expect(prompt_eval_count).toBeGreaterThan(5);
  const { embedding } = await client.embeddings({ model: MODEL, prompt: 'a cat' });
  const length = Math.hypot(...embedding);
  embedding.forEach((value, index) => expect(value / length).toBeCloseTo(embeddings[0]?.[index] ?? 0, 3));
});

test('models: list, show, ps, version, and loading ahead of time', async () => {
  const { models } = await client.list();
  expect(models.map((model) => model.name)).toEqual([`${MODEL}:latest`]);
  expect(models[0]?.details).toMatchObject({ format: 'gguf', family: 'llama', quantization_level: 'Q4_1' });
  const shown = await client.show({ model: MODEL });
  expect(shown.capabilities).toEqual(expect.arrayContaining(['completion', 'tools', 'embedding']));
  expect(shown.template).toContain('get_weather');
  const loaded = await client.generate({ model: MODEL, prompt: '', keep_alive: '5m' });
  expect(loaded).toMatchObject({ response: '', done: true, done_reason: 'load' });
  const { models: running } = await client.ps();
  expect(running.map((model) => model.name)).toEqual([`${MODEL}:latest`]);
  expect((await client.version()).version).toMatch(/^\d+\.\d+\.\d+/);
});

describe('errors are the client’s own, with a sentence to act on', () => {
  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => 'no error',
      (error: { name: string; status_code: number; message: string }) => [error.name, error.status_code, error.message],
    );

  test('a model that is not here', async () => {
    const expected = ['ResponseError', 404, expect.stringMatching(/model 'other' not found.*smollm2/)];
    expect(await failure(client.chat({ model: 'other', messages }))).toEqual(expected);
    expect(await failure(client.chat({ model: 'other', messages, stream: true }))).toEqual(expected);
  });

  test('a misspelt option', async () => {
    const options = { temprature: 1 } as object;
    expect(await failure(client.chat({ model: MODEL, messages, options }))).toEqual([
      'ResponseError',
      400,
      expect.stringMatching(/options\.temprature is not an option/),
    ]);
  });

  test('a text to embed that is too long and may not be cut', async () => {
    const input = 'one more word '.repeat(1000);
    expect(await failure(client.embed({ model: MODEL, input, truncate: false }))).toEqual([
      'ResponseError',
      400,
      expect.stringMatching(/has \d+ tokens and this server's context holds 1024/),
    ]);
  });

  test('pulling: state belongs to the cluster', async () => {
    expect(await failure(client.pull({ model: 'llama3' }))).toEqual([
      'ResponseError',
      403,
      expect.stringMatching(/SLMModel/),
    ]);
  });
});

test('a stream that the client aborts gives its slot back', async () => {
  const own = new Ollama({ host: server.url });
  const stream = await own.generate({
    model: MODEL,
    prompt: 'Tell a long story.',
    stream: true,
    options: { num_predict: 900, temperature: 1 },
  });
  let pieces = 0;
  const reading = (async () => {
    for await (const _ of stream) if (++pieces === 2) own.abort();
  })();
  await expect(reading).rejects.toThrow(/abort/i);
  expect(pieces).toBeLessThan(900);
  await idle();
});
