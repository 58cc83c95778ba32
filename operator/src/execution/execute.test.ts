import type { SLMDeployment as Deployment, SLMDeploymentStatus } from '@slm-operator/crds';
import { beforeEach, describe, expect, it } from 'vitest';
import { ConnectionError } from '../kube/errors.ts';
import { executePlan, FIELD_MANAGER } from './execute.ts';
import { FakeClient, refused } from './fake-client.ts';
import { SLMDeployment } from './kinds.ts';
import { done, type KubeObject, type Plan } from './plan.ts';
import type { Refusal } from './refusal.ts';

const owner: Deployment = {
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMDeployment',
  metadata: { name: 'chat', namespace: 'demo', uid: 'owner', resourceVersion: '1' },
  spec: { modelRef: { name: 'm' } },
  status: { replicas: 0 },
};

const controlledBy = (uid: string, kind = 'SLMDeployment', name = 'chat') => [
  { apiVersion: 'slm.dev/v1alpha1', kind, name, uid, controller: true },
];

function child(apiVersion: string, kind: string, name: string): KubeObject {
  return { apiVersion, kind, metadata: { name, namespace: 'demo', ownerReferences: controlledBy('owner') } };
}

const service = child('v1', 'Service', 'chat');
const target = {
  apiVersion: 'apps/v1',
  kind: 'ReplicaSet',
  name: 'chat-1',
  namespace: 'demo',
  uid: 'rs',
  resourceVersion: '7',
};

