import type {
  ModelRevision,
  ModelVariant,
  SLMDeployment,
  SLMDeploymentSpec,
  SLMModel,
  SLMNodeCache,
} from '@slm-operator/crds';
import { revisionName } from '@slm-operator/crds';
import { describe, expect, test } from 'vitest';
import type { NodeStock } from '../hardware/node-hardware.ts';
import { choiceFor, inputFor, nodeOf, useOf } from './testing/objects.ts';
import type { BoundPod, RevisionUse } from './views.ts';
import { wantedFor } from './wanted.ts';

const digestOf = (letter: string) => `sha256:${letter.repeat(64)}`;

/** d: the model's own file, a GGUF. */
const [d, f, n, q] = ['d', 'f', 'n', 'q'].map(digestOf) as [string, string, string, string];

function variant(name: string, digest: string, ...accelerators: string[]): ModelVariant {
  const metadata = { format: name === 'npu' ? ('ONNX' as const) : ('GGUF' as const) };
  return { name, accelerators, digest, size: 1, files: [], sources: [], metadata, estimate: { weights: 1 } };
}
const fp16 = variant('fp16', f, 'nvidia');
const npu = variant('npu', n, 'npu');
const q4 = variant('q4', q, 'cpu');

function revision(variants: readonly ModelVariant[], digest = d): ModelRevision {
  const name = revisionName(digest, variants);
  return { name, digest, size: 1, resolvedAt: '', files: [], sources: [], variants: [...variants] };
}

interface Given {
  readonly variants?: readonly ModelVariant[];
  /** Older ones. */
  readonly before?: readonly ModelRevision[];
  readonly prePull?: SLMModel['spec']['prePull'];
  readonly hardware?: SLMDeploymentSpec['hardware'];
  readonly engine?: SLMDeploymentSpec['engine'];
  /** Of the cluster, besides the node that is asked. */
  readonly others?: readonly NodeStock[];
  readonly cache?: SLMNodeCache;
  readonly uses?: readonly RevisionUse[];
  readonly pods?: readonly BoundPod[];
  readonly deployed?: boolean;
  readonly options?: Parameters<typeof choiceFor>[1];
}

const gpu = { 'nvidia.com/gpu': 1 };
const gpuNode = nodeOf({ allocatable: gpu });
const npuNode = nodeOf({ name: 'npu', allocatable: { 'npu.intel.com/accel': 1 } });
const plainNode = nodeOf({ name: 'plain' });
/** Its plugin has ended. */
const lostNode = nodeOf({ allocatable: { 'nvidia.com/gpu': 0 }, capacity: gpu });
/** Only pods that tolerate it go there. */
const guarded = { taints: [{ key: 'nvidia.com/gpu', value: 'true', effect: 'NoSchedule' }] };

function cacheOf(...held: string[]): SLMNodeCache {
  const entry = { size: 1, files: [], sources: [], models: ['demo/m'], namespaces: ['demo'] };
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMNodeCache',
    metadata: { name: 'n1' },
    spec: { wanted: held.map((digest) => ({ digest, ...entry })) },
    status: { entries: held.map((digest) => ({ digest, state: 'Ready', bytesDone: 1, bytesTotal: 1 })) },
  };
}

/** What the node is to hold, by first letters. */
function on(node: NodeStock, given: Given = {}): string {
  const { variants = [fp16, npu, q4], before = [], prePull, hardware, engine, others = [], deployed = true } = given;
  const latest = revision(variants);
  const model: SLMModel = {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { name: 'm', namespace: 'demo' },
    spec: { source: { uri: 'hf://a/b' }, ...(prePull === undefined ? {} : { prePull }) },
    status: {
      latestRevision: latest,
      revisions: [latest, ...before],
      metadata: { format: 'GGUF' },
      estimate: { weights: 1 },
    },
  };
  const deployment: SLMDeployment = {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment',
    metadata: { name: 'chat', namespace: 'demo' },
    spec: {
      modelRef: { name: 'm' },
      ...(hardware === undefined ? {} : { hardware }),
      ...(engine === undefined ? {} : { engine }),
    },
  };
  const world = { models: [model], deployments: deployed ? [deployment] : [], uses: given.uses ?? [] };
  const input = inputFor(world, choiceFor([node, ...others], given.options));
  return wantedFor({ node, cache: given.cache, pods: given.pods ?? [], ...input })
    .map(({ digest }) => digest.slice(7, 8))
    .join('');
}

const gpuFirst = { preferred: 'gpu', fallback: ['cpu'] };
const gpuOnly = { preferred: 'nvidia', policy: 'Never' as const };

