/**
 * What the rollout planner is told and what it answers, and the sizes on their way from the one to the other. Pure; knows
 * sizes and names, no Kubernetes object. Decides nothing.
 */

/** A ReplicaSet as the planner sees it. */
export interface RevisionSize {
  readonly name: string;
  /** Number of its rollout: the larger, the newer. */
  readonly number: number;
  /** What sets of one revision have in common; default `name`. */
  readonly revision?: string | undefined;
  /** Hardware that its pods run on, a key of `RolloutInput.tiers`. */
  readonly tier?: string | undefined;
  /** Pods that it is told to have. */
  readonly desired: number;
  /** Pods that it has. */
  readonly current: number;
  /** Pods of it that serve. */
  readonly available: number;
  /** It gets no requests and is to get none: its pods replace nobody, and go at once. */
  readonly shut?: boolean | undefined;
}

/** A rollout that stops on its way: the goal has some pods beside those of the revision that serves. */
export interface Stage {
  /** Pods of the goal for now. */
  readonly target: number;
  /** Revision that serves. */
  readonly stable: string;
  /** Pods of it that stay. */
  readonly keep: number;
  /** Where no device is free, as many of them may go for pods of the goal. */
  readonly gives: number;
  /** Pods of the goal that count as serving: no more than its part of the requests takes. */
  readonly counts: number;
}

/** Closed: a set gets no pods, for this reason. */
export type RolloutGate = { readonly open: true } | { readonly open: false; readonly why: string };

/** A set of the revision to move to: pods on one kind of hardware. */
export interface Goal {
  readonly name: string;
  readonly tier?: string | undefined;
  /** Pods that belong there; all goals together may have fewer than `replicas`, and the rest waits. */
  readonly target: number;
  /** Once it has a ReplicaSet. */
  readonly exists?: RevisionSize | undefined;
  readonly gate: RolloutGate;
  /** Why pods above `target` must stay for now. */
  readonly hold?: string | undefined;
  /** Pods of it that have no device, and will not run before they do. */
  readonly stuck?: number | undefined;
}

/** Hardware of one kind. */
export interface TierRoom {
  /** Pods that fit beside all that the deployment has there; undefined: any number. */
  readonly room: number | undefined;
  /** Pods there that were told to go and still hold their devices. */
  readonly going: number;
}

export interface RolloutInput {
  /** Pods that are wanted. */
  readonly replicas: number;
  /** Pods above `replicas` while rolling. */
  readonly maxSurge: number;
  /** Pods below `replicas` while rolling. */
  readonly maxUnavailable: number;
  /** Nobody chose `maxUnavailable`: where the next pod needs the device of an old one, that may go first. */
  readonly mayYield: boolean;
  readonly paused: boolean;
  /** Revisions whose ReplicaSets of size 0 are kept. */
  readonly historyLimit: number;
  /** Where pods of the revision to move to belong, the best hardware first; undefined while nobody knows which revision. */
  readonly goals: readonly Goal[] | undefined;
  /** Every other ReplicaSet. */
  readonly old: readonly RevisionSize[];
  /** By name; one that is not here has room for any number. */
  readonly tiers?: ReadonlyMap<string, TierRoom> | undefined;
  /** Default: on to `replicas` of the goal. */
  readonly stage?: Stage | undefined;
  /** All old pods go before the first new one comes. `pods`: those of other revisions that are not gone yet. */
  readonly recreate?: { readonly pods: number } | undefined;
  /** Revisions whose sets are kept whatever their age. */
  readonly needed?: ReadonlySet<string> | undefined;
}

/** A ReplicaSet that gets another size. */
export interface SizeIntent {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly why: string;
}

export interface RolloutPlan {
  /** Sizes to set; those of ReplicaSets to be made are among them, with `from` 0. */
  readonly sizes: readonly SizeIntent[];
  /** ReplicaSets that are no longer kept. */
  readonly remove: readonly string[];
  /** Set when the rollout stands still because its own bounds let nobody go: what to change. */
  readonly deadlock: string | undefined;
  /** Every decision in a sentence. */
  readonly notes: readonly string[];
}

/** Number of a set that was not made yet. */
export const UNMADE = Number.MAX_SAFE_INTEGER;

/** A goal with its sizes, zeros when it has no ReplicaSet yet. */
export interface GoalSet extends RevisionSize {
  readonly goal: Goal;
}

