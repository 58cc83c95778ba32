/** The PodDisruptionBudget of a deployment with several pods. Pure. */
import type { SLMDeployment } from '@slm-operator/crds';
import type { KubeObject } from '../../execution/plan.ts';
import { disruptionBudgetName, podSelector } from '../names.ts';
import { childMetadata } from './owner.ts';

/** One pod at a time may be evicted. Pods that do not serve anyway never hold up the draining of a node. */
export function makeDisruptionBudget(deployment: SLMDeployment): KubeObject {
  const { name } = deployment.metadata;
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: childMetadata(deployment, disruptionBudgetName(name)),
    spec: {
      maxUnavailable: 1,
      selector: { matchLabels: podSelector(name) },
      unhealthyPodEvictionPolicy: 'AlwaysAllow',
    },
  } as KubeObject;
}
