/**
 * What the Model and the NodeCache controller both ask about nodes and hardware, made once for a manager, so that neither works out
 * again what the other knows. Owns nothing else.
 */
import type { SLMDeployment } from '@slm-operator/crds';
import { SLMNodeCache, SLMRollout } from '../execution/kinds.ts';
import { builtInProfiles, defaultOrder } from '../hardware/profiles.ts';
import { Namespace, Node } from '../kube/resource.ts';
import { mayPullAhead } from '../rollout/pre-pull-ahead.ts';
import type { Manager } from '../runtime/manager.ts';
import type { FileChoice } from './demand.ts';
import { type HardwareOptions, makeFileChoice } from './file-choice.ts';
import { makeNodeShelf, type NodeShelf } from './shelf.ts';

export interface PrePull {
  readonly shelf: NodeShelf;
  readonly choice: FileChoice;
}

const made = new WeakMap<object, PrePull>();
const plain: HardwareOptions = { profiles: builtInProfiles(), order: defaultOrder, images: { cpu: '' } };

/** @param hardware must be the same object for the same manager */
export function prePullFor(manager: Pick<Manager, 'store'>, hardware: HardwareOptions = plain): PrePull {
  const nodes = manager.store(Node);
  let found = made.get(nodes);
  if (found === undefined) {
    const shelf = makeNodeShelf(nodes, manager.store(SLMNodeCache));
    const rollouts = manager.store(SLMRollout);
    const namespaces = manager.store(Namespace);
    const mayPull = (deployment: SLMDeployment) => {
      if (rollouts.size === 0) return true;
      const namespaceLabels = namespaces.get(deployment.metadata.namespace ?? '')?.metadata?.labels;
      return mayPullAhead({ rollouts: rollouts.list(), namespaceLabels }, deployment);
    };
    found = { shelf, choice: { ...makeFileChoice(hardware, () => shelf.kinds()), mayPull } };
    made.set(nodes, found);
  }
  return found;
}
