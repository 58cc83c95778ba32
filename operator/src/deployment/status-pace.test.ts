import type { SLMDeploymentStatus } from '@slm-operator/crds';
import { beforeEach, describe, expect, it } from 'vitest';
import { done, type Plan } from '../execution/plan.ts';
import { type ManualClock, makeManualClock } from '../runtime/testing/clocks.ts';
import {
  FIRST_STATUS_MS,
  makePace,
  type PaceCircumstances,
  PODS_INTERVAL_MS,
  PROGRESS_INTERVAL_MS,
  type StatusPace,
} from './status-pace.ts';
import { deployment } from './testing/objects.ts';

type Status = SLMDeploymentStatus;

let clock: ManualClock;
let pace: StatusPace;
let stored: Status | undefined;
/** What was written, with the seconds since the start. */
let writes: string[];
/** Events that were told with the last plan. */
let told: string[];

beforeEach(() => {
  clock = makeManualClock(0);
  pace = makePace(clock);
  stored = undefined;
  writes = [];
});

const started = (): number => clock.monotonic();
let zero = 0;
beforeEach(() => {
  zero = started();
});

function plan(status: Status): Plan<Status> {
  const events = [
    { reason: 'RolloutComplete', note: `with ${status.statusText}` },
    { reason: 'ScalingReplicaSet', note: 'of a child', ifWritten: { kind: 'ReplicaSet', name: 'chat-1' } },
  ] as const;
  return { apply: [], remove: [], events, outcome: done, notes: [], status };
}

/** A controller that wants this status; answers when it is to come back. */
function want(status: Status, circumstances?: PaceCircumstances): number | undefined {
  const { metadata } = deployment();
  const object = { metadata, ...(stored === undefined ? {} : { status: stored }) } as Parameters<
    StatusPace['status']
  >[1];
  const { plan: paced, again } = pace.status('demo/chat', object, plan(status), circumstances);
  if (paced.status !== undefined && paced.status !== stored) {
    stored = paced.status;
    writes.push(`${(clock.monotonic() - zero) / 1000} s: ${paced.status.statusText}`);
  }
  told = paced.events.map(({ note }) => note);
  return again;
}

const moving = (statusText: string, more: Partial<Status> = {}): Status => ({
  observedGeneration: 1,
  statusText,
  rollout: { phase: 'Progressing', message: statusText },
  blockedBy: [{ reason: 'WaitingForPods', message: statusText, since: '2026-11-23T12:00:00Z' }],
  ...more,
});
const complete = (more: Partial<Status> = {}): Status => ({
  observedGeneration: 1,
  statusText: 'serving chat',
  rollout: { phase: 'Idle', message: '' },
  ...more,
});

describe('a first rollout', () => {
  it('that is over within a second is one write', () => {
    expect(want(moving('made'))).toBe(FIRST_STATUS_MS);
    clock.advance(700);
    want(moving('pods are starting'));
    clock.advance(200);
    expect(want(complete())).toBeUndefined();
    expect(writes).toEqual(['0.9 s: serving chat']);
  });

  it('that takes longer is two: what it waits for, and Ready', () => {
    want(moving('made'));
    clock.advance(400);
    expect(want(moving('pods are starting'))).toBe(600);
    clock.advance(600);
    want(moving('pods are starting'));
    clock.advance(500);
    want(complete());
    expect(writes).toEqual(['1 s: pods are starting', '1.5 s: serving chat']);
  });

  it('tells of children at once, and of the status when it is written', () => {
    want(moving('made'));
    expect(told).toEqual(['of a child']);
    clock.advance(300);
    want(moving('pods are starting'));
    expect(told).toEqual(['of a child']);
    clock.advance(700);
    want(moving('pods are starting'));
    expect(told).toEqual(['of a child', 'with made', 'with pods are starting']);
  });

  it('waits longer while many others wait to be worked on, and its end does not', () => {
    expect(want(moving('made'), { backlog: 100 })).toBe(3 * FIRST_STATUS_MS);
    expect(want(moving('made'), { backlog: 5000 })).toBe(10 * FIRST_STATUS_MS);
    clock.advance(900);
    expect(want(moving('made'))).toBe(100);
    want(complete(), { backlog: 5000 });
    expect(writes).toEqual(['0.9 s: serving chat']);
  });

  it('waits longer while many others have something to tell, so that a fleet that moves is no flood', () => {
    const others = Array.from({ length: 100 }, (_, index) => `demo/other-${index}`);
    for (const key of others) pace.status(key, deployment(), plan(moving('made')));
    expect(want(moving('made'))).toBe(3 * FIRST_STATUS_MS);
    clock.advance(500);
    for (const key of others) pace.forget(key);
    expect(want(moving('made'))).toBe(500);
  });

  it('tells of trouble at once', () => {
    const blockedBy = [{ reason: 'Unschedulable', message: 'x', since: '2026-11-23T12:00:00Z' }];
    want(moving('no node has room', { blockedBy }));
    expect(writes).toEqual(['0 s: no node has room']);
  });
});

