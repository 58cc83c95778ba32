/** Answers and tools described with zod, through the clients that take them: what their converters write is honoured whole. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, Output, tool } from 'ai';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { afterAll, beforeAll, expect, test } from 'vitest';
import * as z from 'zod';
import { MODEL, type RunningServer, startServer } from './server.ts';

let server: RunningServer;
let openai: OpenAI;
beforeAll(async () => {
  server = await startServer();
  openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

/** Everything that a grammar has to say in its own way. */
const Place = z.object({
  kind: z.literal('place'),
  city: z.enum(['Paris', 'Rome', 'Oslo']),
  code: z.string().regex(/^[A-Z]{2}-\d{3}$/),
  people: z.number().int().min(1).max(99),
  tags: z.array(z.enum(['old', 'large', 'calm'])).max(2),
  mayor: z.object({ name: z.string().max(12) }).nullable(),
  size: z.union([z.literal('small'), z.literal(7)]),
});
const messages = [{ role: 'user' as const, content: 'Name the capital of France.' }];

test('openai: a chat, parsed', async () => {
  const answer = await openai.chat.completions.parse({
    model: MODEL,
    messages,
    temperature: 0,
    max_tokens: 200,
    response_format: zodResponseFormat(Place, 'place'),
  });
  expect(Place.parse(answer.choices[0]?.message.parsed)).toMatchObject({ kind: 'place', city: 'Paris' });
});

test('openai: a response, parsed', async () => {
  const answer = await openai.responses.parse({
    model: MODEL,
    input: 'Name the capital of France.',
    temperature: 0,
    text: { format: zodTextFormat(Place, 'place') },
  });
  expect(Place.parse(answer.output_parsed)).toMatchObject({ kind: 'place' });
});

test('openai: a tool’s arguments, parsed', async () => {
  const answer = await openai.chat.completions.parse({
    model: MODEL,
    messages,
    temperature: 0,
    tools: [zodFunction({ name: 'visit', parameters: Place })],
    tool_choice: 'required',
  });
  const [call] = answer.choices[0]?.message.tool_calls ?? [];
  expect(Place.parse(call?.type === 'function' ? call.function.parsed_arguments : undefined)).toMatchObject({
    kind: 'place',
  });
});

test('ollama: a format', async () => {
  const client = new Ollama({ host: server.url });
  const answer = await client.chat({
    model: MODEL,
    messages,
    format: z.toJSONSchema(Place),
    options: { temperature: 0 },
  });
  expect(Place.parse(JSON.parse(answer.message.content))).toMatchObject({ kind: 'place' });
});

test('AI SDK: an object, and a tool', async () => {
  const provider = createOpenAICompatible({
    name: 'slm',
    baseURL: `${server.url}/v1`,
    supportsStructuredOutputs: true,
  });
  const settings = { model: provider.chatModel(MODEL), prompt: 'Name the capital of France.', temperature: 0 };
  const { output } = await generateText({ ...settings, output: Output.object({ schema: Place }) });
  expect(output).toMatchObject({ kind: 'place' });
  const { toolCalls } = await generateText({
    ...settings,
    tools: { visit: tool({ inputSchema: Place }) },
    toolChoice: 'required',
  });
  expect(toolCalls.map((call) => Place.parse(call.input).kind)).toEqual(['place']);
});
