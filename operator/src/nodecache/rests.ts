/**
 * How long a node's list is left as it is after a look at it. A change that concerns every node is one write for each of them, and many
 * in a row must not keep the API server, or this process, from other work. Owns the times; the first look is never put off.
 */
import type { Clock } from '../runtime/clock.ts';

/** Milliseconds after a write, for each node that there is, and at most; a look that changed nothing rests for a quarter of it. */
const A_NODE_MS = 20;
const MAX_MS = 5000;

export interface Rests {
  /** Milliseconds until the node may be looked at again; 0 or less: now. */
  left(node: string): number;
  /** @param nodes how many there are */
  looked(node: string, wrote: boolean, nodes: number): void;
  forget(node: string): void;
}

export function makeRests(clock: Pick<Clock, 'monotonic'>): Rests {
  const until = new Map<string, number>();
  return {
    left: (node) => (until.get(node) ?? Number.NEGATIVE_INFINITY) - clock.monotonic(),
    looked(node, wrote, nodes) {
      const interval = Math.min(MAX_MS, nodes * A_NODE_MS);
      until.set(node, clock.monotonic() + (wrote ? interval : interval / 4));
    },
    forget: (node) => void until.delete(node),
  };
}
