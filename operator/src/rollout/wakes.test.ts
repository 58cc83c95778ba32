import type { SLMDeployment, SLMRollout, SLMRolloutStatus } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import type { StoreEvent } from '../runtime/store.ts';
import { deployment, rollout } from './testing/objects.ts';
import { keysTouched, pullingAheadMatters } from './wakes.ts';

const waits = { rollout: { phase: 'WaitingForWave' as const } };
const deployments: SLMDeployment[] = [
  deployment('dev'),
  deployment('staging', { status: waits }),
  deployment('prod', { status: waits }),
];
const list = () => deployments;
const state = (name: string, word: 'Waiting' | 'Running' | 'Done', updated = 0) => ({
  name,
  state: word,
  total: 1,
  updated,
  failed: 0,
});
const entry = (name: string, revision = 'r2') => ({ deployment: `team/${name}`, revision });
const update = (before: SLMRollout, after: SLMRollout): StoreEvent<SLMRollout> => ({
  type: 'update',
  key: 'fleet',
  previous: before,
  object: after,
});
const changed = (before: SLMRolloutStatus, after: SLMRolloutStatus) => update(rollout({}, before), rollout({}, after));

describe('a change of an SLMRollout wakes', () => {
  const everyone = ['team/dev', 'team/staging', 'team/prod'];
  const rows: [string, StoreEvent<SLMRollout>, string[]][] = [
    ['everyone when it comes', { type: 'add', key: 'fleet', object: rollout() }, everyone],
    ['everyone when it goes', { type: 'delete', key: 'fleet', object: rollout() }, everyone],
    [
      'everyone when its spec changes',
      update(rollout(), { ...rollout(), metadata: { ...rollout().metadata, generation: 2 } }),
      everyone,
    ],
    ['whom it lets go', changed({}, { admitted: [entry('staging')] }), ['team/staging']],
    [
      'whom it lets go to something else',
      changed({ admitted: [entry('dev')] }, { admitted: [entry('dev', 'r3')] }),
      ['team/dev'],
    ],
    ['whom it takes back', changed({ admitted: [entry('dev')] }, { withdrawn: [entry('dev')] }), ['team/dev']],
    ['whom it forgets', changed({ admitted: [entry('dev')] }, {}), ['team/dev']],
    [
      'those that wait, when a wave is somewhere else',
      changed({ waves: [state('dev', 'Running')] }, { waves: [state('dev', 'Done')] }),
      ['team/staging', 'team/prod'],
    ],
    [
      'nobody when it only counts on',
      changed(
        { waves: [state('dev', 'Running', 1)], progressText: '1/9' },
        { waves: [state('dev', 'Running', 2)], progressText: '2/9' },
      ),
      [],
    ],
  ];
  it.each(rows)('%s', (_, event, expected) => {
    expect([...keysTouched(event, { list })]).toEqual(expected);
  });
});

it('what nodes pull is looked at anew only where prePullAhead is used', () => {
  const before = { waves: [state('dev', 'Running')] };
  const after = { waves: [state('dev', 'Done')] };
  const ahead = { prePullAhead: 0 };
  expect([
    pullingAheadMatters(changed(before, after)),
    pullingAheadMatters(update(rollout(ahead, before), rollout(ahead, after))),
    pullingAheadMatters(update(rollout(ahead, before), rollout(ahead, { ...before, progressText: '2/9' }))),
    pullingAheadMatters(update(rollout(ahead, before), rollout(ahead, { ...before, admitted: [entry('dev')] }))),
    pullingAheadMatters({ type: 'add', key: 'fleet', object: rollout() }),
  ]).toEqual([false, true, false, true, false]);
});
