import type { ModelRevision, SLMDeployment, SLMModel, SLMNodeCache } from '@slm-operator/crds';
import { describe, expect, test } from 'vitest';
import type { NodeStock } from '../hardware/node-hardware.ts';
import { choiceFor, inputFor, nodeOf as node, useOf as use, type World } from './testing/objects.ts';
import type { BoundPod } from './views.ts';
import { wantedFor } from './wanted.ts';

const A = `sha256:${'a'.repeat(64)}`;
const B = `sha256:${'b'.repeat(64)}`;

function revision(digest: string, url = 'https://host/model.gguf'): ModelRevision {
  return {
    name: digest.slice(7, 17),
    digest,
    size: 10,
    resolvedAt: '2026-01-01T00:00:00Z',
    files: [{ path: 'model.gguf', size: 10, digest }],
    sources: [{ url }],
  };
}

function model(spec: Partial<SLMModel['spec']> = {}, digests = [A], at: Partial<SLMModel['metadata']> = {}): SLMModel {
  const revisions = digests.map((digest) => revision(digest));
  const [latest] = revisions;
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { name: 'm', namespace: 'demo', ...at },
    spec: { source: { uri: 'hf://a/b' }, ...spec },
    status: latest === undefined ? {} : { latestRevision: latest, revisions },
  };
}

function deployment(podSpec: object = {}, more: object = {}): SLMDeployment {
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment',
    metadata: { name: 'chat', namespace: 'demo', ...more },
    spec: { modelRef: { name: 'm' }, podTemplate: { spec: podSpec } },
  };
}

const pod = (digest: string, more: Partial<BoundPod> = {}): BoundPod => ({
  namespace: 'demo',
  node: 'n1',
  digest,
  model: 'demo/m',
  ...more,
});

function cacheWith(wanted: readonly string[], held: readonly string[] = []): SLMNodeCache {
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMNodeCache',
    metadata: { name: 'n1' },
    spec: {
      wanted: wanted.map((digest) => ({
        digest,
        size: 10,
        files: [{ path: 'model.gguf', size: 10, digest }],
        sources: [{ url: 'https://host/model.gguf' }],
        models: ['demo/m'],
        namespaces: ['demo'],
      })),
    },
    status: { entries: held.map((digest) => ({ digest, state: 'Ready', bytesDone: 10, bytesTotal: 10 })) },
  };
}

interface Given extends Partial<World> {
  readonly node?: NodeStock;
  readonly cache?: SLMNodeCache;
  readonly pods?: readonly BoundPod[];
}

function wantedIn(given: Given) {
  const { node: at = node(), cache, pods = [] } = given;
  const world = { models: [model()], deployments: [], uses: [], ...given };
  return wantedFor({ node: at, cache, pods, ...inputFor(world, choiceFor([at])) });
}

function wanted(given: Given): string[] {
  return wantedIn(given).map(({ digest }) => digest.slice(7, 8));
}

const taint = { key: 'gpu', value: 'yes', effect: 'NoSchedule' };

