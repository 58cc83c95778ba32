/** The sets that a rollout leads to, as the rollout planner takes them: from where pods belong, or from what there is. Pure. */
import type { DeploymentGate } from './gate.ts';
import { replicaSetName } from './names.ts';
import { type Observed, type ReplicaSetObject, revisionOf, sizeOf, tierOf } from './observed.ts';
import type { WantedRevision } from './revision.ts';
import { type Goal, isGoalGated, type RolloutInput } from './rollout-planner.ts';
import type { TierPlacement } from './tier-plan.ts';

/** The sets of a revision: those that exist, and those that are to have pods. */
export function goalsOf(
  { deployment }: Observed,
  { revision }: WantedRevision,
  { views, plan }: TierPlacement,
  access: DeploymentGate,
): Goal[] {
  return views.flatMap(({ tier, set, gate, trouble }) => {
    const target = plan.targets.get(tier.name) ?? 0;
    if (set === undefined && target === 0) return [];
    const closed = access.open ? gate : access;
    const hold = plan.hold.get(tier.name);
    return {
      name: replicaSetName(deployment.metadata.name, revision, tier.name),
      tier: tier.name,
      target,
      ...(set === undefined ? {} : { exists: sizeOf(set) }),
      gate: closed.open ? { open: true } : { open: false, why: closed.why },
      ...(hold === undefined ? {} : { hold }),
      ...(trouble === undefined ? {} : { stuck: trouble.pods }),
    };
  });
}

/**
 * Of a revision whose model nobody can ask any more: the sets that it has, and what is missing goes to the largest. Its pods need
 * nothing but what its ReplicaSets say, and bytes that nodes still hold.
 */
export function goalsOfSets(sets: readonly ReplicaSetObject[], revision: string, replicas: number): Goal[] {
  const own = sets
    .filter((set) => revisionOf(set) === revision)
    .toSorted((a, b) => (b.spec?.replicas ?? 1) - (a.spec?.replicas ?? 1));
  let rest = replicas;
  const targets = own.map((set) => {
    const part = Math.min(rest, set.spec?.replicas ?? 1);
    rest -= part;
    return part;
  });
  return own.map((set, index) => ({
    name: set.metadata?.name ?? '',
    tier: tierOf(set),
    target: (targets[index] ?? 0) + (index === 0 ? rest : 0),
    exists: sizeOf(set),
    gate: { open: true },
  }));
}

/** What holds back pods, if anything does: of all hardware, or of the best that waits. */
export function closedGate(
  input: RolloutInput,
  access: DeploymentGate,
  placement: TierPlacement | undefined,
): DeploymentGate {
  const open: DeploymentGate = { open: true };
  if (input.goals === undefined) return input.replicas > 0 ? access : open;
  for (const goal of input.goals) {
    if (goal.gate.open || !isGoalGated(input, goal)) continue;
    return access.open ? (placement?.views.find(({ tier }) => tier.name === goal.tier)?.gate ?? open) : access;
  }
  return open;
}

/** Pods of the goal that could be there now, beside all that there is. */
export function capacityOf({ goals = [], tiers }: Pick<RolloutInput, 'goals' | 'tiers'>): number {
  const parts = goals.map(({ target, tier, exists }) => {
    const room = tier === undefined ? undefined : tiers?.get(tier)?.room;
    const has = exists?.desired ?? 0;
    return room === undefined ? target : Math.min(target, has + room);
  });
  return parts.reduce((sum, part) => sum + part, 0);
}
