import type { SLMDeploymentStatus } from '@slm-operator/crds';
import { expect, it } from 'vitest';
import { revisionsUnderWay, type UnderWay } from './revisions-under-way.ts';

const OLD = 'aaaaaaaaaa';
const NEW = 'bbbbbbbbbb';
const at = '2026-11-23T12:00:00Z';
const none = { candidate: undefined, subject: undefined, serving: undefined };
const back = { revision: NEW, to: OLD, reason: 'AnalysisFailed', message: '', time: at };
type Rollout = NonNullable<SLMDeploymentStatus['rollout']>;
const moving: Rollout = { phase: 'Progressing', revision: NEW, stableRevision: OLD };

const rows: [string, SLMDeploymentStatus | undefined, UnderWay][] = [
  ['before there is a status nobody is asked', undefined, none],
  [
    'a first revision is asked, and compared with none',
    { updateRevision: NEW, rollout: { phase: 'Progressing', revision: NEW } },
    { ...none, candidate: NEW },
  ],
  [
    'a candidate without requests is asked, and the revision before measured',
    { updateRevision: NEW, currentRevision: OLD, rollout: moving },
    { candidate: NEW, subject: { candidate: NEW, stable: OLD, since: undefined }, serving: undefined },
  ],
  [
    'a candidate with requests is judged from the begin of its step',
    { updateRevision: NEW, currentRevision: OLD, rollout: { ...moving, stepStartedAt: at } },
    { candidate: NEW, subject: { candidate: NEW, stable: OLD, since: Date.parse(at) }, serving: undefined },
  ],
  [
    'after the last step it is judged on, though all pods are its own',
    { updateRevision: NEW, currentRevision: NEW, rollout: { ...moving, phase: 'Analyzing', stepStartedAt: at } },
    { candidate: NEW, subject: { candidate: NEW, stable: OLD, since: Date.parse(at) }, serving: undefined },
  ],
  [
    'when all is done it is evaluated on schedule',
    { updateRevision: NEW, currentRevision: NEW, rollout: { phase: 'Idle' } },
    { ...none, serving: NEW },
  ],
  [
    'on the way back the revision before is asked nothing, and evaluated',
    {
      updateRevision: NEW,
      currentRevision: OLD,
      lastRollback: back,
      rollout: { phase: 'Progressing', revision: OLD },
    },
    { ...none, serving: OLD },
  ],
  [
    'a rollback of before does not keep a new candidate from being asked',
    {
      updateRevision: 'cccccccccc',
      currentRevision: OLD,
      lastRollback: back,
      rollout: { ...moving, revision: 'cccccccccc' },
    },
    {
      candidate: 'cccccccccc',
      subject: { candidate: 'cccccccccc', stable: OLD, since: undefined },
      serving: undefined,
    },
  ],
  [
    'a deployment that is held is evaluated by what serves',
    { updateRevision: NEW, currentRevision: OLD, rollout: { phase: 'WaitingForWave', revision: OLD } },
    { ...none, serving: OLD },
  ],
];

it.each(rows)('%s', (_, status, expected) => {
  expect(revisionsUnderWay(status === undefined ? {} : { status })).toEqual(expected);
});
