/**
 * A cluster in miniature made of real objects: nodes, pods, ReplicaSets and SLMDeployments, with the inventory and the plans of
 * the operator on it. Deployments are planned only when something wakes them, as the controller is woken. Tests play the world;
 * scheduler, kubelets and the ReplicaSet controller move one small step at a time, in any order.
 */
import { labels, type SLMDeployment, type SLMDeploymentSpec, type SLMDeploymentStatus } from '@slm-operator/crds';
import type { Plan } from '../../execution/plan.ts';
import { requestsOfPod } from '../../hardware/all-pods.ts';
import { type Inventory, makeInventory } from '../../hardware/inventory.ts';
import type { Choose } from '../../hardware/placement-simulation.ts';
import type { Node, ObjectOf } from '../../kube/resource.ts';
import type { StoreEvent, StoreHandler } from '../../runtime/store.ts';
import { makeManualClock } from '../../runtime/testing/clocks.ts';
import type { PodObject, ReplicaSetObject } from '../observed.ts';
import { type DeploymentPlan, planDeployment } from '../plan.ts';
import { isReady } from '../pod-causes.ts';
import type { PodReport } from '../pod-reports.ts';
import { resolveBounds } from '../rollout-planner.ts';
import { cache, config, deployment, model, observed, now as start } from './objects.ts';

type NodeObject = ObjectOf<typeof Node>;

/** What of a store the inventory listens to. */
class Feed<T extends { metadata?: { name?: string | undefined } | undefined }> {
  readonly objects = new Map<string, T>();
  readonly #handlers: StoreHandler<T>[] = [];

  subscribe(handler: StoreHandler<T>): () => void {
    this.#handlers.push(handler);
    return () => undefined;
  }

  put(object: T): void {
    const key = object.metadata?.name ?? '';
    const previous = this.objects.get(key);
    this.objects.set(key, object);
    this.#tell(previous === undefined ? { type: 'add', key, object } : { type: 'update', key, object, previous });
  }

  remove(key: string): void {
    const object = this.objects.get(key);
    if (object === undefined) return;
    this.objects.delete(key);
    this.#tell({ type: 'delete', key, object });
  }

  #tell(event: StoreEvent<T>): void {
    for (const handler of this.#handlers) handler(event);
  }
}

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

const UNSCHEDULED = 'PodScheduled';

export class PlanSimulation {
  readonly clock = makeManualClock(start);
  readonly nodes = new Feed<NodeObject>();
  readonly pods = new Feed<PodObject>();
  readonly sets = new Map<string, ReplicaSetObject>();
  readonly known = new Map<string, Known>();
  /** Uids of pods that serve somebody. */
  readonly busy = new Set<string>();
  /** `NODE/RESOURCE` whose devices no engine finds. */
  readonly broken = new Set<string>();
  readonly log: string[] = [];
  readonly #inventory: Inventory;
  readonly #queue = new Set<string>();
  #names = 0;
  #version = 0;

  constructor() {
    const { nodes, pods, clock } = this;
    this.#inventory = makeInventory({ nodes, pods, caches: new Feed<never>(), clock });
    this.#inventory.onWake((key) => this.#queue.add(key.replace('demo/', '')));
  }

  // ---- the world

