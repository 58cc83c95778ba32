/**
 * Who of several kinds of hardware has which node, for deployments with one pod on each: the best that can. Owns that count;
 * how many pods then belong on each kind is the placement planner's. Pure.
 */
import { labels } from '@slm-operator/crds';
import type { Fit } from '../hardware/fit.ts';
import type { PodObject } from './observed.ts';
import { isReady } from './pod-causes.ts';
import type { PodsOfTier, TierView } from './tier-plan.ts';

/** Nodes that are given away from the best tier to the worst. */
export class NodeShares {
  readonly #taken = new Set<string>();
  readonly #better = new Set<string>();

  /** @param pods of the deployment; those of the revision have their nodes already */
  constructor(pods: readonly PodObject[], revision: string) {
    for (const pod of pods) {
      const node = pod.spec?.nodeName;
      if (node === undefined || pod.metadata?.deletionTimestamp !== undefined) continue;
      if (pod.metadata?.labels?.[labels.revision] === revision) this.#taken.add(node);
    }
  }

  /** Nodes with a pod of the revision, or that better tiers have; as it is now. */
  taken(): ReadonlySet<string> {
    return new Set(this.#taken);
  }

  /** Nodes that were given to tiers so far, by name. */
  better(): string[] {
    return [...this.#better].sort();
  }

  /** A tier takes every node where it has room, or will have when its old pods are gone. */
  take({ open = [] }: Fit, { wanted, old, going }: PodsOfTier): void {
    const there = [...wanted, ...old, ...going].flatMap((pod) => pod.spec?.nodeName ?? []);
    for (const node of [...open, ...there]) {
      this.#taken.add(node);
      this.#better.add(node);
    }
  }

  /** Pods that cannot run leave their nodes to worse tiers. */
  release(pods: readonly PodObject[]): void {
    for (const pod of pods) {
      const node = pod.spec?.nodeName;
      if (node === undefined || isReady(pod)) continue;
      this.#taken.delete(node);
      this.#better.delete(node);
    }
  }
}

/** The pods of a tier whose nodes will have room for one of the wanted revision only when they are gone; one for each node. */
export function eachOnce(pods: PodsOfTier, { fit, taken }: Pick<TierView, 'fit' | 'taken'>): PodsOfTier {
  const seen = new Set([...(fit.open ?? []), ...(taken ?? [])]);
  const first = (pod: PodObject) => {
    const node = pod.spec?.nodeName;
    if (node === undefined || seen.has(node)) return false;
    seen.add(node);
    return true;
  };
  return { ...pods, old: pods.old.filter(first), going: pods.going.filter(first) };
}