/** Sizes on their way from what is to what shall be, and why. */
export class Draft {
  readonly input: RolloutInput;
  /** The best hardware first. */
  readonly goals: readonly GoalSet[];
  /** Oldest first. */
  readonly old: readonly RevisionSize[];
  readonly notes: string[] = [];
  /** Pods that the goals are to have in the end. */
  readonly placeable: number;
  deadlock: string | undefined;
  readonly #sizes = new Map<string, number>();
  readonly #why = new Map<string, string[]>();

  constructor(input: RolloutInput) {
    this.input = input;
    const all = input.goals ?? [];
    this.placeable = sum(all.map(({ target }) => target));
    this.goals = capped(all, input.stage?.target).map((goal) => ({
      ...(goal.exists ?? { name: goal.name, number: UNMADE, desired: 0, current: 0, available: 0 }),
      ...(goal.tier === undefined ? {} : { tier: goal.tier }),
      goal,
    }));
    this.old = input.old.toSorted((a, b) => a.number - b.number || (a.name < b.name ? -1 : 1));
  }

  all(): RevisionSize[] {
    return [...this.old, ...this.goals];
  }

  size(set: RevisionSize): number {
    return this.#sizes.get(set.name) ?? set.desired;
  }

  /** Pods of a set that serve, were it of its drafted size: those that do not are the first to go. */
  working(set: RevisionSize): number {
    // A status from before it was told to shrink must not count what it grows by now.
    return set.shut === true ? 0 : Math.min(set.available, set.desired, this.size(set));
  }

  /** Pods of an old set that may go as far as the stage is concerned. */
  dispensable(set: RevisionSize): number {
    const { stage } = this.input;
    const size = this.size(set);
    if (stage === undefined || (set.revision ?? set.name) !== stage.stable) return size;
    return Math.max(0, Math.min(size, this.stable() - stage.keep));
  }

  /** Old sets of the revision that serves, the newest first. */
  stableSets(): RevisionSize[] {
    const { stage } = this.input;
    return this.old.filter((set) => (set.revision ?? set.name) === stage?.stable).toReversed();
  }

  /** Pods that they are drafted to have. */
  stable(): number {
    return sum(this.stableSets().map((set) => this.size(set)));
  }

  /** The same of all sets. */
  available(): number {
    const coming = sum(this.goals.map((set) => this.working(set)));
    const { counts = coming } = this.input.stage ?? {};
    return sum(this.old.map((set) => this.working(set))) + Math.min(coming, counts);
  }

  /** Pods that may be made before there are too many. A ReplicaSet that was told to shrink still has the pods that it has. */
  vacancies(): number {
    const pods = sum(this.all().map((set) => Math.max(this.size(set), set.current)));
    return Math.max(0, this.input.replicas + this.input.maxSurge - pods);
  }

  /** Pods of a set that its hardware has room for, after what was drafted. */
  room(set: RevisionSize): number {
    const room = set.tier === undefined ? undefined : this.input.tiers?.get(set.tier)?.room;
    if (room === undefined) return Infinity;
    const grown = this.all()
      .filter((other) => other.tier === set.tier)
      .map((other) => Math.max(0, this.size(other) - other.desired));
    return Math.max(0, room - sum(grown));
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

/** The best hardware first, until there are enough. */
function capped(goals: readonly Goal[], target: number | undefined): readonly Goal[] {
  if (target === undefined) return goals;
  let rest = target;
  return goals.map((goal) => {
    const part = Math.min(goal.target, rest);
    rest -= part;
    return { ...goal, target: part };
  });
}

export const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

export function plural(count: number, noun: string): string {
  return count === 1 ? `1 ${noun}` : `${count} ${noun}s`;
}

/**
 * Whether a closed gate holds a goal back: its first pods, and every step of a rollout to it. Once it serves alone, more pods
 * of it replace nobody, and one that lands on a node without the bytes merely waits there.
 */
export function isGoalGated({ replicas, old }: RolloutInput, { gate, target, exists }: Goal): boolean {
  if (gate.open || replicas === 0 || target === 0) return false;
  return (exists?.desired ?? 0) === 0 || old.some((set) => set.desired > 0 || set.current > 0);
}

/** The same for all of the rollout: no goal may have pods now. */
export function isGated(input: RolloutInput): boolean {
  const wanted = (input.goals ?? []).filter((goal) => goal.target > 0);
  return wanted.length > 0 && wanted.every((goal) => isGoalGated(input, goal));
}