describe('a node is to hold the files of the hardware that pods may use there', () => {
  test.each<[string, string, string]>([
    ['that for processors where there is nothing else', on(plainNode, { others: [gpuNode] }), 'q'],
    ['that for its GPU and that for its processors, since pods may use both', on(gpuNode), 'fq'],
    ['that for its GPU alone where a taint keeps other pods away', on(nodeOf({ allocatable: gpu, ...guarded })), 'f'],
    ['that for its NPU, whichever NPU it is', on(npuNode), 'nq'],
    ['that for its GPU alone where the deployment takes no other', on(gpuNode, { hardware: gpuOnly }), 'f'],
    ['nothing where the deployment runs elsewhere', on(plainNode, { hardware: gpuOnly, others: [gpuNode] }), ''],
    ['what pods fall back to, before they do', on(plainNode, { hardware: gpuFirst, others: [gpuNode] }), 'q'],
    ['the model’s own file where no variant is for its hardware', on(gpuNode, { variants: [npu] }), 'd'],
    ['the model’s own file for its processors, besides that for its GPU', on(gpuNode, { variants: [fp16] }), 'df'],
    [
      'no file that its hardware cannot compute',
      on(npuNode, { variants: [fp16], hardware: { preferred: 'npu', policy: 'Never' } }),
      '',
    ],
    [
      'nothing where no pod would fit',
      on(nodeOf({ allocatable: { memory: 2 ** 20 } }), { engine: { contextLength: 4096 } }),
      '',
    ],
    ['nothing of a model that no deployment uses', on(gpuNode, { deployed: false }), ''],
  ])('%s', (_, got, expected) => {
    expect(got).toBe(expected);
  });
});

describe('a node that loses its device', () => {
  test.each<[string, string, string]>([
    ['keeps what it holds for it', on(lostNode, { hardware: gpuOnly, cache: cacheOf(f) }), 'f'],
    ['gets nothing new for it', on(lostNode, { hardware: gpuOnly }), ''],
    ['keeps nothing that no deployment would use there', on(lostNode, { hardware: gpuOnly, cache: cacheOf(n) }), ''],
    [
      'keeps nothing once a taint keeps the pods away',
      on({ ...lostNode, taints: [{ key: 'other', effect: 'NoSchedule' }] }, { hardware: gpuOnly, cache: cacheOf(f) }),
      '',
    ],
  ])('%s', (_, got, expected) => {
    expect(got).toBe(expected);
  });
});

describe('with prePull.policy Nodes a node holds, used or not,', () => {
  const prePull = { policy: 'Nodes' as const };
  test.each<[string, string, string]>([
    ['the variants for what it has', on(gpuNode, { prePull, deployed: false }), 'fq'],
    ['the model’s own file where no variant fits', on(plainNode, { prePull, variants: [fp16, npu] }), 'd'],
    [
      'not the model’s own file where a variant is for its device',
      on(npuNode, { prePull, variants: [npu], deployed: false }),
      'n',
    ],
    ['the model’s own file for a device without a variant', on(gpuNode, { prePull, variants: [q4] }), 'dq'],
    [
      'nothing where the selector leaves it out',
      on(gpuNode, { prePull: { ...prePull, nodeSelector: { a: 'b' } } }),
      '',
    ],
    ['what it held for a device that is lost', on(lostNode, { prePull, cache: cacheOf(f, q) }), 'fq'],
    ['not the model’s own file any more, once its device is there', on(gpuNode, { prePull, cache: cacheOf(d) }), 'fq'],
  ])('%s', (_, got, expected) => {
    expect(got).toBe(expected);
  });
});

describe('with prePull.policy None a node holds', () => {
  const prePull = { policy: 'None' as const };
  test('nothing ahead, and the variant that a pod on it mounts', () => {
    expect(on(gpuNode, { prePull })).toBe('');
    const pods = [{ namespace: 'demo', node: 'n1', digest: f, model: 'demo/m' }];
    expect(on(gpuNode, { prePull, pods })).toBe('f');
    expect(on(gpuNode, { prePull, uses: [useOf(f)], cache: cacheOf(f) })).toBe('f');
  });
});

describe('in a rollout from a variant of before', () => {
  const old = digestOf('o');
  const before = [revision([variant('fp16', old, 'nvidia'), npu, q4])];
  const use = useOf(old, { requests: { 'nvidia.com/gpu': 1 } });
  test.each<[string, string, string]>([
    ['a node with the device holds both', on(gpuNode, { before, uses: [use] }), 'foq'],
    ['a node without gets nothing of the old one', on(plainNode, { before, uses: [use], others: [gpuNode] }), 'q'],
    ['the old one goes with its last ReplicaSet', on(gpuNode, { before, cache: cacheOf(old) }), 'fq'],
    [
      'a device that was claimed from a driver brings the old one to no other node',
      on(gpuNode, { before, uses: [useOf(old, { claims: true })] }),
      'fq',
    ],
    [
      'and leaves it where it is',
      on(gpuNode, { before, uses: [useOf(old, { claims: true })], cache: cacheOf(old) }),
      'foq',
    ],
  ])('%s', (_, got, expected) => {
    expect(got).toBe(expected);
  });
});

test('a deployment keeps the hardware of the images that its revision was made with', () => {
  const deployed = { hardware: { preferred: 'nvidia', policy: 'Never' as const } };
  const withoutCuda = { images: { cpu: 'cpu' } };
  expect(on(gpuNode, { ...deployed, options: withoutCuda })).toBe('');
  const uses = [useOf(digestOf('o'), { images: ['cpu', 'cuda'] })];
  expect(on(gpuNode, { ...deployed, options: withoutCuda, uses })).toBe('f');
});

test('a ReplicaSet on processors brings its file to no node that is too small for its pods', () => {
  const small = nodeOf({ allocatable: { memory: 2 ** 20 } });
  const before = [revision([], digestOf('o'))];
  const use = useOf(digestOf('o'), { requests: { memory: 2 ** 30 } });
  expect(on(small, { before, uses: [use] })).toBe('');
  expect(on(plainNode, { before, uses: [use] })).toBe('oq');
});
