/** Steps of a strategy in numbers: pods for a weight, pauses, clocks that stand still while paused, approvals. Pure. */
import type { CanaryStep, Strategy } from '@slm-operator/crds';
import { parseDuration } from '../quantity.ts';
import type { RolloutStatus } from './types.ts';

/** Of a canary whose spec names none. */
export const DEFAULT_STEPS: readonly CanaryStep[] = [
  { weight: 10, pause: '5m' },
  { weight: 50, pause: '5m' },
];
const DEFAULT_SOAK_MS = 30_000;

export function stepsOf(strategy: Strategy | undefined): readonly CanaryStep[] {
  return strategy?.canary?.steps ?? DEFAULT_STEPS;
}

/** Milliseconds that a step lasts at least. */
export function pauseOf({ pause }: CanaryStep): number {
  return parseDuration(pause) ?? 0;
}

export function soakOf(strategy: Strategy | undefined): number {
  return parseDuration(strategy?.blueGreen?.soak) ?? DEFAULT_SOAK_MS;
}

/** Pods of the candidate that such a part of the requests takes: at least one. */
export function podsFor(weight: number, replicas: number): number {
  return Math.min(replicas, Math.max(1, Math.ceil((replicas * weight) / 100)));
}

/** Whether anything is measured while the candidate serves. */
export function hasMetricGates(strategy: Strategy | undefined): boolean {
  const { errorRate, ttftP95, tokensPerSecond } = strategy?.analysis ?? {};
  return errorRate !== undefined || ttftP95 !== undefined || tokensPerSecond !== undefined;
}

/**
 * @param approved `REVISION`, or `REVISION:STEP` for the steps up to that one
 * @param step from 1
 */
export function isApproved(approved: string | undefined, revision: string, step: number): boolean {
  const [of, upTo] = (approved ?? '').split(':');
  return of === revision && (upTo === undefined || Number(upTo) >= step);
}

/** Since when a step is in effect, milliseconds since 1970; time spent paused does not count. */
export function startOf(previous: RolloutStatus | undefined, now: number): number | undefined {
  if (previous?.stepStartedAt === undefined) return undefined;
  const started = Date.parse(previous.stepStartedAt);
  // When it was paused the time of that was written down.
  const stood = previous.phase === 'Paused' ? now - Date.parse(previous.lastProgressTime ?? '') : 0;
  return started + (Number.isFinite(stood) ? Math.max(0, stood) : 0);
}
