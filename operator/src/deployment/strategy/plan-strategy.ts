/**
 * What a strategy makes of a rollout: how many pods of which revision there may be now, which of them get requests, whether the new
 * revision has failed. Pure: where it is stands in status and in the objects, so that a restarted operator goes on from there.
 * Sizes are the rollout planner's, requests are the traffic planner's.
 */
import { type GateState, NO_GATES, NO_SMOKE, type SmokeState } from '../analysis/types.ts';
import { planBlueGreen } from './blue-green.ts';
import { planCanary } from './canary.ts';
import { candidateOf, closedBut, makePlan, stateOf } from './candidate.ts';
import { roll } from './rolling.ts';
import { hasMetricGates, startOf } from './steps.ts';
import type { StrategyInput, StrategyPlan } from './types.ts';

/** As it is observed. */
export interface StrategyQuestion extends Omit<StrategyInput, 'smoke' | 'gates'> {
  /** Undefined: nobody asks. */
  readonly smoke: SmokeState | undefined;
  /** Undefined: nobody measures. */
  readonly gates: GateState | undefined;
}

export function planStrategy(question: StrategyQuestion): StrategyPlan {
  const input = { ...question, ...answersOf(question) };
  const { goal, kind, strategy, stable, paused, replicas } = input;
  if (paused) return stand(input);
  if (kind !== 'wanted' || input.undo || stable === goal || replicas === 0) return settle(input);
  if (stable === undefined || !isServing(input)) return roll(input);
  switch (strategy?.type) {
    case 'Canary':
      return planCanary(input);
    case 'BlueGreen':
      return planBlueGreen(input);
    default:
      return roll(input);
  }
}

/** What was asked and measured of this very revision in this very step. Of others it says nothing yet. */
function answersOf({ strategy, goal, smoke, gates, previous, now }: StrategyQuestion) {
  const { analysis } = strategy ?? {};
  const since = previous?.revision === goal ? startOf(previous, now) : undefined;
  const isOfStep = gates?.subject?.candidate === goal && gates.subject.since === since;
  const isAsked = smoke?.candidate === goal;
  return {
    smoke:
      analysis?.smokeTests === undefined || smoke === undefined
        ? NO_SMOKE
        : isAsked
          ? smoke
          : { state: 'running' as const, results: [] },
    gates:
      !hasMetricGates(strategy) || gates === undefined
        ? NO_GATES
        : isOfStep
          ? gates
          : { result: 'waiting' as const, items: [], why: '' },
  };
}

/** There is something to compare with: a revision that serves, or one that the rollout began beside. */
function isServing(input: StrategyInput): boolean {
  const { previous, goal, stable } = input;
  const isUnderway = previous?.revision === goal && previous.stableRevision === stable && previous.steps !== undefined;
  return isUnderway || (stateOf(input, stable)?.available ?? 0) > 0;
}

/** Straight to the goal, and nothing is asked of it: it served before, or it serves now. */
function settle(input: StrategyInput): StrategyPlan {
  const { goal, kind, strategy, replicas, maxUnavailable } = input;
  const recreate = strategy?.type === 'Recreate';
  const closed = closedBut(input, goal);
  const bySteps = strategy?.type === 'Canary' || strategy?.type === 'BlueGreen';
  const serves = (stateOf(input, goal)?.available ?? 0) >= replicas - maxUnavailable;
  // Users are better off with the goal alone as soon as it can carry them.
  if (kind === 'back' && bySteps && serves) {
    for (const { revision, current } of input.revisions) if (revision !== goal && current > 0) closed.add(revision);
  }
  // One that was given up in the middle of a step is no worse than it was: it goes as the goal grows.
  const { carrying } = input;
  if (kind !== 'back' && carrying !== undefined) closed.delete(carrying);
  const isMoving = input.revisions.some(({ revision, current, desired }) => revision !== goal && current + desired > 0);
  return makePlan({ closed }, { recreate, fields: kind === 'wanted' && !isMoving ? {} : { revision: goal } });
}

/** Paused: what was decided stays, and so does the clock. */
function stand(input: StrategyInput): StrategyPlan {
  const { goal, previous, replicas, strategy } = input;
  const candidate = candidateOf(input);
  const { revision, stableRevision, step, steps, stepStartedAt, weight, analysis } = previous ?? {};
  const closed = closedBut(input);
  const total = input.revisions.reduce((sum, { desired }) => sum + desired, 0);
  const isPassing = weight !== undefined && weight > 0 && candidate.before !== undefined;
  return makePlan(isPassing ? { closed, weight: { candidate: goal, percent: weight } } : { closed }, {
    // What is there beyond replicas and surge came by a step, and stays.
    ...(total > replicas && closed.size + (weight ?? 0) > 0
      ? {
          stage: {
            target: replicas,
            keep: 0,
            gives: 0,
            counts: replicas,
            surge: Math.max(input.surge ?? 1, total - replicas),
          },
        }
      : {}),
    recreate: strategy?.type === 'Recreate',
    fields: {
      ...(revision === undefined ? {} : { revision }),
      ...(stableRevision === undefined ? {} : { stableRevision }),
      ...(step === undefined ? {} : { step }),
      ...(steps === undefined ? {} : { steps }),
      ...(stepStartedAt === undefined ? {} : { stepStartedAt }),
      ...(weight === undefined ? {} : { weight }),
      ...(analysis === undefined ? {} : { analysis }),
    },
    settled: steps === undefined || stableRevision === undefined,
  });
}
