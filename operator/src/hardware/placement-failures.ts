/**
 * Tiers that failed: pods that were sent there could not run. Owns how that is remembered in status, and when it is forgotten.
 * Pure.
 */
import type { Reason } from '@slm-operator/crds';
import type { TierState } from './placement-types.ts';

/**
 * After this long a tier is tried again that failed for a reason that may have passed unseen. Each failure in a row doubles it,
 * to most of a day.
 */
const RETRY_MS = 600_000;
const MANY_RETRIES = 8;

/** Failures that may pass without any node changing: there was no place, or no image. */
const passing: ReadonlySet<Reason> = new Set<Reason>([
  'ImagePullFailed',
  'InsufficientMemory',
  'QuotaExceeded',
  'Unschedulable',
  'WaitingForDevice',
]);

/** Whether what is wrong now may be well later, with the same devices. */
export function mayPass({ stuck }: TierState): boolean {
  return stuck !== undefined && passing.has(stuck.reason);
}

/**
 * What `failedOn` is set to. A failure that may pass by itself is told by a number before the hash: how many there were in a
 * row, each of which doubles the time to the next try.
 */
export function failureMark(state: TierState): string {
  if (!mayPass(state)) return state.inventory;
  return `${Math.min(MANY_RETRIES, (retryOf(state) ?? 0) + 1)}:${state.inventory}`;
}

/** Failures in a row of a tier that may be tried again with the same devices. */
export function retryOf({ failedOn, inventory }: TierState): number | undefined {
  if (failedOn === undefined || !failedOn.endsWith(`:${inventory}`)) return undefined;
  return Number.parseInt(failedOn, 10) || undefined;
}

/** When a failed tier is tried again, if it ever is. */
export function retryAt(state: TierState): number | undefined {
  const retry = retryOf(state);
  return retry === undefined ? undefined : (state.failedSince ?? 0) + RETRY_MS * 2 ** (retry - 1);
}

/** No pod is sent there now. */
export function isFailed(state: TierState, now: number): boolean {
  if (state.failedOn === undefined) return false;
  if (state.failedOn === state.inventory) return true;
  const at = retryAt(state);
  // Pods that are stuck since before are no other try.
  const isSameTry = (state.shortSince ?? Infinity) <= (state.failedSince ?? 0);
  return at !== undefined && (now < at || isSameTry);
}
