import type { ModelRevision, SLMDeployment, SLMModel, SLMNodeCache } from '@slm-operator/crds';
import { annotations, labels } from '@slm-operator/crds';
import { beforeEach, describe, expect, test } from 'vitest';
import { modelKeyOf } from '../deployment/names.ts';
import { builtInProfiles, defaultOrder } from '../hardware/profiles.ts';
import { keyOf, type Node, type ObjectOf, type ReplicaSet } from '../kube/resource.ts';
import { makeStore, type WritableStore } from '../runtime/store.ts';
import { type Demands, makeDemands } from './demands.ts';
import { makeFileChoice } from './file-choice.ts';
import { makeNodeShelf } from './shelf.ts';

type NodeObject = ObjectOf<typeof Node>;
type SetObject = ObjectOf<typeof ReplicaSet>;

const own = `sha256:${'d'.repeat(64)}`;
const half = `sha256:${'f'.repeat(64)}`;
let version = 0;
const meta = (name: string, more: object = {}) => ({ name, uid: name, resourceVersion: String(++version), ...more });

function modelOf(name: string, policy: 'OnDemand' | 'Nodes' = 'OnDemand'): SLMModel {
  const files = { size: 1, files: [], sources: [] };
  const variants = [{ name: 'fp16', accelerators: ['nvidia'], digest: half, ...files }];
  const revision: ModelRevision = { name: 'r', digest: own, resolvedAt: '', ...files, variants };
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: meta(name, { namespace: 'demo' }),
    spec: { source: { uri: 'hf://a/b' }, prePull: { policy } },
    status: {
      latestRevision: revision,
      revisions: [revision],
      metadata: { format: 'GGUF' },
      estimate: { weights: 1 },
    },
  };
}

function deploymentOf(name: string, model: string, preferred: string): SLMDeployment {
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment',
    metadata: meta(name, { namespace: 'demo' }),
    spec: { modelRef: { name: model }, hardware: { preferred, policy: 'Never' } },
  };
}

function setOf(name: string, model: string, digest: string, nodeSelector?: Record<string, string>): SetObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: meta(name, {
      namespace: 'demo',
      labels: { [labels.model]: model, [labels.deployment]: name },
      annotations: { [annotations.modelDigest]: digest },
    }),
    spec: { replicas: 1, selector: {}, template: { spec: { nodeSelector } } },
  } as unknown as SetObject;
}

function nodeOf(name: string, gpus?: number): NodeObject {
  const amounts = gpus === undefined ? {} : { 'nvidia.com/gpu': String(gpus) };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: meta(name, { labels: { 'kubernetes.io/hostname': name } }),
    status: { allocatable: amounts, capacity: amounts },
  };
}

function cacheThatLists(node: string, model: string): SLMNodeCache {
  const wanted = [{ digest: own, size: 1, files: [], sources: [], models: [model], namespaces: ['demo'] }];
  return { apiVersion: 'slm.dev/v1alpha1', kind: 'SLMNodeCache', metadata: meta(node), spec: { wanted } };
}

/** As the controller wires them: each event computes its model anew. */
function setUp() {
  const fail = (error: unknown) => {
    throw error;
  };
  const stores = {
    models: makeStore<SLMModel>(fail),
    deployments: makeStore<SLMDeployment>(fail),
    sets: makeStore<SetObject>(fail),
    caches: makeStore<SLMNodeCache>(fail),
    nodes: makeStore<NodeObject>(fail),
  };
  const shelf = makeNodeShelf(stores.nodes, stores.caches);
  const images = { cpu: 'cpu', cuda: 'cuda' };
  const choice = makeFileChoice({ profiles: builtInProfiles(), order: defaultOrder, images }, () => shelf.kinds());
  return { ...stores, shelf, demands: makeDemands({ ...stores, shelf, choice }) };
}

let world: ReturnType<typeof setUp>;
let demands: Demands;
function put<T extends { readonly metadata?: object }>(store: WritableStore<T>, object: T): T {
  store.put(object);
  return object;
}
const wakes = (deployment: SLMDeployment) => demands.changed(modelKeyOf(deployment)).sort();

beforeEach(() => {
  world = setUp();
  demands = world.demands;
  put(world.nodes, nodeOf('gpu-1', 2));
  put(world.nodes, nodeOf('gpu-2', 4));
  put(world.nodes, nodeOf('plain'));
  for (const name of ['a', 'b']) demands.changed(keyOf(put(world.models, modelOf(name))));
});

