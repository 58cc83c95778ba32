/**
 * Whether the nodes of a deployment may pull what is new already, although its wave has not come: `spec.prePullAhead` of its SLMRollout.
 * Pure; what runs there keeps its bytes whatever is said here.
 */
import type { SLMDeployment, SLMRollout } from '@slm-operator/crds';
import type { Fleet } from './permission.ts';
import { rolloutFor, selectableOf, waveIndexOf, waveNameOf } from './selectors.ts';

/** @param deployment one that serves an older revision; whatever serves none may pull */
export function mayPullAhead(fleet: Fleet, deployment: SLMDeployment): boolean {
  const selectable = selectableOf(deployment, fleet.namespaceLabels);
  const rollout = rolloutFor(fleet.rollouts, selectable);
  const ahead = rollout?.spec.prePullAhead;
  if (rollout === undefined || ahead === undefined) return true;
  const key = `${deployment.metadata.namespace}/${deployment.metadata.name}`;
  if (rollout.status?.admitted?.some((entry) => entry.deployment === key) === true) return true;
  return waveIndexOf(rollout.spec, selectable) <= presentWave(rollout) + ahead;
}

/** Index of the first wave that is not done. At rest that is the first: what comes next begins there. */
function presentWave({ spec, status }: SLMRollout): number {
  const states = new Map(status?.waves?.map(({ name, state }) => [name, state]));
  for (let index = 0; index <= spec.waves.length; index++) {
    const state = states.get(waveNameOf(spec, index));
    if (state !== undefined && state !== 'Done') return index;
  }
  return 0;
}
