/**
 * One commit through a fleet: 120 deployments in 30 namespaces on 100 nodes that kwok plays, in four waves, with the operator as it is
 * shipped and the rights of the chart. The nodes' agents are played: what is wanted is there a moment later.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { SLMDeployment as Deployment } from '@slm-operator/crds';
import { SLMDeployment, SLMModel, SLMRollout } from '@slm-operator/operator/execution/kinds';
import { keyOf, Namespace, Node, Pod, ReplicaSet } from '@slm-operator/operator/kube/resource';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bundleOperator, type OperatorProcess, startOperator, waitUntilLeading } from '../bench/operator-process.ts';
import { startAgents } from '../bench/placement-agents.ts';
import { newFile } from '../bench/placement-objects.ts';
import { OPERATOR_USER, type PlacementWorld, startWorld, until } from '../bench/placement-world.ts';
import { silentProgress } from '../cluster/progress.ts';

/** Namespaces of each wave, and deployments of each namespace. */
const WAVES = { dev: 3, staging: 7, prod: 10, edge: 10 };
const PER_NAMESPACE = 4;
/** In wave three: the API server refuses its pods of any other revision than the first. */
const FAULTY = 'prod-4/chat-2';
const MODELS = 'models';
const PATIENCE_MS = 240_000;

const namespaces = Object.entries(WAVES).flatMap(([wave, count]) =>
  Array.from({ length: count }, (_, index) => ({ wave, name: `${wave}-${index + 1}` })),
);
const waveOf = ({ metadata }: Deployment) => metadata.namespace?.split('-')[0] ?? '';

let folder: string;
let world: PlacementWorld;
let start: () => Promise<OperatorProcess>;
let operator: OperatorProcess;
let agents: AsyncDisposable;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-fleet-'));
  world = await startWorld({
    nodes: 100,
    namespaces: [MODELS, ...namespaces.map(({ name }) => name)],
    progress: silentProgress,
  });
  const { kubeconfig } = await world.addUser(OPERATOR_USER);
  const file = await bundleOperator(folder);
  const log = path.join(world.folder, 'operator.log');
  start = async () => {
    const process = await startOperator({ file, kubeconfig, env: world.operatorEnv, flags: world.heapFlags, log });
    await waitUntilLeading(process, log);
    return process;
  };
  agents = await startAgents((await world.addUser('agents')).client);
  operator = await start();
}, 300_000);

