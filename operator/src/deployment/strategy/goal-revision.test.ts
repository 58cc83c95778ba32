import { annotations } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { ago, deployment } from '../testing/objects.ts';
import { chooseGoal, type GoalInput, strategyHash } from './goal-revision.ts';
import type { LastRollback, RevisionState } from './types.ts';

const A = 'aaaaaaaaaa';
const B = 'bbbbbbbbbb';
const C = 'cccccccccc';

function has(revision: string, number: number, pods = 0, change: Partial<RevisionState> = {}): RevisionState {
  return { revision, number, desired: pods, current: pods, available: pods, traffic: 'open', ...change };
}

const at = (current: string | undefined, spec = {}, rollout?: object) =>
  deployment(spec, {
    ...(current === undefined ? {} : { currentRevision: current }),
    ...(rollout === undefined ? {} : { rollout: { phase: 'Progressing', ...rollout } }),
  });

const taken: LastRollback = {
  revision: B,
  to: A,
  reason: 'AnalysisFailed',
  message: 'too many errors',
  time: ago(60),
  strategyHash: strategyHash(deployment()),
};

function choose(change: Partial<GoalInput>) {
  const { asked: _, ...choice } = chooseGoal({
    deployment: at(A),
    wanted: B,
    revisions: [has(A, 1, 3)],
    lastRollback: undefined,
    permission: { allowed: true },
    ...change,
  });
  return choice;
}

const held = { allowed: false, rollout: 'fleet', wave: 'prod', why: 'it waits for wave staging' } as const;

