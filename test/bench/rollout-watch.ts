/** Owns what the benchmark `rollout` sees beside readiness: whether a deployment ever served with fewer pods than before. */
import type { Store } from '@slm-operator/operator/runtime/store';
import type { ReplicaSetObject } from './placement-watch.ts';

export interface ServingWatch {
  /** Deployments of which fewer pods than that served at some time since the watch began. */
  below(pods: number): number;
  stop(): void;
}

/** Label of the deployment, on ReplicaSets of both sides. */
const OWNER = 'slm.dev/deployment';

/** Begins to watch; the deployments that are there serve already. */
export function watchServing(sets: Store<ReplicaSetObject>): ServingWatch {
  const available = new Map<string, Map<string, number>>();
  const least = new Map<string, number>();
  const note = (set: ReplicaSetObject, amount: number) => {
    const { name = '', namespace, labels } = set.metadata ?? {};
    const key = `${namespace}/${labels?.[OWNER]}`;
    const own = (available.get(key) ?? new Map<string, number>()).set(name, amount);
    available.set(key, own);
    return { key, total: [...own.values()].reduce((sum, value) => sum + value, 0) };
  };
  for (const set of sets.list()) note(set, set.status?.availableReplicas ?? 0);
  const end = sets.subscribe(({ type, object }) => {
    const { key, total } = note(object, type === 'delete' ? 0 : (object.status?.availableReplicas ?? 0));
    least.set(key, Math.min(total, least.get(key) ?? total));
  });
  return {
    below: (pods) => [...least.values()].filter((most) => most < pods).length,
    stop: end,
  };
}
