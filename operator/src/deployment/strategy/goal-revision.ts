/**
 * Which revision a deployment is brought to: the one that the spec asks for, unless it was taken back, must wait for its wave, or a
 * person asked for one of the history. Owns what counts as taken back and which revision serves meanwhile. Pure.
 */
import { annotations, type Reason, type SLMDeployment } from '@slm-operator/crds';
import type { Permission } from '../../rollout/permission.ts';
import { shortHash } from '../revision.ts';
import { resolveBounds } from '../rollout-planner.ts';
import type { GoalKind, LastRollback, RevisionState, RolloutStatus } from './types.ts';

export interface GoalInput {
  readonly deployment: SLMDeployment;
  /** What the spec asks for, `rollbackTo` aside; undefined while the model has none. */
  readonly wanted: string | undefined;
  readonly revisions: readonly RevisionState[];
  readonly lastRollback: LastRollback | undefined;
  readonly permission: Permission;
  /** Why a revision can get no pods any more: a sentence about its bytes. Default: every revision can. */
  readonly lost?: ((revision: string) => string | undefined) | undefined;
}

export interface GoalChoice {
  /** What a person asks for: by the spec, or by `rollbackTo`. */
  readonly asked: string | undefined;
  /** What the deployment is brought to; undefined while nobody knows. */
  readonly revision: string | undefined;
  readonly kind: GoalKind;
  /** By `rollbackTo`. */
  readonly undo: boolean;
  /** What to compare with and to go back to; the goal itself when that serves already. */
  readonly stable: string | undefined;
  /** Why it is not what was asked for. */
  readonly why?: { readonly reason: Reason; readonly message: string } | undefined;
}

export function chooseGoal(input: GoalInput): GoalChoice {
  const { deployment, revisions, lastRollback, permission, lost = () => undefined } = input;
  const { status } = deployment;
  const target = rollbackTargetOf(deployment);
  const isKnown = (revision: string | undefined) => revisions.some((state) => state.revision === revision);
  const stableFor = (goal: string | undefined) => stableOf(revisions, status?.currentRevision, status?.rollout, goal);

  const gone = target === undefined || !isKnown(target) || target === input.wanted ? undefined : lost(target);
  if (target !== undefined && gone === undefined && (isKnown(target) || target === input.wanted)) {
    return { asked: target, revision: target, kind: 'wanted', undo: true, stable: stableFor(target) };
  }
  const asked = input.wanted;
  const serving = stableFor(asked);
  const stay = (kind: GoalKind, why: GoalChoice['why'], to = serving): GoalChoice => ({
    asked,
    revision: to ?? asked,
    kind: to === undefined || to === asked ? 'wanted' : kind,
    undo: false,
    stable: to,
    why,
  });
  if (gone !== undefined) {
    const message = `revision ${target} cannot be gone back to: ${gone}; or name another revision in ${whereFrom(deployment)}, or remove it`;
    return { ...stay('held', { reason: 'RollbackTargetEvicted', message }), asked: target };
  }
  if (target !== undefined) {
    const message = `revision ${target} to go back to is not in the history; it has ${namesOf(revisions)}: name one of them in ${whereFrom(deployment)}, or remove it`;
    return { ...stay('held', { reason: 'RollbackTargetNotFound', message }), kind: 'held' };
  }
  if (asked === undefined) return { asked, revision: undefined, kind: 'wanted', undo: false, stable: serving };
  if (isTakenBack(deployment, lastRollback, asked)) {
    const to = isKnown(lastRollback?.to) && lastRollback?.to !== asked ? lastRollback?.to : serving;
    if (to !== undefined && to !== asked) return stay('back', undefined, to);
  }
  if (!permission.allowed) {
    const why = { reason: 'WaitingForWave' as const, message: permission.why };
    if (permission.withdrawn) {
      const bearable = revisions.filter(({ revision }) => revision !== asked && lost(revision) === undefined);
      const named = bearable.find(({ revision }) => revision === permission.to)?.revision;
      const to = named ?? newestBut(bearable, asked);
      if (to !== undefined) return stay('held', why, to);
    } else {
      const { admitted } = permission;
      if (isKnown(admitted)) return { ...stay('wanted', why, admitted), kind: 'wanted', stable: stableFor(admitted) };
      if (serving !== undefined && serving !== asked) return stay('held', why);
    }
  }
  const half = halfWay(input, asked, serving);
  if (half !== undefined && serving !== undefined) {
    const message = `pods of revision ${half}, which never took over, go before revision ${asked} comes`;
    return stay('clear', { reason: 'RollingUpdate', message });
  }
  return { asked, revision: asked, kind: 'wanted', undo: false, stable: serving };
}

