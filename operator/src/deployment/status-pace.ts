/**
 * When the status of an SLMDeployment is written. Owns the rule that news come at once, progress now and then, and that a rollout
 * that nothing holds up costs two writes: one while something is waited for, and one when all is well. Decides nothing about what
 * the status says.
 */
import type { SLMDeployment as Deployment, Reason, SLMDeploymentStatus } from '@slm-operator/crds';
import type { EventIntent, Plan } from '../execution/plan.ts';
import type { Clock } from '../runtime/clock.ts';
import { isAlike } from './revision.ts';

/**
 * Milliseconds between two status writes that tell of nothing but how far a pull is: fast enough to watch, and a pull of an hour
 * costs 1800 writes at most.
 */
export const PROGRESS_INTERVAL_MS = 2000;

/** The same where pods come and go: there are fewer steps to watch. */
export const PODS_INTERVAL_MS = 5000;

/**
 * Milliseconds for which the first status of a rollout waits: a person takes longer to ask for it, and what a controller does
 * in this time (making children, seeing pods come) would be several writes that nobody reads.
 */
export const FIRST_STATUS_MS = 1000;

/** Waits that are part of every start and every rollout; what a model lacks is told by events of the model. */
export const ordinaryWaits: ReadonlySet<string> = new Set<Reason>([
  'ModelNotReady',
  'WaitingForBytes',
  'WaitingForPods',
  'MountPending',
  'RollingUpdate',
  'Paused',
  'WaitingForWave',
  'CanaryStep',
  'SmokeTesting',
  'Analyzing',
  'Promoted',
  // Told by an event of its own.
  'RollingBack',
  'RolledBack',
]);

type Status = SLMDeploymentStatus;

/** What of a plan goes ahead now. */
export interface Paced<P> {
  readonly plan: P;
  /** Milliseconds after which the status that was held back is due. */
  readonly again: number | undefined;
}

export interface PaceCircumstances {
  /** Milliseconds for which more about pods that just got ready is awaited. Default: nothing is. */
  readonly hold?: number | undefined;
  /** Deployments that wait to be worked on. Making their children comes before telling of progress. Default 0. */
  readonly backlog?: number | undefined;
}

export interface StatusPace {
  forget(key: string): void;
  /**
   * The plan, without its status while that is not due; events that come with the status wait with it.
   * @param deployment as stored
   */
  status<P extends Plan<Status>>(
    key: string,
    deployment: Pick<Deployment, 'status'>,
    plan: P,
    circumstances?: PaceCircumstances,
  ): Paced<P>;
}

/** A pace for all deployments of a process. */
export function makePace(clock: Clock): StatusPace {
  /** When a key's status was last written. */
  const written = new Map<string, number>();
  const held = new Map<string, Held>();

  return {
    forget(key) {
      written.delete(key);
      held.delete(key);
    },
    status(key, { status: stored }, plan, { hold, backlog = 0 } = {}) {
      const { status } = plan;
      if (status === undefined || isAlike(status, stored)) {
        held.delete(key);
        return { plan, again: undefined };
      }
      const now = clock.monotonic();
      const { since, events: before } = held.get(key) ?? { since: now, events: [] };
      // What pods compute on is here in a moment: one write tells both that they are ready and on what.
      const awaited = hold !== undefined && (status.readyReplicas ?? 0) > (stored?.readyReplicas ?? 0) ? hold : 0;
      const rest = isNews(stored, status)
        ? 0
        : restOf(now, since, written.get(key), stored, slowness(Math.max(backlog, held.size)), intervalOf(status));
      const wait = Math.max(awaited, rest);
      const events = merge(before, plan.events.filter(isOfStatus));
      const ofChildren = plan.events.filter((event) => !isOfStatus(event));
      if (wait > 0) {
        held.set(key, { since, events });
        return { plan: { ...plan, status: undefined, events: ofChildren }, again: wait };
      }
      written.set(key, now);
      held.delete(key);
      return { plan: { ...plan, events: [...ofChildren, ...events] }, again: undefined };
    },
  };
}

/** A status that waits. */
interface Held {
  readonly since: number;
  /** What is to be told with it: the next plan is made from the held status, and so does not tell it again. */
  readonly events: readonly EventIntent[];
}

function isOfStatus({ ifWritten }: EventIntent): boolean {
  return ifWritten === undefined;
}

function merge(before: readonly EventIntent[], more: readonly EventIntent[]): EventIntent[] {
  const known = new Set(before.map(({ reason, note }) => `${reason} ${note}`));
  return [...before, ...more.filter(({ reason, note }) => !known.has(`${reason} ${note}`))];
}

function intervalOf({ blockedBy }: Status): number {
  const pulling = blockedBy?.some(({ reason }) => pulls.has(reason)) ?? false;
  return pulling ? PROGRESS_INTERVAL_MS : PODS_INTERVAL_MS;
}

const pulls: ReadonlySet<string> = new Set<Reason>(['ModelNotReady', 'WaitingForBytes', 'MountPending']);

/** How many times as long progress waits: twice with 50 others that wait as well, ten times at most. */
function slowness(others: number): number {
  return Math.min(10, 1 + Math.floor(others / 50));
}

/** Milliseconds until progress may be told. */
function restOf(
  now: number,
  since: number,
  last: number | undefined,
  stored: Status | undefined,
  factor: number,
  interval: number,
): number {
  const begins = stored === undefined || stored.rollout?.phase === 'Idle';
  const first = begins ? since + FIRST_STATUS_MS * factor : now;
  return Math.max(first, (last ?? Number.NEGATIVE_INFINITY) + interval * factor) - now;
}

/** Phases that somebody acts on, or that the next step begins with. */
const told: ReadonlySet<string | undefined> = new Set(['Stalled', 'Paused', 'Analyzing', 'WaitingForApproval']);

/** What somebody may be waiting for or has to act on: a new spec was seen, the end of a rollout, trouble, and whether it serves. */
function isNews(before: Status | undefined, after: Status): boolean {
  const phase = after.rollout?.phase;
  // Whoever changed the spec and waits for Ready must not see the one of before.
  if (before !== undefined && before.observedGeneration !== after.observedGeneration) return true;
  if (phase === 'Idle' || (phase !== before?.rollout?.phase && told.has(phase))) return true;
  // Where the rollout is, and what was decided over the revision.
  if (before?.rollout?.step !== after.rollout?.step || before?.rollout?.weight !== after.rollout?.weight) return true;
  if (before?.lastRollback?.time !== after.lastRollback?.time) return true;
  if (conditionOf(after, 'Stalled') !== conditionOf(before, 'Stalled')) return true;
  const known = new Set(before?.blockedBy?.map(({ reason }) => reason));
  if (after.blockedBy?.some(({ reason }) => !ordinaryWaits.has(reason) && !known.has(reason))) return true;
  const serves = conditionOf(before, 'Available');
  return serves !== undefined && serves !== conditionOf(after, 'Available');
}

function conditionOf(status: Status | undefined, type: string): string | undefined {
  return status?.conditions?.find((condition) => condition.type === type)?.status;
}