describe('the revision that a deployment is brought to', () => {
  const rows: [string, Partial<GoalInput>, object][] = [
    ['is what the spec asks for', {}, { revision: B, kind: 'wanted', undo: false, stable: A }],
    [
      'has nothing to go back to on the first rollout',
      { deployment: at(undefined), revisions: [] },
      { revision: B, kind: 'wanted', undo: false, stable: undefined },
    ],
    [
      'goes back to what serves, where no rollout was ever finished',
      { deployment: at(undefined), revisions: [has(A, 1, 1)] },
      { revision: B, kind: 'wanted', undo: false, stable: A },
    ],
    [
      'is its own measure once it is the current one',
      { wanted: A, revisions: [has(A, 1, 3), has(B, 2)] },
      { revision: A, kind: 'wanted', undo: false, stable: A },
    ],
    [
      'keeps what a rollout began beside, although that has no pods any more',
      { deployment: at(C, {}, { revision: B, stableRevision: A }), revisions: [has(A, 1), has(B, 2, 3), has(C, 3)] },
      { revision: B, kind: 'wanted', undo: false, stable: A },
    ],
    [
      'is the one before when it was taken back',
      { lastRollback: taken, revisions: [has(A, 1, 3), has(B, 2)] },
      { revision: A, kind: 'back', undo: false, stable: A },
    ],
    [
      'is tried again with another strategy',
      {
        deployment: at(A, { strategy: { type: 'Canary' } }),
        lastRollback: taken,
        revisions: [has(A, 1, 3), has(B, 2)],
      },
      { revision: B, kind: 'wanted', undo: false, stable: A },
    ],
    [
      'is not tried again because somebody approved it, or sized the deployment up',
      {
        deployment: at(A, { replicas: 9, strategy: { approvedRevision: B } }),
        lastRollback: { ...taken, strategyHash: strategyHash(at(A, { strategy: {} })) },
        revisions: [has(A, 1, 3), has(B, 2)],
      },
      { revision: A, kind: 'back', undo: false, stable: A },
    ],
    [
      'is tried when another one was taken back',
      { lastRollback: { ...taken, revision: C }, revisions: [has(A, 1, 3), has(C, 2)] },
      { revision: B, kind: 'wanted', undo: false, stable: A },
    ],
    [
      'is what the history still has, when the revision to go back to is gone',
      { lastRollback: { ...taken, to: C }, revisions: [has(A, 1, 3), has(B, 2)] },
      { revision: A, kind: 'back', undo: false, stable: A },
    ],
    [
      'is the current one while it waits for its wave',
      { permission: { ...held, withdrawn: false } },
      {
        revision: A,
        kind: 'held',
        undo: false,
        stable: A,
        why: { reason: 'WaitingForWave', message: 'it waits for wave staging' },
      },
    ],
    [
      'is the one that a wave let in before, while the next commit waits',
      { permission: { ...held, withdrawn: false, admitted: C }, revisions: [has(A, 1, 3), has(C, 2, 1)] },
      {
        revision: C,
        kind: 'wanted',
        undo: false,
        stable: A,
        why: { reason: 'WaitingForWave', message: 'it waits for wave staging' },
      },
    ],
    [
      'is left although all pods have it, when the fleet withdrew it',
      {
        deployment: at(B),
        permission: { ...held, withdrawn: true },
        revisions: [has(A, 2), has(C, 1), has(B, 3, 3)],
      },
      {
        revision: A,
        kind: 'held',
        undo: false,
        stable: A,
        why: { reason: 'WaitingForWave', message: 'it waits for wave staging' },
      },
    ],
    [
      'is the one that a person asks to go back to',
      { deployment: at(B, { rollbackTo: { revision: A } }), wanted: B, revisions: [has(A, 1), has(B, 2, 3)] },
      { revision: A, kind: 'wanted', undo: true, stable: B },
    ],
    [
      'stays when there is no such revision to go back to',
      { deployment: at(B, { rollbackTo: { revision: C } }), wanted: B, revisions: [has(A, 1), has(B, 2, 3)] },
      {
        revision: B,
        kind: 'held',
        undo: false,
        stable: B,
        why: {
          reason: 'RollbackTargetNotFound',
          message: `revision ${C} to go back to is not in the history; it has ${B}, ${A}: name one of them in spec.rollbackTo, or remove it`,
        },
      },
    ],
    [
      'is first the one that serves, where another one is half way in and steps would keep it there',
      {
        deployment: at(A, { strategy: { type: 'Canary' } }),
        wanted: C,
        revisions: [has(A, 1, 2), has(B, 2, 1)],
      },
      {
        revision: A,
        kind: 'clear',
        undo: false,
        stable: A,
        why: {
          reason: 'RollingUpdate',
          message: `pods of revision ${B}, which never took over, go before revision ${C} comes`,
        },
      },
    ],
    [
      'comes at once beside one that got no requests yet',
      {
        deployment: at(A, { strategy: { type: 'Canary' } }),
        wanted: C,
        revisions: [has(A, 1, 2), has(B, 2, 1, { traffic: 'closed' })],
      },
      { revision: C, kind: 'wanted', undo: false, stable: A },
    ],
  ];
  it.each(rows)('%s', (_, change, expected) => {
    expect(choose(change)).toEqual(expected);
  });

  it('is tried again when the annotation for it has another value', () => {
    const again = at(A);
    const asked = { ...again, metadata: { ...again.metadata, annotations: { [annotations.retry]: '1' } } };
    const revisions = [has(A, 1, 3), has(B, 2)];
    expect(choose({ deployment: asked, lastRollback: taken, revisions }).revision).toBe(B);
    const failedAgain = { ...taken, retry: '1' };
    expect(choose({ deployment: asked, lastRollback: failedAgain, revisions }).revision).toBe(A);
  });

  it('may be named by an annotation to go back to', () => {
    const { metadata, ...rest } = at(B);
    const asked = { ...rest, metadata: { ...metadata, annotations: { [annotations.rollbackTo]: A } } };
    expect(choose({ deployment: asked, revisions: [has(A, 1), has(B, 2, 3)] })).toMatchObject({
      revision: A,
      undo: true,
    });
  });
});
