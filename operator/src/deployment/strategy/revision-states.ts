/** What the objects say of each revision, for strategies. Pure. */
import { labels, pod as podContract } from '@slm-operator/crds';
import { numberOf, type Observed, type ReplicaSetObject, revisionOf } from '../observed.ts';
import { causeOf, isReady } from '../pod-causes.ts';
import { type TierPlacement, tierOfPod } from '../tier-plan.ts';
import type { RevisionState } from './types.ts';

/** Restarts after which a server that does not serve counts as broken. */
const MANY_RESTARTS = 3;

/** One entry for each revision that has ReplicaSets. */
export function revisionStates(sets: readonly ReplicaSetObject[]): RevisionState[] {
  const states = new Map<string, RevisionState>();
  for (const set of sets) {
    const revision = revisionOf(set);
    const known = states.get(revision);
    states.set(revision, {
      revision,
      number: Math.max(numberOf(set), known?.number ?? 0),
      desired: (set.spec?.replicas ?? 1) + (known?.desired ?? 0),
      current: (set.status?.replicas ?? 0) + (known?.current ?? 0),
      available: (set.status?.availableReplicas ?? 0) + (known?.available ?? 0),
      traffic: known?.traffic === 'closed' ? 'closed' : (trafficOf(set) ?? known?.traffic),
    });
  }
  return [...states.values()];
}

function trafficOf(set: ReplicaSetObject): RevisionState['traffic'] {
  const value = set.spec?.template?.metadata?.labels?.[labels.traffic];
  return value === 'open' || value === 'closed' ? value : undefined;
}

/**
 * Why pods of a revision end again and again, in a sentence; undefined while none does. What their hardware does to them is told and
 * helped elsewhere.
 */
export function crashOf(
  observed: Observed,
  revision: string,
  placement: TierPlacement | undefined,
): string | undefined {
  for (const pod of observed.pods) {
    if (pod.metadata?.labels?.[labels.revision] !== revision || isReady(pod)) continue;
    if (pod.metadata.deletionTimestamp !== undefined) continue;
    const container = pod.status?.containerStatuses?.find(({ name }) => name === podContract.container);
    if ((container?.restartCount ?? 0) < MANY_RESTARTS) continue;
    if (placement?.views.some(({ tier, trouble }) => trouble !== undefined && tier.name === tierOfPod(pod))) continue;
    const cause = causeOf(pod, undefined, observed.reports.get(pod.metadata.uid ?? ''));
    if (cause === undefined) continue;
    return `${cause.message} (${container?.restartCount} restarts)`;
  }
  return undefined;
}

/** Pods of other revisions that are not gone, whatever they were told. */
export function podsBut({ pods }: Observed, revision: string): number {
  return pods.filter(
    ({ metadata, status }) =>
      metadata?.labels?.[labels.revision] !== revision && status?.phase !== 'Failed' && status?.phase !== 'Succeeded',
  ).length;
}
