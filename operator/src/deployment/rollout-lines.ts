/**
 * What a rollout says of itself: why the goal is not what the spec asks for, what a step waits for, what was taken back. Owns these
 * sentences and the condition RolledBack. Pure.
 */
import type { Reason } from '@slm-operator/crds';
import { type DesiredCondition, findCondition } from '../runtime/conditions.ts';
import { hasPods, type Observed, revisionOf } from './observed.ts';
import type { Goal } from './strategy/goal.ts';
import { rollbackSentence, standSentence } from './strategy/going-back.ts';
import type { LastRollback, RolloutStatus, StrategyPlan } from './strategy/types.ts';
import type { TierPlacement } from './tier-plan.ts';

export interface GoalLineInput {
  readonly observed: Observed;
  readonly goal: Goal;
  readonly strategy: StrategyPlan;
  readonly lastRollback: LastRollback | undefined;
  readonly placement: TierPlacement | undefined;
  /** The goal has all pods, and they serve. */
  readonly arrived: boolean;
}

export interface GoalLine {
  readonly reason: Reason;
  readonly message: string;
  /** Where the rollout is; undefined: pods move, and the deadline counts. */
  readonly phase: Exclude<RolloutStatus['phase'], 'Idle' | 'Progressing' | 'Paused'> | undefined;
}

/** Undefined: there is nothing to say but what pods do. */
export function goalLine(input: GoalLineInput): GoalLine | undefined {
  const { observed, goal, strategy, lastRollback, arrived } = input;
  const { choice } = goal;
  if (choice.kind === 'back' && lastRollback !== undefined) {
    const isBack = arrived || isStillBack(input);
    const message = rollbackSentence({ ...lastRollback, to: choice.revision ?? '' }, isBack) + evicted(input);
    return { reason: isBack ? 'RolledBack' : 'RollingBack', message, phase: isBack ? 'Stalled' : undefined };
  }
  if (strategy.verdict !== undefined && choice.kind === 'wanted' && choice.stable !== choice.revision) {
    const message = standSentence(strategy.verdict, observed.deployment, choice.stable);
    return { reason: strategy.verdict.reason, message, phase: 'Stalled' };
  }
  if (choice.why !== undefined) {
    const phase = choice.why.reason === 'RollbackTargetNotFound' ? 'Stalled' : 'WaitingForWave';
    const rests = choice.kind !== 'clear' && arrived;
    return { ...choice.why, message: choice.why.message + evicted(input), phase: rests ? phase : undefined };
  }
  if (strategy.line !== undefined) return { ...strategy.line, phase: strategy.phase };
  const gone = evicted(input);
  if (gone !== '' && !arrived) {
    return {
      reason: 'RollbackTargetEvicted',
      message: `going back to revision ${choice.revision}${gone}`,
      phase: undefined,
    };
  }
  return undefined;
}

/** It was back already, and what moves is its size alone: whoever waits for a verdict keeps it. */
function isStillBack({ observed, goal }: Pick<GoalLineInput, 'observed' | 'goal'>): boolean {
  const before = findCondition(observed.deployment.status?.conditions, 'RolledBack');
  const left = observed.replicaSets.some((set) => revisionOf(set) === goal.choice.asked && hasPods(set));
  return before?.reason === 'RolledBack' && observed.deployment.status?.updateRevision === goal.choice.asked && !left;
}

/** That bytes of a revision of before have to be pulled again; empty where they do not. */
function evicted({ goal, placement, arrived }: GoalLineInput): string {
  const { choice } = goal;
  if (arrived || (choice.revision === choice.asked && !choice.undo)) return '';
  const closed = placement?.views.find(
    ({ tier, gate }) => !gate.open && (placement.plan.targets.get(tier.name) ?? 0) > 0,
  );
  if (closed === undefined || closed.gate.open) return '';
  return `; its bytes are not on every node any more: ${closed.gate.why}`;
}

/** True while what the spec asks for was taken back; absent otherwise. */
export function rolledBackCondition(
  input: Pick<GoalLineInput, 'observed' | 'goal' | 'lastRollback'>,
  arrived: boolean,
): DesiredCondition[] {
  const { goal, lastRollback } = input;
  const isBack = arrived || isStillBack(input);
  if (goal.choice.kind !== 'back' || lastRollback === undefined) return [];
  const message = rollbackSentence({ ...lastRollback, to: goal.choice.revision ?? '' }, isBack);
  return [{ type: 'RolledBack', status: 'True', reason: isBack ? 'RolledBack' : 'RollingBack', message }];
}
