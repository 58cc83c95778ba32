/**
 * Arithmetic of rollouts: from the sizes that ReplicaSets have to the sizes they should have next. One step at a time, each
 * computed from what is, so that a rollout can be interrupted anywhere and goes on from there. Pure; knows sizes and names,
 * no Kubernetes object.
 *
 * Holds at every step, however stale the sizes are on the low side: never more than `replicas + maxSurge` pods, and no step
 * takes a working pod while fewer than `replicas - maxUnavailable` would be left.
 */

/** A ReplicaSet as the planner sees it. */
export interface RevisionSize {
  readonly name: string;
  /** Number of its rollout: the larger, the newer. */
  readonly number: number;
  /** Pods that it is told to have. */
  readonly desired: number;
  /** Pods that it has. */
  readonly current: number;
  /** Pods of it that serve. */
  readonly available: number;
}

export interface RolloutInput {
  /** Pods that are wanted. */
  readonly replicas: number;
  /** Pods above `replicas` while rolling. */
  readonly maxSurge: number;
  /** Pods below `replicas` while rolling. */
  readonly maxUnavailable: number;
  readonly paused: boolean;
  /** ReplicaSets of size 0 that are kept. */
  readonly historyLimit: number;
  /** The revision to move to; `exists` once it has a ReplicaSet. Undefined while nobody knows which. */
  readonly update: { readonly name: string; readonly exists?: RevisionSize | undefined } | undefined;
  /** Every other ReplicaSet. */
  readonly old: readonly RevisionSize[];
  /** Closed: the update revision gets no pods, for this reason. */
  readonly gate: { readonly open: true } | { readonly open: false; readonly why: string };
}

/** A ReplicaSet that gets another size. */
export interface SizeIntent {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly why: string;
}

export interface RolloutPlan {
  /** Sizes to set; that of a ReplicaSet to be made is among them, with `from` 0. */
  readonly sizes: readonly SizeIntent[];
  /** ReplicaSets that are no longer kept. */
  readonly remove: readonly string[];
  /** Every decision in a sentence. */
  readonly notes: readonly string[];
}

/** Next sizes. Nothing to do gives an empty plan. */
export function planRollout(input: RolloutInput): RolloutPlan {
  const draft = new Draft(input);
  if (input.replicas === 0) scaleToZero(draft);
  else if (input.paused) hold(draft, 'paused');
  else if (input.update === undefined) hold(draft, 'the revision to move to is not known');
  else if (!input.gate.open && isGated(input)) hold(draft, input.gate.why);
  else {
    scaleUpNew(draft);
    cleanUpUnhealthy(draft);
    scaleDownOld(draft);
  }
  const remove = input.paused ? [] : expired(draft);
  return { sizes: draft.intents(), remove, notes: draft.notes };
}

/**
 * Absolute numbers for `maxSurge` (rounded up) and `maxUnavailable` (rounded down). When rounding makes both 0 no pod could
 * ever be replaced, so one may then be unavailable.
 */
export function resolveBounds(
  replicas: number,
  maxSurge: number | string | undefined,
  maxUnavailable: number | string | undefined,
): { readonly maxSurge: number; readonly maxUnavailable: number } {
  const surge = resolve(maxSurge ?? 1, replicas, Math.ceil);
  const unavailable = Math.min(replicas, resolve(maxUnavailable ?? 0, replicas, Math.floor));
  return { maxSurge: surge, maxUnavailable: surge === 0 && unavailable === 0 ? 1 : unavailable };
}

function resolve(value: number | string, of: number, round: (value: number) => number): number {
  if (typeof value === 'number') return value;
  return round((Number.parseInt(value, 10) * of) / 100);
}

/** Sizes on their way from what is to what shall be, and why. */
class Draft {
  readonly input: RolloutInput;
  readonly update: RevisionSize | undefined;
  /** Oldest first. */
  readonly old: readonly RevisionSize[];
  readonly notes: string[] = [];
  readonly #sizes = new Map<string, number>();
  readonly #why = new Map<string, string[]>();

  constructor(input: RolloutInput) {
    this.input = input;
    const { update } = input;
    this.update =
      update === undefined
        ? undefined
        : (update.exists ?? {
            name: update.name,
            number: Number.MAX_SAFE_INTEGER,
            desired: 0,
            current: 0,
            available: 0,
          });
    this.old = input.old.toSorted((a, b) => a.number - b.number || (a.name < b.name ? -1 : 1));
  }

  all(): RevisionSize[] {
    return this.update === undefined ? [...this.old] : [...this.old, this.update];
  }

  size(set: RevisionSize): number {
    return this.#sizes.get(set.name) ?? set.desired;
  }

  resize(set: RevisionSize, to: number, why: string): void {
    const from = this.size(set);
    if (to === from) return;
    this.#sizes.set(set.name, to);
    this.#why.set(set.name, [...(this.#why.get(set.name) ?? []), why]);
    this.notes.push(`scale ${to > from ? 'up' : 'down'} ${set.name} from ${from} to ${to}: ${why}`);
  }

