/**
 * SLMDeployments on a cluster in miniature, with the inventory and the plans of the operator. Deployments are planned only when
 * something wakes them, as the controller is woken. Owns what must hold of every plan.
 */
import { labels, type SLMDeployment, type SLMDeploymentSpec, type SLMDeploymentStatus } from '@slm-operator/crds';
import type { Plan } from '../../execution/plan.ts';
import { type Inventory, makeInventory } from '../../hardware/inventory.ts';
import type { Choose } from '../../hardware/testing/choices.ts';
import { isPerNode } from '../names.ts';
import type { PodObject, ReplicaSetObject } from '../observed.ts';
import { type DeploymentPlan, planDeployment } from '../plan.ts';
import type { PodReport } from '../pod-reports.ts';
import { resolveBounds } from '../rollout-planner.ts';
import { Feed, found, isGoing, ObjectCluster } from './object-cluster.ts';
import { cache, config, deployment, model, observed } from './objects.ts';

interface Known {
  object: SLMDeployment;
  /** When to look again, milliseconds since 1970. */
  wakeAt: number | undefined;
  plan: DeploymentPlan | undefined;
  /** Sizes that were changed. */
  writes: number;
  /** Statuses that were written. */
  statuses: number;
  capped: boolean;
}

export class PlanSimulation extends ObjectCluster {
  readonly known = new Map<string, Known>();
  /** Uids of pods that serve somebody. */
  readonly busy = new Set<string>();
  readonly log: string[] = [];
  readonly #inventory: Inventory;
  readonly #queue = new Set<string>();

  constructor() {
    super();
    const { nodes, pods, clock } = this;
    this.#inventory = makeInventory({ nodes, pods, caches: new Feed<never>(), clock });
    this.#inventory.onWake((key) => this.#queue.add(key.replace('demo/', '')));
  }

  protected override onChild(name: string | undefined): void {
    if (name !== undefined) this.#queue.add(name);
  }

  /** As the controller: nodes matter to those that wait, and to those with a pod on each. */
  protected override onNodes(): void {
    for (const [name, { object }] of this.known) {
      if (object.status?.rollout?.phase !== 'Idle' || isPerNode(object)) this.#queue.add(name);
    }
  }

  deploy(name: string, spec: Partial<SLMDeploymentSpec>): this {
    const object = deployment(spec);
    const metadata = { ...object.metadata, name, uid: `${name}-uid` };
    this.known.set(name, {
      object: { ...object, metadata },
      wakeAt: undefined,
      plan: undefined,
      writes: 0,
      statuses: 0,
      capped: false,
    });
    this.#queue.add(name);
    return this;
  }

  change(name: string, spec: Partial<SLMDeploymentSpec>): void {
    const known = found(this.known.get(name));
    const { metadata } = known.object;
    known.object = {
      ...known.object,
      metadata: { ...metadata, generation: (metadata.generation ?? 0) + 1 },
      spec: { ...known.object.spec, ...spec },
    };
    known.capped = false;
    this.#queue.add(name);
  }

