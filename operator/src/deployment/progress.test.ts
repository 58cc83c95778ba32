import { expect, it } from 'vitest';
import { judgeProgress, type ProgressInput } from './progress.ts';
import { ago, now } from './testing/objects.ts';

const counts = { replicas: 3, updatedReplicas: 1, readyReplicas: 2, availableReplicas: 2 };
type Phase = 'Idle' | 'WaitingForModel' | 'Progressing' | 'Paused' | 'Stalled';

function before(phase: Phase, seconds: number, change: object = {}) {
  return {
    ...counts,
    updateRevision: 'b',
    observedGeneration: 2,
    rollout: { phase, lastProgressTime: ago(seconds) },
    ...change,
  };
}

function input(change: Partial<ProgressInput>): ProgressInput {
  return {
    previous: before('Progressing', 100),
    counts,
    updateRevision: 'b',
    generation: 2,
    complete: false,
    held: undefined,
    paused: false,
    bytesMoving: false,
    deadlineSeconds: 600,
    now,
    ...change,
  };
}

const rows: [string, Partial<ProgressInput>, Phase, string | undefined, number | undefined][] = [
  ['begins to count at the beginning', { previous: undefined }, 'Progressing', ago(0), 601_000],
  ['goes on counting while nothing moves', {}, 'Progressing', ago(100), 501_000],
  ['counts anew when a pod comes', { counts: { ...counts, updatedReplicas: 2 } }, 'Progressing', ago(0), 601_000],
  ['counts anew when a pod serves', { counts: { ...counts, availableReplicas: 3 } }, 'Progressing', ago(0), 601_000],
  ['counts anew when an old pod goes', { counts: { ...counts, replicas: 2 } }, 'Progressing', ago(0), 601_000],
  ['counts anew with another goal', { updateRevision: 'c' }, 'Progressing', ago(0), 601_000],
  ['counts anew with another spec', { generation: 3 }, 'Progressing', ago(0), 601_000],
  ['is stalled at the deadline', { previous: before('Progressing', 600) }, 'Stalled', ago(600), undefined],
  ['stays stalled', { previous: before('Stalled', 900) }, 'Stalled', ago(900), undefined],
  [
    'is stalled no longer when a pod serves',
    { previous: before('Stalled', 900), counts: { ...counts, readyReplicas: 3 } },
    'Progressing',
    ago(0),
    601_000,
  ],
  [
    'does not count while it waits',
    { held: 'WaitingForModel', previous: before('Progressing', 900) },
    'WaitingForModel',
    ago(900),
    undefined,
  ],
  ['counts anew after it waited', { previous: before('WaitingForModel', 900) }, 'Progressing', ago(0), 601_000],
  [
    'does not count while paused',
    { paused: true, previous: before('Progressing', 900) },
    'Paused',
    ago(900),
    undefined,
  ],
  ['counts anew after a pause', { previous: before('Paused', 900) }, 'Progressing', ago(0), 601_000],
  ['ends when everything is there', { complete: true }, 'Idle', ago(0), undefined],
  ['rests after the end', { complete: true, previous: before('Idle', 900) }, 'Idle', ago(900), undefined],
  ['does not touch the clock early while bytes move', { bytesMoving: true }, 'Progressing', ago(100), 201_000],
  [
    'sets the clock anew at half time while bytes move',
    { bytesMoving: true, previous: before('Progressing', 300) },
    'Progressing',
    ago(0),
    300_000,
  ],
];

it.each(rows)('%s', (_, change, phase, lastProgressTime, requeueAfter) => {
  expect(judgeProgress(input(change))).toEqual({ phase, lastProgressTime, requeueAfter });
});