/** Whether the revision failed under this strategy, and nobody has asked to try it again. */
export function isTakenBack(deployment: SLMDeployment, last: LastRollback | undefined, revision: string): boolean {
  return (
    last?.revision === revision && last.strategyHash === strategyHash(deployment) && last.retry === retryOf(deployment)
  );
}

/** Approving a revision is no change of what it must meet. */
export function strategyHash({ spec }: SLMDeployment): string {
  const { approvedRevision: _, ...rest } = spec.strategy ?? {};
  return shortHash(rest);
}

/** As much of it as status keeps. */
export function retryOf({ metadata }: SLMDeployment): string | undefined {
  return metadata.annotations?.[annotations.retry]?.slice(0, 256);
}

export function approvedOf({ metadata, spec }: SLMDeployment): string | undefined {
  return spec.strategy?.approvedRevision ?? metadata.annotations?.[annotations.approvedRevision];
}

function rollbackTargetOf({ metadata, spec }: SLMDeployment): string | undefined {
  return spec.rollbackTo?.revision ?? metadata.annotations?.[annotations.rollbackTo];
}

function whereFrom({ spec }: SLMDeployment): string {
  return spec.rollbackTo === undefined ? `annotation ${annotations.rollbackTo}` : 'spec.rollbackTo';
}

/**
 * The revision that serves while another comes: what a rollout that is under way says, else what the last one ended with, else the
 * newest that has pods which serve.
 */
export function stableOf(
  revisions: readonly RevisionState[],
  current: string | undefined,
  rollout: RolloutStatus | undefined,
  goal: string | undefined,
): string | undefined {
  if (current === goal) return current;
  const isKnown = (revision: string | undefined) =>
    revision !== goal && revisions.some((state) => state.revision === revision);
  if (rollout?.revision === goal && isKnown(rollout?.stableRevision)) return rollout?.stableRevision;
  if (isKnown(current)) return current;
  const serving = revisions.filter(({ revision, available }) => revision !== goal && available > 0);
  return newestBut(serving, goal);
}

function newestBut(revisions: readonly RevisionState[], not: string | undefined): string | undefined {
  return revisions.filter(({ revision }) => revision !== not).toSorted((a, b) => b.number - a.number)[0]?.revision;
}

/**
 * A revision that is neither what serves nor what comes, and gets requests: with steps it must not stay for as long as they take. Those
 * without requests go by themselves.
 */
function halfWay({ deployment, revisions }: GoalInput, asked: string, stable: string | undefined): string | undefined {
  const type = deployment.spec.strategy?.type;
  if ((type !== 'Canary' && type !== 'BlueGreen') || stable === undefined || stable === asked) return undefined;
  const hasPods = ({ current, desired }: RevisionState) => current + desired > 0;
  const candidate = revisions.find(({ revision }) => revision === asked);
  const serves = revisions.some(({ revision, available }) => revision === stable && available > 0);
  if ((candidate !== undefined && hasPods(candidate)) || !serves) return undefined;
  return revisions.find(
    (state) =>
      state.revision !== asked &&
      state.revision !== stable &&
      (state.traffic !== 'closed' || carries(deployment, revisions, state.revision, stable)) &&
      hasPods(state),
  )?.revision;
}

/**
 * Whether a revision that was given up gets a part of the requests that the stable one has too few pods for: it was a step's, and pods of
 * the stable one had made room.
 */
function carries(
  { spec, status }: SLMDeployment,
  revisions: readonly RevisionState[],
  revision: string,
  stable: string,
): boolean {
  const { rollout } = status ?? {};
  if (rollout?.revision !== revision || (rollout.weight ?? 0) === 0) return false;
  const { replicas = 1, strategy } = spec;
  const { maxUnavailable } = resolveBounds(replicas, strategy?.maxSurge, strategy?.maxUnavailable);
  const left = revisions.find((state) => state.revision === stable);
  return Math.min(left?.available ?? 0, left?.desired ?? 0) < replicas - maxUnavailable;
}

/** The revision that carries requests beside the goal. */
export function carryingOf(
  deployment: SLMDeployment,
  revisions: readonly RevisionState[],
  goal: string,
): string | undefined {
  const { revision } = deployment.status?.rollout ?? {};
  if (revision === undefined || revision === goal) return undefined;
  return carries(deployment, revisions, revision, goal) ? revision : undefined;
}

function namesOf(revisions: readonly RevisionState[]): string {
  const newestFirst = revisions.toSorted((a, b) => b.number - a.number).map(({ revision }) => revision);
  return newestFirst.length === 0 ? 'no revision' : newestFirst.join(', ');
}