afterAll(async () => {
  await operator?.stop();
  await agents?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const deployments = async () => (await world.admin.listAll(SLMDeployment)).items;
const rollout = () => world.admin.get(SLMRollout, { name: 'fleet' });
const isReady = ({ status, metadata }: Deployment) =>
  status?.observedGeneration === metadata.generation &&
  status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True');
/** How many of each wave have which revision: `old`, `new` or something else. */
async function revisions(old: ReadonlyMap<string, string>): Promise<Record<string, Record<string, number>>> {
  const counts: Record<string, Record<string, number>> = {};
  for (const deployment of await deployments()) {
    const { currentRevision, updateRevision } = deployment.status ?? {};
    const was = old.get(keyOf(deployment));
    const has = currentRevision === was ? 'old' : currentRevision === updateRevision ? 'new' : 'else';
    const wave = (counts[waveOf(deployment)] ??= {});
    wave[has] = (wave[has] ?? 0) + 1;
  }
  return counts;
}

async function commitsOnce(): Promise<void> {
  await world.admin.create(SLMModel, {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { name: 'assistant', namespace: MODELS },
    spec: { source: { uri: 'hf://bench/model-0/model.gguf' }, allowedNamespaces: { from: 'All' } },
  });
  for (const { name, wave } of namespaces) {
    await world.admin.patch(Namespace, { name }, 'merge', { metadata: { labels: { wave } } });
    for (let index = 1; index <= PER_NAMESPACE; index++) {
      const chat = `chat-${index}`;
      const isFaulty = `${name}/${chat}` === FAULTY;
      await world.admin.create(SLMDeployment, {
        apiVersion: 'slm.dev/v1alpha1',
        kind: 'SLMDeployment',
        metadata: { name: chat, namespace: name },
        spec: {
          modelRef: { name: 'assistant', namespace: MODELS },
          hardware: { preferred: 'cpu' },
          ...(isFaulty ? { strategy: { progressDeadlineSeconds: 10 } } : {}),
        },
      });
    }
  }
}

/** The fault: whatever comes for this deployment is refused. Resolves when the API server does so. */
async function plantFault(old: string): Promise<void> {
  const [namespace = '', name = ''] = FAULTY.split('/');
  const group = '/apis/admissionregistration.k8s.io/v1';
  const post = (kind: string, plural: string, spec: object) =>
    world.admin.request({
      method: 'POST',
      path: `${group}/${plural}`,
      body: { apiVersion: 'admissionregistration.k8s.io/v1', kind, metadata: { name: 'fault' }, spec },
    });
  const labels = 'object.metadata.labels';
  await post('ValidatingAdmissionPolicy', 'validatingadmissionpolicies', {
    failurePolicy: 'Fail',
    matchConstraints: {
      namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
      resourceRules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] }],
    },
    validations: [
      {
        expression: `!has(${labels}) || !('slm.dev/deployment' in ${labels}) || ${labels}['slm.dev/deployment'] != '${name}' || ${labels}['slm.dev/revision'] == '${old}'`,
        message: 'planted',
      },
    ],
  });
  await post('ValidatingAdmissionPolicyBinding', 'validatingadmissionpolicybindings', {
    policyName: 'fault',
    validationActions: ['Deny'],
  });
  const probe = {
    metadata: { name: 'probe', namespace, labels: { 'slm.dev/deployment': name, 'slm.dev/revision': 'other' } },
    spec: { containers: [{ name: 'c', image: 'none' }] },
  };
  await until(async () => {
    try {
      await world.admin.create(Pod, probe, { dryRun: true });
      return false;
    } catch (error) {
      return /planted/.test(String(error));
    }
  }, 'the planted fault');
}

