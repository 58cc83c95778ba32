/** How many pods a deployment has, as its status counts them. Pure. */
import { type ReplicaSetObject, revisionOf } from './observed.ts';
import type { Goal } from './strategy/goal.ts';
import type { StrategyPlan } from './strategy/types.ts';

export interface Counts {
  readonly replicas: number;
  readonly updatedReplicas: number;
  readonly readyReplicas: number;
  readonly availableReplicas: number;
  /** Those of them that get requests. */
  readonly servingReplicas: number;
}

/** @param update sets of the revision that the deployment is brought to */
export function countsOf(
  update: readonly ReplicaSetObject[],
  old: readonly ReplicaSetObject[],
  { decision: { closed, weight } }: StrategyPlan,
): Counts {
  const all = [...update, ...old];
  const isIdle = (set: ReplicaSetObject) => closed.has(revisionOf(set)) && revisionOf(set) !== weight?.candidate;
  const sum = (sets: readonly ReplicaSetObject[], field: 'replicas' | 'readyReplicas' | 'availableReplicas') =>
    sets.reduce((total, set) => total + (set.status?.[field] ?? 0), 0);
  return {
    replicas: sum(all, 'replicas'),
    updatedReplicas: sum(update, 'replicas'),
    readyReplicas: sum(all, 'readyReplicas'),
    availableReplicas: sum(all, 'availableReplicas'),
    servingReplicas: sum(
      all.filter((set) => !isIdle(set)),
      'availableReplicas',
    ),
  };
}

/** Pods of the revision that the spec asks for, where the deployment is not brought to that. */
export function awayFrom({ choice }: Goal, sets: readonly ReplicaSetObject[]): { readonly pods: number } | undefined {
  if (choice.asked === undefined || choice.revision === choice.asked) return undefined;
  const own = sets.filter((set) => revisionOf(set) === choice.asked);
  return { pods: own.reduce((total, set) => total + (set.status?.replicas ?? 0), 0) };
}
