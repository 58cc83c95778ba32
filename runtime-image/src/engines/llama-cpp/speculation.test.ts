/** Guesses verified by the real library and a real model. */
import { expect, test, vi } from 'vitest';
import { answerTo, greedy, loadSmolLm2, question } from './testing.ts';

vi.setConfig({ testTimeout: 120_000 });

test('answers are the same with guesses as without, greedy and with dice, and many guesses are right', async () => {
  const [plain, guessing] = [await loadSmolLm2(), await loadSmolLm2({ mostGuesses: 4 })];
  const text = '"The brown fox jumps over the lazy dog, and the lazy dog barks at the brown fox."';
  const prompt = question(plain, `Repeat this text word for word: ${text}`);
  const dice = { ...greedy, temperature: 0.8, topP: 0.95, repeatPenalty: 1.05, seed: 7 };
  for (const sampling of [greedy, dice]) {
    const [expected, got] = [
      await answerTo(plain, prompt, { sampling, maxTokens: 60 }),
      await answerTo(guessing, prompt, { sampling, maxTokens: 60 }),
    ];
    expect(got.end.tokens).toEqual(expected.end.tokens);
    expect(got.end.reason).toBe(expected.end.reason);
  }
  const { made = 0, right = 0 } = guessing.stats.guesses ?? {};
  expect(right).toBeGreaterThan(2);
  expect(right).toBeGreaterThan(made / 3);
  expect(plain.stats.guesses).toEqual({ made: 0, right: 0 });

  const schema = {
    type: 'object',
    properties: { animals: { type: 'array', items: { enum: ['fox', 'dog'] }, maxItems: 6 } },
  };
  const grammar = { type: 'json_schema', schema: { ...schema, required: ['animals'] } } as const;
  const [one, two] = [
    await answerTo(plain, prompt, { grammar, maxTokens: 60 }),
    await answerTo(guessing, prompt, { grammar, maxTokens: 60 }),
  ];
  expect(two.text).toBe(one.text);
  await Promise.all([plain.close(), guessing.close()]);
});
