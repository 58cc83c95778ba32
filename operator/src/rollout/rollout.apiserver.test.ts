import type { SLMRollout as Rollout, SLMRolloutSpec } from '@slm-operator/crds';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { makeDeploymentController } from '../deployment/controller.ts';
import { makePodReports } from '../deployment/pod-reports.ts';
import { config } from '../deployment/testing/objects.ts';
import { condition, conditions, slow, versionOf, World } from '../deployment/testing/world.ts';
import { SLMDeployment, SLMModel, SLMRollout } from '../execution/kinds.ts';
import { storedParts } from '../execution/stored-parts.ts';
import { accessFrom, loadKubeConfig, makeKubeClient, type RequestRecord } from '../kube/index.ts';
import { type EventMessage, makeManager, silentLogger } from '../runtime/index.ts';
import { makeRolloutController } from './controller.ts';

const WRITES = ['POST', 'PUT', 'PATCH', 'DELETE'];
const ready = { conditions: conditions(condition('Ready', 'True')) };
const images = { cpu: 'slm.dev/server:1', cuda: 'slm.dev/server-cuda:1' };

let world: World;
let requests: RequestRecord[];
let events: EventMessage[];
let stop: () => Promise<void>;
let node: string;
/** Digest of the model's first revision. */
let first: string;

/** The rollout controller as a process of its own; with images of its own, the deployment controller of that operator, too. */
async function startRollouts(newer?: Readonly<Record<string, string>>): Promise<() => Promise<void>> {
  const client = makeKubeClient({
    access: accessFrom(loadKubeConfig({ file: inject('kubeconfig') })),
    userAgent: 'rollouts/test',
    onRequest: (record) => requests.push(record),
  });
  const manager = makeManager({ client, log: silentLogger, shutdownTimeoutMs: 0, transforms: storedParts });
  const recorder = { record: (_type: unknown, _object: unknown, message: EventMessage) => void events.push(message) };
  manager.add(makeRolloutController({ manager, recorder, images: newer ?? images }));
  if (newer !== undefined) {
    const broker = { namespace: world.namespace, service: 'slm-operator' };
    const reports = makePodReports({ ask: () => Promise.reject(new Error('it says nothing')) });
    const changed = { ...config, serverImages: newer };
    manager.add(makeDeploymentController({ manager, client, config: changed, broker, recorder, reports }));
  }
  const running = manager.start();
  await manager.running;
  return async () => {
    await manager.stop();
    await running;
    await client.close();
  };
}

beforeEach(async () => {
  requests = [];
  events = [];
  world = await World.start(inject('kubeconfig'));
  stop = await startRollouts();
  node = await world.addNode();
  first = await world.addModel('smollm2', 'one');
  await world.reportNode(node, first, 100);
});
afterEach(async () => {
  await stop();
  await world.client.delete(SLMRollout, { name: world.namespace }).catch(() => undefined);
  await world[Symbol.asyncDispose]();
});

/** Deployments with these labels, which are their names, all of which serve. */
async function serving(...names: readonly string[]): Promise<Record<string, string>> {
  for (const name of names) {
    await world.deploy(name, { modelRef: { name: 'smollm2' }, strategy: { progressDeadlineSeconds: 10 } });
    await world.client.patch(SLMDeployment, world.ref(name), 'merge', { metadata: { labels: { wave: name } } });
  }
  const revisions: Record<string, string> = {};
  for (const name of names) revisions[name] = (await world.serveUntil(name, ready)).status?.currentRevision ?? '';
  return revisions;
}

async function order(spec: Partial<SLMRolloutSpec>): Promise<void> {
  const namespaceSelector = { matchLabels: { 'kubernetes.io/metadata.name': world.namespace } };
  await world.client.create(SLMRollout, {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMRollout',
    metadata: { name: world.namespace },
    spec: {
      namespaceSelector,
      waves: ['dev', 'prod'].map((name) => ({ name, selector: { matchLabels: { wave: name } } })),
      ...spec,
    },
  });
}
const rollout = (): Promise<Rollout> => world.client.get(SLMRollout, { name: world.namespace });
const until = (expected: object) => expect.poll(async () => (await rollout()).status, slow).toMatchObject(expected);

/** Another revision of the model, which keeps the one of before as the model controller does; the node has the bytes. */
async function commit(content: string): Promise<void> {
  const before = (await world.client.get(SLMModel, world.ref('smollm2'))).status?.revisions ?? [];
  const digest = await world.resolveModel('smollm2', content);
  const after = (await world.client.get(SLMModel, world.ref('smollm2'))).status?.revisions ?? [];
  const status = { revisions: [...after, ...before] };
  await world.client.patch(SLMModel, world.ref('smollm2'), 'merge', { status }, { subresource: 'status' });
  await world.reportNode(node, digest, 100);
}

/** Kubelets let the pods of this deployment alone serve, until it has another revision than before. */
async function servesAnother(name: string, old: string | undefined): Promise<void> {
  const look = async () => {
    for (const pod of await world.pods()) {
      const isOurs = pod.metadata?.labels?.['slm.dev/deployment'] === name;
      if (isOurs && pod.status?.phase !== 'Running') await world.serve(pod, node);
    }
    const { status } = await world.deployment(name);
    return status?.currentRevision;
  };
  await expect.poll(look, slow).not.toBe(old);
}

