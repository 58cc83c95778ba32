/**
 * A cluster in miniature for tests of the rollout planner: ReplicaSets make and delete pods, pods become available or never
 * do, and all of it happens one small step at a time in any order. Owns no assertion but the bounds that must hold always.
 */
import { planRollout, type RevisionSize, type RolloutInput } from './rollout-planner.ts';

interface SimulatedPod {
  available: boolean;
}

interface SimulatedSet {
  readonly name: string;
  number: number;
  /** Pods of it can come to serve. */
  healthy: boolean;
  desired: number;
  pods: SimulatedPod[];
}

export interface SimulationSpec {
  replicas: number;
  maxSurge: number;
  maxUnavailable: number;
  paused: boolean;
  historyLimit: number;
  /** Name of the revision that the spec asks for. */
  update: string;
  /** Revisions whose bytes are not there. */
  closed: Set<string>;
}

/** Picks one of `count` possibilities. */
export type Choose = (count: number) => number;

export class Simulation {
  readonly spec: SimulationSpec;
  readonly sets: SimulatedSet[] = [];
  readonly log: string[] = [];
  readonly broken = new Set<string>();
  #last = '';

  constructor(spec: Partial<SimulationSpec> & { update: string; replicas: number }) {
    this.spec = { maxSurge: 1, maxUnavailable: 0, paused: false, historyLimit: 3, closed: new Set(), ...spec };
  }

  /** A revision as it is after a finished rollout. */
  running(name: string, pods: number): this {
    this.sets.push({
      name,
      number: this.sets.length + 1,
      healthy: true,
      desired: pods,
      pods: Array.from({ length: pods }, () => ({ available: true })),
    });
    return this;
  }

  input(): RolloutInput {
    const { update: name, closed, ...rest } = this.spec;
    const exists = this.sets.find((set) => set.name === name);
    return {
      ...rest,
      mayYield: false,
      goals: [
        {
          name,
          target: this.spec.replicas,
          exists: exists && view(exists),
          gate: closed.has(name) ? { open: false, why: `${name} is not on the nodes` } : { open: true },
        },
      ],
      old: this.sets.filter((set) => set !== exists).map(view),
    };
  }

  available(): number {
    return this.sets.reduce((total, set) => total + set.pods.filter((pod) => pod.available).length, 0);
  }

  total(): number {
    return this.sets.reduce((total, set) => total + Math.max(set.desired, set.pods.length), 0);
  }

  /** One run of the controller. Answers whether anything changed. */
  reconcile(): boolean {
    const input = this.input();
    const plan = planRollout(input);
    for (const { name, to } of plan.sizes) {
      let set = this.sets.find((candidate) => candidate.name === name);
      if (set === undefined) {
        const number = Math.max(0, ...this.sets.map((known) => known.number)) + 1;
        set = { name, number, healthy: !this.broken.has(name), desired: 0, pods: [] };
        this.sets.push(set);
      }
      const closed = this.spec.closed.has(name) && this.spec.update === name;
      if (closed && set.desired === 0 && to > 0) throw new Error(`${name} gets pods before its bytes are there`);
      set.desired = to;
    }
    for (const name of plan.remove) {
      const index = this.sets.findIndex((set) => set.name === name);
      const set = this.sets[index];
      if (set === undefined || set.pods.length > 0) throw new Error(`removed ${name}, which has pods`);
      this.sets.splice(index, 1);
    }
    const notes = plan.notes.map((note) => `    ${note}`).join('\n');
    if (plan.sizes.length > 0 || plan.remove.length > 0 || notes !== this.#last) this.say(notes);
    this.#last = notes;
    return plan.sizes.length > 0 || plan.remove.length > 0;
  }

  /** What the cluster could do next. */
  moves(): (() => void)[] {
    const moves: (() => void)[] = [];
    for (const set of this.sets) {
      if (set.pods.length < set.desired) moves.push(() => this.#start(set));
      if (set.pods.length > set.desired) moves.push(() => this.#stop(set));
      if (set.healthy && set.pods.some((pod) => !pod.available)) moves.push(() => this.#serve(set));
    }
    return moves;
  }

  /** Until nothing moves. Throws when a bound is broken, or when it never ends. */
  settle(choose: Choose): this {
    for (let step = 0; step < 5000; step++) {
      const moves: (() => unknown)[] = this.moves();
      const atRest = moves.length === 0;
      const choice = atRest ? moves.length : choose(moves.length + 1);
      const before = this.promised();
      let changed = true;
      if (choice === moves.length) changed = this.reconcile();
      else moves[choice]?.();
      this.check(before);
      if (atRest && !changed) return this;
    }
    throw new Error(`no end after 5000 steps:\n${this.log.slice(-20).join('\n')}`);
  }

  /** Pods that serve and that nobody has told to go: what the decisions so far promise to users. */
  promised(): number {
    const serving = (set: SimulatedSet) => set.pods.filter((pod) => pod.available).length;
    return this.sets.reduce((total, set) => total + Math.min(set.desired, serving(set)), 0);
  }

  /** The bounds; `before` is what was promised before the step. */
  check(before: number): void {
    const { replicas, maxSurge, maxUnavailable } = this.spec;
    const now = this.promised();
    if (now < before && now < replicas - maxUnavailable) {
      throw new Error(`${now} pods are available, ${replicas - maxUnavailable} must be:\n${this.log.join('\n')}`);
    }
    if (this.#capped && this.total() > replicas + maxSurge) {
      throw new Error(`${this.total()} pods exist, ${replicas + maxSurge} may:\n${this.log.join('\n')}`);
    }
    if (this.total() <= replicas + maxSurge) this.#capped = true;
  }

  /** A smaller spec leaves more pods than allowed for a moment; once they are fewer they must stay so. */
  #capped = false;

  /** Changes what is asked for. */
  change(what: string, change: (spec: SimulationSpec) => void): this {
    change(this.spec);
    this.#capped = false;
    this.log.push(`# ${what}`);
    return this;
  }

  say(notes: string): void {
    const sets = this.sets
      .toSorted((a, b) => a.number - b.number)
      .map((set) => {
        const serving = set.pods.filter((pod) => pod.available).length;
        return `${set.name} ${serving}/${set.pods.length}→${set.desired}`;
      });
    this.log.push(sets.join('   '));
    if (notes !== '') this.log.push(notes);
  }

  #start(set: SimulatedSet): void {
    set.pods.push({ available: false });
  }

  /** As the ReplicaSet controller does: those that do not serve go first. */
  #stop(set: SimulatedSet): void {
    const index = set.pods.findIndex((pod) => !pod.available);
    set.pods.splice(index < 0 ? set.pods.length - 1 : index, 1);
  }

  #serve(set: SimulatedSet): void {
    const pod = set.pods.find((candidate) => !candidate.available);
    if (pod !== undefined) pod.available = true;
  }
}

function view(set: SimulatedSet): RevisionSize {
  return {
    name: set.name,
    number: set.number,
    desired: set.desired,
    current: set.pods.length,
    available: set.pods.filter((pod) => pod.available).length,
  };
}

/** The same order every time: pods first, in turn, the controller when nothing else moves. */
export const inOrder: Choose = () => 0;
