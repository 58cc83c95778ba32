/**
 * One watch of all pods in the cluster for everybody in this process: the operator's own almost whole, of all others only
 * what they take from which node, so that thousands of them cost little memory. Owns that cut; decides nothing.
 */
import { labels, MANAGED_BY } from '@slm-operator/crds';
import { CPU_TIER } from '../deployment/names.ts';
import { cutPodSpec } from '../execution/stored-parts.ts';
import { type KubeObject, makeKey, type ObjectOf, type Pod } from '../kube/resource.ts';
import { type Amounts, podRequests, sameAmounts } from './amounts.ts';

type PodObject = ObjectOf<typeof Pod>;

/** Pods that take the same share one object: most are of a few kinds. */
const kinds = new Map<string, Amounts>();
const MOST_KINDS = 2000;

/** What a cut pod takes, where its spec was. */
const REQUESTS = 'slmRequests';
type CutPod = PodObject & { readonly [REQUESTS]?: Amounts };

/** True for pods of this operator's deployments. */
export function isManaged(object: KubeObject): boolean {
  return object.metadata?.labels?.[labels.managedBy] === MANAGED_BY;
}

/** The operator's own pods but for what nobody reads, of others name, node, phase and requests. Give this very function to every store of pods. */
export function cutForeignPod(pod: PodObject): PodObject {
  if (isManaged(pod)) return pod.spec === undefined ? pod : { ...pod, spec: cutPodSpec(pod.spec) };
  const { name, namespace, uid, resourceVersion } = pod.metadata ?? {};
  const cut = {
    apiVersion: pod.apiVersion,
    kind: pod.kind,
    metadata: { name, namespace, uid, resourceVersion },
    spec: { nodeName: pod.spec?.nodeName, priority: pod.spec?.priority },
    status: { phase: pod.status?.phase },
    [REQUESTS]: shared(podRequests(pod.spec)),
  };
  // Readers of foreign pods are in this folder alone; all others look for the operator's labels first.
  return cut as unknown as PodObject;
}

/** Options of the one store of pods, for `manager.store` and `watches`. */
export const allPods = { transform: cutForeignPod };

/** What a pod takes from its node. */
export function requestsOfPod(pod: PodObject): Amounts {
  return (pod as CutPod)[REQUESTS] ?? shared(podRequests(pod.spec));
}

function shared(requests: Record<string, number>): Amounts {
  const key = JSON.stringify(requests);
  const known = kinds.get(key);
  if (known !== undefined) return known;
  if (kinds.size >= MOST_KINDS) kinds.clear();
  const frozen = Object.freeze(requests);
  kinds.set(key, frozen);
  return frozen;
}

/** A pod that takes something from a node. */
export interface BoundPod {
  readonly node: string;
  readonly requests: Amounts;
  /** Key and tier, of the operator's own. */
  readonly tier: string | undefined;
  readonly key: string | undefined;
}

/** Undefined for a pod that has no node, that has ended, or that the scheduler puts aside for one of ours. */
export function boundPod(pod: PodObject): BoundPod | undefined {
  const node = pod.spec?.nodeName;
  const phase = pod.status?.phase;
  if (node === undefined || node === '' || phase === 'Succeeded' || phase === 'Failed') return undefined;
  // Placeholders that keep nodes warm for an autoscaler: priority 0, which ours have, is above theirs.
  if ((pod.spec?.priority ?? 0) < 0 && !isManaged(pod)) return undefined;
  const deployment = pod.metadata?.labels?.[labels.deployment];
  return {
    node,
    requests: requestsOfPod(pod),
    key: deployment === undefined ? undefined : makeKey(pod.metadata?.namespace, deployment),
    tier: deployment === undefined ? undefined : (pod.metadata?.labels?.[labels.tier] ?? CPU_TIER),
  };
}

export function isSamePod(a: BoundPod, b: BoundPod): boolean {
  return a.node === b.node && a.tier === b.tier && a.key === b.key && sameAmounts(a.requests, b.requests);
}
