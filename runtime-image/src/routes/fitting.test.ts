import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ChatMessage } from '../chat-template.ts';
import { fitMessages, fitTokens, type Overflow } from './fitting.ts';
import { call, makeTestServer } from './testing.ts';

const overflow: Overflow = { limit: 100, truncate: true, shift: true, keep: undefined };
/** Role and text, a token each character. */
const render = (messages: readonly ChatMessage[]) => ({
  prompt: [...Buffer.from(messages.map(({ role, content }) => `<${role}>${content}`).join(''))],
});
const textOf = (tokens: readonly number[]) => Buffer.from(tokens).toString();
const turn = (role: ChatMessage['role'], content: string): ChatMessage => ({ role, content });
const history = [
  turn('system', 'Be kind.'),
  turn('user', 'first question'),
  turn('assistant', 'first answer'),
  turn('user', 'second question'),
  turn('assistant', 'second answer'),
  turn('user', 'last'),
];

describe('a conversation that is too long', () => {
  test('loses its oldest turns, and neither its system message nor its last', () => {
    const { rendered } = fitMessages(history, render, overflow, 10);
    expect(textOf(rendered.prompt)).toBe('<system>Be kind.<user>second question<assistant>second answer<user>last');
    expect(textOf(fitMessages(history, render, { ...overflow, limit: 50 }, 10).rendered.prompt)).toBe(
      '<system>Be kind.<user>last',
    );
  });

  test('keeps the answers of tools with the question that led to them', () => {
    const tools = [...history.slice(0, 5), turn('user', 'now?'), turn('assistant', 'calls'), turn('tool', '12:00')];
    expect(textOf(fitMessages(tools, render, { ...overflow, limit: 70 }, 10).rendered.prompt)).toBe(
      '<system>Be kind.<user>now?<assistant>calls<tool>12:00',
    );
  });

  test('with a last message that is too long loses the beginning of it', () => {
    const long = [turn('system', 'Be kind.'), turn('user', `${'x'.repeat(200)}, and why?`)];
    const { prompt } = fitMessages(long, render, overflow, 10).rendered;
    expect(textOf(prompt)).toMatch(/^<system>Be kind\.<user>x+, and why\?$/);
    expect(prompt).toHaveLength(90);
  });

  test('is left alone where it is to be refused', () => {
    const { rendered, keep } = fitMessages(history, render, { ...overflow, truncate: false, shift: false }, 10);
    expect(rendered).toEqual(render(history));
    expect(keep).toBeUndefined();
  });
});

test('what goes on keeps what stands before the conversation, or as much as was asked for', () => {
  const keepOf = (more: Partial<Overflow>) =>
    fitMessages(history, render, { ...overflow, limit: 400, ...more }, 10).keep?.();
  expect(keepOf({})).toBe('<system>Be kind.<user>'.length);
  expect(keepOf({ keep: 7 })).toBe(7);
  expect(keepOf({ keep: -1 })).toBe(render(history).prompt.length);
  expect(keepOf({ shift: false })).toBeUndefined();
});

test('whatever is too long fits afterwards, with its beginning and its end', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 16, max: 300 }),
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: -1, max: 400 }),
      fc.integer({ min: 1, max: 500 }),
      (limit, length, keep, maxTokens) => {
        const prompt = Array.from({ length }, (_, index) => index);
        const fitted = fitTokens(prompt, { limit, truncate: true, shift: false, keep }, maxTokens).rendered.prompt;
        expect(fitted.length).toBeLessThan(limit);
        expect(fitted.at(-1)).toBe(prompt.at(-1));
        expect(fitted).toHaveLength(new Set(fitted).size);
        if (length < limit) expect(fitted).toEqual(prompt);
        else if (keep !== 0) expect(fitted[0]).toBe(0);
      },
    ),
  );
});

describe('Ollama', () => {
  const { app } = makeTestServer({ contextLength: 128 });
  const chat = (body: object) => call(app, 'POST', '/api/chat', { model: 'chat', stream: false, ...body });
  const messages = [
    { role: 'user', content: 'a'.repeat(60) },
    { role: 'assistant', content: 'b'.repeat(60) },
    { role: 'user', content: 'And now?' },
  ];

  test('long conversations are cut, unless truncate is false', async () => {
    expect(await chat({ messages })).toMatchObject({
      status: 200,
      body: { message: { content: 'You said: And now?' }, done_reason: 'stop' },
    });
    expect(await chat({ messages, truncate: false })).toMatchObject({
      status: 400,
      body: { error: expect.stringContaining("this server's context holds 128") as string },
    });
  });

  test('long answers go on, unless shift is false', async () => {
    const body = { model: 'chat', stream: false, raw: true, prompt: 'x'.repeat(40), options: { num_predict: 100 } };
    const generate = (more: object) => call(app, 'POST', '/api/generate', { ...body, ...more });
    const small = { options: { num_predict: 9, num_ctx: 45 } };
    expect(await generate({ ...small })).toMatchObject({ body: { eval_count: 9, done_reason: 'length' } });
    expect(await generate({ ...small, shift: false })).toMatchObject({
      body: { eval_count: 5, done_reason: 'length' },
    });
  });

  test('num_ctx is the context that a request gets', async () => {
    expect(await chat({ messages, truncate: false, options: { num_ctx: 64 } })).toMatchObject({
      status: 400,
      body: { error: expect.stringMatching(/asks for a context of 64: .*up to 128/) as string },
    });
    expect(await chat({ messages, options: { num_ctx: 64 } })).toMatchObject({
      body: { message: { content: 'You said: And now?' } },
    });
  });

  test('a model that cannot forget says so, and ends with length where nobody asked', async () => {
    const { app: rigid } = makeTestServer({ contextLength: 64, capabilities: { shift: false } });
    const ask = (more: object) =>
      call(rigid, 'POST', '/api/generate', {
        model: 'chat',
        stream: false,
        raw: true,
        prompt: 'x'.repeat(60),
        ...more,
      });
    expect(await ask({ shift: true })).toMatchObject({
      status: 400,
      body: { error: expect.stringContaining('leave shift out') as string },
    });
    expect(await ask({})).toMatchObject({ status: 200, body: { done_reason: 'stop' } });
    expect(await ask({ shift: false, prompt: 'y'.repeat(50), options: { num_ctx: 52 } })).toMatchObject({
      body: { done_reason: 'length' },
    });
  });
});

test("OpenAI's responses are cut when truncation is auto, and refused otherwise", async () => {
  const { app } = makeTestServer({ contextLength: 128 });
  const input = [
    { role: 'user', content: 'a'.repeat(120) },
    { role: 'assistant', content: 'b' },
    { role: 'user', content: 'And now?' },
  ];
  const respond = (more: object) => call(app, 'POST', '/v1/responses', { model: 'chat', input, ...more });
  expect(await respond({ truncation: 'auto' })).toMatchObject({
    status: 200,
    body: { truncation: 'auto', output: [{ content: [{ text: 'You said: And now?' }] }] },
  });
  expect(await respond({})).toMatchObject({ status: 400, body: { error: { code: 'context_length_exceeded' } } });
  expect(await respond({ truncation: 'some' })).toMatchObject({ status: 400 });
});
