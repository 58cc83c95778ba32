/**
 * ReplicaSets as this process wrote them last. A plan made from older ones takes its own last step for undone: a pod that is on its
 * way to better hardware would be forgotten, and the one that it replaces go before its time. Owns remembering what was written
 * until the store shows it; plans nothing.
 */

import { isOlder } from '../runtime/apply.ts';
import type { Clock } from '../runtime/clock.ts';
import type { ReplicaSetObject } from './observed.ts';

/** Milliseconds after which a write that no store shows is given up: somebody deleted the object meanwhile. */
export const SHOWN_WITHIN_MS = 5000;

export interface OwnWrites {
  /** @param version resourceVersion that the API server answered */
  note(key: string, name: string, version: string | undefined): void;
  forget(key: string): void;
  /** Milliseconds for which to wait at most for what the store does not show yet; undefined: it shows everything. */
  behind(key: string, sets: readonly ReplicaSetObject[]): number | undefined;
}

/** For all deployments of a process. */
export function makeOwnWrites(clock: Pick<Clock, 'monotonic'>): OwnWrites {
  const noted = new Map<string, Map<string, { readonly version: string; readonly at: number }>>();
  return {
    note(key, name, version) {
      if (version === undefined) return;
      const known = noted.get(key) ?? new Map<string, { version: string; at: number }>();
      noted.set(key, known.set(name, { version, at: clock.monotonic() }));
    },
    forget: (key) => void noted.delete(key),
    behind(key, sets) {
      const known = noted.get(key);
      if (known === undefined) return undefined;
      const now = clock.monotonic();
      const left: number[] = [];
      for (const [name, { version, at }] of known) {
        const shown = sets.find(({ metadata }) => metadata?.name === name)?.metadata?.resourceVersion;
        const rest = at + SHOWN_WITHIN_MS - now;
        if (rest > 0 && (shown === undefined || isOlder(shown, version))) left.push(rest);
        else known.delete(name);
      }
      if (known.size === 0) noted.delete(key);
      return left.length === 0 ? undefined : Math.max(...left);
    },
  };
}
