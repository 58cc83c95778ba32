/** Sizes of a rollout that stands still: only a changed `replicas` is honoured. Pure. */
import { type Draft, type GoalSet, isGoalGated, type RevisionSize, sum, UNMADE } from './rollout-draft.ts';

/**
 * No rolling; a changed `replicas` is still honoured, by all revisions that have pods, each in proportion to its size. While
 * several have pods the total may be anything that a rollout may have made it.
 */
export function hold(draft: Draft, why: string): void {
  const { replicas, maxSurge } = draft.input;
  draft.notes.push(`hold: ${why}`);
  const active = draft.all().filter((set) => set.desired > 0);
  const total = sum(active.map((set) => set.desired));
  const upper = active.length > 1 ? replicas + maxSurge : replicas;
  if (total > upper) shrink(draft, active, total - upper, replicas);
  if (total < replicas) grow(draft, growable(draft, active), Math.min(replicas - total, draft.vacancies()), replicas);
}

/** Who takes more pods while the rollout is held. */
function growable(draft: Draft, active: readonly RevisionSize[]): readonly RevisionSize[] {
  const mayGrow = (set: RevisionSize) => !('goal' in set && isGoalGated(draft.input, (set as GoalSet).goal));
  if (active.length > 0) return active.filter(mayGrow);
  if (!draft.input.paused) return [];
  const { recreate } = draft.input;
  if (recreate !== undefined && recreate.pods + sum(draft.all().map((set) => set.current)) > 0) return [];
  // Paused at size 0 and sized up again: the newest revision that ever ran, as a Deployment does.
  const made = draft.all().filter((set) => set.number !== UNMADE && mayGrow(set));
  const latest = Math.max(...made.map((set) => set.number));
  return made.filter((set) => set.number === latest);
}

function grow(draft: Draft, sets: readonly RevisionSize[], amount: number, replicas: number): void {
  if (amount <= 0 || sets.length === 0) return;
  const weights = sets.map((set) => Math.max(1, set.desired));
  const shares = proportional(
    amount,
    weights,
    sets.map((set) => Math.min(amount, draft.room(set))),
  );
  for (const [index, set] of sets.entries()) {
    // Two sets may share the room of one tier.
    const share = Math.min(shares[index] ?? 0, draft.room(set));
    draft.resize(set, set.desired + share, `replicas is ${replicas}`);
  }
}

/** Pods that do not serve go first, then the others in proportion. */
function shrink(draft: Draft, sets: readonly RevisionSize[], amount: number, replicas: number): void {
  const idle = sets.map((set) => set.desired - draft.working(set));
  const fromIdle = Math.min(amount, sum(idle));
  const idleShares = proportional(fromIdle, idle, idle);
  const busy = sets.map((set) => draft.working(set));
  const busyShares = proportional(amount - fromIdle, busy, busy);
  for (const [index, set] of sets.entries()) {
    const going = (idleShares[index] ?? 0) + (busyShares[index] ?? 0);
    draft.resize(set, set.desired - going, `replicas is ${replicas}`);
  }
}

/** `amount` in whole parts, in proportion to `weights`, none above its `limits`; the rest goes to the heaviest first. */
export function proportional(amount: number, weights: readonly number[], limits: readonly number[]): number[] {
  const total = sum(weights);
  if (total === 0) return weights.map(() => 0);
  const shares = weights.map((weight, index) => Math.min(Math.floor((amount * weight) / total), limits[index] ?? 0));
  let rest = amount - sum(shares);
  const byWeight = weights.map((_, index) => index).sort((a, b) => (weights[b] ?? 0) - (weights[a] ?? 0) || a - b);
  while (rest > 0) {
    const before = rest;
    for (const index of byWeight) {
      if (rest === 0) break;
      if ((shares[index] ?? 0) >= (limits[index] ?? 0)) continue;
      shares[index] = (shares[index] ?? 0) + 1;
      rest--;
    }
    if (rest === before) break;
  }
  return shares;
}
