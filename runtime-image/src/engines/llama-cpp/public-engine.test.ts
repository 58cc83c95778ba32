/** What every engine must do, done by the library's public API alone, with a real model. */
import { smollm2 } from '@slm-operator/test/fixtures/models';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { QueueFullError } from '../../scheduling/queue.ts';
import { warmUp } from '../../warm-up.ts';
import { type Engine, GrammarError, PromptTooLongError, UnsupportedError } from '../engine.ts';
import { loadPublicly } from './public-engine.ts';
import { answerTo, greedy, loadSmolLm2, question } from './testing.ts';

vi.setConfig({ testTimeout: 60_000 });

const CONTEXT = 512;
let engine: Engine;
beforeAll(async () => {
  const { path } = await smollm2();
  engine = await loadPublicly(
    {
      file: path,
      contextLength: CONTEXT,
      parallelRequests: 2,
      batchSize: 128,
      threads: 1,
      flashAttention: 'Auto',
      kvCacheType: 'F16',
      maxQueue: 2,
    },
    { progress: () => undefined, log: () => undefined },
  );
}, 300_000);
afterAll(() => engine.close());

const FRANCE = 'What is the capital of France?';

test('it says what it is, in the same words as the other engine', async () => {
  const other = await loadSmolLm2({ contextLength: CONTEXT });
  expect(engine.info.model).toEqual(other.info.model);
  expect(engine.tokenize('<|im_start|>Hi <|im_end|>', true)).toEqual(other.tokenize('<|im_start|>Hi <|im_end|>', true));
  expect(engine.beginning).toEqual(other.beginning);
  expect([...engine.controlTokens].sort()).toEqual([...other.controlTokens].sort());
  expect((await answerTo(engine, question(engine, FRANCE))).text).toBe(
    (await answerTo(other, question(other, FRANCE))).text,
  );
  await other.close();
});

test('it answers, piece by piece, and counts', async () => {
  const pieces: string[] = [];
  for await (const part of engine.generate({
    prompt: question(engine, FRANCE),
    maxTokens: 24,
    sampling: greedy,
    stop: [],
  }))
    if (part.type === 'text') pieces.push(part.text);
    else
      expect(part).toMatchObject({
        reason: 'stop',
        promptTokens: question(engine, FRANCE).length,
        tokens: { length: part.completionTokens },
      });
  expect(pieces.length).toBeGreaterThan(3);
  expect(pieces.join('')).toContain('Paris');
  expect(await warmUp(engine)).toBeGreaterThan(0);
});

test('a prefix that a sequence knows is not computed again', async () => {
  const prompt = question(engine, FRANCE);
  const first = await answerTo(engine, prompt);
  const again = await answerTo(engine, prompt);
  expect(again.text).toBe(first.text);
  expect(again.end.cachedTokens).toBe(prompt.length - 1);
});

test('the same seed gives the same answer, alone and in company', async () => {
  const dice = { ...greedy, temperature: 1, topK: 0, repeatPenalty: 1.1 };
  const ask = (seed: number) =>
    answerTo(engine, question(engine, 'Name three animals.'), { sampling: { ...dice, seed } });
  const alone = await ask(7);
  const company = await Promise.all([ask(7), ask(8), ask(7)]);
  expect(company.map(({ text }) => text === alone.text)).toEqual([true, false, true]);
});

describe('ends', () => {
  test('at a stop text, at the limit, and where the context is full', async () => {
    const stopped = await answerTo(engine, question(engine, FRANCE), { stop: ['Paris'] });
    expect(stopped).toMatchObject({ end: { reason: 'stop', stop: 'Paris' } });
    expect(stopped.text).not.toContain('Paris');
    const short = await answerTo(engine, question(engine, FRANCE), { maxTokens: 3 });
    expect(short.end).toMatchObject({ reason: 'length', completionTokens: 3 });
    const prompt = question(engine, 'Write a long story about a dragon.');
    const more = { maxTokens: 1000, contextLength: prompt.length + 20 };
    expect((await answerTo(engine, prompt, more)).end).toMatchObject({ reason: 'length', completionTokens: 21 });
  });

  test('an abort during the prompt and after it frees the sequence', async () => {
    const long = Array.from({ length: 400 }, (_, index) => 1000 + ((index * 37) % 5000));
    for (const delay of [0, 1]) {
      const leave = new AbortController();
      const answer = answerTo(engine, long, { signal: leave.signal, maxTokens: 100 });
      if (delay === 0) leave.abort();
      else setTimeout(() => leave.abort(), 300);
      expect((await answer).end.reason).toBe('aborted');
    }
    await expect.poll(() => engine.stats.slotsBusy).toBe(0);
    expect((await answerTo(engine, question(engine, FRANCE))).text).toContain('Paris');
  });
});

test('a grammar holds', async () => {
  const schema = { type: 'object', properties: { city: { enum: ['Paris', 'Rome'] } }, required: ['city'] };
  const { text } = await answerTo(engine, question(engine, FRANCE), { grammar: { type: 'json_schema', schema } });
  expect(JSON.parse(text)).toEqual({ city: 'Paris' });
  expect(() =>
    engine.generate({
      prompt: [1],
      maxTokens: 1,
      sampling: greedy,
      stop: [],
      grammar: { type: 'gbnf', text: 'root ::= (' },
    }),
  ).toThrow(GrammarError);
});

test('what it cannot do is refused before it begins', async () => {
  const generate = (more: object) => () =>
    engine.generate({ prompt: [1], maxTokens: 1, sampling: greedy, stop: [], ...more });
  expect(generate({ logprobs: 1 })).toThrow(UnsupportedError);
  expect(generate({ keep: () => 1 })).toThrow(UnsupportedError);
  expect(generate({ ignoreEos: true })).toThrow(UnsupportedError);
  expect(generate({ minTokens: 3 })).toThrow(UnsupportedError);
  expect(generate({ prompt: Array.from({ length: CONTEXT }, () => 5) })).toThrow(PromptTooLongError);
  const waiting = Array.from({ length: 4 }, () => answerTo(engine, question(engine, FRANCE), { maxTokens: 2 }));
  expect(generate({})).toThrow(QueueFullError);
  await Promise.all(waiting);
});

test('texts become vectors', async () => {
  const { embeddings } = await engine.embed(['A cat sleeps.', 'A kitten naps.', 'Stock prices fell.']);
  const [cat, kitten, stocks] = embeddings.map((vector) => [...vector]);
  const near = (a: readonly number[] = [], b: readonly number[] = []) =>
    a.reduce((sum, value, at) => sum + value * (b[at] ?? 0), 0);
  expect(near(cat, cat)).toBeCloseTo(1, 5);
  expect(near(cat, kitten)).toBeGreaterThan(near(cat, stocks));
});
