/**
 * What the Model and the NodeCache controller both ask about nodes and hardware, made once for a manager, so that neither works out
 * again what the other knows. Owns nothing else.
 */
import { SLMNodeCache } from '../execution/kinds.ts';
import { builtInProfiles, defaultOrder } from '../hardware/profiles.ts';
import { Node } from '../kube/resource.ts';
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
    found = { shelf, choice: makeFileChoice(hardware, () => shelf.kinds()) };
    made.set(nodes, found);
  }
  return found;
}
