/** Taking a revision back: when, what is remembered of it, and how it is said. Pure. */
import { annotations, type SLMDeployment } from '@slm-operator/crds';
import type { EventIntent } from '../../execution/plan.ts';
import { toRfc3339 } from '../../runtime/conditions.ts';
import { shorten } from '../text.ts';
import { type GoalChoice, retryOf, strategyHash } from './goal-revision.ts';
import type { LastRollback, RevisionState, Verdict } from './types.ts';

/** Bound of the schema. */
const MAX_MESSAGE = 1024;

/**
 * What is to be remembered when the goal has failed; undefined where it stays: there is nothing to go back to, or nobody wants that.
 * A revision that merely does not get ready stays also where the one before does not serve either.
 */
export function rollbackOf(
  deployment: SLMDeployment,
  goal: GoalChoice,
  verdict: Verdict,
  revisions: readonly RevisionState[],
  now: number,
): LastRollback | undefined {
  const { revision, stable, kind, undo } = goal;
  if (kind !== 'wanted' || undo || revision === undefined || stable === undefined || stable === revision)
    return undefined;
  // Of an older revision that was let in by a wave nobody asks any more.
  if (deployment.spec.strategy?.autoRollback === false || revision !== goal.asked) return undefined;
  const before = revisions.find((state) => state.revision === stable);
  if (before === undefined) return undefined;
  const isMeasured = verdict.reason === 'SmokeTestFailed' || verdict.reason === 'AnalysisFailed';
  if (!isMeasured && before.desired > 0 && before.available === 0) return undefined;
  const retry = retryOf(deployment);
  return {
    revision,
    to: stable,
    reason: verdict.reason,
    message: shorten(verdict.message, MAX_MESSAGE),
    time: toRfc3339(now),
    strategyHash: strategyHash(deployment),
    ...(retry === undefined ? {} : { retry }),
  };
}

/** While pods go back, and when they are. */
export function rollbackSentence({ revision, to, message }: LastRollback, isDone: boolean): string {
  const what = isDone
    ? `revision ${revision} was taken back, and revision ${to} serves`
    : `going back from revision ${revision} to ${to}`;
  return `${what}: ${message}${isDone ? `; change the spec or the model, or try it again with annotation ${annotations.retry}` : ''}`;
}

/** Why the rollout stands still where nothing is taken back. */
export function standSentence({ message }: Verdict, deployment: SLMDeployment, stable: string | undefined): string {
  const why =
    deployment.spec.strategy?.autoRollback === false
      ? 'strategy.autoRollback is false, so the rollout stands still'
      : stable === undefined
        ? 'there is no revision to go back to'
        : 'the revision before does not serve either';
  return `${message}; ${why}: change the spec or the model`;
}

export function rollbackEvents(before: LastRollback | undefined, after: LastRollback | undefined): EventIntent[] {
  if (after === undefined || (before?.time === after.time && before.revision === after.revision)) return [];
  const note = shorten(`revision ${after.revision} is taken back to ${after.to}: ${after.message}`, MAX_MESSAGE);
  return [{ type: 'Warning', reason: 'RolledBack', action: 'RollBack', note }];
}
