/**
 * Placement and rollout together on a cluster in miniature: deployments that compete, each run by the two planners as the
 * controller runs them. What the planners see may be older than what is. Owns no assertion but what must hold at every step.
 */
import { planRollout, type RevisionSize, resolveBounds } from '../../deployment/rollout-planner.ts';
import { planPlacement } from '../placement-planner.ts';
import type { PlacementPlan, TierPlan, TierState } from '../placement-types.ts';
import type { Choose } from './choices.ts';
import { faultOf, nameOf } from './placement-checks.ts';
import {
  found,
  SimulatedCluster,
  type SimulatedNode,
  type SimulatedPod,
  type SimulatedSet,
} from './simulated-cluster.ts';

export interface DeploymentSpec {
  replicas: number;
  revision: string;
  /** `[preferred, ...fallback]`, each with the tiers that it stands for. */
  line: string[][];
  fallbackAfterMs: number;
  policy: 'Fallback' | 'Never';
  promoteBack: 'Never' | 'WhenIdle';
  auto: boolean;
  maxSurge: number | undefined;
  maxUnavailable: number | undefined;
  paused: boolean;
  /** Tiers on which no more than so many of its pods are let in. */
  quota: Record<string, number>;
}

export interface SimulatedDeployment {
  readonly name: string;
  readonly spec: DeploymentSpec;
  /** `status.hardware.tiers`; the controller always sees what it wrote. */
  status: ReadonlyMap<string, TierPlan & { readonly planned: number }>;
  /** What it was promised, by tier. */
  promises: ReadonlyMap<string, number>;
  /** When time alone changes its plan. */
  wakeAt: number | undefined;
  /** The total was within the bounds since the last change of the spec. */
  capped: boolean;
  last: string;
  plan: PlacementPlan | undefined;
  /** Sizes that were changed. */
  writes: number;
  deadlock: string | undefined;
}

/** What is in the stores: copies that age. */
interface Seen {
  readonly pods: readonly SimulatedPod[];
  readonly nodes: readonly SimulatedNode[];
}

export class PlacementSimulation extends SimulatedCluster {
  now = 0;
  readonly deployments: SimulatedDeployment[] = [];
  readonly log: string[] = [];
  /** Tiers of which nobody can tell what room they have. */
  readonly opaque = new Set<string>();
  #seen: Seen = { pods: [], nodes: [] };
  #fresh = false;

  deployment(name: string, spec: Partial<DeploymentSpec> & { replicas: number }): this {
    this.deployments.push({
      name,
      spec: {
        revision: 'a',
        line: [['gpu'], ['cpu']],
        fallbackAfterMs: 120_000,
        policy: 'Fallback',
        promoteBack: 'Never',
        auto: false,
        maxSurge: undefined,
        maxUnavailable: undefined,
        paused: false,
        quota: {},
        ...spec,
      },
      status: new Map(),
      promises: new Map(),
      wakeAt: undefined,
      capped: false,
      last: '',
      plan: undefined,
      writes: 0,
      deadlock: undefined,
    });
    return this;
  }

  get(name: string): SimulatedDeployment {
    return found(this.deployments.find((deployment) => deployment.name === name));
  }

  /** Something that a person or the world does. */
  change(what: string, change: () => void): this {
    this.log.push(`# ${this.#time()} ${what}`);
    change();
    this.#fresh = false;
    for (const deployment of this.deployments) deployment.capped = false;
    return this;
  }

  protected override quotaOf(set: SimulatedSet): number {
    return this.get(set.owner).spec.quota[set.tier] ?? Infinity;
  }

