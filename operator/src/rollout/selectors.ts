/**
 * Which deployments an SLMRollout orders, and in which wave each of them is. Pure; reads labels alone, so that the answer is the same
 * whoever asks.
 */
import type { LabelSelector, SLMDeployment, SLMRollout, SLMRolloutSpec } from '@slm-operator/crds';
import { type Labels, matchesLabels } from '../kube/label-selector.ts';

/** The wave of deployments that no other wave matches. Admission refuses another of this name. */
export const OTHERS = 'others';

/** Label that the API server puts on every namespace. */
const NAMESPACE_NAME = 'kubernetes.io/metadata.name';

/** What selectors look at. */
export interface Selectable {
  readonly labels: Labels;
  readonly namespaceLabels: Labels;
  /** Of the deployment's pods. */
  readonly nodeSelector: Labels;
}

/** @param namespaceLabels of its namespace; undefined while nobody knows them, and then the name alone counts */
export function selectableOf({ metadata, spec }: SLMDeployment, namespaceLabels: Labels | undefined): Selectable {
  return {
    labels: metadata.labels ?? {},
    namespaceLabels: { [NAMESPACE_NAME]: metadata.namespace ?? '', ...namespaceLabels },
    nodeSelector: spec.podTemplate?.spec?.nodeSelector ?? {},
  };
}

function matches(selector: LabelSelector | undefined, labels: Labels): boolean {
  return selector === undefined || matchesLabels(selector, labels);
}

/** Whether the rollout orders such a deployment. */
export function isOrdered({ deploymentSelector, namespaceSelector }: SLMRolloutSpec, of: Selectable): boolean {
  return matches(deploymentSelector, of.labels) && matches(namespaceSelector, of.namespaceLabels);
}

/** Index of the first wave that matches; the number of waves for one that none matches. */
export function waveIndexOf({ waves }: SLMRolloutSpec, of: Selectable): number {
  const index = waves.findIndex(
    ({ selector, namespaceSelector, nodeSelector = {} }) =>
      matches(selector, of.labels) &&
      matches(namespaceSelector, of.namespaceLabels) &&
      Object.entries(nodeSelector).every(([key, value]) => of.nodeSelector[key] === value),
  );
  return index < 0 ? waves.length : index;
}

/** Name of a wave by its index. */
export function waveNameOf({ waves }: SLMRolloutSpec, index: number): string {
  return waves[index]?.name ?? OTHERS;
}

/** The rollout that orders a deployment: of several the first by name, whatever order they come in. */
export function rolloutFor(rollouts: readonly SLMRollout[], of: Selectable): SLMRollout | undefined {
  let found: SLMRollout | undefined;
  for (const rollout of rollouts) {
    if (rollout.metadata.deletionTimestamp !== undefined) continue;
    if (found !== undefined && found.metadata.name < rollout.metadata.name) continue;
    if (isOrdered(rollout.spec, of)) found = rollout;
  }
  return found;
}
