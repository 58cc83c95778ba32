import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NO_TOKEN, type SamplerRequest } from '../../scheduling/decoder.ts';
import { likeliest, topTokens } from './candidates.ts';
import { chooseToken } from './choice.ts';
import { SeededRandom } from './random.ts';
import { GenerationSampler } from './sampler.ts';
import { scoresOf } from './scores.ts';

const plain: SamplerRequest = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  seed: 1,
  repeatPenalty: 1,
  repeatLastN: 64,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
};
const model = { contextLength: 100, endTokens: [0] };

/** Tokens that come of always the same logits. */
function tokens(
  logits: readonly number[],
  request: Partial<SamplerRequest>,
  count = 1,
  history: number[] = [],
): number[] {
  const sampler = new GenerationSampler({ ...plain, ...request }, history, model, undefined);
  const row = Float32Array.from(logits);
  const work = new Float32Array(row.length);
  return Array.from({ length: count }, () => sampler.next(row, work).token);
}

/** How often each token comes in many draws. */
function shares(logits: readonly number[], request: Partial<SamplerRequest>, draws = 4000): number[] {
  const counts = logits.map(() => 0);
  for (const token of tokens(logits, { temperature: 1, ...request }, draws)) counts[token] = (counts[token] ?? 0) + 1;
  return counts.map((count) => count / draws);
}

describe('random numbers', () => {
  test('are decided by the seed and spread evenly', () => {
    const first = new SeededRandom(7);
    const second = new SeededRandom(7);
    const numbers = Array.from({ length: 10_000 }, () => first.next());
    expect(numbers.slice(0, 100)).toEqual(Array.from({ length: 100 }, () => second.next()));
    expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...numbers)).toBeLessThan(1);
    expect(numbers.reduce((sum, one) => sum + one, 0) / numbers.length).toBeCloseTo(0.5, 1);
  });

  test('of neighbouring seeds have nothing in common', () => {
    const firsts = Array.from({ length: 1000 }, (_, seed) => new SeededRandom(seed).next());
    expect(new Set(firsts).size).toBe(1000);
    expect(firsts.filter((one) => one < 0.5).length).toBeGreaterThan(440);
    expect(firsts.filter((one) => one < 0.5).length).toBeLessThan(560);
  });
});

describe('candidates', () => {
  const rows = fc
    .array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 300 })
    .map((row) => Float32Array.from(row));

  test('the likeliest come first, of equals the lower ids', () => {
    fc.assert(
      fc.property(rows, fc.integer({ min: 1, max: 400 }), (row, count) => {
        const sorted = Array.from(row.keys())
          .filter((token) => (row[token] ?? 0) > Number.NEGATIVE_INFINITY)
          .sort((a, b) => {
            const [x = 0, y = 0] = [row[a], row[b]];
            return x === y ? a - b : x > y ? -1 : 1;
          });
        expect([...topTokens(row, count)]).toEqual(sorted.slice(0, count));
        expect(likeliest(row)).toBe(sorted[0] ?? -1);
      }),
    );
  });

  test('also of a whole vocabulary', () => {
    const random = new SeededRandom(3);
    const row = Float32Array.from({ length: 50_000 }, () => random.next());
    const [first = 0, second = 0] = topTokens(row, 10_000);
    expect([first, second]).toEqual([...topTokens(row, 2)]);
    expect(topTokens(row, 10_000).length).toBe(10_000);
  });
});

