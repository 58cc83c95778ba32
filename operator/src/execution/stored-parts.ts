/**
 * What the operator keeps in memory of the objects that it watches by the thousand: without the heavy parts that nothing here reads.
 * Owns the cuts, so that a reader of more finds in one place what to put back; decides nothing. Objects read from the API server
 * itself are whole.
 */
import { csi, UNSEEN_GENERATION } from '@slm-operator/crds';
import {
  type KubeObject,
  Namespace,
  Node,
  type ObjectOf,
  type Pod,
  ReplicaSet,
  type ResourceType,
} from '../kube/resource.ts';
import type { Transforms } from '../runtime/store.ts';
import { SLMDeployment, SLMModel, SLMRollout } from './kinds.ts';

type PodSpec = NonNullable<ObjectOf<typeof Pod>['spec']>;

/** A copy of the whole spec, by kubectl, beside the spec. */
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

function withoutLastApplied<T extends KubeObject>(object: T): T {
  const annotations = object.metadata?.annotations;
  if (annotations?.[LAST_APPLIED] === undefined) return object;
  const { [LAST_APPLIED]: _, ...rest } = annotations;
  return { ...object, metadata: { ...object.metadata, annotations: rest } };
}

interface Awaited {
  readonly status?: { readonly observedGeneration?: number };
}

/** Without kubectl's copy, and without the status that the API server shows before there is one. */
function cutAwaited<T extends KubeObject & Awaited>(object: T): T {
  const cut = withoutLastApplied(object);
  if (cut.status?.observedGeneration !== UNSEEN_GENERATION) return cut;
  const { status: _, ...rest } = cut;
  return rest as T;
}

/** Without the names of images, addresses and volumes, which are most of a Node. */
export function cutNode(node: ObjectOf<typeof Node>): ObjectOf<typeof Node> {
  const { images: _i, addresses: _a, volumesAttached: _v, volumesInUse: _u, ...status } = node.status ?? {};
  const { annotations: _, ...metadata } = node.metadata ?? {};
  return { ...node, metadata, status };
}

/** Without environment, probes and mounts of its containers, and volumes but those with models. */
export function cutPodSpec<T extends PodSpec>(spec: T): T {
  const { containers, initContainers, volumes, topologySpreadConstraints: _t, affinity: _a, ...rest } = spec;
  const models = volumes?.filter((volume) => volume.csi?.driver === csi.driver);
  return {
    ...rest,
    containers: containers.map(cutContainer),
    ...(initContainers === undefined ? {} : { initContainers: initContainers.map(cutContainer) }),
    ...(models === undefined ? {} : { volumes: models }),
  } as T;
}

type Container = PodSpec['containers'][number];

function cutContainer({ name, image, resources, restartPolicy }: Container): Container {
  return {
    name,
    ...(image === undefined ? {} : { image }),
    ...(resources === undefined ? {} : { resources }),
    ...(restartPolicy === undefined ? {} : { restartPolicy }),
  };
}

/** With a template that tells image, resources and placement. */
export function cutReplicaSet(set: ObjectOf<typeof ReplicaSet>): ObjectOf<typeof ReplicaSet> {
  const spec = set.spec?.template?.spec;
  if (set.spec?.template === undefined || spec === undefined) return set;
  return { ...set, spec: { ...set.spec, template: { ...set.spec.template, spec: cutPodSpec(spec) } } };
}

/** Name and labels; annotations of some platforms are long. */
export function cutNamespace({ apiVersion, kind, metadata }: ObjectOf<typeof Namespace>): ObjectOf<typeof Namespace> {
  const { annotations: _, ...rest } = metadata ?? {};
  return { apiVersion, kind, metadata: rest } as ObjectOf<typeof Namespace>;
}

/** For the manager: every store of these kinds keeps no more. */
export const storedParts: Transforms = new Map<ResourceType, (object: never) => KubeObject>([
  [Node, cutNode],
  [ReplicaSet, cutReplicaSet],
  [SLMDeployment, cutAwaited],
  [SLMModel, cutAwaited],
  [SLMRollout, cutAwaited],
  [Namespace, cutNamespace],
]);
