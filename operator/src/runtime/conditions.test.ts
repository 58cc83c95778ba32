import { describe, expect, it } from 'vitest';
import {
  isConditionTrue,
  reconcileConditions,
  setCondition,
  summaryConditions,
  toMicroTime,
  toRfc3339,
} from './conditions.ts';

const [first, later] = [Date.UTC(2030, 0, 1), Date.UTC(2030, 0, 2)];
const ready = { type: 'Ready', status: 'True' as const, reason: 'Done', message: 'all is well' };

describe('conditions', () => {
  it('move their transition time when the status changes, and only then', () => {
    const one = setCondition([], ready, { now: first, observedGeneration: 1 });
    expect(one).toEqual([{ ...ready, lastTransitionTime: '2030-01-01T00:00:00Z', observedGeneration: 1 }]);
    const reworded = setCondition(one, { ...ready, message: 'still well' }, { now: later, observedGeneration: 2 });
    expect(reworded).toEqual([
      { ...ready, message: 'still well', lastTransitionTime: '2030-01-01T00:00:00Z', observedGeneration: 2 },
    ]);
    const failed = setCondition(reworded, { ...ready, status: 'False' }, { now: later });
    expect(failed).toMatchObject([{ status: 'False', lastTransitionTime: '2030-01-02T00:00:00Z' }]);
    expect(isConditionTrue(failed, 'Ready')).toBe(false);
  });

  it('are exactly what is desired: Reconciling and Stalled go when they are over', () => {
    const working = summaryConditions({ state: 'reconciling', reason: 'Working', message: 'half done' });
    const before = reconcileConditions([], working, { now: first });
    expect(before.map(({ type, status }) => `${type}=${status}`)).toEqual(['Ready=False', 'Reconciling=True']);
    const after = reconcileConditions(
      before,
      summaryConditions({ state: 'stalled', reason: 'Bad', message: 'a person must help' }),
      { now: later },
    );
    expect(after.map(({ type, status, lastTransitionTime }) => `${type}=${status} ${lastTransitionTime}`)).toEqual([
      'Ready=False 2030-01-01T00:00:00Z',
      'Stalled=True 2030-01-02T00:00:00Z',
    ]);
    const well = reconcileConditions(after, summaryConditions({ state: 'ready', reason: 'Done', message: 'done' }), {
      now: later,
    });
    expect(well.map(({ type, status }) => `${type}=${status}`)).toEqual(['Ready=True']);
  });

  it('are the same object for object when nothing changed, whatever the time', () => {
    const before = reconcileConditions([], [ready], { now: first, observedGeneration: 3 });
    expect(reconcileConditions(before, [ready], { now: later, observedGeneration: 3 })).toEqual(before);
  });

  it('cut messages that the server would refuse', () => {
    const [long] = setCondition([], { ...ready, message: 'x'.repeat(40_000) }, { now: first });
    expect(long?.message).toHaveLength(32_768);
  });

  it('write times as metav1 has them', () => {
    expect(toRfc3339(first + 999)).toBe('2030-01-01T00:00:00Z');
    expect(toMicroTime(first + 7)).toBe('2030-01-01T00:00:00.007000Z');
  });
});