  /** One run for a deployment. Answers whether it wrote anything. */
  reconcile(name: string): boolean {
    this.#queue.delete(name);
    const known = found(this.known.get(name));
    const key = `demo/${name}`;
    const pods = this.podsOf(name);
    const replicaSets = this.setsOf(name);
    const nodes = this.#inventory.nodes(key);
    const plan = planDeployment(
      observed({
        deployment: known.object,
        model: model(),
        replicaSets,
        pods,
        nodes,
        caches: new Map([...this.nodes.objects.keys()].map((node) => [node, cache(node)])),
        reports: new Map(pods.map((pod) => [pod.metadata?.uid ?? '', this.#report(pod)])),
      }),
      { now: this.clock.now(), config },
    );
    if (isPerNode(known.object)) this.checkNodes(known.object, plan);
    else this.#check(known, plan, replicaSets);
    if (plan.expected !== undefined) {
      this.#inventory.expect(key, plan.expected.places);
      this.#inventory.interest(key, plan.expected.interest);
    }
    const wrote = this.#write(known, plan);
    const requeue = plan.outcome.outcome === 'waiting' ? plan.outcome.requeueAfter : undefined;
    // Servers are asked whether they are idle as long as a pod may come back.
    const mayMove = plan.status?.hardware?.tiers?.some((tier) => tier.freeSince ?? tier.promotingSince) === true;
    const times = [requeue, plan.placeAgain, mayMove ? 5000 : undefined].filter((time) => time !== undefined);
    known.wakeAt = times.length === 0 ? undefined : this.clock.now() + Math.max(1, Math.min(...times));
    known.plan = plan;
    return wrote;
  }

  #report(pod: PodObject): PodReport {
    const busy = this.busy.has(pod.metadata?.uid ?? '');
    return { at: this.clock.now(), running: busy ? 1 : 0, idleSeconds: busy ? 0 : 60 };
  }

  #write(known: Known, plan: Plan<SLMDeploymentStatus>): boolean {
    const { name } = known.object.metadata;
    let wrote = false;
    for (const object of plan.apply) {
      if (object.kind !== 'ReplicaSet' || this.sets.has(object.metadata.name)) continue;
      const set = object as ReplicaSetObject & { metadata: { name: string } };
      this.putSet({ ...set, metadata: { ...set.metadata, uid: `${set.metadata.name}-uid` }, status: { replicas: 0 } });
      this.#say(`${name}: makes ${set.metadata.name} with ${set.spec?.replicas}`);
      known.writes++;
      wrote = true;
    }
    for (const { target, patch } of plan.patch ?? []) {
      if (target.kind === 'Pod') {
        const pod = this.pods.objects.get(target.name);
        const { metadata } = patch as { metadata: { annotations: Record<string, string | null> } };
        const kept = Object.entries({ ...pod?.metadata?.annotations, ...metadata.annotations }).filter(
          ([, value]) => value !== null,
        );
        if (pod !== undefined)
          this.putPod({
            ...pod,
            metadata: { ...pod.metadata, annotations: Object.fromEntries(kept) as Record<string, string> },
          });
        wrote = true;
        continue;
      }
      const set = found(this.sets.get(target.name));
      const { spec, metadata } = patch as {
        spec?: { replicas: number };
        metadata?: { annotations?: Record<string, string> };
      };
      this.putSet({
        ...set,
        metadata: { ...set.metadata, annotations: { ...set.metadata?.annotations, ...metadata?.annotations } },
        spec: { ...set.spec, ...spec } as NonNullable<ReplicaSetObject['spec']>,
      });
      if (spec !== undefined) {
        this.#say(`${name}: ${target.name} ${set.spec?.replicas}→${spec.replicas}`);
        known.writes++;
      }
      wrote = true;
    }
    for (const ref of plan.remove) {
      if (ref.kind !== 'ReplicaSet') continue;
      if (this.podsOf(name).some((pod) => this.ownerOf(pod) === ref.name && !isGoing(pod)))
        throw this.failed(`removes ${ref.name}, which has pods`);
      this.sets.delete(ref.name);
      wrote = true;
    }
    if (plan.status !== undefined && JSON.stringify(plan.status) !== JSON.stringify(known.object.status)) {
      known.object = { ...known.object, status: plan.status };
      known.statuses++;
      this.#queue.add(name);
      this.#say(`${name}: ${plan.status.hardware?.summary}: ${plan.status.statusText}`);
      wrote = true;
    }
    return wrote;
  }

  /** What must hold of a plan for a deployment with a pod on each node. */
  protected checkNodes(_object: SLMDeployment, _plan: DeploymentPlan): void {}

  #check({ object, capped }: Known, plan: DeploymentPlan, sets: readonly ReplicaSetObject[]): void {
    const { name } = object.metadata;
    const { replicas = 1, strategy, hardware } = object.spec;
    if (replicas === 0) return;
    const bounds = resolveBounds(replicas, strategy?.maxSurge, strategy?.maxUnavailable);
    const sizes = new Map(
      (plan.patch ?? []).map(({ target, patch }) => [
        target.name,
        (patch as { spec?: { replicas?: number } }).spec?.replicas,
      ]),
    );
    const now = (set: ReplicaSetObject) => set.spec?.replicas ?? 0;
    const then = (set: ReplicaSetObject) => sizes.get(set.metadata?.name ?? '') ?? now(set);
    const serving = (size: (set: ReplicaSetObject) => number) =>
      sets.reduce((sum, set) => sum + Math.min(size(set), set.status?.availableReplicas ?? 0), 0);
    const placed = plan.expected?.places.reduce((sum, place) => sum + place.replicas, 0) ?? replicas;
    const allowed = Math.min(replicas - bounds.maxUnavailable, bounds.mayYield ? placed - 1 : replicas);
    if (serving(then) < serving(now) && serving(then) < allowed) {
      throw this.failed(`${name}: ${serving(then)} pods serve, ${allowed} must`);
    }
    const made = plan.apply.filter(({ kind, metadata }) => kind === 'ReplicaSet' && !this.sets.has(metadata.name));
    const more = made.reduce((sum, set) => sum + ((set as ReplicaSetObject).spec?.replicas ?? 0), 0);
    const total = more + sets.reduce((sum, set) => sum + Math.max(then(set), set.status?.replicas ?? 0), 0);
    const grows = more > 0 || sets.some((set) => then(set) > now(set));
    if (capped && grows && total > replicas + bounds.maxSurge)
      throw this.failed(`${name}: ${total} pods, ${replicas + bounds.maxSurge} may be`);
    found(this.known.get(name)).capped ||= total <= replicas + bounds.maxSurge;
    const isOnCpu = (set: ReplicaSetObject) => (set.metadata?.labels?.[labels.tier] ?? 'cpu') === 'cpu';
    if (
      hardware?.policy === 'Never' &&
      hardware.preferred !== 'cpu' &&
      made.some((set) => isOnCpu(set as ReplicaSetObject))
    ) {
      throw this.failed(`${name}: goes to cpu although its policy is Never`);
    }
    for (const text of [
      plan.status?.hardware?.message,
      ...(plan.status?.blockedBy ?? []).map(({ message }) => message),
    ]) {
      if (text !== undefined && /undefined|NaN|Infinity|\[object/.test(text))
        throw this.failed(`${name} says: ${text}`);
    }
  }

  override moves(): (() => void)[] {
    return [...Array.from(this.#queue, (name) => () => void this.reconcile(name)), ...super.moves()];
  }

  /** Until nothing moves and nobody is woken any more. */
  settle(choose: Choose, { until = Infinity }: { readonly until?: number } = {}): this {
    for (let step = 0; step < 20_000; step++) {
      const moves = this.moves();
      if (moves.length > 0) {
        moves[choose(moves.length)]?.();
        continue;
      }
      if (this.clock.advanceToNext()) continue;
      const next = Math.min(...[...this.known.values()].map(({ wakeAt }) => wakeAt ?? Infinity));
      if (next > until || next === Infinity) {
        if (until !== Infinity) this.clock.advance(Math.max(0, until - this.clock.now()));
        return this;
      }
      this.clock.advance(Math.max(0, next - this.clock.now()));
      for (const [name, known] of this.known) {
        if (known.wakeAt === undefined || known.wakeAt > this.clock.now()) continue;
        known.wakeAt = undefined;
        this.#queue.add(name);
      }
    }
    throw this.failed('no end after 20000 steps');
  }

  #say(what: string): void {
    this.log.push(`${this.time().slice(11, 19)} ${what}`);
  }

  failed(what: string): Error {
    return new Error(`${what}\n${this.log.slice(-40).join('\n')}`);
  }
}