  override moves(): (() => unknown)[] {
    const moves = super.moves();
    if (this.stale && !this.#fresh) moves.push(() => this.look());
    return moves;
  }

  // ---- what the controller sees and does

  #stateOf(deployment: SimulatedDeployment, tier: string, rank: number): TierState {
    const { name, spec } = deployment;
    const mine = this.sets.filter((set) => set.owner === name && set.tier === tier);
    const wanted = mine.find((set) => set.revision === spec.revision);
    const pods = this.#seen.pods.filter((pod) => pod.owner === name && pod.tier === tier);
    const staying = pods.filter((pod) => !pod.going);
    const bound = staying.filter((pod) => pod.node !== undefined).length;
    const meant = mine.reduce((sum, set) => sum + Math.max(set.desired, set.current), 0);
    const open = this.#seen.nodes.filter((node) => !node.closed);
    const free = open.reduce((sum, node) => sum + this.free(node, tier, this.#seen.pods), 0);
    const room = Math.max(0, free - this.#promisedToOthers(name, tier) - Math.max(0, meant - bound));
    const having = this.#seen.nodes.filter((node) => (node.devices[tier] ?? 0) > 0).length;
    const status = deployment.status.get(tier);
    const stuck = this.#stuck(deployment, wanted, staying);
    return {
      ...status,
      name: tier,
      rank,
      planned: status?.planned ?? 0,
      room: this.opaque.has(tier) ? undefined : room,
      ...(room > 0
        ? {}
        : {
            blocked: {
              reason: 'WaitingForDevice',
              message: `needs 1 ${tier}; 0 of ${this.#seen.nodes.length} nodes have one${having === 0 ? '' : ' free'}`,
            },
          }),
      desired: wanted?.desired ?? 0,
      current: wanted?.current ?? 0,
      available: wanted?.available ?? 0,
      oldPods: staying.filter((pod) => pod.set !== wanted?.name).length,
      goingPods: pods.length - staying.length,
      ...(stuck === undefined ? {} : { stuck }),
      inventory: `${this.#seen.nodes
        .filter((node) => !node.closed)
        .map((node) => `${node.name}:${node.devices[tier] ?? 0}`)
        .join()}/${spec.revision}`,
      idlePods: staying.filter((pod) => pod.set === wanted?.name && pod.idle && pod.available).length,
    };
  }

  #promisedToOthers(name: string, tier: string): number {
    let promised = 0;
    for (const other of this.deployments) {
      if (other.name === name) continue;
      const bound = this.#seen.pods.filter((pod) => pod.owner === other.name && pod.tier === tier && pod.node).length;
      const sets = this.sets.filter((set) => set.owner === other.name && set.tier === tier);
      const desired = sets.reduce((sum, set) => sum + set.desired, 0);
      promised += Math.max(0, Math.max(other.promises.get(tier) ?? 0, desired) - bound);
    }
    return promised;
  }

  #stuck(
    { spec }: SimulatedDeployment,
    set: SimulatedSet | undefined,
    pods: readonly SimulatedPod[],
  ): TierState['stuck'] {
    if (set === undefined) return undefined;
    const there = pods.filter((pod) => pod.set === set.name);
    const refused = there.filter((pod) => pod.refused && pod.node === undefined);
    const bad = there.filter((pod) => !pod.available && pod.node && this.isBad(pod.node, set.tier));
    const quota = spec.quota[set.tier];
    const over = quota === undefined || there.length < quota ? 0 : Math.max(0, set.desired - there.length);
    const count = refused.length + bad.length + over;
    if (count === 0) return undefined;
    if (bad.length > 0)
      return { pods: count, reason: 'DeviceNotFound', message: `pod of ${set.name}: no ${set.tier} found` };
    if (refused.length > 0)
      return { pods: count, reason: 'Unschedulable', message: `pod of ${set.name}: no node has room` };
    return { pods: count, reason: 'QuotaExceeded', message: `the quota allows ${quota} pods on ${set.tier}` };
  }

  /** One run of the controller for a deployment. Answers whether anything changed. */
  reconcile(deployment: SimulatedDeployment): boolean {
    const { name, spec } = deployment;
    const mine = this.sets.filter((set) => set.owner === name);
    const old = mine.filter((set) => set.revision !== spec.revision);
    const states = spec.line.flatMap((tiers, rank) => tiers.map((tier) => this.#stateOf(deployment, tier, rank)));
    const rolling = old.some((set) => set.desired > 0 || set.current > 0) || states.some((state) => state.oldPods > 0);
    const bounds = resolveBounds(spec.replicas, spec.maxSurge, spec.maxUnavailable);
    const placement = planPlacement({ ...spec, maxSurge: bounds.maxSurge, tiers: states, rolling, now: this.now });
    const rollout = planRollout({
      ...bounds,
      replicas: spec.replicas,
      paused: spec.paused,
      historyLimit: 1,
      goals: states.map((state) => {
        const set = mine.find((known) => known.revision === spec.revision && known.tier === state.name);
        return {
          name: nameOf(name, spec.revision, state.name),
          tier: state.name,
          target: placement.targets.get(state.name) ?? 0,
          exists: set && viewOf(set),
          gate: { open: true },
          hold: placement.hold.get(state.name),
          stuck: state.stuck?.pods,
        };
      }),
      old: mine
        .filter((set) => set.revision !== spec.revision || !states.some((state) => state.name === set.tier))
        .map(viewOf),
      tiers: new Map(states.map((state) => [state.name, { room: state.room, going: state.goingPods }])),
    });
    const sets = this.sets.filter((set) => set.owner === name);
    const wrong = faultOf({ deployment, sets, states, placement, sizes: rollout.sizes, bounds });
    if (wrong !== undefined) throw this.broken(`${name}: ${wrong}`);

    for (const { name: set, to } of rollout.sizes) this.#resize(deployment, set, to);
    for (const gone of rollout.remove) {
      const has = this.pods.some((pod) => pod.set === gone && !pod.going);
      // The API server refuses to delete what is not as it was seen.
      if (has && this.stale) continue;
      if (has) throw this.broken(`removed ${gone}, which has pods`);
      this.sets.splice(
        this.sets.findIndex((set) => set.name === gone),
        1,
      );
    }
    deployment.plan = placement;
    deployment.deadlock = rollout.deadlock;
    deployment.promises = placement.targets;
    deployment.wakeAt = placement.requeueAfter === undefined ? undefined : this.now + placement.requeueAfter;
    deployment.writes += rollout.sizes.length;
    const written = new Map(
      [...placement.tiers].map(([tier, plan]) => [tier, { ...plan, planned: placement.targets.get(tier) ?? 0 }]),
    );
    const isNews = text(written) !== text(deployment.status);
    if (isNews) deployment.status = written;
    this.#say(deployment, [
      ...placement.notes,
      ...rollout.notes,
      ...placement.blocked.map(({ message }) => `“${message}”`),
    ]);
    return rollout.sizes.length > 0 || rollout.remove.length > 0 || isNews;
  }

  #resize(deployment: SimulatedDeployment, name: string, to: number): void {
    const known = this.sets.find((set) => set.name === name);
    if (known !== undefined) {
      known.desired = to;
      return;
    }
    const { spec } = deployment;
    const tier = found(
      spec.line.flat().find((candidate) => nameOf(deployment.name, spec.revision, candidate) === name),
    );
    const mine = this.sets.filter((set) => set.owner === deployment.name);
    const newest = Math.max(0, ...mine.filter((set) => set.revision !== spec.revision).map((set) => set.number));
    const base = { name, owner: deployment.name, revision: spec.revision, tier, number: newest + 1 };
    this.sets.push({ ...base, desired: to, current: 0, available: 0 });
  }