const plan: Plan<SLMDeploymentStatus> = {
  create: [child('v1', 'Secret', 'chat-api-keys')],
  apply: [service, child('apps/v1', 'ReplicaSet', 'chat-2')],
  patch: [{ target, patch: { spec: { replicas: 2 } } }],
  remove: [{ apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', name: 'chat', namespace: 'demo', uid: 'pdb' }],
  status: { replicas: 2 },
  events: [{ reason: 'ScalingReplicaSet', note: 'scaled' }],
  outcome: done,
  notes: [],
};

let api: FakeClient;
let events: string[];
beforeEach(() => {
  api = new FakeClient()
    .add('SLMDeployment', owner)
    .add('ReplicaSet', { metadata: { name: 'chat-1', namespace: 'demo' } })
    .add('PodDisruptionBudget', { metadata: { name: 'chat', namespace: 'demo' } });
  events = [];
});

/** @param live what the store says of every child: by default that there is none */
function run(change: Partial<Plan<SLMDeploymentStatus>> = {}, lift = true, live?: 'unknown') {
  return executePlan({
    client: api.client,
    recorder: { record: (_type, _object, { reason }) => events.push(reason) },
    type: SLMDeployment,
    owner,
    plan: { ...plan, ...change },
    live: () => live,
    ...(lift ? { refusedStatus: (refusal: Refusal) => ({ statusText: refusal.message }) } : {}),
  });
}

it('creates, applies, patches, removes, writes the status once, and tells of it last', async () => {
  expect(await run()).toEqual({ outcome: done, writes: 6 });
  expect(api.writes).toEqual([
    'create Secret demo/chat-api-keys',
    'apply Service demo/chat',
    'apply ReplicaSet demo/chat-2',
    'patch ReplicaSet demo/chat-1',
    'delete PodDisruptionBudget demo/chat',
    'applyStatus SLMDeployment demo/chat',
  ]);
  expect(events).toEqual(['ScalingReplicaSet']);
});

it('patches and deletes only what was seen', async () => {
  await run();
  const call = (verb: string) => api.calls.find((candidate) => candidate.verb === verb);
  expect(call('patch')?.body).toEqual({ spec: { replicas: 2 }, metadata: { uid: 'rs', resourceVersion: '7' } });
  expect(call('delete')?.options).toMatchObject({ preconditions: { uid: 'pdb' }, propagationPolicy: 'Background' });
  expect(call('apply')?.options).toMatchObject({ fieldManager: FIELD_MANAGER, force: true });
});

it('writes nothing the second time, when the server has everything', async () => {
  const same = { create: [], patch: [], remove: [], events: [] };
  await run(same);
  api.calls.length = 0;
  expect(await run(same)).toMatchObject({ writes: 0 });
  expect(api.writes).toEqual([]);
});

it('makes what the store lacks with one request, and asks only when something is there already', async () => {
  await run();
  expect(api.calls.filter(({ verb }) => verb === 'find')).toEqual([]);
  const made = api.calls.find(({ verb, kind }) => verb === 'apply' && kind === 'Service');
  expect(made?.body).toMatchObject({ metadata: { resourceVersion: '1' } });
  // The store has not seen it yet: what this process applied is looked for, and not made again.
  api.calls.length = 0;
  await run({ create: [], patch: [], remove: [], events: [] });
  expect(api.calls.map(({ verb, kind }) => `${verb} ${kind}`)).toEqual(['find Service', 'find ReplicaSet']);
});

it('asks first where no store tells', async () => {
  await run({}, true, 'unknown');
  expect(api.calls.filter(({ verb }) => verb === 'find').map(({ kind }) => kind)).toEqual(['Service', 'ReplicaSet']);
});

it('takes over what an earlier process of ours made, as soon as it is found', async () => {
  await run();
  const another = new FakeClient();
  for (const [id, object] of api.objects) another.objects.set(id, object);
  api = another;
  await run({ create: [], patch: [], remove: [], events: [], status: undefined });
  expect(api.writes).toEqual(['apply Service demo/chat', 'apply ReplicaSet demo/chat-2']);
  expect(api.calls.filter(({ verb }) => verb === 'find')).toHaveLength(2);
});

it('tells of a child only when it was really written', async () => {
  const about = (name: string) =>
    ({ reason: 'RevisionCreated', note: 'made', ifWritten: { kind: 'ReplicaSet', name } }) as const;
  await run({ events: [about('chat-1'), about('chat-2'), about('chat-3')] });
  expect(events).toEqual(['RevisionCreated', 'RevisionCreated']);
  events.length = 0;
  await run({ patch: [], remove: [], events: [about('chat-2')] });
  expect(events).toEqual([]);
});

it('leaves the status alone when the plan says nothing of it', async () => {
  await run({ status: undefined });
  expect(api.writes).not.toContain('applyStatus SLMDeployment demo/chat');
});

describe('a write that fails in passing stops everything after it and is thrown, so that it is tried again', () => {
  const rows: ['create' | 'apply' | 'patch' | 'delete' | 'applyStatus' | 'find', string, number][] = [
    ['create', 'Secret', 1],
    ['apply', 'Service', 2],
    ['apply', 'ReplicaSet', 3],
    ['patch', 'ReplicaSet', 4],
    ['delete', 'PodDisruptionBudget', 5],
    ['applyStatus', 'SLMDeployment', 6],
  ];
  it.each(rows)('%s %s', async (verb, kind, writes) => {
    api.fail(verb, kind, new ConnectionError('PATCH /x', new Error('reset')));
    await expect(run()).rejects.toThrow('no answer from the API server');
    expect(api.writes).toHaveLength(writes);
    expect(events).toEqual([]);
  });

  it('a ReplicaSet that changed meanwhile', async () => {
    api.fail('patch', 'ReplicaSet', refused(409, 'Conflict', 'the object has been modified'));
    await expect(run()).rejects.toThrow('has been modified');
  });
});

describe('a refusal ends in the status', () => {
  const quota =
    'services "chat" is forbidden: exceeded quota: tight, requested: services=1, used: services=5, limited: services=5';
  const rows: [string, () => void, string, string][] = [
    [
      'of a quota',
      () => api.fail('apply', 'Service', refused(403, 'Forbidden', quota)),
      'QuotaExceeded',
      'a quota refuses Service chat: ResourceQuota tight allows services=5, services=5 is used and services=1 more is asked for; raise the quota or ask for less',
    ],
    [
      'of admission or RBAC',
      () => api.fail('create', 'Secret', refused(403, 'Forbidden', 'secrets "x" is forbidden: policy')),
      'WriteRefused',
      'the API server refuses Secret chat-api-keys: secrets "x" is forbidden: policy',
    ],
    [
      'of a field',
      () => api.fail('apply', 'ReplicaSet', refused(422, 'Invalid', 'memory: must be less than or equal to limit')),
      'WriteRefused',
      'the API server finds ReplicaSet chat-2 invalid: memory: must be less than or equal to limit',
    ],
    [
      'because an object of nobody has the name',
      () => api.add('Service', { metadata: { name: 'chat', namespace: 'demo' } }),
      'ChildConflict',
      'Service chat exists and does not belong to SLMDeployment chat; it is left as it is: delete or rename it, or choose another name for SLMDeployment chat',
    ],
    [
      'because an object of somebody else has the name',
      () =>
        api.add('Secret', {
          metadata: {
            name: 'chat-api-keys',
            namespace: 'demo',
            ownerReferences: controlledBy('x', 'Certificate', 'c'),
          },
        }),
      'ChildConflict',
      'Secret chat-api-keys exists and belongs to Certificate c; it is left as it is: choose another name for SLMDeployment chat',
    ],
    [
      'while the object of a deleted owner is still going',
      () =>
        api.add('Service', { metadata: { name: 'chat', namespace: 'demo', ownerReferences: controlledBy('before') } }),
      'ChildConflict',
      'Service chat belongs to an earlier SLMDeployment chat and is still being deleted; waiting until it is gone',
    ],
  ];
  it.each(rows)('%s', async (_, arrange, reason, message) => {
    arrange();
    const { outcome, refusal } = await run();
    expect(outcome).toEqual({ outcome: 'waiting', reason, message, requeueAfter: 30_000 });
    expect(refusal).toMatchObject({ reason, message });
    expect(api.calls.at(-1)).toMatchObject({ verb: 'applyStatus', body: { status: { statusText: message } } });
    expect(api.writes).not.toContain('patch ReplicaSet demo/chat-1');
    expect(events).toEqual([]);
  });

  it('and is thrown where nobody says what the status should be', async () => {
    api.fail('apply', 'Service', refused(422, 'Invalid', 'no'));
    await expect(run({}, false)).rejects.toThrow('the API server finds Service chat invalid: no');
  });
});

it.each([
  ['is going', refused(403, 'Forbidden', 'being terminated', 'NamespaceTerminating')],
  ['is gone', refused(404, 'NotFound', 'namespaces "demo" not found')],
])('rests when the namespace %s: it takes the owner along', async (_, error) => {
  api.fail('apply', 'Service', error);
  expect(await run()).toMatchObject({ outcome: done });
  expect(api.writes).toEqual(['create Secret demo/chat-api-keys', 'apply Service demo/chat']);
});

it('takes it as done when a Secret of its own is there already, or what is to go is gone', async () => {
  api.add('Secret', { metadata: { name: 'chat-api-keys', namespace: 'demo', ownerReferences: controlledBy('owner') } });
  api.objects.delete('PodDisruptionBudget demo/chat');
  expect(await run()).toMatchObject({ outcome: done });
});

it('names a kind that nobody taught it', async () => {
  await expect(run({ apply: [child('batch/v1', 'Job', 'x')] })).rejects.toThrow(
    'no resource is known for batch/v1 Job',
  );
});
