/**
 * Arithmetic of rollouts: from the sizes that ReplicaSets have to the sizes they should have next. One step at a time, each
 * computed from what is, so that a rollout can be interrupted anywhere and goes on from there. Pure; knows sizes and names,
 * no Kubernetes object. Where pods belong is the placement planner's, which gives each goal its target.
 *
 * Holds at every step, however stale the sizes are on the low side: never more than `replicas + maxSurge` pods, and no step
 * takes a working pod while fewer than `replicas - maxUnavailable` would be left. The exceptions: where nobody chose
 * `maxUnavailable` and the only way on is over the device of an old pod, one fewer than have a place; pods that get no requests go
 * at once; and with `recreate` all old ones go first.
 */

import type { RolloutInput, RolloutPlan } from './rollout-draft.ts';
import {
  Draft,
  type Goal,
  type GoalSet,
  isGated,
  isGoalGated,
  plural,
  type RevisionSize,
  sum,
} from './rollout-draft.ts';
import { hold } from './rollout-hold.ts';
import { dropShut, growStable, recreate } from './rollout-stages.ts';

export type {
  Goal,
  RevisionSize,
  RolloutGate,
  RolloutInput,
  RolloutPlan,
  SizeIntent,
  Stage,
  TierRoom,
} from './rollout-draft.ts';
export { isGated, isGoalGated } from './rollout-draft.ts';

/** Next sizes. Nothing to do gives an empty plan. */
export function planRollout(input: RolloutInput): RolloutPlan {
  const draft = new Draft(input);
  if (input.replicas === 0) scaleToZero(draft);
  else if (input.paused) hold(draft, 'paused');
  else if (input.goals === undefined) hold(draft, 'the revision to move to is not known');
  else if (dropShut(draft) && isGated(input)) draft.notes.push('the rest waits until these are gone');
  else if (isGated(input)) hold(draft, whyGated(input.goals));
  else if (!recreate(draft)) {
    scaleUpGoals(draft);
    scaleDownSurplus(draft);
    cleanUpUnhealthy(draft);
    scaleDownOld(draft);
    growStable(draft);
    yieldDevice(draft);
  }
  const remove = input.paused ? [] : expired(draft);
  return { sizes: draft.intents(), remove, deadlock: draft.deadlock, notes: draft.notes };
}

/**
 * Absolute numbers for `maxSurge` (rounded up) and `maxUnavailable` (rounded down); Auto is 1 and 0. When rounding makes both 0 no
 * pod could ever be replaced, so one may then be unavailable.
 */
export function resolveBounds(
  replicas: number,
  maxSurge: number | string | undefined,
  maxUnavailable: number | string | undefined,
): { readonly maxSurge: number; readonly maxUnavailable: number; readonly mayYield: boolean } {
  const surge = resolve(isAuto(maxSurge) ? 1 : maxSurge, replicas, Math.ceil);
  const unavailable = Math.min(replicas, resolve(isAuto(maxUnavailable) ? 0 : maxUnavailable, replicas, Math.floor));
  return {
    maxSurge: surge,
    maxUnavailable: surge === 0 && unavailable === 0 ? 1 : unavailable,
    mayYield: isAuto(maxUnavailable),
  };
}

/** Nobody chose a number. */
export function isAuto(bound: number | string | undefined): bound is 'Auto' | undefined {
  return bound === undefined || bound === 'Auto';
}

function resolve(value: number | string, of: number, round: (value: number) => number): number {
  if (typeof value === 'number') return value;
  return round((Number.parseInt(value, 10) * of) / 100);
}

function whyGated(goals: readonly Goal[]): string {
  const whys = goals.flatMap(({ gate, target }) => (gate.open || target === 0 ? [] : [gate.why]));
  return [...new Set(whys)].join('; ');
}

function scaleToZero(draft: Draft): void {
  for (const set of draft.all()) draft.resize(set, 0, 'replicas is 0');
}

/** The best hardware first. */
function scaleUpGoals(draft: Draft): void {
  const { replicas, maxSurge } = draft.input;
  for (const set of draft.goals) {
    const size = draft.size(set);
    const { target, gate } = set.goal;
    if (size >= target) continue;
    if (!gate.open && isGoalGated(draft.input, set.goal)) {
      draft.notes.push(`wait with ${set.name} at ${size}: ${gate.why}`);
      continue;
    }
    const vacancies = draft.vacancies();
    const room = draft.room(set);
    const to = Math.min(target, size + Math.min(vacancies, room));
    draft.resize(set, to, `${plural(replicas + maxSurge, 'pod')} may exist (replicas ${replicas}, surge ${maxSurge})`);
    if (to > size) continue;
    const why = vacancies === 0 ? `${replicas + maxSurge} pods exist, and no more may` : `no more fit on ${set.tier}`;
    draft.notes.push(`wait with ${set.name} at ${size}: ${why}`);
  }
}

/** Pods of the right revision beyond what belongs there go as far as the others carry on; the worst hardware first. */
function scaleDownSurplus(draft: Draft): void {
  const { replicas, maxUnavailable, maxSurge } = draft.input;
  for (const set of draft.goals.toReversed()) {
    const size = draft.size(set);
    const { target, hold: stay } = set.goal;
    if (size <= target) continue;
    // Without a surge nothing else could ever come.
    if (stay !== undefined && maxSurge > 0) {
      draft.notes.push(`wait with ${set.name} at ${size}: ${stay}`);
      continue;
    }
    const idle = size - draft.working(set);
    const spare = Math.max(0, draft.available() - (replicas - maxUnavailable));
    const going = Math.min(size - target, idle + spare);
    const belong =
      target === replicas || set.tier === undefined
        ? `replicas is ${replicas}`
        : `${target} of ${plural(replicas, 'pod')} ${target === 1 ? 'belongs' : 'belong'} on ${set.tier}`;
    draft.resize(set, size - going, belong);
    if (going < size - target)
      draft.notes.push(`wait with ${set.name} at ${size - going}: its pods are needed until others serve`);
  }
}

