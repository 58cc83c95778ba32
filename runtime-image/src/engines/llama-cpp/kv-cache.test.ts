/** Types of the KV cache, with the real library and a real model. */
import { expect, test, vi } from 'vitest';
import { answerTo, loadSmolLm2, question } from './testing.ts';

vi.setConfig({ testTimeout: 120_000 });

test.each(['Q8_0', 'Q4_0'] as const)(
  'a KV cache of %s answers, shifts, is shared and comes back',
  async (kvCacheType) => {
    const engine = await loadSmolLm2({ kvCacheType, promptCacheBytes: 20_000_000 });
    const prompt = question(
      engine,
      'What is the capital of France? Think of the largest city there, and answer in one sentence.',
    );
    const first = await answerTo(engine, prompt);
    // Four bits are too few for a model of this size to know its capitals.
    expect(first.text).toMatch(kvCacheType === 'Q8_0' ? /Paris/ : /France|Paris/);
    const [left, right] = await Promise.all([answerTo(engine, prompt), answerTo(engine, prompt)]);
    expect([left.text, right.text]).toEqual([first.text, first.text]);
    expect(Math.min(left.end.cachedTokens, right.end.cachedTokens)).toBeGreaterThan(0);

    const more = { ignoreEos: true, maxTokens: 150, contextLength: 96, keep: () => 12 };
    const shifted = await answerTo(engine, question(engine, 'Tell a story of a fox.'), more);
    expect(shifted.end).toMatchObject({ completionTokens: 150, reason: 'length' });
    expect(shifted.text.slice(-200)).toMatch(/[a-z]{3,} [a-z]{2,} /);

    for (const other of ['Name three animals.', 'Who wrote Hamlet?', 'Why is the sky blue?'])
      await answerTo(engine, question(engine, `${other} Say it in one short sentence, please, and nothing else.`));
    const again = await answerTo(engine, prompt);
    expect(again.text).toBe(first.text);
    await engine.close();
  },
);
