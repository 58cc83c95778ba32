import { annotations, labels, type SLMDeployment, type SLMModel } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import type { ReplicaSetObject } from '../deployment/observed.ts';
import { wantedRevision } from '../deployment/revision.ts';
import { model as modelObject } from '../deployment/testing/objects.ts';
import { membersOf } from './members.ts';
import { deployment as deploymentObject, rollout } from './testing/objects.ts';

const digest = (letter: string) => `sha256:${letter.repeat(64)}`;
const modelAt = (letter: string, change: Partial<SLMModel> = {}): SLMModel => {
  const revision = { name: letter.repeat(10), digest: digest(letter), size: 1, resolvedAt: '2026-11-23T12:00:00Z' };
  return modelObject(
    { latestRevision: revision, revisions: [{ ...revision, files: [], sources: [] }] },
    { metadata: { name: 'm', namespace: 'team', uid: 'm', generation: 1 }, ...change },
  );
};
const images = { cpu: 'server:1' };
const revisionAt = (letter: string, image = 'server:1') =>
  wantedRevision({
    deployment: deploymentObject('dev'),
    model: { digest: digest(letter) },
    known: [],
    images: { cpu: image },
  });

/** The set that was made for a revision of the model. */
function setAt(letter: string): ReplicaSetObject {
  const { revision, settingsHash } = revisionAt(letter);
  return {
    metadata: {
      name: `dev-${revision}`,
      namespace: 'team',
      labels: { [labels.revision]: revision },
      annotations: {
        [annotations.modelDigest]: digest(letter),
        [annotations.modelRevision]: letter.repeat(10),
        [annotations.settingsHash]: settingsHash,
        [annotations.revisionNumber]: '1',
        [annotations.serverImages]: JSON.stringify(images),
      },
    },
    spec: { selector: {}, replicas: 1 },
  };
}

type Status = NonNullable<SLMDeployment['status']>;
const condition = (type: string, message = '') => ({
  type,
  status: 'True' as const,
  reason: 'R',
  message,
  lastTransitionTime: '2026-11-23T12:00:00Z',
});
const old = revisionAt('a').revision;
const next = revisionAt('b').revision;
const serving: Status = {
  observedGeneration: 1,
  currentRevision: old,
  updateRevision: old,
  conditions: [condition('Ready')],
};

function look(status: Status | undefined, model: SLMModel | undefined, change: Partial<SLMDeployment> = {}, spec = {}) {
  const one = rollout(spec);
  return membersOf({
    rollout: one,
    rollouts: [one],
    deployments: [deploymentObject('dev', { ...(status === undefined ? {} : { status }), ...change })],
    modelOf: () => model,
    setsOf: () => [setAt('a')],
    namespaceLabels: () => ({}),
    images: { cpu: 'server:2' },
  });
}
const member = (...given: Parameters<typeof look>) => look(...given).members[0];

describe('a deployment as its rollout sees it', () => {
  it('at rest', () => {
    expect(member(serving, modelAt('a'))).toEqual({
      key: 'team/dev',
      wave: 0,
      current: old,
      wanted: old,
      held: false,
      approvals: [],
      settling: false,
      ready: true,
      failure: undefined,
    });
  });
  it('after a commit that its status has not heard of', () => {
    expect(member(serving, modelAt('b'))).toMatchObject({
      current: old,
      held: true,
      ready: false,
      approvals: ['bbbbbbbbbb'],
    });
  });
  it('with all pods at the new revision', () => {
    const wanted = member(serving, modelAt('b'))?.wanted;
    const through = { ...serving, currentRevision: wanted ?? '', updateRevision: wanted ?? '' };
    expect(member(through, modelAt('b'))).toMatchObject({ ready: true });
  });
  it('while its model is being looked at', () => {
    const changed = modelAt('a', { metadata: { name: 'm', namespace: 'team', uid: 'm', generation: 2 } });
    expect(member(serving, changed)).toMatchObject({ settling: true, wanted: old });
  });
  it('without a model', () => {
    expect(member(serving, undefined)).toMatchObject({ wanted: undefined, held: false, ready: false });
  });
  it('with its first revision on the way', () => {
    expect(member({ observedGeneration: 1, updateRevision: next }, modelAt('b'))).toMatchObject({ held: false });
  });
  it('with a newer operator: by waves only where images come in waves', () => {
    const spec = { sources: ['RuntimeImage'] };
    expect(member(serving, modelAt('a'))).toMatchObject({ held: false, wanted: old });
    expect(member(serving, modelAt('a'), {}, spec)).toMatchObject({
      held: true,
      wanted: revisionAt('a', 'server:2').revision,
      approvals: ['server:2'],
    });
  });
  it('whose spec has changed since it told', () => {
    const metadata = { ...deploymentObject('dev').metadata, generation: 2 };
    expect(member(serving, modelAt('a'), { metadata })).toMatchObject({ ready: false });
  });
  it('kept at a revision by a person is nobody of ours', () => {
    const spec = { modelRef: { name: 'm' }, rollbackTo: { revision: old } };
    expect(look(serving, modelAt('b'), { spec }).members).toEqual([]);
  });
});

describe('a deployment has failed', () => {
  const wanted = member(serving, modelAt('b'))?.wanted ?? '';
  const stalled = { ...serving, updateRevision: wanted, conditions: [condition('Stalled', 'no progress for 10 s')] };
  const rows: [string, Status, string | undefined][] = [
    [
      'when it stands still with the new revision',
      { ...stalled, rollout: { phase: 'Stalled', revision: wanted } },
      'no progress for 10 s',
    ],
    [
      'as soon as it goes back by itself',
      {
        ...serving,
        updateRevision: wanted,
        conditions: [condition('RolledBack')],
        lastRollback: { revision: wanted, reason: 'R', message: 'worse', time: '2026-11-23T12:00:00Z' },
      },
      'worse',
    ],
    ['not when it stood still with another revision', { ...stalled, updateRevision: old }, undefined],
    [
      'not when it stands still while it waits for its turn',
      { ...stalled, rollout: { phase: 'Stalled', revision: old } },
      undefined,
    ],
    ['not while it waits', { ...stalled, rollout: { phase: 'WaitingForWave' } }, undefined],
    [
      'not when what it took back was another',
      {
        ...serving,
        updateRevision: wanted,
        conditions: [condition('RolledBack')],
        lastRollback: { revision: 'other', reason: 'R', message: 'worse', time: '2026-11-23T12:00:00Z' },
      },
      undefined,
    ],
    ['not by what it said of an older spec', { ...stalled, observedGeneration: 0 }, undefined],
  ];
  it.each(rows)('%s', (_, status, expected) => {
    expect(member(status, modelAt('b'))?.failure).toBe(expected);
  });
});

it('of two rollouts that match, the first by name has the deployment, and the other says so', () => {
  const [a, b] = [rollout({}, undefined, 'a'), rollout({}, undefined, 'b')];
  const common = {
    rollouts: [b, a],
    deployments: [deploymentObject('dev', { status: serving })],
    modelOf: () => modelAt('a'),
    setsOf: () => [setAt('a')],
    namespaceLabels: () => ({}),
    images,
  };
  expect(membersOf({ ...common, rollout: a }).members).toHaveLength(1);
  expect(membersOf({ ...common, rollout: b })).toEqual({ members: [], elsewhere: new Map([['a', 1]]) });
});