  intents(): SizeIntent[] {
    return this.all()
      .filter((set) => this.size(set) !== set.desired)
      .map((set) => ({
        name: set.name,
        from: set.desired,
        to: this.size(set),
        why: (this.#why.get(set.name) ?? []).join('; '),
      }));
  }
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
const working = (set: RevisionSize, size: number) => Math.min(set.available, size);
/** A ReplicaSet that was told to shrink still has the pods that it has. */
const pods = (draft: Draft) => sum(draft.all().map((set) => Math.max(draft.size(set), set.current)));

function plural(count: number, noun: string): string {
  return count === 1 ? `1 ${noun}` : `${count} ${noun}s`;
}

function scaleToZero(draft: Draft): void {
  for (const set of draft.all()) draft.resize(set, 0, 'replicas is 0');
}

/**
 * Whether a closed gate holds anything back: the first pods of a revision, and every step of a rollout to it. Once it serves
 * alone, more pods of it replace nobody, and one that lands on a node without the bytes merely waits there.
 */
export function isGated({ gate, replicas, update, old }: RolloutInput): boolean {
  if (gate.open || replicas === 0) return false;
  return (update?.exists?.desired ?? 0) === 0 || old.some((set) => set.desired > 0 || set.current > 0);
}

function scaleUpNew(draft: Draft): void {
  const { replicas, maxSurge } = draft.input;
  const update = draft.update as RevisionSize;
  const size = draft.size(update);
  if (size > replicas) {
    draft.resize(update, replicas, `replicas is ${replicas}`);
    return;
  }
  const room = Math.max(0, replicas + maxSurge - pods(draft));
  const to = Math.min(replicas, size + room);
  draft.resize(update, to, `${plural(replicas + maxSurge, 'pod')} may exist (replicas ${replicas}, surge ${maxSurge})`);
  if (to === size && size < replicas) {
    draft.notes.push(`wait with ${update.name} at ${size}: ${replicas + maxSurge} pods exist, and no more may`);
  }
}

/**
 * Old pods that do not serve go first: they cost nobody anything. Still no more of them than could go if they all worked,
 * because one that only just failed may be back in a moment, and the new revision may be no better.
 */
function cleanUpUnhealthy(draft: Draft): void {
  const { replicas, maxUnavailable } = draft.input;
  const update = draft.update as RevisionSize;
  const oldPods = sum(draft.old.map((set) => draft.size(set)));
  let spare = oldPods + working(update, draft.size(update)) - (replicas - maxUnavailable);
  for (const set of draft.old) {
    if (spare <= 0) return;
    const size = draft.size(set);
    const going = Math.min(size - working(set, size), spare);
    if (going <= 0) continue;
    draft.resize(set, size - going, `${plural(going, 'old pod')} of it ${going === 1 ? 'does' : 'do'} not serve`);
    spare -= going;
  }
}

/** Working old pods go as far as the others carry on without them; the oldest revision first. */
function scaleDownOld(draft: Draft): void {
  const { replicas, maxUnavailable } = draft.input;
  const available = sum(draft.all().map((set) => working(set, draft.size(set))));
  const mustStay = replicas - maxUnavailable;
  let spare = available - mustStay;
  const left = draft.old.filter((set) => draft.size(set) > 0);
  if (left.length > 0 && spare <= 0) {
    draft.notes.push(`wait with old pods: ${available} serve, and ${mustStay} must stay`);
  }
  for (const set of left) {
    if (spare <= 0) return;
    const size = draft.size(set);
    const going = Math.min(size, spare);
    draft.resize(set, size - going, `${available} pods serve, and ${mustStay} must stay`);
    spare -= going;
  }
}

/**
 * No rolling; a changed `replicas` is still honoured, by all revisions that have pods, each in proportion to its size. While
 * several have pods the total may be anything that a rollout may have made it.
 */
function hold(draft: Draft, why: string): void {
  const { replicas, maxSurge } = draft.input;
  draft.notes.push(`hold: ${why}`);
  const active = draft.all().filter((set) => set.desired > 0);
  const total = sum(active.map((set) => set.desired));
  const upper = active.length > 1 ? replicas + maxSurge : replicas;
  if (total > upper) shrink(draft, active, total - upper, replicas);
  if (total < replicas) {
    const room = Math.max(0, replicas + maxSurge - pods(draft));
    grow(draft, growable(draft, active), Math.min(replicas - total, room), replicas);
  }
}

/** Who takes more pods while the rollout is held. */
function growable(draft: Draft, active: readonly RevisionSize[]): readonly RevisionSize[] {
  const mayGrow = (set: RevisionSize) => set !== draft.update || !isGated(draft.input);
  if (active.length > 0) return active.filter(mayGrow);
  if (!draft.input.paused) return [];
  // Paused at size 0 and sized up again: the newest revision that ever ran, as a Deployment does.
  const latest = draft
    .all()
    .filter((set) => set.number !== Number.MAX_SAFE_INTEGER && mayGrow(set))
    .reduce<RevisionSize | undefined>((a, b) => (a === undefined || b.number > a.number ? b : a), undefined);
  return latest === undefined ? [] : [latest];
}

function grow(draft: Draft, sets: readonly RevisionSize[], amount: number, replicas: number): void {
  if (amount <= 0 || sets.length === 0) return;
  const weights = sets.map((set) => Math.max(1, set.desired));
  const shares = proportional(
    amount,
    weights,
    weights.map(() => amount),
  );
  for (const [index, set] of sets.entries()) {
    draft.resize(set, set.desired + (shares[index] ?? 0), `replicas is ${replicas}`);
  }
}

/** Pods that do not serve go first, then the others in proportion. */
function shrink(draft: Draft, sets: readonly RevisionSize[], amount: number, replicas: number): void {
  const idle = sets.map((set) => set.desired - working(set, set.desired));
  const fromIdle = Math.min(amount, sum(idle));
  const idleShares = proportional(fromIdle, idle, idle);
  const busy = sets.map((set) => working(set, set.desired));
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

/** Old ReplicaSets without pods, beyond the newest `historyLimit`. */
function expired(draft: Draft): string[] {
  const empty = draft.old.filter((set) => set.desired === 0 && set.current === 0 && draft.size(set) === 0);
  const gone = empty.slice(0, Math.max(0, empty.length - draft.input.historyLimit));
  for (const set of gone) draft.notes.push(`remove ${set.name}: ${draft.input.historyLimit} old revisions are kept`);
  return gone.map((set) => set.name);
}