  node(name: string, allocatable: Record<string, number>): this {
    const amounts = Object.fromEntries(Object.entries(allocatable).map(([key, amount]) => [key, String(amount)]));
    this.nodes.put({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name },
      status: { allocatable: amounts, capacity: amounts, conditions: [{ type: 'Ready', status: 'True' }] },
    });
    this.#wakeMoving();
    return this;
  }

  changeNode(name: string, change: (node: NodeObject) => NodeObject): void {
    const node = this.nodes.objects.get(name);
    if (node !== undefined) this.nodes.put(change(node));
    this.#wakeMoving();
  }

  offer(name: string, resource: string, amount: number): void {
    this.changeNode(name, (node) => ({
      ...node,
      status: { ...node.status, allocatable: { ...node.status?.allocatable, [resource]: String(amount) } },
    }));
  }

  removeNode(name: string): void {
    this.nodes.remove(name);
    for (const [key, pod] of this.pods.objects) if (pod.spec?.nodeName === name) this.#removePod(key);
    this.#wakeMoving();
  }

  /** A pod of somebody else takes devices. */
  occupy(name: string, resource: string, amount: number): void {
    const pod = { name: `foreign-${name}-${resource.replaceAll(/\W/g, '-')}` };
    this.pods.remove(pod.name);
    if (amount === 0) return;
    const resources = { requests: { [resource]: String(amount) }, limits: { [resource]: String(amount) } };
    this.pods.put({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: pod,
      spec: { nodeName: name, containers: [{ name: 'other', resources }] },
      status: { phase: 'Running' },
    });
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

  podsOf(name: string): PodObject[] {
    return [...this.pods.objects.values()].filter((pod) => pod.metadata?.labels?.[labels.deployment] === name);
  }

  setsOf(name: string): ReplicaSetObject[] {
    return [...this.sets.values()].filter((set) => set.metadata?.labels?.[labels.deployment] === name);
  }

  /** Pods that could have this resource now, beside all that wait for it. */
  open(resource: string): number {
    const pods = [...this.pods.objects.values()];
    const takes = (pod: PodObject, what: string) => (what === 'pods' ? 1 : (requestsOfPod(pod)[what] ?? 0));
    const free = [...this.nodes.objects.values()]
      .filter((node) => node.spec?.unschedulable !== true)
      .map((node) => {
        const there = pods.filter((pod) => pod.spec?.nodeName === node.metadata?.name);
        const left = (what: string) =>
          Number(node.status?.allocatable?.[what] ?? 0) - there.reduce((sum, pod) => sum + takes(pod, what), 0);
        return Math.max(0, Math.min(left(resource), left('pods')));
      });
    const waiting = pods.filter((pod) => pod.spec?.nodeName === undefined && takes(pod, resource) > 0).length;
    return free.reduce((sum, amount) => sum + amount, 0) - waiting;
  }

  // ---- the operator

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
    this.#check(known, plan, replicaSets);
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
      this.#putSet({ ...set, metadata: { ...set.metadata, uid: `${set.metadata.name}-uid` }, status: { replicas: 0 } });
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
          this.#putPod({
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
      this.#putSet({
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
      if (this.podsOf(name).some((pod) => this.#ownerOf(pod) === ref.name && !isGoing(pod)))
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

  // ---- the cluster

  /** What could happen next. */
  moves(): (() => void)[] {
    const moves: (() => void)[] = [...this.#queue].map((name) => () => void this.reconcile(name));
    for (const set of this.sets.values()) {
      const pods = this.#alive(set);
      const available = pods.filter(isReady).length;
      if (pods.length < (set.spec?.replicas ?? 0)) moves.push(() => this.#start(set));
      if (pods.length > (set.spec?.replicas ?? 0)) moves.push(() => this.#stop(pods));
      if (set.status?.replicas !== pods.length || (set.status.availableReplicas ?? 0) !== available) {
        const status = { replicas: pods.length, readyReplicas: available, availableReplicas: available };
        moves.push(() => this.#putSet({ ...found(this.sets.get(set.metadata?.name ?? '')), status }));
      }
    }
    for (const [key, pod] of this.pods.objects) {
      if (this.#ownerOf(pod) === undefined) continue;
      if (isGoing(pod)) moves.push(() => this.#removePod(key));
      else if (pod.spec?.nodeName === undefined) {
        const node = [...this.nodes.objects.values()].find((candidate) => this.#takes(candidate, pod));
        const isTold =
          pod.status?.conditions?.some(({ type, status }) => type === UNSCHEDULED && status === 'False') === true;
        if (node !== undefined) moves.push(() => this.#bind(pod, node));
        else if (!isTold) moves.push(() => this.#refuse(pod));
      } else if (!isReady(pod) && !this.#isBad(pod)) moves.push(() => this.#serve(pod));
      else if (!isReady(pod) && pod.status?.containerStatuses === undefined) moves.push(() => this.#crash(pod));
    }
    return moves;
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

  #alive(set: ReplicaSetObject): PodObject[] {
    return [...this.pods.objects.values()].filter((pod) => this.#ownerOf(pod) === set.metadata?.name && !isGoing(pod));
  }

  #ownerOf(pod: PodObject): string | undefined {
    return pod.metadata?.ownerReferences?.[0]?.name;
  }

  #takes(node: NodeObject, pod: PodObject): boolean {
    if (node.spec?.unschedulable === true) return false;
    const used = [...this.pods.objects.values()].filter((other) => other.spec?.nodeName === node.metadata?.name);
    return Object.entries({ ...requestsOfPod(pod), pods: 1 }).every(([resource, amount]) => {
      if (resource === 'cpu' || resource === 'memory' || amount === 0) return true;
      const taken = used.reduce((sum, other) => sum + ({ ...requestsOfPod(other), pods: 1 }[resource] ?? 0), 0);
      return taken + amount <= Number(node.status?.allocatable?.[resource] ?? 0);
    });
  }

  /** Its device is gone, or no engine finds it. */
  #isBad(pod: PodObject): boolean {
    const node = this.nodes.objects.get(pod.spec?.nodeName ?? '');
    return Object.entries(requestsOfPod(pod)).some(([resource, amount]) => {
      if (!resource.includes('/') || amount === 0) return false;
      return (
        this.broken.has(`${pod.spec?.nodeName}/${resource}`) ||
        Number(node?.status?.allocatable?.[resource] ?? 0) < amount
      );
    });
  }

  #start(set: ReplicaSetObject): void {
    const { metadata, spec } = set.spec?.template ?? {};
    const name = `${set.metadata?.name}-${++this.#names}`;
    const owner = {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      name: set.metadata?.name ?? '',
      uid: set.metadata?.uid ?? '',
      controller: true,
    };
    this.#putPod({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        ...metadata,
        name,
        namespace: 'demo',
        uid: `${name}-uid`,
        ownerReferences: [owner],
        creationTimestamp: this.#time(),
      },
      ...(spec === undefined ? {} : { spec }),
      status: { phase: 'Pending' },
    });
  }

  /** As the ReplicaSet controller does: without a node, not ready, cheap to delete, any. */
  #stop(pods: readonly PodObject[]): void {
    const cost = (pod: PodObject) =>
      pod.spec?.nodeName === undefined
        ? -2e9
        : !isReady(pod)
          ? -1e9
          : Number(pod.metadata?.annotations?.['controller.kubernetes.io/pod-deletion-cost'] ?? 0);
    const pod = found(pods.toSorted((a, b) => cost(a) - cost(b))[0]);
    if (pod.spec?.nodeName === undefined) this.#removePod(pod.metadata?.name ?? '');
    else this.#putPod({ ...pod, metadata: { ...pod.metadata, deletionTimestamp: this.#time() } });
  }

  #bind(pod: PodObject, node: NodeObject): void {
    const spec = { ...pod.spec, nodeName: node.metadata?.name } as NonNullable<PodObject['spec']>;
    this.#putPod({ ...pod, spec, status: { phase: 'Pending', conditions: [this.#condition(UNSCHEDULED, 'True')] } });
  }

  #refuse(pod: PodObject): void {
    const [resource] = Object.entries(requestsOfPod(pod))
      .filter(([key, amount]) => key.includes('/') && amount > 0)
      .map(([key]) => key);
    const total = this.nodes.objects.size;
    const message = `0/${total} nodes are available: ${total} ${resource === undefined ? 'Too many pods' : `Insufficient ${resource}`}.`;
    const condition = { ...this.#condition(UNSCHEDULED, 'False'), reason: 'Unschedulable', message };
    this.#putPod({ ...pod, status: { phase: 'Pending', conditions: [condition] } });
  }

  #serve(pod: PodObject): void {
    const conditions = [UNSCHEDULED, 'Ready'].map((type) => this.#condition(type, 'True'));
    const state = { running: { startedAt: this.#time() } };
    const containerStatuses = [{ name: 'server', image: '', imageID: '', ready: true, restartCount: 0, state }];
    this.#putPod({ ...pod, status: { phase: 'Running', conditions, containerStatuses } });
  }

  /** Its engine finds no device. */
  #crash(pod: PodObject): void {
    const message = 'DeviceNotFound: promised a gpu and the engine found none';
    const lastState = { terminated: { exitCode: 4, reason: 'Error', message } };
    const state = { waiting: { reason: 'CrashLoopBackOff' } };
    const containerStatuses = [
      { name: 'server', image: '', imageID: '', ready: false, restartCount: 1, state, lastState },
    ];
    const conditions = [this.#condition(UNSCHEDULED, 'True'), this.#condition('Ready', 'False')];
    this.#putPod({ ...pod, status: { phase: 'Running', conditions, containerStatuses } });
  }

  /** Pods whose devices went no longer serve. */
  loseDevices(): void {
    for (const pod of this.pods.objects.values()) {
      if (this.#ownerOf(pod) !== undefined && isReady(pod) && this.#isBad(pod)) this.#crash(pod);
    }
  }

  #condition(type: string, status: string) {
    return { type, status, lastTransitionTime: this.#time() };
  }

  #putPod(pod: PodObject): void {
    this.pods.put(pod);
    this.#queue.add(pod.metadata?.labels?.[labels.deployment] ?? '');
  }

  #removePod(key: string): void {
    const owner = this.pods.objects.get(key)?.metadata?.labels?.[labels.deployment];
    this.pods.remove(key);
    if (owner !== undefined) this.#queue.add(owner);
  }

  #putSet(set: ReplicaSetObject): void {
    const metadata = { ...set.metadata, resourceVersion: String(++this.#version) };
    this.sets.set(metadata.name ?? '', { ...set, metadata });
    this.#queue.add(metadata.labels?.[labels.deployment] ?? '');
  }

  /** As the controller: nodes matter to those that wait. */
  #wakeMoving(): void {
    for (const [name, { object }] of this.known) if (object.status?.rollout?.phase !== 'Idle') this.#queue.add(name);
  }

  #time(): string {
    return new Date(this.clock.now()).toISOString().replace(/\.\d+/, '');
  }

  #say(what: string): void {
    this.log.push(`${this.#time().slice(11, 19)} ${what}`);
  }

  failed(what: string): Error {
    return new Error(`${what}\n${this.log.slice(-40).join('\n')}`);
  }
}

function isGoing(pod: PodObject): boolean {
  return pod.metadata?.deletionTimestamp !== undefined;
}

function found<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('no such thing in the simulation');
  return value;
}
