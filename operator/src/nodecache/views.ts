/** What the planners read of Nodes, ReplicaSets and Pods, as plain values. Pure; knows the shape of those objects and no policy. */
import { annotations, csi, labels, type NodeDevice, type Toleration } from '@slm-operator/crds';
import type { NodeView } from '../deployment/node-match.ts';
import { type Amounts, amountsOf, podRequests } from '../hardware/amounts.ts';
import type { NodeStock } from '../hardware/node-hardware.ts';
import type { Node, ObjectOf, Pod, ReplicaSet } from '../kube/resource.ts';

/** A ReplicaSet that has or wants pods: its bytes are in use. */
export interface RevisionUse {
  readonly namespace: string;
  /** Name of the SLMModel. */
  readonly model: string;
  /** Its namespace, where that is another one. */
  readonly modelNamespace?: string | undefined;
  /** Name of the SLMDeployment. */
  readonly deployment: string;
  /** Of the files that its pods mount. */
  readonly digest: string;
  readonly nodeSelector?: Readonly<Record<string, string>> | undefined;
  readonly tolerations?: readonly Toleration[] | undefined;
  /** What one pod takes from its node. */
  readonly requests: Amounts;
  /** Whether a pod claims a device from a driver. */
  readonly claims: boolean;
  /** Variants of the server image that its revision was made with; the operator's may be others by now. */
  readonly images?: readonly string[] | undefined;
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

/** The node as if no pod were on it: what pods take at the moment says nothing about where bytes belong. */
export function emptyNode(node: ObjectOf<typeof Node>, devices: readonly NodeDevice[] = []): NodeStock {
  const allocatable = amountsOf(node.status?.allocatable);
  return { ...nodeView(node), capacity: amountsOf(node.status?.capacity), allocatable, free: allocatable, devices };
}

const knownUses = new WeakMap<ObjectOf<typeof ReplicaSet>, RevisionUse | null>();

/** Undefined for a ReplicaSet of somebody else, and for one that neither has nor wants pods. */
export function revisionUse(set: ObjectOf<typeof ReplicaSet>): RevisionUse | undefined {
  let use = knownUses.get(set);
  if (use === undefined) {
    use = (hasPods(set) ? useOfSet(set) : undefined) ?? null;
    knownUses.set(set, use);
  }
  return use ?? undefined;
}

function hasPods({ spec, status }: ObjectOf<typeof ReplicaSet>): boolean {
  return (spec?.replicas ?? 1) > 0 || (status?.replicas ?? 0) > 0;
}

/** `namespace/name` of the model. */
export function modelOfUse({ namespace, modelNamespace = namespace, model }: RevisionUse): string {
  return `${modelNamespace}/${model}`;
}

/** What a ReplicaSet's pods would use, whether it has any or not; undefined for one of somebody else. */
export function useOfSet(set: ObjectOf<typeof ReplicaSet>): RevisionUse | undefined {
  const digest = set.metadata?.annotations?.[annotations.modelDigest];
  const model = set.metadata?.labels?.[labels.model];
  const deployment = set.metadata?.labels?.[labels.deployment];
  const namespace = set.metadata?.namespace;
  if (digest === undefined || model === undefined || deployment === undefined || namespace === undefined)
    return undefined;
  const modelNamespace = set.metadata?.annotations?.[annotations.modelNamespace];
  const spec = set.spec?.template?.spec;
  return {
    namespace,
    model,
    ...(modelNamespace === undefined ? {} : { modelNamespace }),
    deployment,
    digest,
    nodeSelector: spec?.nodeSelector,
    tolerations: spec?.tolerations as readonly Toleration[] | undefined,
    requests: podRequests(spec),
    claims: (spec?.resourceClaims ?? []).length > 0,
    ...imagesOf(set.metadata?.annotations?.[annotations.serverImages]),
  };
}

/** Names of a pinned map of images; none where there is no map, or no map that can be read. */
function imagesOf(text: string | undefined): { readonly images?: readonly string[] } {
  if (text === undefined) return {};
  try {
    return { images: Object.keys(JSON.parse(text) as object) };
  } catch {
    return {};
  }
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
