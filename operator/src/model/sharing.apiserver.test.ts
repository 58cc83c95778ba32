/** Models that are shared, on a real API server: which pods nodes are told to let in, and which revisions a model keeps. */
import { API_VERSION, annotations, labels, MANAGED_BY } from '@slm-operator/crds';
import { makeGguf } from '@slm-operator/test/fixtures/gguf';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { SLMDeployment, SLMModel } from '../execution/kinds.ts';
import { Namespace, ReplicaSet } from '../kube/index.ts';
import { ModelsWorld, patient } from './testing/models-world.ts';

let world: ModelsWorld;
let team: string;
let node: string;
beforeEach(async () => {
  world = await ModelsWorld.start(inject('kubeconfig'));
  team = `${world.namespace}-team`;
  await world.client.create(Namespace, { metadata: { name: team } });
  node = await world.addNode();
  await world.addFile('hf/acme/tiny/tiny.gguf');
});
afterEach(async () => {
  await world.client.delete(Namespace, { name: team });
  await world[Symbol.asyncDispose]();
});

const source = { uri: 'hf://acme/tiny', insecure: true };
const shared = { from: 'Selector' as const, selector: { matchLabels: { team: 'a' } } };

/** A deployment in the other namespace, on the node of this world. */
const borrow = (ref: object = {}) =>
  world.client.apply(
    SLMDeployment,
    {
      apiVersion: API_VERSION,
      kind: 'SLMDeployment',
      metadata: { name: 'bot', namespace: team },
      spec: {
        modelRef: { name: 'tiny', namespace: world.namespace, ...ref },
        podTemplate: { spec: { nodeSelector: { world: world.namespace } } },
      },
    },
    { fieldManager: 'user', force: true },
  );
/** Namespaces whose pods may mount what the node is to hold: a list for each revision. */
const letIn = async () => ((await world.cache(node))?.spec?.wanted ?? []).map((entry) => entry.namespaces);
const both = () => [[world.namespace, team].sort()];

it('nodes pull for a namespace and let its pods in as its labels say, at once', async () => {
  await world.applyModel('tiny', { source, allowedNamespaces: shared });
  await world.until('tiny', 'Resolved=True Resolved');
  await borrow();
  const label = (value: string | null) =>
    world.client.patch(Namespace, { name: team }, 'merge', { metadata: { labels: { team: value } } });
  await label('a');
  await expect.poll(letIn, patient).toEqual(both());
  await label('b');
  await expect.poll(letIn, patient).toEqual([]);
  await world.applyModel('tiny', { source, allowedNamespaces: { from: 'All' } });
  await expect.poll(letIn, patient).toEqual(both());
  await world.applyModel('tiny', { source });
  await expect.poll(letIn, patient).toEqual([]);
});

it('a model says who of other namespaces serves it, and keeps revisions that are pinned or may be gone back to', async () => {
  await world.applyModel('tiny', { source, allowedNamespaces: { from: 'All' } });
  const { status } = await world.until('tiny', 'Resolved=True Resolved');
  const first = status?.revisions?.[0];
  await borrow({ revision: first?.name ?? '' });
  await world.client.create(ReplicaSet, {
    metadata: {
      name: 'bot-0123456789',
      namespace: team,
      labels: { [labels.managedBy]: MANAGED_BY, [labels.model]: 'tiny', [labels.deployment]: 'bot' },
      annotations: {
        [annotations.modelDigest]: first?.digest ?? '',
        [annotations.modelRevision]: first?.name ?? '',
        [annotations.modelNamespace]: world.namespace,
      },
    },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: 'bot' } },
      template: {
        metadata: { labels: { app: 'bot' } },
        spec: { nodeSelector: { world: world.namespace }, containers: [{ name: 'server', image: 'server:1' }] },
      },
    },
  });
  const listed = async () =>
    (await world.model('tiny')).status?.revisions?.map(({ name, usedBy }) => [name, usedBy?.join() ?? '-']);
  await expect.poll(listed, patient).toEqual([[first?.name, `${team}/bot`]]);

  await world.addFile('hf/acme/next/next.gguf', makeGguf({ dataBytes: 2000 }));
  await world.applyModel('tiny', { source: { ...source, uri: 'hf://acme/next' }, allowedNamespaces: { from: 'All' } });
  await expect.poll(async () => (await listed())?.length, patient).toBe(2);
  const [second] = (await listed()) ?? [];
  await expect.poll(listed, patient).toEqual([second, [first?.name, `${team}/bot`]]);
  expect(await world.wantedDigests(node)).toEqual([first?.digest]);

  await world.client.patch(ReplicaSet, { name: 'bot-0123456789', namespace: team }, 'merge', { spec: { replicas: 0 } });
  await expect.poll(listed, patient).toEqual([second, [first?.name, '-']]);
  await world.client.delete(SLMDeployment, { name: 'bot', namespace: team });
  // Its history goes with a deployment.
  await world.client.delete(ReplicaSet, { name: 'bot-0123456789', namespace: team });
  await expect.poll(listed, patient).toEqual([second]);
  await expect.poll(() => world.wantedDigests(node), patient).toEqual([]);
  await world.client.delete(SLMModel, world.ref('tiny'));
});
