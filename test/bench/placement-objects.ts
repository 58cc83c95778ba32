/**
 * What the benchmark `placement` is made of: nodes of mixed hardware, models and deployments. Pure: the same numbers give the same
 * objects.
 */
import type { Hardware, SLMDeployment, SLMModel } from '@slm-operator/crds';
import { KWOK_ANNOTATION } from '../cluster/kwok.ts';
import { type GgufValue, makeGguf, tinyLlama } from '../fixtures/gguf.ts';

/** Deployments of one namespace; more of them share the rest of the cluster, not each other's objects. */
const PER_NAMESPACE = 50;
/** Models of one namespace. */
const MODELS_PER_NAMESPACE = 2;
/** Different files behind all models. */
const DISTINCT_FILES = 8;
/** Organisation of the repositories on the file server. */
const ORGANISATION = 'bench';

/** A kind of node: how many of a hundred there are, and what it has. */
interface NodeKind {
  readonly percent: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly resources?: Readonly<Record<string, string>>;
}

const cpuid = (flags: readonly string[]) =>
  Object.fromEntries(flags.map((flag) => [`feature.node.kubernetes.io/cpu-cpuid.${flag}`, 'true']));
const older = cpuid(['AVX', 'AVX2', 'FMA3']);
const newer = { ...older, ...cpuid(['AVX512F', 'AVX512BW', 'AVX512VNNI', 'AMXINT8', 'AMXTILE']) };
const nvidia = (product: string, megabytes: number, count: number) => ({
  'nvidia.com/gpu.present': 'true',
  'nvidia.com/gpu.product': product,
  'nvidia.com/gpu.memory': String(megabytes),
  'nvidia.com/gpu.count': String(count),
  'feature.node.kubernetes.io/pci-10de.present': 'true',
});

/** Labels as node-feature-discovery, GPU feature discovery and the vendors' plugins write them. */
const kinds: readonly NodeKind[] = [
  { percent: 45, labels: older },
  { percent: 25, labels: newer },
  { percent: 10, labels: { ...newer, ...nvidia('NVIDIA-L4', 23034, 4) }, resources: { 'nvidia.com/gpu': '4' } },
  {
    percent: 5,
    labels: { ...newer, ...nvidia('NVIDIA-H100-80GB-HBM3', 81559, 8) },
    resources: { 'nvidia.com/gpu': '8' },
  },
  {
    percent: 5,
    labels: {
      ...older,
      'amd.com/gpu.family': 'AI',
      'amd.com/gpu.vram': '64G',
      'feature.node.kubernetes.io/pci-1002.present': 'true',
    },
    resources: { 'amd.com/gpu': '4' },
  },
  {
    percent: 10,
    labels: { ...newer, 'intel.feature.node.kubernetes.io/npu': 'true' },
    resources: { 'npu.intel.com/accel': '2' },
  },
];

/** Nodes that kwok plays, the kinds spread evenly over their names. */
export function makeNodes(count: number): object[] {
  const byPercent = kinds.flatMap((kind) => Array.from({ length: kind.percent }, () => kind));
  return Array.from({ length: count }, (_, index) => {
    // A step that is prime to 100 goes through every kind before it comes back.
    const kind = byPercent[(index * 37) % byPercent.length];
    const name = `node-${String(index + 1).padStart(4, '0')}`;
    const capacity = { cpu: '32', memory: '128Gi', pods: '110', 'ephemeral-storage': '1Ti', ...kind?.resources };
    return {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: {
        name,
        annotations: { [KWOK_ANNOTATION]: 'fake' },
        labels: {
          'kubernetes.io/hostname': name,
          'kubernetes.io/os': 'linux',
          'kubernetes.io/arch': 'amd64',
          'topology.kubernetes.io/zone': `zone-${(index % 3) + 1}`,
          ...kind?.labels,
        },
      },
      status: { capacity, allocatable: capacity },
    };
  });
}

/** A file that no model has at first. */
export const newFile = `hf://${ORGANISATION}/model-${DISTINCT_FILES}/model.gguf`;
/** Another one. */
export const newerFile = `hf://${ORGANISATION}/model-${DISTINCT_FILES + 1}/model.gguf`;

/** Files of the file server: path below its root → content. Small: nobody reads their weights. */
export function makeFiles(): Map<string, Buffer> {
  return new Map(
    Array.from({ length: DISTINCT_FILES + 2 }, (_, index) => {
      const values: Record<string, GgufValue> = { ...tinyLlama, 'general.name': `Bench ${index}` };
      return [`hf/${ORGANISATION}/model-${index}/model.gguf`, makeGguf({ values, dataBytes: 4096 + index })] as const;
    }),
  );
}

/** Namespaces that so many deployments need. */
export function namespacesFor(deployments: number): string[] {
  return Array.from({ length: Math.ceil(deployments / PER_NAMESPACE) }, (_, index) => `team-${index + 1}`);
}

/** Models of these namespaces. Every node has their files before the first deployment comes. */
export function makeModels(namespaces: readonly string[]): SLMModel[] {
  return namespaces.flatMap((namespace, place) =>
    Array.from({ length: MODELS_PER_NAMESPACE }, (_, index) => {
      const file = (place * MODELS_PER_NAMESPACE + index) % DISTINCT_FILES;
      return {
        apiVersion: 'slm.dev/v1alpha1',
        kind: 'SLMModel',
        metadata: { name: `model-${index}`, namespace },
        spec: { source: { uri: `hf://${ORGANISATION}/model-${file}/model.gguf` }, prePull: { policy: 'Nodes' } },
      };
    }),
  );
}

/** What users ask for, in turns: half of them nothing. There are fewer devices than they want; nobody waits for one. */
const wishes: readonly (Hardware | undefined)[] = [
  undefined,
  { preferred: 'gpu', fallback: ['cpu'], fallbackAfter: '0s' },
  undefined,
  { preferred: 'npu', fallback: ['gpu', 'cpu'], fallbackAfter: '0s' },
  undefined,
  { preferred: 'cpu' },
  undefined,
  { preferred: 'nvidia', fallback: ['cpu'], fallbackAfter: '0s' },
];

/** One of the deployments, as its user writes it. */
export function makeDeployment(index: number, name = `chat-${index + 1}`): SLMDeployment {
  const hardware = wishes[index % wishes.length];
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment',
    metadata: { name, namespace: `team-${Math.floor(index / PER_NAMESPACE) + 1}` },
    spec: {
      modelRef: { name: `model-${index % MODELS_PER_NAMESPACE}` },
      replicas: 1,
      engine: { contextLength: 1024 },
      ...(hardware === undefined ? {} : { hardware }),
    },
  };
}

/** A change that every object feels: each gets a new revision. */
export const changeOfAll = { spec: { engine: { contextLength: 2048 } } };