describe('a change wakes', () => {
  test('the nodes where a deployment may run, and no other', () => {
    expect(wakes(put(world.deployments, deploymentOf('chat', 'a', 'nvidia')))).toEqual(['gpu-1', 'gpu-2']);
    expect(wakes(put(world.deployments, deploymentOf('talk', 'b', 'cpu')))).toEqual(['gpu-1', 'gpu-2', 'plain']);
  });

  test('nobody when one more deployment wants what another wants already', () => {
    wakes(put(world.deployments, deploymentOf('chat', 'a', 'nvidia')));
    for (let count = 0; count < 20; count++) {
      expect(wakes(put(world.deployments, deploymentOf(`chat-${count}`, 'a', 'nvidia')))).toEqual([]);
    }
  });

  test('the nodes that lose something when the last deployment goes', () => {
    const chat = put(world.deployments, deploymentOf('chat', 'a', 'nvidia'));
    wakes(chat);
    world.deployments.remove(chat);
    expect(wakes(chat)).toEqual(['gpu-1', 'gpu-2']);
  });

  test('the nodes that list the model, whatever it is about', () => {
    put(world.caches, cacheThatLists('plain', 'demo/a'));
    put(world.sets, setOf('chat', 'a', half, { nowhere: 'yes' }));
    expect(demands.changed('demo/a')).toEqual(['plain']);
  });

  test('the nodes that list a model that goes after all was forgotten, and those of a ReplicaSet that outlives its model', () => {
    put(world.caches, cacheThatLists('plain', 'demo/a'));
    demands.clear();
    world.models.remove(world.models.get('demo/a') as SLMModel);
    expect(demands.changed('demo/a')).toEqual(['plain']);
    expect(demands.changed('demo/a')).toEqual(['plain']);
  });

  test('the others, too, when one of them has looked by itself meanwhile', () => {
    put(world.models, modelOf('c'));
    put(world.deployments, deploymentOf('chat', 'c', 'cpu'));
    demands.all();
    expect(demands.changed('demo/c').sort()).toEqual(['gpu-1', 'gpu-2', 'plain']);
  });

  test('nobody for a ReplicaSet like those that there are', () => {
    for (const name of ['chat', 'talk']) put(world.sets, setOf(name, 'a', half));
    demands.changed('demo/a');
    put(world.sets, setOf('more', 'a', half));
    expect(demands.changed('demo/a')).toEqual([]);
  });
});

test('what is known and used is looked up by namespace and digest, variants among them', () => {
  put(world.sets, setOf('chat', 'a', half));
  expect([demands.isKnown('demo', half), demands.isKnown('other', half)]).toEqual([true, false]);
  expect([demands.usedOf('demo', half), demands.usedOf('demo', own)]).toEqual([['demo/a'], []]);
  expect([demands.lists('demo/a', half), demands.lists('demo/none', half)]).toEqual([true, false]);
});

describe('a model of another namespace', () => {
  const elsewhere = (): SLMDeployment => {
    const chat = deploymentOf('chat', 'a', 'nvidia');
    return {
      ...chat,
      metadata: { ...chat.metadata, namespace: 'apps' },
      spec: { ...chat.spec, modelRef: { name: 'a', namespace: 'demo' } },
    };
  };
  const share = (from: 'All' | 'Same') => {
    const model = modelOf('a');
    put(world.models, {
      ...model,
      metadata: meta('a', { namespace: 'demo', uid: model.metadata.uid }),
      spec: { ...model.spec, allowedNamespaces: { from } },
    });
    return demands.changed('demo/a').sort();
  };

  test('wakes nobody before its owner lets the namespace in, and then the nodes where it may run', () => {
    expect(wakes(put(world.deployments, elsewhere()))).toEqual([]);
    expect(share('All')).toEqual(['gpu-1', 'gpu-2']);
    expect(share('Same')).toEqual(['gpu-1', 'gpu-2']);
  });

  test('is found by the namespace that borrows it, from deployments and from ReplicaSets', () => {
    expect([...demands.borrowedBy('apps')]).toEqual([]);
    put(world.deployments, elsewhere());
    const set = setOf('old', 'b', half);
    const notes = { ...set.metadata?.annotations, [annotations.modelNamespace]: 'demo' };
    put(world.sets, { ...set, metadata: { ...set.metadata, namespace: 'apps', annotations: notes } });
    expect([...demands.borrowedBy('apps')]).toEqual(['demo/a', 'demo/b']);
    expect([...demands.borrowedBy('demo')]).toEqual([]);
    expect(demands.usedOf('apps', half)).toEqual(['demo/b']);
  });
});

test('the bytes of a ReplicaSet without pods are wanted again when its deployment goes back to it', () => {
  const chat = put(world.deployments, deploymentOf('chat', 'b', 'nvidia'));
  const set = setOf('chat', 'a', half);
  const own = { ...set.metadata?.labels, [labels.revision]: 'aaaaaaaaaa' };
  put(world.sets, {
    ...set,
    metadata: { ...set.metadata, labels: own },
    spec: { ...set.spec, replicas: 0 },
  } as SetObject);
  expect(demands.changed('demo/a')).toEqual([]);
  put(world.deployments, {
    ...chat,
    metadata: meta('chat', { namespace: 'demo' }),
    spec: { ...chat.spec, rollbackTo: { revision: 'aaaaaaaaaa' } },
  });
  expect(demands.changed('demo/a').sort()).toEqual(['gpu-1', 'gpu-2', 'plain']);
});

test('a model that is gone is wanted no more', () => {
  expect(demands.all()).toHaveLength(2);
  const model = world.models.get('demo/a') as SLMModel;
  world.models.remove(model);
  demands.changed('demo/a');
  expect(demands.all().map(({ model: key }) => key)).toEqual(['demo/b']);
});

describe('nodes', () => {
  test('are of a kind when they differ in name and in the number of devices alone', () => {
    expect(world.shelf.kinds().for(undefined)).toHaveLength(2);
    const { version: before } = world.shelf.kinds();
    put(world.nodes, nodeOf('gpu-3', 8));
    expect(world.shelf.kinds().version).toBe(before);
    put(world.nodes, nodeOf('gpu-3', 0));
    expect(world.shelf.kinds().version).not.toBe(before);
  });

  test('are told apart for a deployment that asks for one by its name', () => {
    expect(world.shelf.kinds().for({ 'kubernetes.io/hostname': 'gpu-2' })).toHaveLength(3);
  });

  test('are the same values for as long as only heartbeats come', () => {
    const before = world.shelf.list();
    put(world.nodes, nodeOf('plain'));
    expect(world.shelf.list()).toBe(before);
    put(world.nodes, nodeOf('plain', 1));
    expect(world.shelf.list()).not.toBe(before);
    expect(world.shelf.list()[0]).toBe(before[0]);
  });
});