describe('afterwards', () => {
  beforeEach(() => {
    want(complete({ conditions: [condition('Available', 'True')] }));
    clock.advance(60_000);
    zero = clock.monotonic();
    writes = [];
  });

  it('a pull is told of every two seconds, and then the newest', () => {
    const blockedBy = [{ reason: 'WaitingForBytes', message: 'x', since: '2026-11-23T12:00:00Z' }];
    const pulling = { conditions: [condition('Available', 'True')], blockedBy };
    for (let percent = 1; percent <= 60; percent++) {
      want(moving(`${percent} %`, pulling));
      clock.advance(100);
    }
    expect(writes).toEqual(['1 s: 11 %', '3 s: 31 %', '5 s: 51 %']);
    expect(want(moving('61 %', pulling))).toBe(PROGRESS_INTERVAL_MS - 1000);
  });

  it('pods that come and go are told of every five seconds', () => {
    const available = { conditions: [condition('Available', 'True')] };
    for (let step = 1; step <= 70; step++) {
      want(moving(`step ${step}`, available));
      clock.advance(100);
    }
    expect(writes).toEqual(['1 s: step 11', '6 s: step 61']);
    expect(want(moving('step 71', available))).toBe(PODS_INTERVAL_MS - 1000);
  });

  it('a new spec is told of at once: nobody takes the Ready of before for its own', () => {
    want(moving('moving to revision 2', { observedGeneration: 2, conditions: [condition('Available', 'True')] }));
    expect(writes).toEqual(['0 s: moving to revision 2']);
  });

  it('the loss of the last serving pod is told at once', () => {
    want(moving('0 of 1 pods serve', { conditions: [condition('Available', 'False')] }));
    expect(writes).toEqual(['0 s: 0 of 1 pods serve']);
  });

  it('a held status is forgotten when it is no longer wanted', () => {
    const available = { conditions: [condition('Available', 'True')] };
    want(moving('a pod is being replaced', available));
    clock.advance(900);
    expect(want(stored ?? {})).toBeUndefined();
    clock.advance(900);
    expect(want(moving('another one', available))).toBe(FIRST_STATUS_MS);
    expect(writes).toEqual([]);
  });

  it('pods that just got ready are told together with what they compute on', () => {
    expect(want(complete({ readyReplicas: 2 }), { hold: 300 })).toBe(300);
    clock.advance(300);
    want(complete({ readyReplicas: 2 }));
    expect(writes).toEqual(['0.3 s: serving chat']);
  });
});

function condition(type: string, status: 'True' | 'False') {
  return { type, status, reason: 'Test', message: '', lastTransitionTime: '2026-11-23T12:00:00Z' } as NonNullable<
    Status['conditions']
  >[number];
}
