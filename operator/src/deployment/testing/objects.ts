/** Objects for tests of pure functions, as short as a test can say them. Pure. */
import {
  API_VERSION,
  annotations,
  type CacheEntry,
  csi,
  labels,
  type SLMDeployment,
  type SLMDeploymentSpec,
  type SLMModel,
  type SLMModelStatus,
  type SLMNodeCache,
} from '@slm-operator/crds';
import type { NodeStock } from '../../hardware/node-hardware.ts';
import { builtInProfiles, defaultOrder } from '../../hardware/profiles.ts';
import { replicaSetName } from '../names.ts';
import type { Observed, PodObject, ReplicaSetObject } from '../observed.ts';
import type { DeploymentConfig } from '../plan.ts';
import type { WantedRevision } from '../revision.ts';

export const now = Date.parse('2026-11-23T12:00:00Z');
/** A time so many seconds before {@link now}. */
export const ago = (seconds: number) => new Date(now - seconds * 1000).toISOString().replace('.000', '');

export const digest = `sha256:${'a1b2c3d4e5'.padEnd(64, '0')}`;
export const size = 98_362_432;

export function deployment(spec: Partial<SLMDeploymentSpec> = {}, status?: SLMDeployment['status']): SLMDeployment {
  return {
    apiVersion: API_VERSION,
    kind: 'SLMDeployment',
    metadata: { name: 'chat', namespace: 'demo', uid: 'chat-uid', generation: 1 },
    spec: spec.model === undefined ? { modelRef: { name: 'smollm2' }, ...spec } : spec,
    ...(status === undefined ? {} : { status }),
  };
}

export function model(status: Partial<SLMModelStatus> = {}, change: Partial<SLMModel> = {}): SLMModel {
  const revision = { name: 'a1b2c3d4e5', digest, size, resolvedAt: ago(100) };
  return {
    apiVersion: API_VERSION,
    kind: 'SLMModel',
    metadata: { name: 'smollm2', namespace: 'demo', uid: 'model-uid', generation: 1 },
    spec: { source: { uri: 'hf://org/repo' } },
    status: {
      observedGeneration: 1,
      latestRevision: revision,
      revisions: [
        { ...revision, files: [{ path: 'model.gguf', size, digest }], sources: [{ url: 'https://x/{path}' }] },
      ],
      metadata: { format: 'GGUF', contextLength: 2048 },
      estimate: { weights: size, kvCachePer1kTokens: 23_592_960 },
      ...status,
    },
    ...change,
  };
}

/** A node that says nothing of what it has: there is room for anything but devices. */
export function node(name = 'n1', change: Partial<NodeStock> = {}): NodeStock {
  const view = { name, labels: {}, taints: [], ready: true, cordoned: false, deleted: false };
  return { ...view, capacity: {}, allocatable: {}, free: {}, devices: [], ...change };
}

/** A node with so many devices of a resource, of which some are free. */
export function nodeWith(name: string, resource: string, amount: number, free = amount): NodeStock {
  return node(name, {
    capacity: { [resource]: amount },
    allocatable: { [resource]: amount },
    free: { [resource]: free },
  });
}

export function cache(name = 'n1', entry: Partial<CacheEntry> = {}): SLMNodeCache {
  const full: CacheEntry = { digest, state: 'Ready', bytesDone: size, bytesTotal: size, ...entry };
  return {
    apiVersion: API_VERSION,
    kind: 'SLMNodeCache',
    metadata: { name },
    status: { observedGeneration: 1, entries: [full] },
  };
}

export interface SetOptions {
  readonly number?: number;
  readonly desired?: number;
  readonly current?: number;
  readonly available?: number;
  readonly settingsHash?: string;
  readonly image?: string;
  readonly failure?: string;
  readonly tier?: string;
  readonly images?: WantedRevision['images'];
}

/** A ReplicaSet of a revision. */
export function replicaSet(revision: string, options: SetOptions = {}): ReplicaSetObject {
  const { desired = 1, current = desired, available = current, number = 1, tier } = options;
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name: replicaSetName('chat', revision, tier),
      namespace: 'demo',
      uid: `${revision}${tier ?? ''}-uid`,
      resourceVersion: '7',
      labels: { [labels.revision]: revision, ...(tier === undefined ? {} : { [labels.tier]: tier }) },
      annotations: {
        [annotations.revisionNumber]: String(number),
        [annotations.settingsHash]: options.settingsHash ?? `settings-${revision}`,
        ...(options.images === undefined ? {} : { [annotations.serverImages]: JSON.stringify(options.images) }),
      },
    },
    spec: {
      replicas: desired,
      selector: {},
      template: { spec: { containers: [{ name: 'server', image: options.image ?? 'server:1' }] } },
    },
    status: {
      replicas: current,
      readyReplicas: available,
      availableReplicas: available,
      ...(options.failure === undefined
        ? {}
        : { conditions: [{ type: 'ReplicaFailure', status: 'True', message: options.failure }] }),
    },
  };
}

/** The ReplicaSet of the revision that a plan wants. */
export function replicaSetOf(wanted: WantedRevision, options: SetOptions = {}): ReplicaSetObject {
  const { settingsHash, image, images } = wanted;
  return replicaSet(wanted.revision, { settingsHash, image, images, ...options });
}

/** A pod on node n1 whose containers were not made yet. */
export function pod(name = 'chat-x', status: PodObject['status'] = {}, revision = 'x'): PodObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'demo', uid: `${name}-uid`, labels: { [labels.revision]: revision } },
    spec: {
      nodeName: 'n1',
      containers: [{ name: 'server', image: 'server:1', resources: { limits: { memory: '512Mi' } } }],
      volumes: [{ name: 'model', csi: { driver: csi.driver, volumeAttributes: { digest } } }],
    },
    status: {
      phase: 'Pending',
      conditions: [{ type: 'PodScheduled', status: 'True', lastTransitionTime: ago(60) }],
      ...status,
    },
  };
}

/** A model whose bytes are on the only node, and no children yet. */
export function observed(change: Partial<Observed> = {}): Observed {
  return {
    deployment: deployment(),
    model: model(),
    leftoverModel: undefined,
    replicaSets: [],
    pods: [],
    nodes: [node()],
    caches: new Map([['n1', cache()]]),
    disruptionBudget: undefined,
    apiKeys: { state: 'present' },
    tls: { state: 'unneeded' },
    broker: { state: 'unneeded' },
    mountEvents: new Map(),
    reports: new Map(),
    ...change,
  };
}

export const config: DeploymentConfig = {
  serverImages: { cpu: 'server:1', cuda: 'server-cuda:1', vulkan: 'server-vulkan:1', openvino: 'server-openvino:1' },
  serverImagePullPolicy: 'IfNotPresent',
  hardwareProfiles: builtInProfiles(),
  hardwareOrder: defaultOrder,
  waitForFit: true,
};