describe('choice', () => {
  test('temperature 0 takes the likeliest, a high one levels', () => {
    expect(tokens([0, 3, 1], {}, 3)).toEqual([1, 1, 1]);
    const [, warm = 0] = shares([0, 3, 1], {});
    const [, hot = 0] = shares([0, 3, 1], { temperature: 5 });
    expect(warm).toBeCloseTo(Math.exp(3) / (1 + Math.exp(3) + Math.E), 1);
    expect(hot).toBeLessThan(0.6);
  });

  test('shares are those of the softmax', () => {
    const [a = 0, b = 0, c = 0] = shares([Math.log(0.5), Math.log(0.3), Math.log(0.2)], {}, 20_000);
    expect([a, b, c].map((share) => Math.round(share * 20) / 20)).toEqual([0.5, 0.3, 0.2]);
  });

  test.each([
    ['top-k keeps that many', { topK: 2 }, [0.5, 0.3]],
    ['top-p keeps the fewest that reach it', { topP: 0.6 }, [0.5, 0.3]],
    ['top-p keeps at least one', { topP: 0 }, [0.5]],
    ['min-p keeps what is not far below the best', { minP: 0.5 }, [0.5, 0.3]],
    ['top-p counts within top-k', { topK: 2, topP: 0.6 }, [0.5]],
    ['all of them together', { topK: 3, topP: 0.9, minP: 0.9 }, [0.5]],
  ])('%s', (_, request, kept) => {
    const weights = [0.5, 0.3, 0.15, 0.05];
    const total = kept.reduce((sum, one) => sum + one, 0);
    const found = shares(weights.map(Math.log), request);
    found.forEach((share, token) => {
      const expected = token < kept.length ? (kept[token] ?? 0) / total : 0;
      expect(Math.abs(share - expected)).toBeLessThan(0.04);
    });
  });

  test('a flat row keeps what top-p says, however many that are', () => {
    const flat = Array.from({ length: 5000 }, () => 1);
    const found = new Set(tokens(flat, { temperature: 1, topP: 0.5 }, 200));
    expect(Math.max(...found)).toBeLessThan(2501);
    expect(found.size).toBeGreaterThan(150);
  });

  test('the nucleus is that of all tokens sorted, wherever it is found', () => {
    const dice = fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true }));
    const settings = [
      fc.integer({ min: 1, max: 5000 }),
      fc.double({ min: 0.01, max: 0.99, noNaN: true }),
      dice,
    ] as const;
    fc.assert(
      fc.property(...settings, (size, topP, random) => {
        const row = Float32Array.from({ length: size }, () => Math.round((random.next().value ?? 0) * 500) / 500);
        const sorted = [...row.keys()].sort((a, b) => (row[b] ?? 0) - (row[a] ?? 0) || a - b);
        const total = row.reduce((sum, logit) => sum + Math.exp(logit), 0);
        let sum = 0;
        const last = sorted.findIndex((token) => (sum += Math.exp(row[token] ?? 0)) >= topP * total);
        const allowed = new Set(sorted.slice(0, last + 2));
        for (const token of tokens([...row], { temperature: 1, topP }, 5)) expect(allowed).toContain(token);
      }),
      { numRuns: 50 },
    );
  });

  test('what is ruled out never comes, and nothing is left of nothing', () => {
    const never = Number.NEGATIVE_INFINITY;
    expect(new Set(tokens([never, 0, Number.NaN, 0], { temperature: 1 }, 100))).toEqual(new Set([1, 3]));
    const random = new SeededRandom(1);
    for (const temperature of [0, 1])
      expect(chooseToken(Float32Array.of(never, Number.NaN), { ...plain, temperature }, random)).toBe(NO_TOKEN);
  });

  test('any settings give a token of the vocabulary', () => {
    const positive = fc.double({ min: 0, max: 1e6, noNaN: true });
    fc.assert(
      fc.property(
        fc.record({
          temperature: positive,
          topK: fc.nat(),
          topP: fc.double({ min: 0, max: 1, noNaN: true }),
          minP: fc.double({ min: 0, max: 1, noNaN: true }),
          seed: fc.nat(),
          repeatPenalty: fc.double({ min: 0.01, max: 100, noNaN: true }),
          presencePenalty: fc.double({ min: -2, max: 2, noNaN: true }),
          frequencyPenalty: fc.double({ min: -2, max: 2, noNaN: true }),
          repeatLastN: fc.integer({ min: -1, max: 1000 }),
        }),
        fc.array(fc.float({ min: -100, max: 100, noNaN: true }), { minLength: 1, maxLength: 50 }),
        (request, logits) => {
          for (const token of tokens(logits, request, 3, [0, 1, 2, 999])) {
            expect(token).toBeGreaterThanOrEqual(0);
            expect(token).toBeLessThan(logits.length);
          }
        },
      ),
    );
  });
});

describe('penalties, biases and the end', () => {
  test('a repeated token loses against the next, also below zero', () => {
    expect(tokens([0, 2, 1.5], { repeatPenalty: 1.5 }, 2)).toEqual([1, 2]);
    expect(tokens([-9, -1, -1.2], { repeatPenalty: 1.5 }, 2)).toEqual([1, 2]);
  });

  test('the prompt counts, as far back as asked', () => {
    expect(tokens([0, 2, 1.5], { presencePenalty: 1 }, 1, [1, 0])).toEqual([2]);
    expect(tokens([0, 2, 1.5], { presencePenalty: 1, repeatLastN: 1 }, 1, [1, 0])).toEqual([1]);
    expect(tokens([0, 2, 1.5], { presencePenalty: 1, repeatLastN: 0 }, 1, [1])).toEqual([1]);
    expect(tokens([0, 2, 1.5], { presencePenalty: 1, repeatLastN: -1 }, 1, [1, ...Array<number>(90).fill(0)])).toEqual([
      2,
    ]);
  });

  test('frequency counts each time, presence once', () => {
    const row = [0, 3, 2.5];
    expect(tokens(row, { frequencyPenalty: 0.2 }, 4)).toEqual([1, 1, 1, 2]);
    expect(tokens(row, { presencePenalty: 0.2 }, 4)).toEqual([1, 1, 1, 1]);
  });

  test('a bias lifts or rules out', () => {
    expect(tokens([0, 3, 2], { logitBias: [[2, 5]] })).toEqual([2]);
    expect(tokens([0, 3, 2], { logitBias: [[1, -100]] })).toEqual([2]);
    expect(tokens([0, 3, 2], { logitBias: [[77, 5]] })).toEqual([1]);
  });

  test('the end is kept away, for a while or for good', () => {
    expect(tokens([9, 1, 2], { minTokens: 2 }, 3)).toEqual([2, 2, 0]);
    expect(tokens([9, 1, 2], { ignoreEos: true }, 3)).toEqual([2, 2, 2]);
  });
});

test('scores are those of the row as it was given', () => {
  const weights = [0.1, 0.6, 0.3];
  const row = Float32Array.from(weights, (weight) => Math.log(weight) + 7);
  const { logprob, top } = scoresOf(row, 2, 2);
  expect(Math.exp(logprob)).toBeCloseTo(0.3, 5);
  expect(top.map(([token, score]) => [token, Math.exp(score).toFixed(4)])).toEqual([
    [1, '0.6000'],
    [2, '0.3000'],
  ]);
  const sampler = new GenerationSampler({ ...plain, logprobs: 1, logitBias: [[0, 100]] }, [], model, undefined);
  const pick = sampler.next(row, new Float32Array(3));
  expect([pick.token, Math.exp(pick.logprob ?? 0).toFixed(4), pick.top?.[0]?.[0]]).toEqual([0, '0.1000', 1]);
});
