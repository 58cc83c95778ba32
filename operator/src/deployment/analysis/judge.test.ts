import type { Analysis } from '@slm-operator/crds';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type JudgeInput, judgeGates } from './judge.ts';
import { reading } from './testing/readings.ts';

const all: Analysis = {
  minRequests: 20,
  errorRate: { maxPercent: 1, maxIncreasePoints: 0.5 },
  ttftP95: { maxMilliseconds: 500, maxIncreasePercent: 20 },
  tokensPerSecond: { min: 10, maxDecreasePercent: 10 },
};
const good = reading({ answers: 100 });

function judge(change: Partial<JudgeInput> = {}) {
  return judgeGates({ analysis: all, candidate: good, stable: good, stableGone: false, over: true, ...change });
}

describe('gates', () => {
  const rows: [string, Partial<JudgeInput>, string, string][] = [
    ['hold when nothing got worse', {}, 'passed', ''],
    ['say nothing when there are none', { analysis: { smokeTests: [] } }, 'none', ''],
    [
      'fail by too many errors',
      { candidate: reading({ answers: 100, failures: 12 }) },
      'failed',
      'error rate 12 % in 100 requests: at most 1 % is allowed',
    ],
    [
      'fail by more errors than before',
      { analysis: { errorRate: { maxIncreasePoints: 0.5 } }, candidate: reading({ answers: 1000, failures: 6 }) },
      'failed',
      'error rate 0.6 % in 1000 requests, and 0 % of the revision before: at most 0.5 points more is allowed',
    ],
    [
      'fail by a first token that comes late',
      { candidate: reading({ answers: 100, firstToken: 0.7 }) },
      'failed',
      'time to first token (p95) 780 ms in 100 requests: at most 500 ms is allowed',
    ],
    [
      'fail by a first token that comes later than before',
      { candidate: reading({ answers: 100, firstToken: 0.3 }) },
      'failed',
      'time to first token (p95) 390 ms in 100 requests, and 195 ms of the revision before: at most 20 % more is allowed',
    ],
    [
      'fail by slow answers',
      { candidate: reading({ answers: 100, speed: 9.96 }) },
      'failed',
      'speed 10 tokens/s in 100 requests: at least 10 tokens/s is allowed',
    ],
    [
      'fail by slower answers than before',
      { candidate: reading({ answers: 100, speed: 35 }) },
      'failed',
      'speed 35 tokens/s in 100 requests, and 40 tokens/s of the revision before: at most 10 % less is allowed',
    ],
    [
      'fail before the window is over, when there are enough requests',
      { candidate: reading({ answers: 20, failures: 12 }), over: false },
      'failed',
      'error rate 60 % in 20 requests: at most 1 % is allowed',
    ],
    [
      'do not fail by a few requests',
      { candidate: reading({ answers: 19, failures: 12 }), over: false },
      'waiting',
      'judged after 20 requests and 60 s',
    ],
    ['do not hold before the window is over', { over: false }, 'waiting', 'judged after 20 requests and 60 s'],
    ['let a quiet service go on', { candidate: reading({ answers: 3 }) }, 'passed', ''],
    [
      'let a quiet service wait where that is wanted',
      { analysis: { ...all, onTooFewRequests: 'Wait' }, candidate: reading({ answers: 3 }) },
      'waiting',
      'judged after 20 requests',
    ],
    [
      'wait while no pod could be measured',
      { candidate: undefined },
      'waiting',
      'no pod of the new revision could be measured yet',
    ],
    ['that compare hold when there is nothing to compare with', { stable: undefined }, 'passed', ''],
    [
      'that compare wait for the revision before where that is wanted',
      { analysis: { ...all, onTooFewRequests: 'Wait' }, stable: reading({ answers: 19 }) },
      'waiting',
      'the revision before needs 20 requests too, to compare with',
    ],
    [
      'that compare do not wait for a revision that is gone',
      { analysis: { ...all, onTooFewRequests: 'Wait' }, stable: undefined, stableGone: true },
      'passed',
      '',
    ],
  ];
  it.each(rows)('%s', (_, change, result, why) => {
    expect(judge(change)).toMatchObject({ result, why });
  });

  it('tell what they measured, and against what', () => {
    expect(judge().items).toEqual([
      { name: 'errorRate', result: 'Passed', value: '0 %', baseline: '0 %' },
      { name: 'ttftP95', result: 'Passed', value: '195 ms', baseline: '195 ms' },
      { name: 'tokensPerSecond', result: 'Passed', value: '40 tokens/s', baseline: '40 tokens/s' },
    ]);
  });

  it('say so when they were not judged', () => {
    const { items } = judge({ analysis: { errorRate: { maxPercent: 1 } }, candidate: reading({ answers: 3 }) });
    expect(items).toEqual([
      {
        name: 'errorRate',
        result: 'Passed',
        message: 'only 3 of 20 requests in 60 s: not judged by it, as onTooFewRequests: Continue has it',
      },
    ]);
  });
});

const readings = fc
  .record({
    good: fc.nat(200),
    failures: fc.nat(50),
    firstToken: fc.double({ min: 0.01, max: 1.5, noNaN: true }),
    speed: fc.double({ min: 1, max: 100, noNaN: true }),
  })
  .map(({ good: fine, failures, ...rest }) => reading({ ...rest, answers: fine + failures, failures }));
const percent = fc.integer({ min: 0, max: 100 });

describe('whatever was measured', () => {
  it('too few requests never fail a revision', () => {
    fc.assert(
      fc.property(readings, readings, fc.boolean(), (candidate, stable, over) => {
        const analysis: Analysis = { ...all, minRequests: candidate.answers + 1 };
        expect(judge({ analysis, candidate, stable, over }).result).not.toBe('failed');
      }),
    );
  });

  it('before the window is over nothing passes', () => {
    fc.assert(
      fc.property(readings, readings, (candidate, stable) => {
        expect(judge({ candidate, stable, over: false }).result).not.toBe('passed');
      }),
    );
  });

  it('a revision that is as the one before passes every comparison', () => {
    const analysis: Analysis = {
      minRequests: 1,
      errorRate: { maxIncreasePoints: 0 },
      ttftP95: { maxIncreasePercent: 0 },
      tokensPerSecond: { maxDecreasePercent: 0 },
    };
    fc.assert(
      fc.property(readings, (same) => {
        expect(judge({ analysis, candidate: same, stable: same }).result).toBe('passed');
      }),
    );
  });

  it('a stricter limit never lets through what a looser one refused', () => {
    fc.assert(
      fc.property(readings, percent, percent, (candidate, a, b) => {
        const result = (maxPercent: number) => judge({ analysis: { errorRate: { maxPercent } }, candidate }).result;
        if (result(Math.max(a, b)) === 'failed') expect(result(Math.min(a, b))).toBe('failed');
      }),
    );
  });
});