  /** Pods that a deployment has or is about to have, and what it may have. */
  check(): void {
    for (const deployment of this.deployments) {
      const { spec, name } = deployment;
      const mine = this.sets.filter((set) => set.owner === name);
      const total = mine.reduce((sum, set) => {
        // While a status is behind, pods may be there that nobody has told of.
        const pods = this.pods.filter((pod) => pod.set === set.name && !pod.going).length;
        return sum + (this.stale ? set.desired : Math.max(set.desired, pods));
      }, 0);
      const most = spec.replicas + resolveBounds(spec.replicas, spec.maxSurge, spec.maxUnavailable).maxSurge;
      if (deployment.capped && total > most) throw this.broken(`${name}: ${total} pods exist, ${most} may`);
      if (total <= most) deployment.capped = true;
    }
  }

  /** Brings the stores up to date. */
  look(): void {
    this.#fresh = true;
    const copies = new Map(this.nodes.map((node) => [node, copyOf(node)]));
    this.#seen = {
      nodes: [...copies.values()],
      pods: this.pods.map((pod) => ({ ...pod, node: pod.node && copies.get(pod.node) })),
    };
  }

  /** One step: of the cluster, or of the controller for one deployment. */
  step(choose: Choose): void {
    const moves = this.moves();
    const choice = choose(moves.length + this.deployments.length);
    const deployment = this.deployments[choice - moves.length];
    if (deployment !== undefined) {
      if (!this.stale) this.look();
      this.reconcile(deployment);
    } else this.#do(moves[choice]);
    this.check();
  }

  #do(move: (() => unknown) | undefined): void {
    this.#fresh = false;
    move?.();
  }

  /** Until nothing moves any more and time changes nothing. Throws when it never ends. */
  settle(choose: Choose, { until = Infinity }: { readonly until?: number } = {}): this {
    for (let step = 0; step < 20_000; step++) {
      const moves = this.moves();
      if (moves.length > 0) {
        const choice = choose(moves.length + this.deployments.length);
        const deployment = this.deployments[choice - moves.length];
        if (deployment === undefined) this.#do(moves[choice]);
        else this.#run(deployment);
        this.check();
        continue;
      }
      const changed = this.deployments.map((deployment) => this.#run(deployment)).includes(true);
      this.check();
      if (changed || this.moves().length > 0) continue;
      const next = Math.min(...this.deployments.map((deployment) => deployment.wakeAt ?? Infinity));
      if (next > until || next === Infinity) {
        this.now = Math.max(
          this.now,
          Math.min(until, Number.MAX_SAFE_INTEGER) === Number.MAX_SAFE_INTEGER ? this.now : until,
        );
        return this;
      }
      this.now = Math.max(this.now, next);
    }
    throw this.broken('no end after 20000 steps');
  }

  #run(deployment: SimulatedDeployment): boolean {
    if (!this.stale || this.moves().length === 0) this.look();
    return this.reconcile(deployment);
  }

  // ---- the log

  #time(): string {
    return new Date(this.now).toISOString().slice(11, 19);
  }

  #say({ name, last }: SimulatedDeployment, notes: readonly string[]): void {
    const sets = this.sets
      .filter((set) => set.owner === name)
      .map((set) => {
        const pods = this.pods.filter((pod) => pod.set === set.name && !pod.going);
        return `${set.revision}-${set.tier} ${pods.filter((pod) => pod.available).length}/${pods.length}→${set.desired}`;
      });
    const now = [sets.join('   '), ...notes].join('\n    ');
    if (now === last) return;
    this.get(name).last = now;
    this.log.push(`${this.#time()} ${name}: ${now}`);
  }

  broken(what: string): Error {
    return new Error(`${what}\n${this.log.slice(-40).join('\n')}`);
  }
}

function viewOf({ name, number, revision, tier, desired, current, available }: SimulatedSet): RevisionSize {
  return { name, number, revision, tier, desired, current, available };
}

function copyOf(node: SimulatedNode): SimulatedNode {
  return { ...node, devices: { ...node.devices }, broken: new Set(node.broken) };
}

function text(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => (part instanceof Map || part instanceof Set ? [...part] : part));
}
