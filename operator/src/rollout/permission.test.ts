import type { SLMRollout, SLMRolloutSpec, SLMRolloutStatus } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { type Adoption, adoptsImages, type Makings, permissionOf } from './permission.ts';
import { deployment, rollout } from './testing/objects.ts';

const makings = (revision: string, change: Partial<Makings> = {}): Makings => ({
  revision,
  model: `model-of-${revision}`,
  digests: [`bytes-of-${revision}`],
  images: { cpu: 'server:1' },
  ...change,
});
const move: Adoption = { wanted: makings('r2'), current: makings('r1') };
const ask = (rollouts: readonly SLMRollout[], adoption: Adoption = move, wave = 'staging') =>
  permissionOf({ rollouts, namespaceLabels: { team: 'a' } }, deployment(wave), adoption);
const states = (state: NonNullable<SLMRolloutStatus['waves']>[number]['state']): SLMRolloutStatus => ({
  waves: [{ name: 'staging', state, total: 1, updated: 0, failed: 0 }],
});

describe('a deployment takes over', () => {
  const rows: [string, readonly SLMRollout[], Adoption?][] = [
    ['what it likes where there is no SLMRollout', []],
    ['what it likes where none orders it', [rollout({ deploymentSelector: { matchLabels: { wave: 'dev' } } })]],
    ['what it likes where none orders its namespace', [rollout({ namespaceSelector: { matchLabels: { team: 'b' } } })]],
    ['its first revision', [rollout()], { wanted: makings('r2'), current: undefined }],
    [
      'other settings with the same bytes',
      [rollout()],
      { wanted: makings('r2', { model: 'a' }), current: makings('r1', { model: 'a' }) },
    ],
    [
      'another image by itself, where only bytes come in waves',
      [rollout()],
      { wanted: makings('r2', { model: 'a', images: { cpu: 'server:2' } }), current: makings('r1', { model: 'a' }) },
    ],
    [
      'other bytes, where only images come in waves',
      [rollout({ sources: ['RuntimeImage'] })],
      { wanted: makings('r2'), current: makings('r1') },
    ],
    [
      'the same bytes as before sets named their model’s revision',
      [rollout()],
      { wanted: makings('r2', { digests: ['x', 'y'] }), current: makings('r1', { model: undefined, digests: ['y'] }) },
    ],
    ['what it was let go to', [rollout({}, { admitted: [{ deployment: 'team/staging', revision: 'r2' }] })]],
    ['what it has', [rollout()], { wanted: makings('r1'), current: makings('r1') }],
  ];
  it.each(rows)('%s', (_, rollouts, adoption) => {
    expect(ask(rollouts, adoption)).toEqual({ allowed: true });
  });
  it('anything while its SLMRollout is being deleted', () => {
    const going = rollout();
    const metadata = { ...going.metadata, deletionTimestamp: '2026-11-23T12:00:00Z' };
    expect(ask([{ ...going, metadata }])).toEqual({ allowed: true });
  });
});

describe('a deployment waits', () => {
  const rows: [string, Partial<SLMRolloutSpec>, SLMRolloutStatus | undefined, string, Adoption?][] = [
    ['before the planner has seen it', {}, undefined, 'SLMRollout fleet: wave staging waits for wave dev'],
    ['for the wave before', {}, states('Waiting'), 'SLMRollout fleet: wave staging waits for wave dev'],
    [
      'for its turn',
      {},
      states('Running'),
      'SLMRollout fleet: wave staging is under way, and this deployment waits for its turn',
    ],
    [
      'for the window',
      {},
      states('WaitingForWindow'),
      'SLMRollout fleet: wave staging waits for the window of the SLMRollout to open',
    ],
    [
      'for an approval',
      {},
      states('WaitingForApproval'),
      'SLMRollout fleet: wave staging waits for an approval: add the model’s revision to spec.approvedRevisions of the SLMRollout',
    ],
    [
      'for the end of a pause',
      {},
      states('Paused'),
      'SLMRollout fleet: wave staging waits, because spec.paused of the SLMRollout is true',
    ],
    [
      'when its wave has failed',
      {},
      states('Failed'),
      'SLMRollout fleet: wave staging has stopped, because too many of its deployments failed',
    ],
    [
      'for a new server image',
      { sources: ['ModelRevision', 'RuntimeImage'] },
      states('Waiting'),
      'SLMRollout fleet: wave staging waits for wave dev',
      { wanted: makings('r2', { model: 'a', images: { cpu: 'server:2' } }), current: makings('r1', { model: 'a' }) },
    ],
  ];
  it.each(rows)('%s', (_, spec, status, why, adoption) => {
    expect(ask([rollout(spec, status)], adoption)).toEqual({
      allowed: false,
      rollout: 'fleet',
      wave: 'staging',
      why,
      withdrawn: false,
    });
  });
  it('in the wave of what no wave matches', () => {
    expect(ask([rollout()], move, 'lab')).toMatchObject({
      wave: 'others',
      why: 'SLMRollout fleet: wave others waits for wave prod',
    });
  });
  it('and may go on to what it was let go to before another commit', () => {
    const status = { admitted: [{ deployment: 'team/staging', revision: 'r15', from: 'r1' }] };
    expect(ask([rollout({}, status)])).toMatchObject({ allowed: false, withdrawn: false, admitted: 'r15' });
  });
  it('for the first of two SLMRollouts by name, in whatever order they come', () => {
    const both = [rollout({}, undefined, 'b'), rollout({}, undefined, 'a')];
    expect([ask(both), ask(both.toReversed())]).toMatchObject([{ rollout: 'a' }, { rollout: 'a' }]);
  });
});

it('a deployment leaves what was taken back, even when all of it has it', () => {
  const status = { withdrawn: [{ deployment: 'team/staging', revision: 'r2', to: 'r1' }] };
  const has: Adoption = { wanted: makings('r2'), current: makings('r2') };
  expect(ask([rollout({}, status)], has)).toMatchObject({ allowed: false, withdrawn: true, to: 'r1' });
  expect(ask([rollout({}, status)], { ...has, wanted: makings('r3') })).toMatchObject({ withdrawn: false });
});

it('server images are taken over only where an SLMRollout brings them, and never instead of spec.image', () => {
  const fleet = (spec: Partial<SLMRolloutSpec>) => ({ rollouts: [rollout(spec)], namespaceLabels: {} });
  const own = deployment('dev', { spec: { modelRef: { name: 'm' }, image: 'mine:1' } });
  expect([
    adoptsImages(undefined, deployment('dev')),
    adoptsImages(fleet({}), deployment('dev')),
    adoptsImages(fleet({ sources: ['RuntimeImage'] }), deployment('dev')),
    adoptsImages(fleet({ sources: ['RuntimeImage'] }), own),
  ]).toEqual([false, false, true, false]);
});
