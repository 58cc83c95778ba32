import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FakeDecoder, turns } from '../engines/fake.ts';
import type { BatchItem, SamplingParams, Token } from './decoder.ts';
import { GREEDY as sampling } from './decoder.ts';
import { Scheduler } from './scheduler.ts';
import { guessesEach, Speculation } from './speculation.ts';

const END = 999;

describe('guesses', () => {
  test('are what followed the same words the last time', () => {
    const speculation = new Speculation([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3], 4);
    expect(speculation.guess(10)).toEqual([4, 5]);
    for (let right = 0; right < 20; right++) speculation.learn(2, 2);
    expect(speculation.guess(10)).toEqual([4, 5, 6, 7]);
    expect(speculation.guess(1)).toEqual([4]);
    expect(speculation.guess(0)).toEqual([]);
    for (const token of [9, 9, 1, 2, 3]) speculation.push(token);
    expect(speculation.guess(10)).toEqual([9, 9, 1, 2]);
  });

  test('are none where nothing was said twice', () => {
    expect(new Speculation([1, 2, 3, 4, 5, 6], 4).guess(4)).toEqual([]);
    expect(new Speculation([1, 2], 4).guess(4)).toEqual([]);
    expect(new Speculation([], 4).guess(4)).toEqual([]);
  });

  test('become few while they are wrong, and many again when they are right', () => {
    const speculation = new Speculation([1, 2, 3, 4, 5, 6, 1, 2, 3], 8);
    let made = 0;
    for (let step = 0; step < 100; step++) {
      const count = speculation.guess(8).length;
      made += count;
      speculation.learn(count, 0);
    }
    expect(made).toBeLessThan(40);
    for (let step = 0; step < 200; step++) {
      const count = speculation.guess(8).length;
      speculation.learn(count, count);
    }
    expect(speculation.guess(8).length).toBeGreaterThan(2);
  });

  test('are shared by few streams and left alone beside many', () => {
    expect([0, 1, 2, 3, 4, 8].map((streams) => guessesEach(8, streams))).toEqual([0, 8, 4, 2, 0, 0]);
  });
});

/** Repeats itself with a period that depends on the seed, now and then breaks out of it, and ends. */
function next(tokens: readonly Token[], { seed }: SamplingParams): Token {
  const { length } = tokens;
  if (length % (61 + seed) === 0) return END;
  if (length % 17 === 0) return (length * 7 + seed) % 50;
  return tokens[length - 5 - (seed % 3)] ?? seed;
}

function alone(prompt: readonly Token[], maxTokens: number, seed: number, contextLength: number): Token[] {
  const tokens = [...prompt];
  const answer: Token[] = [];
  while (answer.length < maxTokens) {
    const token = next(tokens, { ...sampling, seed });
    if (token === END) break;
    answer.push(token);
    if (tokens.length >= contextLength) break;
    tokens.push(token);
  }
  return answer;
}

test('answers are the same with guesses as without, in fewer batches', async () => {
  let saved = 0;
  const request = fc.record({
    prompt: fc.array(fc.nat(9), { minLength: 1, maxLength: 50 }),
    maxTokens: fc.integer({ min: 1, max: 100 }),
    seed: fc.integer({ min: 1, max: 9 }),
    stopAt: fc.option(fc.integer({ min: 1, max: 30 }), { nil: undefined }),
  });
  const setup = fc.record({
    requests: fc.array(request, { minLength: 1, maxLength: 6 }),
    slots: fc.integer({ min: 1, max: 4 }),
    batchSize: fc.constantFrom(4, 16, 64),
    mostGuesses: fc.integer({ min: 1, max: 9 }),
  });
  await fc.assert(
    fc.asyncProperty(setup, async ({ requests, slots, batchSize, mostGuesses }) => {
      const decoder = new FakeDecoder({ slots, contextLength: 80, batchSize, next, beforeDecode: () => turns(1) });
      const batches: (readonly BatchItem[])[] = [];
      let clock = 0;
      const scheduler = new Scheduler(decoder, {
        maxQueue: 100,
        mostGuesses,
        isEndOfGeneration: (token) => token === END,
        now: () => ++clock,
        onBatch: (items) => batches.push(items),
      });
      const answers = await Promise.all(
        requests.map(
          ({ prompt, maxTokens, seed, stopAt }) =>
            new Promise<Token[]>((resolve, reject) => {
              const tokens: Token[] = [];
              scheduler.submit({
                prompt,
                maxTokens,
                sampling: { ...sampling, seed },
                sink: {
                  accept: (token) => tokens.push(token) === stopAt,
                  flush: () => undefined,
                  done: () => resolve(tokens),
                  failed: reject,
                },
              });
            }),
        ),
      );
      requests.forEach(({ prompt, maxTokens, seed, stopAt }, index) => {
        expect(answers[index]).toEqual(alone(prompt, Math.min(maxTokens, stopAt ?? maxTokens), seed, 80));
      });
      const { guesses } = scheduler.stats;
      expect(guesses?.right).toBeLessThanOrEqual(guesses?.made ?? 0);
      saved += guesses?.right ?? 0;
      // Nothing of a wrong guess is left behind: a slot holds no more than was said.
      await scheduler.close();
      expect(decoder.liveSamplers).toBe(0);
      for (const items of batches)
        expect(items.reduce((sum, item) => sum + item.tokens.length, 0)).toBeLessThanOrEqual(batchSize);
    }),
    { numRuns: 150 },
  );
  expect(saved).toBeGreaterThan(500);
});

test('prompts go before guesses', async () => {
  const decoder = new FakeDecoder({ slots: 2, contextLength: 500, batchSize: 64, next, beforeDecode: () => turns(1) });
  const batches: (readonly BatchItem[])[] = [];
  let clock = 0;
  const scheduler = new Scheduler(decoder, {
    maxQueue: 10,
    mostGuesses: 8,
    isEndOfGeneration: () => false,
    now: () => ++clock,
    onBatch: (items) => batches.push(items),
  });
  const submit = (prompt: readonly Token[], maxTokens: number) =>
    new Promise<void>((resolve, reject) => {
      const sink = { accept: () => false, flush: () => undefined, done: () => resolve(), failed: reject };
      scheduler.submit({ prompt, maxTokens, sampling, sink });
    });
  const stream = submit([1, 2, 3, 4, 1, 2, 3, 4], 200);
  while (batches.length < 10) await turns(1);
  await Promise.all([
    stream,
    submit(
      Array.from({ length: 300 }, (_, index) => index % 50),
      1,
    ),
  ]);
  const withPrompt = batches.filter((items) => items.some((item) => item.prompt));
  expect(withPrompt.length).toBeGreaterThan(3);
  for (const items of withPrompt) expect(items.every((item) => (item.guesses ?? 0) === 0)).toBe(true);
  expect(batches.some((items) => items.some((item) => (item.guesses ?? 0) > 0))).toBe(true);
  await scheduler.close();
});
