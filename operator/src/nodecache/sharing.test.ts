import type { ModelRevision, SLMDeployment, SLMModel, SLMNodeCache } from '@slm-operator/crds';
import { describe, expect, test } from 'vitest';
import { choiceFor, demandsIn, inputFor, nodeOf, useOf, type World } from './testing/objects.ts';
import type { BoundPod, RevisionUse } from './views.ts';
import { wantedFor } from './wanted.ts';

const A = `sha256:${'a'.repeat(64)}`;
const B = `sha256:${'b'.repeat(64)}`;
const files = (digest: string) => [{ path: 'model.gguf', size: 10, digest }];
const sources = [{ url: 'https://host/model.gguf' }];
const revision = (digest: string): ModelRevision => ({
  name: digest.slice(7, 17),
  digest,
  size: 10,
  resolvedAt: '2026-01-01T00:00:00Z',
  files: files(digest),
  sources,
});

function model(allowedNamespaces?: SLMModel['spec']['allowedNamespaces'], digests = [A]): SLMModel {
  const revisions = digests.map(revision);
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { name: 'm', namespace: 'models' },
    spec: { source: { uri: 'hf://a/b' }, ...(allowedNamespaces === undefined ? {} : { allowedNamespaces }) },
    status: { latestRevision: revisions[0] as ModelRevision, revisions },
  };
}

const deploymentIn = (namespace: string, ref: object = {}): SLMDeployment => ({
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMDeployment',
  metadata: { name: 'chat', namespace },
  spec: { modelRef: { name: 'm', namespace: 'models', ...ref } },
});
const useIn = (namespace: string, digest = A): RevisionUse => useOf(digest, { namespace, modelNamespace: 'models' });
const podIn = (namespace: string, digest = A): BoundPod => ({ namespace, node: 'n1', digest, model: 'models/m' });

function cacheFor(namespaces: string[], digest = A, held = true): SLMNodeCache {
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMNodeCache',
    metadata: { name: 'n1' },
    spec: { wanted: [{ digest, size: 10, files: files(digest), sources, models: ['models/m'], namespaces }] },
    status: { entries: held ? [{ digest, state: 'Ready', bytesDone: 10, bytesTotal: 10 }] : [] },
  };
}

interface Given extends Partial<World> {
  readonly cache?: SLMNodeCache;
  readonly pods?: readonly BoundPod[];
}

/** What node n1 is to hold: `LETTER for NAMESPACES because of MODELS`. */
function heldIn({ cache, pods = [], ...given }: Given): string[] {
  const world = { models: [model()], deployments: [], uses: [], ...given };
  const node = nodeOf();
  const wanted = wantedFor({ node, cache, pods, ...inputFor(world, choiceFor([node])) });
  return wanted.map(
    ({ digest, namespaces, models }) =>
      `${digest.slice(7, 8)} for ${namespaces.join(',')} because of ${models.join(',')}`,
  );
}

const everyone = model({ from: 'All' });
const teamA = model({ from: 'Selector', selector: { matchLabels: { team: 'a' } } });
const labelsOf = (name: string) => ({ apps: { team: 'a' }, others: { team: 'b' } })[name];