/**
 * Old pods that do not serve go first: they cost nobody anything. Still no more of them than could go if they all worked,
 * because one that only just failed may be back in a moment, and the new revision may be no better.
 */
function cleanUpUnhealthy(draft: Draft): void {
  const { replicas, maxUnavailable } = draft.input;
  const oldPods = sum(draft.old.map((set) => draft.size(set)));
  const served = sum(draft.goals.map((set) => draft.working(set)));
  let spare = oldPods + served - (replicas - maxUnavailable);
  for (const set of inTheWayFirst(draft)) {
    if (spare <= 0) return;
    const size = draft.size(set);
    const going = Math.min(size - draft.working(set), spare, draft.dispensable(set));
    if (going <= 0) continue;
    draft.resize(set, size - going, `${plural(going, 'old pod')} of it ${going === 1 ? 'does' : 'do'} not serve`);
    spare -= going;
  }
}

/** Working old pods go as far as the others carry on without them; the oldest revision first. */
function scaleDownOld(draft: Draft): void {
  const { replicas, maxUnavailable } = draft.input;
  const available = draft.available();
  const mustStay = replicas - maxUnavailable;
  let spare = available - mustStay;
  const left = inTheWayFirst(draft).filter((set) => draft.dispensable(set) > 0);
  if (left.length > 0 && spare <= 0) {
    draft.notes.push(`wait with old pods: ${available} serve, and ${mustStay} must stay`);
  }
  for (const set of left) {
    if (spare <= 0) return;
    const size = draft.size(set);
    const going = Math.min(draft.dispensable(set), spare);
    draft.resize(set, size - going, `${available} pods serve, and ${mustStay} must stay`);
    spare -= going;
  }
}

/** Goals that are short of pods only because their hardware is full. */
function crowdedOut(draft: Draft): GoalSet[] {
  return draft.goals.filter((set) => {
    const missing = set.goal.target - draft.size(set) + (set.goal.stuck ?? 0);
    return missing > 0 && draft.room(set) === 0 && !isGoalGated(draft.input, set.goal);
  });
}

/** Old sets on hardware that the new revision waits for, then the others; each oldest first. */
function inTheWayFirst(draft: Draft): RevisionSize[] {
  const wanted = new Set(crowdedOut(draft).map((set) => set.tier));
  return draft.old.toSorted((a, b) => Number(wanted.has(b.tier)) - Number(wanted.has(a.tier)));
}

/**
 * On a node with one device the next pod cannot start while the old one holds it, however many pods may exist. When nothing
 * else can move, one old pod there goes first, if nobody chose how many may be unavailable.
 */
function yieldDevice(draft: Draft): void {
  const { input } = draft;
  if (draft.intents().length > 0) return;
  // Pods that have no place anywhere will not serve either, whatever waits for them.
  const { placeable } = draft;
  const floor = input.stage === undefined ? 0 : Math.max(0, placeable - input.stage.gives);
  const mayGo = (set: RevisionSize) =>
    draft.size(set) > 0 && ((set.revision ?? set.name) !== input.stage?.stable || draft.stable() > floor);
  const underway = draft.goals.some((set) => set.desired - set.available > (set.goal.stuck ?? 0));
  for (const set of crowdedOut(draft)) {
    const there = draft.old.filter((old) => old.tier === set.tier && mayGo(old));
    const [first] = there.toSorted((a, b) => draft.working(a) - draft.size(a) - (draft.working(b) - draft.size(b)));
    const leaving =
      there.some((old) => old.current > old.desired) || (input.tiers?.get(set.tier ?? '')?.going ?? 0) > 0;
    if (first === undefined || leaving || underway) continue;
    const costs = draft.working(first) === draft.size(first) ? 1 : 0;
    if (draft.available() - costs >= placeable - Math.max(1, input.maxUnavailable) && input.mayYield) {
      draft.resize(first, draft.size(first) - 1, `${set.name} needs its place on ${set.tier}, and no other is free`);
      return;
    }
    if (input.mayYield) continue;
    draft.deadlock = `the next pod needs the place of an old one on ${set.tier}, and strategy.maxUnavailable lets none go first: raise it, or leave it out`;
    draft.notes.push(`wait with ${set.name} at ${draft.size(set)}: ${draft.deadlock}`);
  }
}

/** Old ReplicaSets without pods, of revisions beyond the newest `historyLimit`. */
function expired(draft: Draft): string[] {
  const revisionOf = (set: RevisionSize) => set.revision ?? set.name;
  const wanted = new Set([...draft.goals.map(revisionOf), ...(draft.input.needed ?? [])]);
  const isEmpty = (set: RevisionSize) => set.desired === 0 && set.current === 0 && draft.size(set) === 0;
  const busy = new Set(draft.old.filter((set) => !isEmpty(set)).map(revisionOf));
  const empty = draft.old.filter((set) => isEmpty(set) && !wanted.has(revisionOf(set)));
  const revisions = [...new Set(empty.map(revisionOf))].filter((revision) => !busy.has(revision));
  const gone = new Set(revisions.slice(0, Math.max(0, revisions.length - draft.input.historyLimit)));
  const sets = empty.filter((set) => gone.has(revisionOf(set)));
  for (const set of sets) draft.notes.push(`remove ${set.name}: ${draft.input.historyLimit} old revisions are kept`);
  return sets.map((set) => set.name);
}
