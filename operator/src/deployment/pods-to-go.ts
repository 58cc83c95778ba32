/**
 * Which pod goes when a ReplicaSet shrinks. Kubernetes removes the pod of the lowest deletion cost first, after those that have
 * no node or do not serve; so the chosen ones are marked, and the ReplicaSet shrinks only once the marks were seen. Owns the
 * marks; who is chosen is `promotion.ts`'s and `per-node.ts`'s. Pure.
 */
import { labels } from '@slm-operator/crds';
import { type PatchIntent, refTo } from '../execution/plan.ts';
import { type Observed, type PodObject, type ReplicaSetObject, revisionOf, tierOf } from './observed.ts';
import { isReady } from './pod-causes.ts';
import type { SizeIntent } from './rollout-planner.ts';
import { tierOfPod } from './tier-plan.ts';

const COST = 'controller.kubernetes.io/pod-deletion-cost';
/** Lower than what anybody gives. */
const FIRST_TO_GO = '-1000';

export interface PodsToGo {
  /** Marks to set and to take away. */
  readonly patch: readonly PatchIntent[];
  /** ReplicaSets that must keep their size until the marks were seen. */
  readonly wait: ReadonlySet<string>;
}

/** Pods of a ReplicaSet that nobody has told to go. */
export function podsOfSet(pods: readonly PodObject[], set: ReplicaSetObject): PodObject[] {
  return pods.filter(
    (pod) =>
      pod.metadata?.deletionTimestamp === undefined &&
      pod.metadata?.labels?.[labels.revision] === revisionOf(set) &&
      tierOfPod(pod) === tierOf(set),
  );
}

/** Marks for exactly these of a set's pods. */
export function marksFor(there: readonly PodObject[], chosen: readonly PodObject[]): PatchIntent[] {
  return there.flatMap((pod) => {
    const wants = chosen.includes(pod);
    if (isMarked(pod) === wants) return [];
    return { target: refTo(pod), patch: { metadata: { annotations: { [COST]: wants ? FIRST_TO_GO : null } } } };
  });
}

function isMarked(pod: PodObject): boolean {
  return pod.metadata?.annotations?.[COST] === FIRST_TO_GO;
}

/**
 * Pods of a deployment with one on each node: the first to go are those whose node has another pod that serves, so that every
 * node stays served. How many go is the rollout planner's.
 */
export function choosePodsByNode(
  { pods, replicaSets }: Pick<Observed, 'pods' | 'replicaSets'>,
  sizes: readonly SizeIntent[],
): PodsToGo {
  const patch: PatchIntent[] = [];
  const wait = new Set<string>();
  const chosen = new Set<PodObject>();
  const serving = pods.filter((pod) => isServing(pod));
  const isCovered = (pod: PodObject) =>
    serving.some((other) => other !== pod && !chosen.has(other) && other.spec?.nodeName === pod.spec?.nodeName);
  const shrinking = replicaSets.flatMap((set) => {
    const size = sizes.find(({ name, from, to }) => name === set.metadata?.name && to < from);
    return size === undefined ? [] : [{ size, there: podsOfSet(pods, set) }];
  });
  for (const { size, there } of shrinking) if (size.to === 0) for (const pod of there) chosen.add(pod);
  for (const { size, there } of shrinking) {
    // Where all go there is nothing to choose.
    if (size.to === 0) continue;
    const ready = there.filter(isReady);
    // The ReplicaSet may not have carried out what it was told last.
    const going = Math.max(size.from, there.length) - size.to - (there.length - ready.length);
    const mine: PodObject[] = [];
    for (let index = 0; index < going; index++) {
      const left = ready.filter((pod) => !mine.includes(pod));
      const [next] = left.toSorted(
        (a, b) =>
          Number(isCovered(b)) - Number(isCovered(a)) || Number(isMarked(b)) - Number(isMarked(a)) || byName(a, b),
      );
      if (next === undefined) break;
      mine.push(next);
      chosen.add(next);
    }
    const marks = marksFor(there, mine);
    patch.push(...marks);
    if (marks.length > 0) wait.add(size.name);
  }
  return { patch, wait };
}

/** Ready, and the Service leads to it. */
function isServing(pod: PodObject): boolean {
  return (
    pod.metadata?.deletionTimestamp === undefined && isReady(pod) && pod.metadata?.labels?.[labels.traffic] !== 'closed'
  );
}

function byName(a: PodObject, b: PodObject): number {
  return (a.metadata?.name ?? '') < (b.metadata?.name ?? '') ? -1 : 1;
}