describe('a node is to hold', () => {
  test.each<[string, Given, string[]]>([
    ['nothing of a model that no deployment uses', {}, []],
    ['the model of a deployment that may run on it', { deployments: [deployment()] }, ['a']],
    ['nothing of a model that is not resolved yet', { models: [model({}, [])], deployments: [deployment()] }, []],
    ['nothing for a deployment in another namespace', { deployments: [deployment({}, { namespace: 'other' })] }, []],
    [
      'nothing for a deployment that is being deleted',
      { deployments: [deployment({}, { deletionTimestamp: '2026-01-01T00:00:00Z' })] },
      [],
    ],
    [
      'nothing when the selector of the deployment leaves it out',
      { deployments: [deployment({ nodeSelector: { pool: 'slm' } })] },
      [],
    ],
    [
      'the model when the selector of the deployment matches',
      { deployments: [deployment({ nodeSelector: { pool: 'slm' } })], node: node({ labels: { pool: 'slm' } }) },
      ['a'],
    ],
    ['nothing when a taint keeps the pods away', { deployments: [deployment()], node: node({ taints: [taint] }) }, []],
    [
      'the model when the deployment tolerates the taint',
      {
        deployments: [deployment({ tolerations: [{ key: 'gpu', operator: 'Exists' }] })],
        node: node({ taints: [taint] }),
      },
      ['a'],
    ],
    [
      'the model also while it is briefly away',
      {
        deployments: [deployment()],
        node: node({ ready: false, taints: [{ key: 'node.kubernetes.io/unreachable', effect: 'NoExecute' }] }),
      },
      ['a'],
    ],
    ['nothing new while it is cordoned', { deployments: [deployment()], node: node({ cordoned: true }) }, []],
    [
      'what it is pulling already, cordoned or not',
      { deployments: [deployment()], node: node({ cordoned: true }), cache: cacheWith([A]) },
      ['a'],
    ],
    [
      'what it holds already, cordoned or not',
      { deployments: [deployment()], node: node({ cordoned: true }), cache: cacheWith([], [A]) },
      ['a'],
    ],
    ['nothing once it is being deleted', { deployments: [deployment()], node: node({ deleted: true }) }, []],
    ['a model for all nodes, used or not', { models: [model({ prePull: { policy: 'Nodes' } })] }, ['a']],
    [
      'a model for the nodes of a selector, if it is one',
      { models: [model({ prePull: { policy: 'Nodes', nodeSelector: { pool: 'slm' } } })] },
      [],
    ],
    [
      'nothing ahead with policy None',
      { models: [model({ prePull: { policy: 'None' } })], deployments: [deployment()], uses: [use(A)] },
      [],
    ],
    [
      'with policy None what a pod bound here mounts',
      { models: [model({ prePull: { policy: 'None' } })], pods: [pod(A)] },
      ['a'],
    ],
    [
      'with policy None what a pod had mounted, as long as its ReplicaSet is in use',
      { models: [model({ prePull: { policy: 'None' } })], cache: cacheWith([A]), uses: [use(A)] },
      ['a'],
    ],
    [
      'nothing for a pod on another node',
      { models: [model({ prePull: { policy: 'None' } })], pods: [pod(A, { node: 'n2' })] },
      [],
    ],
    [
      'an older revision as long as a ReplicaSet uses it',
      { models: [model({}, [B, A])], deployments: [deployment()], uses: [use(A)] },
      ['a', 'b'],
    ],
    [
      'no older revision that nothing uses',
      { models: [model({}, [B, A])], deployments: [deployment()], cache: cacheWith([A], [A]) },
      ['b'],
    ],
    [
      'an older revision only where its pods may run',
      { models: [model({}, [B, A])], deployments: [deployment()], uses: [use(A, { nodeSelector: { old: 'yes' } })] },
      ['b'],
    ],
    [
      'what a ReplicaSet uses although its model was deleted',
      { models: [], cache: cacheWith([A]), uses: [use(A)] },
      ['a'],
    ],
    ['what a pod mounts although its model was deleted', { models: [], cache: cacheWith([A]), pods: [pod(A)] }, ['a']],
    ['nothing of a deleted model that nobody uses', { models: [], cache: cacheWith([A], [A]) }, []],
    [
      'nothing of a deleted model that only another namespace runs',
      { models: [], cache: cacheWith([A]), uses: [use(A, { namespace: 'other' })] },
      [],
    ],
    [
      'of a suspended model what it holds, and no more',
      { models: [model({ suspend: true }, [B, A])], deployments: [deployment()], cache: cacheWith([A, B], [A]) },
      ['a'],
    ],
  ])('%s', (_, input, expected) => {
    expect(wanted(input)).toEqual(expected);
  });

  test('one entry for the same bytes of two namespaces, open ways first', () => {
    const open = model({ prePull: { policy: 'Nodes' } }, [A], { namespace: 'b-team', name: 'open' });
    const closed = model({ prePull: { policy: 'Nodes' } }, [], { namespace: 'a-team', name: 'closed' });
    const secret = { ...revision(A), sources: [{ url: 'https://private/model.gguf', needsGrant: true }] };
    const models = [{ ...closed, status: { latestRevision: secret, revisions: [secret] } }, open];
    expect(wantedIn({ models })).toEqual([
      {
        digest: A,
        size: 10,
        files: [{ path: 'model.gguf', size: 10, digest: A }],
        sources: [{ url: 'https://host/model.gguf' }, { url: 'https://private/model.gguf', needsGrant: true }],
        models: ['a-team/closed', 'b-team/open'],
        namespaces: ['a-team', 'b-team'],
      },
    ]);
  });

  test('the same list, whatever the order in which the models come', () => {
    const models = [A, B].map((digest, index) =>
      model({ prePull: { policy: 'Nodes' } }, [digest], { name: `m${index}` }),
    );
    expect(wanted({ models })).toEqual(wanted({ models: models.toReversed() }));
  });
});
