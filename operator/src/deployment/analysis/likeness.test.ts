import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cosine, likeness, signatureOf } from './likeness.ts';

describe('the cosine of two vectors', () => {
  const rows: [string, number[], number[], number | undefined][] = [
    ['of the same direction is 1', [1, 2], [2, 4], 1],
    ['at right angles is 0', [1, 0], [0, 3], 0],
    ['of opposite directions is -1', [1, 0], [-2, 0], -1],
    ['of different lengths is none', [1], [1, 2], undefined],
    ['of nothing is none', [0, 0], [1, 2], undefined],
  ];
  it.each(rows)('%s', (_, a, b, expected) => {
    const found = cosine(a, b);
    if (expected === undefined) expect(found).toBeUndefined();
    else expect(found).toBeCloseTo(expected, 12);
  });
});

describe('the likeness of two answers', () => {
  const of = (a: string, b: string) => likeness(signatureOf(a), signatureOf(b)) ?? Number.NaN;
  const answer = 'The capital of France is Paris, a city on the river Seine with about two million inhabitants.';
  it('is 1 of the same, whatever its spaces', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(of(text, ` ${text}\n`)).toBe(1);
      }),
    );
  });
  it('is high when few words changed', () => {
    expect(of(answer, answer.replace('two million', '2 million'))).toBeGreaterThan(0.85);
  });
  it('is low of another answer', () => {
    expect(of(answer, 'I cannot help with questions of geography; ask me for a poem instead.')).toBeLessThan(0.4);
  });
  it('is none of what is no signature', () => {
    expect(likeness('', signatureOf('x'))).toBeUndefined();
  });
});
