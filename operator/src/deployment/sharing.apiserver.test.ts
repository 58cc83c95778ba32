/** Deployments of models in other namespaces, on a real API server: what wakes them, and what they say and do. */
import { annotations } from '@slm-operator/crds';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { SLMModel } from '../execution/kinds.ts';
import { Namespace } from '../kube/index.ts';
import { condition, conditions, slow, World } from './testing/world.ts';

let world: World;
let owner: string;
let node: string;
beforeEach(async () => {
  world = await World.start(inject('kubeconfig'));
  owner = `${world.namespace}-owner`;
  await world.client.create(Namespace, { metadata: { name: owner } });
  node = await world.addNode();
});
afterEach(async () => {
  for (const name of ['phi', 'other'])
    await world.client.delete(SLMModel, { name, namespace: owner }).catch(() => undefined);
  await world.client.delete(Namespace, { name: owner });
  await world[Symbol.asyncDispose]();
});

const share = (allowedNamespaces: object | null) =>
  world.client.patch(SLMModel, { name: 'phi', namespace: owner }, 'merge', { spec: { allowedNamespaces } });
/** What the Model controller writes when it has seen the changed spec. */
const resolve = (content: string) => world.resolveModel('phi', content, owner);
const label = (value: string | null) =>
  world.client.patch(Namespace, { name: world.namespace }, 'merge', { metadata: { labels: { team: value } } });
const refused = { conditions: conditions(condition('Stalled', 'True', 'ModelNotAllowed')) };
const ready = { conditions: conditions(condition('Ready', 'True')), readyText: '2/2' };
const refusedAndServing = {
  conditions: conditions(condition('Stalled', 'True', 'ModelNotAllowed'), condition('Available', 'True')),
};

it('a deployment is refused, let in, served, and let in no more: its pods stay and it gets no new ones', async () => {
  const digest = await world.addModel('phi', 'one', owner);
  await world.reportNode(node, digest, 100, `${owner}/phi`);
  await world.deploy('chat', { modelRef: { name: 'phi', namespace: owner }, replicas: 2 });
  const { status } = await world.until('chat', refused);
  expect(status?.statusText).toBe(
    `SLMModel ${owner}/phi may be used from namespace ${owner} only; its owner can let namespace ${world.namespace} in with spec.allowedNamespaces`,
  );
  expect(await world.replicaSets()).toEqual([]);

  await share({ from: 'All' });
  await resolve('one');
  await world.serveUntil('chat', ready);
  const [set] = await world.replicaSets();
  expect(set?.metadata?.annotations?.[annotations.modelNamespace]).toBe(owner);
  const pods = (await world.pods()).map(({ metadata }) => metadata?.uid);

  await share({ from: 'Same' });
  await world.until('chat', refusedAndServing);
  await world.change('chat', { replicas: 3, engine: { contextLength: 1024 } });
  await world.until('chat', { ...refused, observedGeneration: 2, availableReplicas: 2 });
  await world.quiet(500);
  expect((await world.pods()).map(({ metadata }) => metadata?.uid)).toEqual(pods);
  expect(await world.replicaSets()).toHaveLength(1);

  await share({ from: 'All' });
  await resolve('one');
  await world.serveUntil('chat', { ...ready, readyText: '3/3' });
});

it('the labels of its namespace let a deployment in, and out', async () => {
  const digest = await world.addModel('phi', 'one', owner);
  await world.reportNode(node, digest, 100, `${owner}/phi`);
  await share({ from: 'Selector', selector: { matchLabels: { team: 'a' } } });
  await resolve('one');
  await world.deploy('chat', { modelRef: { name: 'phi', namespace: owner }, replicas: 2 });
  await world.until('chat', refused);
  await label('b');
  await world.quiet(200);
  await world.until('chat', refused);
  await label('a');
  await world.serveUntil('chat', ready);
  await label(null);
  await world.until('chat', refusedAndServing);
  expect(await world.pods()).toHaveLength(2);
});

it('a model that is deleted goes on being served, and a reference to one that is not there says where it was looked for', async () => {
  const digest = await world.addModel('phi', 'one', owner);
  await world.reportNode(node, digest, 100, `${owner}/phi`);
  await share({ from: 'All' });
  await resolve('one');
  await world.deploy('chat', { modelRef: { name: 'phi', namespace: owner }, replicas: 2 });
  await world.serveUntil('chat', ready);
  await world.client.delete(SLMModel, { name: 'phi', namespace: owner });
  const { status } = await world.until('chat', {
    conditions: conditions(condition('Ready', 'False', 'ModelNotFound'), condition('Available', 'True')),
  });
  expect(status?.statusText).toContain(`there is no SLMModel phi in namespace ${owner}`);
  expect(await world.pods()).toHaveLength(2);
});

it('a pinned revision is served through a new latest, and one that is not listed is told with those that are', async () => {
  const first = await world.addModel('phi', 'one', owner);
  await share({ from: 'All' });
  await resolve('one');
  await world.reportNode(node, first, 100, `${owner}/phi`);
  const pin = first.slice(7, 17);
  await world.deploy('chat', { modelRef: { name: 'phi', namespace: owner, revision: pin }, replicas: 2 });
  const { status } = await world.serveUntil('chat', ready);

  const model = await world.client.get(SLMModel, { name: 'phi', namespace: owner });
  const [known] = model.status?.revisions ?? [];
  await resolve('two');
  const { status: later } = await world.client.get(SLMModel, { name: 'phi', namespace: owner });
  const both = { revisions: [...(later?.revisions ?? []), known] };
  await world.client.patch(
    SLMModel,
    { name: 'phi', namespace: owner },
    'merge',
    { status: both },
    { subresource: 'status' },
  );
  await world.quiet(500);
  expect((await world.deployment('chat')).status?.currentRevision).toBe(status?.currentRevision);
  expect(await world.replicaSets()).toHaveLength(1);

  await world.change('chat', { modelRef: { revision: '9999999999' } });
  const wrong = await world.until('chat', {
    conditions: conditions(condition('Stalled', 'True', 'ModelRevisionNotFound'), condition('Available', 'True')),
  });
  const [latest] = both.revisions;
  expect(wrong.status?.statusText).toBe(
    `model ${owner}/phi has no revision 9999999999 to pin; it has ${latest?.name} (latest), ${pin}: correct spec.modelRef.revision, or remove it to follow the latest`,
  );
  expect(await world.pods()).toHaveLength(2);
});

it('deployments of other namespaces are not looked at for labels that concern nobody', async () => {
  await world.addModel('phi', 'one');
  await world.deploy('chat', { modelRef: { name: 'phi' } });
  await expect.poll(async () => (await world.deployment('chat')).status?.conditions, slow).toBeDefined();
  await world.quiet(500);
  const before = world.requests.length;
  await label('a');
  await world.quiet(500);
  expect(world.requests.length).toBe(before);
});
