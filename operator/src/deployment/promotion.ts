/**
 * Which pod goes when one on better hardware has taken its place: the one that has served nobody for longest. Kubernetes
 * removes the pod of the lowest deletion cost first, so the chosen one is marked, and its ReplicaSet shrinks only once that
 * mark was seen. Pure.
 */

import { labels } from '@slm-operator/crds';
import { type PatchIntent, refTo } from '../execution/plan.ts';
import { type Observed, type PodObject, revisionOf, tierOf } from './observed.ts';
import { isReady } from './pod-causes.ts';
import type { SizeIntent } from './rollout-planner.ts';
import { ACTIVITY_AGE_MS, type TierPlacement, tierOfPod } from './tier-plan.ts';

const COST = 'controller.kubernetes.io/pod-deletion-cost';
/** Lower than what anybody gives. */
const FIRST_TO_GO = '-1000';

export interface PodsToGo {
  /** Marks to set and to take away. */
  readonly patch: readonly PatchIntent[];
  /** ReplicaSets that must keep their size until the marks were seen. */
  readonly wait: ReadonlySet<string>;
  /** The ReplicaSet that a promotion takes a pod from. */
  readonly promoted: { readonly set: string; readonly from: string; readonly to: string } | undefined;
}

/** Marks for the sizes that are planned. */
export function choosePodsToGo(
  { pods, replicaSets, reports }: Observed,
  placement: TierPlacement | undefined,
  sizes: readonly SizeIntent[],
  now: number,
): PodsToGo {
  const promoting = placement?.plan.promoting;
  const size = sizes.find((candidate) => {
    const set = replicaSets.find(({ metadata }) => metadata?.name === candidate.name);
    return set !== undefined && tierOf(set) === promoting?.from && candidate.to < candidate.from;
  });
  if (promoting === undefined || size === undefined) return { patch: [], wait: new Set(), promoted: undefined };
  const set = replicaSets.find(({ metadata }) => metadata?.name === size.name);
  const revision = set === undefined ? '' : revisionOf(set);
  const there = pods.filter(
    (pod) =>
      pod.metadata?.deletionTimestamp === undefined &&
      pod.metadata?.labels?.[labels.revision] === revision &&
      tierOfPod(pod) === promoting.from,
  );
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
  const marks = there.flatMap((pod) => {
    const has = pod.metadata?.annotations?.[COST] === FIRST_TO_GO;
    const wants = chosen.includes(pod);
    if (has === wants) return [];
    return { target: refTo(pod), patch: { metadata: { annotations: { [COST]: wants ? FIRST_TO_GO : null } } } };
  });
  const ready = chosen.length + unready >= size.from - size.to && marks.length === 0;
  return {
    patch: marks,
    wait: new Set(ready ? [] : [size.name]),
    promoted: { set: size.name, ...promoting },
  };
}