it('moves one wave after the other, approved in the spec, and edits none of them', async () => {
  const old = await serving('dev', 'prod');
  await order({
    waves: [
      { name: 'dev', selector: { matchLabels: { wave: 'dev' } } },
      { name: 'prod', selector: { matchLabels: { wave: 'prod' } }, requireApproval: true },
    ],
  });
  await until({ progressText: '2/2', ...ready });
  const generations = async () =>
    Promise.all(['dev', 'prod'].map(async (name) => (await world.deployment(name)).metadata.generation));
  const before = await generations();

  await commit('two');
  // The other one says what it waits for, and serves.
  await world.until('prod', {
    currentRevision: old['prod'],
    rollout: { phase: 'WaitingForWave' },
    conditions: conditions(condition('Available', 'True'), condition('Ready', 'False', 'WaitingForWave')),
  });
  await servesAnother('dev', old['dev']);
  await until({
    wave: 'prod',
    waves: [
      { name: 'dev', state: 'Done' },
      { name: 'prod', state: 'WaitingForApproval' },
    ],
  });
  const prod = await world.until('prod', {
    statusText: `SLMRollout ${world.namespace}: wave prod waits for an approval: add the model’s revision to spec.approvedRevisions of the SLMRollout`,
  });
  expect((await world.replicaSets()).filter(({ metadata }) => metadata?.name?.startsWith('prod-'))).toHaveLength(1);

  const { message = '' } = (await rollout()).status?.waves?.[1] ?? {};
  const revision = /add (\w+) to/.exec(message)?.[1] ?? '';
  await world.client.patch(SLMRollout, { name: world.namespace }, 'merge', { spec: { approvedRevisions: [revision] } });
  const after = await world.serveUntil('prod', ready);
  expect(after.status?.currentRevision).not.toBe(prod.status?.currentRevision);
  await until({ progressText: '2/2', ...ready });
  expect((await rollout()).status?.admitted).toBeUndefined();
  expect(await generations()).toEqual(before);
  expect(events.map(({ reason }) => reason)).toEqual([
    'WaveInProgress',
    'WaveComplete',
    'WaveInProgress',
    'WaveComplete',
  ]);
});

it('takes everything back when one fails, the wave that was through as well', async () => {
  const old = await serving('dev', 'prod');
  await order({ onFailure: 'RollbackAll' });
  await until({ progressText: '2/2', ...ready });
  await commit('two');
  await servesAnother('dev', old['dev']);
  // Nobody lets the pod of the second wave serve, and the deadline passes.
  await until({ waves: [{ state: 'RolledBack' }, { state: 'RolledBack', failed: 1 }] });
  // The agent still has the bytes of before, or has them again.
  await world.reportNode(node, first, 100);
  await world.serveUntil('dev', { currentRevision: old['dev'] });
  await world.serveUntil('prod', { currentRevision: old['prod'] });
  const { status } = await rollout();
  expect(status?.withdrawn?.map(({ deployment, to }) => [deployment, to])).toEqual([
    [`${world.namespace}/dev`, old['dev']],
    [`${world.namespace}/prod`, old['prod']],
  ]);
  expect(status?.conditions).toMatchObject(conditions(condition('Ready', 'False', 'WaveFailed')));
});

it('a newer operator restarts no model; its server image comes in waves where an SLMRollout brings it, approved by name', async () => {
  await serving('dev', 'prod');
  await stop();
  await world.stopOperators();
  const sets = await world.replicaSets();
  stop = await startRollouts({ cpu: 'slm.dev/server:2', cuda: 'slm.dev/server-cuda:2' });
  // A change of size makes it act for certain.
  await world.change('dev', { replicas: 2 });
  await world.serveUntil('dev', { readyReplicas: 2, ...ready });
  expect(await world.replicaSets()).toHaveLength(sets.length);

  await order({
    sources: ['RuntimeImage'],
    waves: [
      { name: 'dev', selector: { matchLabels: { wave: 'dev' } } },
      { name: 'prod', selector: { matchLabels: { wave: 'prod' } }, requireApproval: true },
    ],
  });
  const imagesOf = async (name: string) => {
    const pods = (await world.pods()).filter(({ metadata }) => metadata?.labels?.['slm.dev/deployment'] === name);
    return [...new Set(pods.map(({ spec }) => spec?.containers[0]?.image))];
  };
  const serves = async (name: string) => {
    await world.serveAll();
    return imagesOf(name);
  };
  await expect.poll(() => serves('dev'), slow).toEqual(['slm.dev/server:2']);
  await until({ waves: [{ state: 'Done' }, { state: 'WaitingForApproval' }] });
  expect((await rollout()).status?.waves?.[1]?.message).toContain('add slm.dev/server:2 to spec.approvedRevisions');
  expect(await imagesOf('prod')).toEqual(['slm.dev/server:1']);

  const approvedRevisions = ['slm.dev/server:2'];
  await world.client.patch(SLMRollout, { name: world.namespace }, 'merge', { spec: { approvedRevisions } });
  await expect.poll(() => serves('prod'), slow).toEqual(['slm.dev/server:2']);
});

it('at rest, and as a new process, writes nothing', async () => {
  await serving('dev');
  await order({});
  await until({ progressText: '1/1', ...ready });
  await stop();
  const before = versionOf(await rollout());
  requests = [];
  stop = await startRollouts();
  await world.client.patch(SLMDeployment, world.ref('dev'), 'merge', { metadata: { labels: { other: 'x' } } });
  await world.quiet(2500);
  expect(requests.filter(({ method }) => WRITES.includes(method))).toEqual([]);
  expect(versionOf(await rollout())).toBe(before);
});
