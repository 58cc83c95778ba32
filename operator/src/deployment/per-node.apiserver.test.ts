/** A pod on each node, with the real ReplicaSet controller, which must take the very pods that were chosen. */
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { Node, Pod, PodDisruptionBudget, Service } from '../kube/index.ts';
import { isReady } from './pod-causes.ts';
import { condition, conditions, type PodObject, slow, World } from './testing/world.ts';

let world: World;
let digest: string;
const nodes: string[] = [];
beforeEach(async () => {
  world = await World.start(inject('kubeconfig'));
  digest = await world.addModel('smollm2', 'one');
  nodes.length = 0;
  for (let index = 0; index < 3; index++) await addNode();
});
afterEach(() => world[Symbol.asyncDispose]());

async function addNode(): Promise<string> {
  const name = await world.addNode();
  await world.reportNode(name, digest, 100);
  nodes.push(name);
  return name;
}

const ready = conditions(condition('Ready', 'True'));
const revisionOf = (pod: PodObject) => pod.metadata?.labels?.['slm.dev/revision'] ?? '';
const serviceOf = async () => (await world.client.get(Service, world.ref('edge'))).spec;

/** Nodes with the revisions that serve there. */
async function layout(): Promise<Record<string, string[]>> {
  const pods = (await world.pods()).filter(isReady);
  return Object.fromEntries(
    nodes.map((node) => [node, pods.filter((pod) => pod.spec?.nodeName === node).map(revisionOf)]),
  );
}

/** As the scheduler and the kubelets: each pod without a node gets one that has none of its revision; the given one first. */
async function serveNew(first?: string): Promise<void> {
  const pods = await world.pods();
  for (const pod of pods.filter((it) => it.spec?.nodeName === undefined)) {
    const taken = new Set(
      (await world.pods()).filter((it) => revisionOf(it) === revisionOf(pod)).map((it) => it.spec?.nodeName),
    );
    const [node] = [...(first === undefined ? [] : [first]), ...nodes].filter((name) => !taken.has(name));
    if (node !== undefined) await world.serve(pod, node);
  }
}

/** As the kubelets: pods that were told to go are gone. */
async function serveGoing(): Promise<void> {
  const { items } = await world.client.listAll(Pod, { namespace: world.namespace });
  for (const { metadata } of items) {
    if (metadata?.deletionTimestamp === undefined) continue;
    await world.client.delete(Pod, world.ref(metadata.name ?? ''), { gracePeriodSeconds: 0 });
  }
}

async function serveUntil(expected: object): Promise<void> {
  const check = async () => {
    await serveNew();
    await serveGoing();
    return (await world.deployment('edge')).status;
  };
  await expect.poll(check, slow).toMatchObject(expected);
}

it('each node has a pod, and only then does the Service lead to the node’s own', async () => {
  await world.deploy('edge', { modelRef: { name: 'smollm2' }, placement: { mode: 'PerNode' } });
  await expect.poll(() => world.pods(), slow).toHaveLength(3);
  expect((await serviceOf())?.internalTrafficPolicy).toBe('Cluster');
  await serveUntil({ readyText: '3/3', conditions: ready });
  await expect.poll(async () => (await serviceOf())?.internalTrafficPolicy, slow).toBe('Local');
  expect(await world.client.find(PodDisruptionBudget, world.ref('edge'))).toBeUndefined();

  await addNode();
  await serveUntil({ readyText: '4/4', conditions: ready });
  expect(Object.values(await layout()).map((there) => there.length)).toEqual([1, 1, 1, 1]);

  await world.change('edge', { placement: { mode: 'Replicas' }, replicas: 2 });
  await serveUntil({ readyText: '2/2', conditions: ready });
  await expect.poll(async () => (await serviceOf())?.internalTrafficPolicy, slow).toBe('Cluster');
});

it('a rollout takes the old pod of the node whose new pod serves', async () => {
  await world.deploy('edge', { modelRef: { name: 'smollm2' }, placement: { mode: 'PerNode' } });
  await serveUntil({ readyText: '3/3', conditions: ready });
  const [old = ''] = new Set((await world.pods()).map(revisionOf));
  await world.change('edge', { engine: { contextLength: 1024 } });
  const order = nodes.toReversed();
  for (const node of order) {
    const fresh = async () => (await world.pods()).filter((pod) => pod.spec?.nodeName === undefined);
    await expect.poll(fresh, slow).toHaveLength(1);
    expect(Object.values(await layout()).every((there) => there.length >= 1)).toBe(true);
    await serveNew(node);
    await expect.poll(async () => (await layout())[node], slow).not.toContain(old);
    expect(Object.values(await layout()).map((there) => there.length)).toEqual([1, 1, 1]);
    await serveGoing();
  }
  await world.until('edge', { readyText: '3/3', conditions: ready });
});

it('the pod of a node that matches no more goes, and no other', async () => {
  await world.deploy('edge', { modelRef: { name: 'smollm2' }, placement: { mode: 'PerNode' } });
  await serveUntil({ readyText: '3/3', conditions: ready });
  const [, second = ''] = nodes;
  await world.client.patch(Node, { name: second }, 'merge', {
    spec: { taints: [{ key: 'test/maintenance', effect: 'NoSchedule' }] },
  });
  await world.until('edge', { readyText: '2/2', conditions: ready });
  expect((await layout())[second]).toEqual([]);
});