it('one commit, four waves, a fault in wave three: one and two keep it, three goes back, four never begins', async () => {
  await commitsOnce();
  await until(async () => (await deployments()).filter(isReady).length === 120, '120 deployments', PATIENCE_MS, 1000);
  const before = await deployments();
  const old = new Map(before.map((deployment) => [keyOf(deployment), deployment.status?.currentRevision ?? '']));
  expect((await world.admin.listAll(Node)).items).toHaveLength(100);
  expect(old.size).toBe(120);
  await plantFault(old.get(FAULTY) ?? '');
  await world.admin.create(SLMRollout, {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMRollout',
    metadata: { name: 'fleet' },
    spec: {
      onFailure: 'RollbackWave',
      waves: Object.keys(WAVES).map((name) => ({
        name,
        namespaceSelector: { matchLabels: { wave: name } },
        soak: '2s',
        ...(name === 'prod' ? { maxParallel: 20 } : {}),
      })),
    },
  });
  await until(async () => (await rollout()).status?.progressText === '120/120', 'the rollout to be at rest');
  expect((await rollout()).status?.conditions?.[0]).toMatchObject({ type: 'Ready', status: 'True' });

  await world.admin.patch(SLMModel, { name: 'assistant', namespace: MODELS }, 'merge', {
    spec: { source: { uri: newFile } },
  });
  // The operator is replaced by another process while the second wave moves.
  await until(async () => (await rollout()).status?.wave === 'staging', 'the second wave', PATIENCE_MS);
  const early = await revisions(old);
  expect(early['dev']).toEqual({ new: 12 });
  expect([early['prod'], early['edge']]).toEqual([{ old: 40 }, { old: 40 }]);
  await operator.stop();
  operator = await start();

  const isOver = async () => {
    const { status } = await rollout();
    const has = await revisions(old);
    return status?.waves?.[2]?.state === 'RolledBack' && has['prod']?.['old'] === 40;
  };
  await until(isOver, 'wave three to be back', PATIENCE_MS, 1000);
  expect(await revisions(old)).toEqual({
    dev: { new: 12 },
    staging: { new: 28 },
    prod: { old: 40 },
    edge: { old: 40 },
  });
  const { status } = await rollout();
  expect(status?.waves?.map(({ name, state, failed }) => `${name} ${state} ${failed}`)).toEqual([
    'dev Done 0',
    'staging Done 0',
    'prod RolledBack 1',
    'edge Waiting 0',
  ]);
  const stalled = status?.conditions?.find(({ type }) => type === 'Stalled');
  expect(stalled).toMatchObject({ status: 'True', reason: 'WaveFailed' });
  expect(stalled?.message).toContain(
    `1 of 40 deployments of wave prod failed, 0 may; its deployments go back: ${FAULTY}`,
  );

  // What serves is the revision of before, with every pod that it is to have; the fourth wave has not even a ReplicaSet of the other.
  const sets = (await world.admin.listAll(ReplicaSet)).items.filter(({ spec }) => (spec?.replicas ?? 0) > 0);
  const serving = new Map(
    sets.map((set) => [
      keyOf({ name: set.metadata?.labels?.['slm.dev/deployment'] ?? '', namespace: set.metadata?.namespace }),
      set,
    ]),
  );
  for (const deployment of await deployments()) {
    const key = keyOf(deployment);
    if (waveOf(deployment) === 'prod' || waveOf(deployment) === 'edge') {
      expect(serving.get(key)?.metadata?.labels?.['slm.dev/revision'], key).toBe(old.get(key));
    }
    const available = deployment.status?.conditions?.find(({ type }) => type === 'Available');
    expect(available?.status, key).toBe('True');
  }
  const all = (await world.admin.listAll(ReplicaSet)).items;
  expect(all.filter(({ metadata }) => metadata?.namespace?.startsWith('edge-'))).toHaveLength(40);

  // No spec was edited: not by generation, and not by anybody's fields.
  const after = (await world.admin.listAll(SLMDeployment)).items;
  expect(after.every(({ metadata }) => metadata.generation === 1)).toBe(true);
  expect(after.map(({ spec }) => spec)).toEqual(before.map(({ spec }) => spec));
  const raw = await world.admin.request<{ items: { metadata: { managedFields: ManagedFields[] } }[] }>({
    method: 'GET',
    path: '/apis/slm.dev/v1alpha1/slmdeployments',
  });
  const writers = new Set(
    raw.items.flatMap(({ metadata }) =>
      metadata.managedFields.filter(({ fieldsV1 }) => 'f:spec' in fieldsV1).map(({ manager }) => manager),
    ),
  );
  expect([...writers]).not.toContain('slm-operator');
  expect(writers.size).toBe(1);
}, 900_000);

interface ManagedFields {
  readonly manager: string;
  readonly fieldsV1: object;
}

it('a commit that mends it brings all four waves to the new revision', async () => {
  const group = '/apis/admissionregistration.k8s.io/v1';
  await world.admin.request({ method: 'DELETE', path: `${group}/validatingadmissionpolicybindings/fault` });
  await world.admin.patch(SLMModel, { name: 'assistant', namespace: MODELS }, 'merge', {
    spec: { source: { uri: 'hf://bench/model-3/model.gguf' } },
  });
  const isThrough = async () => {
    const { status } = await rollout();
    return status?.progressText === '120/120' && status.waves?.every(({ state }) => state === 'Done') === true;
  };
  await until(isThrough, 'all waves', PATIENCE_MS, 1000);
  const now = await deployments();
  expect(now.filter(({ status }) => status?.currentRevision === status?.updateRevision)).toHaveLength(120);
  expect((await rollout()).status?.admitted).toBeUndefined();
}, 600_000);