describe('a node', () => {
  test.each<[string, Given, string[]]>([
    ['pulls nothing for a deployment that may not use the model', { deployments: [deploymentIn('apps')] }, []],
    [
      'pulls for a deployment of another namespace that may, and lets pods of both in',
      { models: [everyone], deployments: [deploymentIn('apps')] },
      ['a for apps,models because of models/m'],
    ],
    [
      'lets nobody in who has no deployment of the model',
      { models: [everyone], deployments: [deploymentIn('models')] },
      ['a for models because of models/m'],
    ],
    [
      'tells namespaces by their labels',
      { models: [teamA], deployments: [deploymentIn('apps'), deploymentIn('others')], labelsOf },
      ['a for apps,models because of models/m'],
    ],
    [
      'lets nobody in by labels that are not known',
      { models: [teamA], deployments: [deploymentIn('apps'), deploymentIn('models')] },
      ['a for models because of models/m'],
    ],
    [
      'keeps what pods of a namespace run on that is let in no more, and lets no new ones mount it',
      {
        uses: [useIn('apps')],
        deployments: [deploymentIn('apps')],
        pods: [podIn('apps')],
        cache: cacheFor(['apps', 'models']),
      },
      ['a for models because of models/m'],
    ],
    [
      'pulls nothing new for a namespace that is let in no more',
      { uses: [useIn('apps')], deployments: [deploymentIn('apps')], pods: [podIn('apps')] },
      [],
    ],
    [
      'keeps the bytes of a model that is deleted for those who serve it, in other namespaces too',
      { models: [], uses: [useIn('apps')], pods: [podIn('apps')], cache: cacheFor(['apps', 'models']) },
      ['a for apps because of models/m'],
    ],
    [
      'does not let a namespace in again that was refused before the model was deleted',
      { models: [], uses: [useIn('apps')], pods: [podIn('apps')], cache: cacheFor(['models']) },
      [],
    ],
    [
      'keeps nothing of a deleted model when its pods are gone',
      { models: [], cache: cacheFor(['apps', 'models']) },
      [],
    ],
    [
      'pulls a revision that is pinned beside the latest',
      {
        models: [model({ from: 'All' }, [B, A])],
        deployments: [deploymentIn('apps', { revision: 'a'.repeat(10) }), deploymentIn('models')],
      },
      ['a for apps,models because of models/m', 'b for apps,models because of models/m'],
    ],
    [
      'pulls the pinned revision alone when nobody follows the latest',
      { models: [model({ from: 'All' }, [B, A])], deployments: [deploymentIn('apps', { revision: 'a'.repeat(10) })] },
      ['a for apps,models because of models/m'],
    ],
    [
      'pulls nothing for a pin that the model does not have',
      { models: [everyone], deployments: [deploymentIn('apps', { revision: 'c'.repeat(10) })] },
      [],
    ],
    [
      'pulls for a ReplicaSet that goes back to an older revision, which has no pods yet',
      { models: [model({ from: 'All' }, [B, A])], deployments: [deploymentIn('apps')], uses: [useIn('apps', A)] },
      ['a for apps,models because of models/m', 'b for apps,models because of models/m'],
    ],
    [
      'passes over a ReplicaSet that names a model of its own namespace by the same name',
      { models: [everyone], uses: [useOf(A, { namespace: 'apps' })] },
      [],
    ],
  ])('%s', (_, given, expected) => {
    expect(heldIn(given)).toEqual(expected);
  });
});

test('who is let in decides over what nodes are told, so that it wakes them', () => {
  const signature = (of: SLMModel) => {
    const world = { models: [of], deployments: [deploymentIn('apps'), deploymentIn('models')], uses: [], labelsOf };
    return demandsIn(world, choiceFor([nodeOf()]))[0]?.signature;
  };
  expect(signature(everyone)).toBe(signature(teamA));
  expect(signature(everyone)).not.toBe(signature(model()));
});

test('of more namespaces than an entry can list, those with pods on the node are let in', () => {
  const namespaces = Array.from({ length: 300 }, (_, index) => `team-${String(index).padStart(3, '0')}`);
  const deployments = namespaces.map((namespace) => deploymentIn(namespace));
  const pods = ['team-298', 'team-299', 'models'].map((namespace) => podIn(namespace));
  const [entry = ''] = heldIn({ models: [everyone], deployments, pods });
  const listed = /^a for (\S+)/.exec(entry)?.[1]?.split(',') ?? [];
  expect(listed).toHaveLength(256);
  expect(listed).toEqual(expect.arrayContaining(['models', 'team-298', 'team-299', 'team-000']));
  expect(listed).toEqual(listed.toSorted());
});
