import { describe, expect, it } from 'vitest';
import { now } from '../testing/objects.ts';
import { hasMetricGates, isApproved, pauseOf, podsFor, soakOf, startOf, stepsOf } from './steps.ts';

describe('steps', () => {
  it('are 10 % and 50 % when the spec names none', () => {
    expect(stepsOf(undefined).map(({ weight, pause }) => [weight, pause])).toEqual([
      [10, '5m'],
      [50, '5m'],
    ]);
    expect(pauseOf({ weight: 5 })).toBe(0);
    expect(soakOf({ blueGreen: { soak: '5m' } })).toBe(300_000);
    expect(soakOf(undefined)).toBe(30_000);
  });

  it('take as many pods as their part of the requests, and at least one', () => {
    expect([0, 1, 10, 34, 50, 100].map((weight) => podsFor(weight, 3))).toEqual([1, 1, 1, 2, 2, 3]);
    expect(podsFor(10, 1)).toBe(1);
    expect(podsFor(1, 1000)).toBe(10);
  });

  it('are measured only where a number is asked for', () => {
    expect(hasMetricGates({ analysis: { errorRate: { maxPercent: 5 } } })).toBe(true);
    expect(hasMetricGates({ analysis: { smokeTests: [] } })).toBe(false);
    expect(hasMetricGates(undefined)).toBe(false);
  });

  it('are approved for a revision, all or up to one', () => {
    const rows: [string | undefined, number, boolean][] = [
      [undefined, 1, false],
      ['abc', 1, true],
      ['abc', 9, true],
      ['abc:2', 2, true],
      ['abc:2', 3, false],
      ['other', 1, false],
      ['abcd', 1, false],
    ];
    for (const [approved, step, expected] of rows) expect(isApproved(approved, 'abc', step)).toBe(expected);
  });

  it('stand still while the rollout is paused', () => {
    const time = (seconds: number) => new Date(now + seconds * 1000).toISOString();
    const since = { phase: 'Analyzing', stepStartedAt: time(-100) } as const;
    expect(startOf(since, now)).toBe(now - 100_000);
    expect(startOf({ ...since, phase: 'Paused', lastProgressTime: time(-60) }, now)).toBe(now - 40_000);
    expect(startOf({ ...since, phase: 'Paused' }, now)).toBe(now - 100_000);
    expect(startOf({ phase: 'Progressing' }, now)).toBeUndefined();
  });
});
