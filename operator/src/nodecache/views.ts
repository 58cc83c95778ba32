/** What the planners read of Nodes, ReplicaSets and Pods, as plain values. Pure; knows the shape of those objects and no policy. */
import { annotations, csi, labels, type Toleration } from '@slm-operator/crds';
import type { NodeView } from '../deployment/node-match.ts';
import type { Node, ObjectOf, Pod, ReplicaSet } from '../kube/resource.ts';

/** A ReplicaSet that has or wants pods: its revision is in use. */
export interface RevisionUse {
  readonly namespace: string;
  /** Name of the SLMModel. */
  readonly model: string;
  /** Name of the SLMDeployment. */
  readonly deployment: string;
  readonly digest: string;
  readonly nodeSelector?: Readonly<Record<string, string>> | undefined;
  readonly tolerations?: readonly Toleration[] | undefined;
}

/** A pod that mounts a revision, or is about to. */
export interface BoundPod {
  readonly namespace: string;
  readonly node: string;
  readonly digest: string;
  /** `namespace/name` of the model, as the volume says; for messages only. */
  readonly model: string;
}

export function nodeView(node: ObjectOf<typeof Node>): NodeView {
  return {
    name: node.metadata?.name ?? '',
    labels: node.metadata?.labels ?? {},
    taints: node.spec?.taints ?? [],
    ready: node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false,
    cordoned: node.spec?.unschedulable === true,
    deleted: node.metadata?.deletionTimestamp !== undefined,
  };
}

/** Undefined for a ReplicaSet of somebody else, and for one that neither has nor wants pods. */
export function revisionUse(set: ObjectOf<typeof ReplicaSet>): RevisionUse | undefined {
  const digest = set.metadata?.annotations?.[annotations.modelDigest];
  const model = set.metadata?.labels?.[labels.model];
  const deployment = set.metadata?.labels?.[labels.deployment];
  const namespace = set.metadata?.namespace;
  if (digest === undefined || model === undefined || deployment === undefined || namespace === undefined)
    return undefined;
  if ((set.spec?.replicas ?? 1) === 0 && (set.status?.replicas ?? 0) === 0) return undefined;
  const spec = set.spec?.template?.spec;
  return {
    namespace,
    model,
    deployment,
    digest,
    nodeSelector: spec?.nodeSelector,
    tolerations: spec?.tolerations as readonly Toleration[] | undefined,
  };
}

/** One for each model volume of a pod that is bound to a node and has not ended. */
export function boundPods(pod: ObjectOf<typeof Pod>): BoundPod[] {
  const node = pod.spec?.nodeName;
  const namespace = pod.metadata?.namespace;
  if (node === undefined || node === '' || namespace === undefined) return [];
  if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return [];
  return (pod.spec?.volumes ?? []).flatMap((volume) => {
    const attributes = volume.csi?.driver === csi.driver ? volume.csi.volumeAttributes : undefined;
    const digest = attributes?.[csi.attributes.digest];
    if (digest === undefined) return [];
    return [{ namespace, node, digest, model: attributes?.[csi.attributes.model] ?? '' }];
  });
}
