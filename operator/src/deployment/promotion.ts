/**
 * Which pod goes when one on better hardware has taken its place: the one that has served nobody for longest. How it is made to
 * be that one is `pods-to-go.ts`'s. Pure.
 */
import { isPerNode } from './names.ts';
import { type Observed, type PodObject, tierOf } from './observed.ts';
import { isReady } from './pod-causes.ts';
import { choosePodsByNode, marksFor, type PodsToGo, podsOfSet } from './pods-to-go.ts';
import type { SizeIntent } from './rollout-planner.ts';
import { ACTIVITY_AGE_MS, type TierPlacement } from './tier-plan.ts';

export interface ChosenPods extends PodsToGo {
  /** The ReplicaSet that a promotion takes a pod from. */
  readonly promoted: { readonly set: string; readonly from: string; readonly to: string } | undefined;
}

/**
 * Marks for the sizes that are planned, and what of those is written now.
 *
 * @param old names of the ReplicaSets of revisions that are left
 */
export function choosePodsToGo(
  observed: Observed,
  placement: TierPlacement | undefined,
  sizes: readonly SizeIntent[],
  old: ReadonlySet<string>,
  now: number,
): ChosenPods {
  const { deployment, pods, replicaSets, reports } = observed;
  if (isPerNode(deployment)) {
    return { ...choosePodsByNode(observed, sizes, old), promoted: undefined };
  }
  const promoting = placement?.plan.promoting;
  const size = sizes.find((candidate) => {
    const set = replicaSets.find(({ metadata }) => metadata?.name === candidate.name);
    return set !== undefined && tierOf(set) === promoting?.from && candidate.to < candidate.from;
  });
  const set = replicaSets.find(({ metadata }) => metadata?.name === size?.name);
  if (promoting === undefined || size === undefined || set === undefined) {
    return { patch: [], sizes, promoted: undefined };
  }
  const there = podsOfSet(pods, set);
  const idleFor = (pod: PodObject) => {
    const report = reports.get(pod.metadata?.uid ?? '');
    const isFresh = report !== undefined && now - report.at <= ACTIVITY_AGE_MS;
    return isFresh && report.running === 0 ? (report.idleSeconds ?? 0) : -1;
  };
  // Pods that do not serve go first in any case.
  const unready = there.filter((pod) => !isReady(pod)).length;
  const chosen = there
    .filter((pod) => isReady(pod) && idleFor(pod) >= 0)
    .toSorted((a, b) => idleFor(b) - idleFor(a) || ((a.metadata?.name ?? '') < (b.metadata?.name ?? '') ? -1 : 1))
    .slice(0, Math.max(0, size.from - size.to - unready));
  const marks = marksFor(there, chosen);
  const ready = chosen.length + unready >= size.from - size.to && marks.length === 0;
  return {
    patch: marks,
    sizes: ready ? sizes : sizes.filter(({ name }) => name !== size.name),
    promoted: { set: size.name, ...promoting },
  };
}
