/**
 * Where pods may run and which bytes they mount there, as questions that a node can answer. Owns the answers' memory: many
 * deployments ask the same of the same node. Pure but for that memory, which no caller can see.
 */
import type { NodeStock } from '../hardware/node-hardware.ts';

/**
 * How a node stands to a place. lost: the pods may go there, but the node cannot run them now (its device is not offered, or it is too
 * small); what it holds already stays, so that a device plugin that restarts costs no download.
 */
export type Standing = 'yes' | 'lost' | 'no';

/** Nodes where pods may run that mount these bytes. */
export interface Place {
  readonly digest: string;
  /** Equal for places that are on the same nodes. */
  readonly key: string;
  /** By labels, taints and hardware; not by readiness, which changes, and not by cordon. */
  readonly standing: (node: NodeStock) => Standing;
}

/** Keys of one node that are remembered: more than there are kinds of pods in a cluster. */
const MAX_KEYS = 4096;

const remembered = new WeakMap<NodeStock, Map<string, Standing>>();

/** The node's standing, asked once for each key. */
export function standingOn(place: Place, node: NodeStock): Standing {
  let known = remembered.get(node);
  if (known === undefined || known.size > MAX_KEYS) {
    known = new Map();
    remembered.set(node, known);
  }
  let standing = known.get(place.key);
  if (standing === undefined) {
    standing = place.standing(node);
    known.set(place.key, standing);
  }
  return standing;
}
