/**
 * What strategies add to rolling: pods that get no requests go at once, the revision that serves grows back to what it keeps, and all
 * old pods go before the first new one. Pure.
 */
import { type Draft, plural, sum } from './rollout-draft.ts';

/** Answers whether some went. */
export function dropShut(draft: Draft): boolean {
  const shut = draft.old.filter((set) => set.shut === true && draft.size(set) > 0);
  for (const set of shut) draft.resize(set, 0, 'it gets no requests any more');
  return shut.length > 0;
}

/** All old pods go first. Answers whether they do, so that nothing else is to be done. */
export function recreate(draft: Draft): boolean {
  const { input } = draft;
  if (input.recreate === undefined) return false;
  const left = Math.max(input.recreate.pods, sum(draft.old.map((set) => Math.max(set.desired, set.current))));
  if (left === 0) return false;
  for (const set of draft.old) draft.resize(set, 0, 'with strategy Recreate old pods go before new ones come');
  draft.notes.push(`wait with new pods: ${plural(left, 'old pod')} ${left === 1 ? 'is' : 'are'} still there`);
  return true;
}

/** After a larger `replicas`, or after the way back from a step: but never onto a device that the goal waits for. */
export function growStable(draft: Draft): void {
  const { stage } = draft.input;
  if (stage === undefined || draft.goals.some((set) => draft.size(set) < set.goal.target)) return;
  for (const set of draft.stableSets()) {
    const missing = stage.keep - draft.stable();
    if (missing <= 0) return;
    const more = Math.min(missing, draft.vacancies(), draft.room(set));
    draft.resize(set, draft.size(set) + more, `${plural(stage.keep, 'pod')} of the revision that serves stay`);
  }
}
