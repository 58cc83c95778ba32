import { labels } from '@slm-operator/crds';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { SLMModel } from '../execution/kinds.ts';
import {
  ConfigMap,
  type KubeObject,
  NetworkPolicy,
  PodDisruptionBudget,
  ReplicaSet,
  Secret,
  Service,
} from '../kube/index.ts';
import { condition, conditions, slow, versionOf, World } from './testing/world.ts';

let world: World;
beforeEach(async () => {
  world = await World.start(inject('kubeconfig'));
});
afterEach(() => world[Symbol.asyncDispose]());

const WRITES = ['POST', 'PUT', 'PATCH', 'DELETE'];
const ready = { conditions: conditions(condition('Ready', 'True')) };

const keys = () => ['chat', 'tokens'].map((name) => `${world.namespace}/${name}`);

/** Two deployments that serve, with every kind of child between them. */
async function servingWithEverything(): Promise<void> {
  await world.client.create(ConfigMap, { metadata: world.ref('slm-operator-ca'), data: { 'ca.crt': 'authority' } });
  await world.client.create(Service, {
    metadata: world.ref('slm-operator'),
    spec: { ports: [{ port: 9443 }], selector: {} },
  });
  const node = await world.addNode();
  await world.deploy('chat', {
    model: { uri: 'hf://org/repo', files: ['*.gguf'] },
    replicas: 2,
    service: { annotations: { team: 'a' } },
    resources: { requests: { cpu: '1500m', memory: '1024Mi' }, limits: { memory: '2048Mi' } },
  });
  await expect.poll(() => world.client.find(SLMModel, world.ref('chat')), slow).toBeDefined();
  await world.reportNode(node, await world.resolveModel('chat', 'one'), 100, 'chat');
  await world.serveUntil('chat', ready);
  await world.deploy('tokens', { modelRef: { name: 'chat' }, auth: { type: 'ServiceAccount' } });
  await world.serveUntil('tokens', ready);
}

/** Resource versions of all children: `Kind name` → version. */
async function childVersions(): Promise<Record<string, string>> {
  const kinds = [Secret, Service, NetworkPolicy, PodDisruptionBudget, ReplicaSet, ConfigMap, SLMModel];
  const found: [string, string][] = [];
  for (const type of kinds) {
    const { items } = await world.client.listAll<KubeObject>(type, { namespace: world.namespace });
    for (const item of items)
      if (item.metadata?.labels?.[labels.deployment] !== undefined)
        found.push([`${type.kind} ${item.metadata.name}`, versionOf(item) ?? '']);
  }
  return Object.fromEntries(found.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

it('a new process looks at every kind of child and writes nothing', async () => {
  await servingWithEverything();
  await world.quiet(500);
  await world.stopOperators();
  const before = await childVersions();
  expect(Object.keys(before).map((child) => child.replace(/-[0-9a-f]{10}/, '-REVISION'))).toEqual([
    'ConfigMap tokens-broker',
    'NetworkPolicy chat',
    'NetworkPolicy tokens',
    'PodDisruptionBudget chat',
    'ReplicaSet chat-REVISION',
    'ReplicaSet tokens-REVISION',
    'SLMModel chat',
    'Secret chat-api-keys',
    'Service chat',
    'Service tokens',
  ]);

  const fresh = world.startFresh();
  await expect.poll(() => keys().every((key) => fresh.seen.has(key)), slow).toBe(true);
  // Whatever it wakes itself for comes at once, or after the pause between two status writes.
  await world.quiet(2500);
  expect(fresh.requests.filter(({ method }) => WRITES.includes(method))).toEqual([]);
  expect(await childVersions()).toEqual(before);
});

it('a new process heals what was changed and removes what is asked for no longer while none ran', async () => {
  await servingWithEverything();
  await world.quiet(500);
  await world.stopOperators();
  await world.client.patch(Service, world.ref('chat'), 'merge', { spec: { selector: { 'slm.dev/deployment': 'x' } } });
  await world.client.delete(PodDisruptionBudget, world.ref('chat'));
  await world.change('chat', { service: null });

  world.startFresh();
  await expect
    .poll(async () => {
      const { metadata, spec } = await world.client.get(Service, world.ref('chat'));
      return [metadata?.annotations?.['team'], spec?.selector?.['slm.dev/deployment']];
    }, slow)
    .toEqual([undefined, 'chat']);
  await expect.poll(() => world.client.find(PodDisruptionBudget, world.ref('chat')), slow).toBeDefined();
});

it('a child of a release that left no stamp is written once, and is the same afterwards', async () => {
  await servingWithEverything();
  await world.quiet(500);
  await world.stopOperators();
  await world.client.patch(Service, world.ref('chat'), 'merge', {
    metadata: { annotations: { 'slm.dev/applied': null } },
  });
  const before = await world.client.get(Service, world.ref('chat'));

  const fresh = world.startFresh();
  await expect.poll(() => keys().every((key) => fresh.seen.has(key)), slow).toBe(true);
  await world.quiet(1000);
  expect(fresh.requests.filter(({ method }) => WRITES.includes(method)).map(({ resource }) => resource)).toEqual([
    'services',
  ]);
  expect((await world.client.get(Service, world.ref('chat'))).spec).toEqual(before.spec);
});
