import type { SLMRolloutStatus } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { mayPullAhead } from './pre-pull-ahead.ts';
import { deployment, rollout } from './testing/objects.ts';

const waves = (...states: NonNullable<SLMRolloutStatus['waves']>[number]['state'][]) =>
  ['dev', 'staging', 'prod'].map((name, index) => ({
    name,
    state: states[index] ?? 'Waiting',
    total: 1,
    updated: 0,
    failed: 0,
  }));
const allowed = (prePullAhead: number | undefined, status: SLMRolloutStatus | undefined) =>
  ['dev', 'staging', 'prod', 'elsewhere'].filter((wave) => {
    const fleet = {
      rollouts: [rollout(prePullAhead === undefined ? {} : { prePullAhead }, status)],
      namespaceLabels: {},
    };
    return mayPullAhead(fleet, deployment(wave));
  });

describe('nodes pull ahead', () => {
  const rows: [string, number | undefined, SLMRolloutStatus | undefined, string[]][] = [
    ['of all waves when nothing is said', undefined, {}, ['dev', 'staging', 'prod', 'elsewhere']],
    ['of the first wave alone with 0, before anything began', 0, undefined, ['dev']],
    ['of one wave more with 1', 1, undefined, ['dev', 'staging']],
    ['of the present wave and those before', 0, { waves: waves('Done', 'Running') }, ['dev', 'staging']],
    ['of the next one, too', 1, { waves: waves('Done', 'WaitingForApproval') }, ['dev', 'staging', 'prod']],
    [
      'of the first again, once all are done: the next commit begins there',
      0,
      { waves: waves('Done', 'Done', 'Done') },
      ['dev'],
    ],
    [
      'of one that was let go whatever its wave is now',
      0,
      { waves: waves('Running'), admitted: [{ deployment: 'team/prod', revision: 'r2' }] },
      ['dev', 'prod'],
    ],
  ];
  it.each(rows)('%s', (_, ahead, status, expected) => {
    expect(allowed(ahead, status)).toEqual(expected);
  });
});
