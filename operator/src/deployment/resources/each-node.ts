/** What makes pods keep to one on each node, and stay there while nobody hears of the node. Pure. */
import type { Toleration } from '@slm-operator/crds';
import { podSelector, revisionSelector } from '../names.ts';

const topologyKey = 'kubernetes.io/hostname';

/**
 * A node that the control plane does not hear of may well serve its own clients: its pod is not moved, now or later. Kubernetes
 * would otherwise give it five minutes.
 */
export const STAYS: readonly Toleration[] = ['not-ready', 'unreachable'].map((state) => ({
  key: `node.kubernetes.io/${state}`,
  operator: 'Exists',
  effect: 'NoExecute',
}));

/**
 * `spec.affinity.podAntiAffinity`: never two pods of a revision on a node, whatever their hardware. Of different revisions two
 * may be, since the next serves before the last goes; a node with none comes first.
 */
export function oneEachNode(deployment: string, revision: string): object {
  return {
    requiredDuringSchedulingIgnoredDuringExecution: [
      { topologyKey, labelSelector: { matchLabels: revisionSelector(deployment, revision) } },
    ],
    preferredDuringSchedulingIgnoredDuringExecution: [
      { weight: 100, podAffinityTerm: { topologyKey, labelSelector: { matchLabels: podSelector(deployment) } } },
    ],
  };
}
