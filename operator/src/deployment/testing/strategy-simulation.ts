/**
 * One SLMDeployment that goes from revision to revision on a cluster in miniature, by the operator's own plans, with clients' eyes on
 * it: which pods they can reach, and who answers. Owns what must hold at every step, whatever the strategy. The operator keeps nothing
 * between two runs, so each run is that of an operator that has just started.
 */
import {
  annotations,
  labels,
  type SLMDeployment,
  type SLMDeploymentSpec,
  type SLMDeploymentStatus,
  type TrafficSetting,
} from '@slm-operator/crds';
import type { KubeObject, PatchIntent } from '../../execution/plan.ts';
import { makeInventory } from '../../hardware/inventory.ts';
import type { Choose } from '../../hardware/testing/choices.ts';
import { type PodObject, type ReplicaSetObject, revisionOf, type ServiceObject } from '../observed.ts';
import { type DeploymentPlan, planDeployment } from '../plan.ts';
import { isReady } from '../pod-causes.ts';
import type { PodReport } from '../pod-reports.ts';
import { resolveBounds } from '../rollout-planner.ts';
import { stepsOf } from '../strategy/steps.ts';
import { Feed, found, isGoing, ObjectCluster } from './object-cluster.ts';
import { cache, config, deployment, model, observed } from './objects.ts';
import { gatesOf, merge, type Quality, smokeOf, stateOf } from './strategy-answers.ts';

export type { Quality } from './strategy-answers.ts';

const NAME = 'chat';
const START = 1024;

export class StrategySimulation extends ObjectCluster {
  readonly log: string[] = [];
  readonly qualities = new Map<string, Quality>();
  object: SLMDeployment;
  /** A status that is planned may be lost, as when the operator ends before it writes it. */
  losesStatus: () => boolean = () => false;
  /** Statuses that were written. */
  statuses = 0;
  /** Sizes that were changed. */
  writes = 0;
  readonly #inventory;
  readonly #services = new Map<string, ServiceObject>();
  /** What servers pass on, as they have read it. */
  readonly #passing = new Map<string, TrafficSetting | undefined>();
  readonly #letters = new Map<string, string>();
  #wakeAt: number | undefined;
  #wakeGates = Number.POSITIVE_INFINITY;
  #queued = true;
  #capped = false;
  #said = '';
  /** Smoke tests that were passed, by revision. */
  readonly #passed = new Map<string, boolean>();

  constructor(spec: Partial<SLMDeploymentSpec>, nodes = 1) {
    super();
    const { nodes: feed, pods, clock } = this;
    this.#inventory = makeInventory({ nodes: feed, pods, caches: new Feed<never>(), clock });
    const object = deployment({ ...spec, engine: { contextLength: START } });
    this.object = { ...object, metadata: { ...object.metadata, name: NAME } };
    for (let index = 1; index <= nodes; index++) this.node(`n${index}`, { pods: 200 });
  }

  protected override onChild(): void {
    this.#queued = true;
  }

  protected override onNodes(): void {
    this.#queued = true;
  }

  protected override fateOf(pod: PodObject): 'serves' | 'hangs' | 'crashes' {
    return this.qualityOf(pod.metadata?.labels?.[labels.revision] ?? '').pods ?? 'serves';
  }

  /** Revisions are called A, B, C by the order in which they are asked for. */
  letter(revision: string | undefined): string {
    return this.#letters.get(revision ?? '') ?? revision ?? '-';
  }

  qualityOf(revision: string): Quality {
    return this.qualities.get(this.letter(revision)) ?? {};
  }

  get status(): SLMDeploymentStatus {
    return this.object.status ?? {};
  }

  /** Asks for another revision: A, B, C and so on. */
  ask(letter: string): this {
    return this.change(`ask for ${letter}`, { engine: { contextLength: START * (letter.charCodeAt(0) - 64) } });
  }

  change(what: string, spec: Partial<SLMDeploymentSpec>): this {
    const { metadata } = this.object;
    this.object = {
      ...this.object,
      metadata: { ...metadata, generation: (metadata.generation ?? 0) + 1 },
      spec: { ...this.object.spec, ...spec },
    };
    this.#capped = false;
    this.#queued = true;
    this.log.push(`# ${what}`);
    return this;
  }

  annotate(what: string, values: Record<string, string | undefined>): this {
    const { metadata } = this.object;
    const kept = Object.entries({ ...metadata.annotations, ...values }).filter(([, value]) => value !== undefined);
    this.object = { ...this.object, metadata: { ...metadata, annotations: Object.fromEntries(kept) as never } };
    this.#queued = true;
    this.log.push(`# ${what}`);
    return this;
  }

  /** The revision of a letter. */
  revision(letter: string): string {
    return found([...this.#letters].find(([, known]) => known === letter)?.[0]);
  }

  /** One run of the operator. */
  reconcile(): void {
    this.#queued = false;
    const pods = this.podsOf(NAME);
    const sets = this.setsOf(NAME);
    const nodes = this.#inventory.nodes(`demo/${NAME}`);
    const plan = planDeployment(
      {
        ...observed({
          deployment: this.object,
          model: model(),
          replicaSets: sets,
          pods,
          nodes,
          caches: new Map([...this.nodes.objects.keys()].map((node) => [node, cache(node)])),
          reports: new Map(pods.map((pod) => [pod.metadata?.uid ?? '', this.#report(pod)])),
          ...this.#answers(),
        }),
        services: this.#observedServices(),
      },
      { now: this.clock.now(), config },
    );
    const asked = plan.status?.updateRevision;
    if (asked !== undefined && !this.#letters.has(asked)) {
      const index = (this.object.spec.engine?.contextLength ?? START) / START;
      this.#letters.set(asked, String.fromCharCode(64 + index));
    }
    const before = this.#reachable();
    this.#checkPlan(plan, sets);
    if (plan.expected !== undefined) {
      this.#inventory.expect(`demo/${NAME}`, plan.expected.places);
      this.#inventory.interest(`demo/${NAME}`, plan.expected.interest);
    }
    this.#carryOut(plan);
    this.#checkServed(before, plan);
    const requeue = plan.outcome.outcome === 'waiting' ? plan.outcome.requeueAfter : undefined;
    const times = [requeue, plan.placeAgain].filter((time) => time !== undefined);
    this.#wakeAt = times.length === 0 ? undefined : this.clock.now() + Math.max(1, Math.min(...times));
  }

  #answers() {
    const { gates, again } = gatesOf(this.object, (revision) => this.qualityOf(revision), this.clock.now());
    // The meters wake the deployment when the window is over.
    this.#wakeGates = Math.min(this.#wakeGates, again);
    return { gates, smoke: smokeOf(this.object, (revision) => this.#passed.get(revision)) };
  }

  #observedServices() {
    return { main: this.#services.get(NAME), candidate: this.#services.get(`${NAME}-candidate`) };
  }

  #report(pod: PodObject): PodReport {
    const passing = this.#passing.get(pod.metadata?.uid ?? '');
    const traffic = passing === undefined ? {} : { weight: passing.weight, revision: passing.revision };
    return { at: this.clock.now(), running: 0, traffic };
  }

  #carryOut(plan: DeploymentPlan): void {
    for (const object of plan.apply) this.#apply(object);
    for (const intent of plan.patch ?? []) this.#patch(intent);
    for (const ref of plan.remove) {
      if (ref.kind === 'Service') this.#services.delete(ref.name);
      if (ref.kind !== 'ReplicaSet') continue;
      if (this.podsOf(NAME).some((pod) => this.ownerOf(pod) === ref.name && !isGoing(pod))) {
        throw this.failed(`removes ${ref.name}, which has pods`);
      }
      this.sets.delete(ref.name);
      this.#queued = true;
    }
    this.#tell(plan);
    if (plan.status === undefined || JSON.stringify(plan.status) === JSON.stringify(this.object.status)) return;
    this.#queued = true;
    if (this.losesStatus()) {
      this.log.push('    (the operator ends before it writes the status)');
      return;
    }
    this.object = { ...this.object, status: plan.status };
    this.statuses++;
  }

  #apply(object: KubeObject): void {
    const { name } = object.metadata;
    if (object.kind === 'Service') {
      const known = JSON.stringify(this.#services.get(name));
      const service = object as KubeObject & { spec: object };
      const made = { ...service, spec: { ...service.spec, clusterIP: '10.0.0.9' } } as ServiceObject;
      this.#services.set(name, made);
      if (JSON.stringify(made) !== known) this.#queued = true;
    }
    if (object.kind !== 'ReplicaSet' || this.sets.has(name)) return;
    const set = object as ReplicaSetObject & { metadata: { name: string } };
    this.putSet({ ...set, metadata: { ...set.metadata, uid: `${name}-uid` }, status: { replicas: 0 } });
    this.writes++;
  }

  #patch({ target, patch }: PatchIntent): void {
    if (target.kind === 'Pod') {
      const pod = this.pods.objects.get(target.name);
      if (pod !== undefined) this.putPod(merge(pod, patch) as PodObject);
    } else if (target.kind === 'ReplicaSet') {
      const set = found(this.sets.get(target.name));
      if ((patch as { spec?: { replicas?: number } }).spec?.replicas !== undefined) this.writes++;
      this.putSet(merge(set, patch) as ReplicaSetObject);
    }
  }

  /** Pods that clients come to, and those that get a part of what comes there. */
  #reachable(): { readonly open: PodObject[]; readonly passed: PodObject[] } {
    const selector = this.#services.get(NAME)?.spec?.selector ?? {};
    const serving = this.podsOf(NAME).filter((pod) => isReady(pod) && !isGoing(pod));
    const open = serving.filter((pod) =>
      Object.entries(selector).every(([key, value]) => pod.metadata?.labels?.[key] === value),
    );
    const targets = new Set(open.flatMap((pod) => this.#setting(pod)?.revision ?? []));
    const passed = serving.filter(
      (pod) => !open.includes(pod) && targets.has(pod.metadata?.labels?.[labels.revision] ?? ''),
    );
    return { open, passed };
  }

  #setting(pod: PodObject): TrafficSetting | undefined {
    const text = pod.metadata?.annotations?.[annotations.traffic];
    const setting = text === undefined ? {} : (JSON.parse(text) as Partial<TrafficSetting>);
    return setting.weight === undefined ? undefined : (setting as TrafficSetting);
  }

  /** A step of the operator takes a pod from users only where enough others are left. */
  #checkServed(before: { open: PodObject[]; passed: PodObject[] }, plan: DeploymentPlan): void {
    const { replicas = 1, strategy } = this.object.spec;
    if (replicas === 0 || strategy?.type === 'Recreate') return;
    const { maxUnavailable, mayYield } = resolveBounds(replicas, strategy?.maxSurge, strategy?.maxUnavailable);
    const sets = this.setsOf(NAME);
    // What a set was told to have counts already: its controller may do so at any time.
    const kept = (pods: readonly PodObject[]) =>
      sets.reduce((sum, set) => {
        const own = pods.filter((pod) => this.ownerOf(pod) === set.metadata?.name).length;
        return sum + Math.min(own, set.spec?.replicas ?? 0);
      }, 0);
    const takenBack = plan.status?.conditions?.some(({ type }) => type === 'RolledBack') === true;
    const was = before.open.length + (takenBack ? 0 : before.passed.length);
    const now = this.#reachable();
    const is = kept(now.open) + (takenBack ? 0 : kept(now.passed));
    const must = mayYield && this.isShort ? replicas - 1 : replicas - maxUnavailable;
    if (is < was && is < must) throw this.failed(`${is} pods serve users, ${must} must`);
  }

  /** Devices are short: one pod may have to go before the next one comes. */
  isShort = false;

  #checkPlan(plan: DeploymentPlan, sets: readonly ReplicaSetObject[]): void {
    const { replicas = 1, strategy } = this.object.spec;
    const sizes = new Map(
      (plan.patch ?? []).map(({ target, patch }) => [
        target.name,
        (patch as { spec?: { replicas?: number } }).spec?.replicas,
      ]),
    );
    const now = (set: ReplicaSetObject) => set.spec?.replicas ?? 0;
    const then = (set: ReplicaSetObject) => sizes.get(set.metadata?.name ?? '') ?? now(set);
    const made = plan.apply.filter(({ kind, metadata }) => kind === 'ReplicaSet' && !this.sets.has(metadata.name));
    const more = made.reduce((sum, set) => sum + ((set as ReplicaSetObject).spec?.replicas ?? 0), 0);
    const total = more + sets.reduce((sum, set) => sum + Math.max(then(set), set.status?.replicas ?? 0), 0);
    const allowed = replicas + this.#surge(replicas);
    const grows = more > 0 || sets.some((set) => then(set) > now(set));
    if (this.#capped && grows && total > allowed) throw this.failed(`${total} pods, ${allowed} may be`);
    this.#capped ||= total <= allowed;
    if (strategy?.type === 'Recreate' && grows) {
      const growing = sets.filter((set) => then(set) > now(set)).map((set) => revisionOf(set));
      const coming = new Set([...growing, ...made.map((set) => set.metadata.labels?.[labels.revision] ?? '')]);
      const others = this.podsOf(NAME).filter((pod) => !coming.has(pod.metadata?.labels?.[labels.revision] ?? ''));
      if (others.length > 0) throw this.failed('a new pod comes while an old one is there');
    }
    for (const text of this.#sentences(plan.status)) {
      if (/undefined|NaN|Infinity|\[object/.test(text)) throw this.failed(`it says: ${text}`);
    }
    this.#checkSmoke();
  }

  /** Where somebody can serve, somebody does. */
  #checkRest(): void {
    const asksFirst = this.object.spec.strategy?.analysis?.smokeTests !== undefined;
    const able = this.podsOf(NAME).filter((pod) => {
      const revision = pod.metadata?.labels?.[labels.revision] ?? '';
      return isReady(pod) && !isGoing(pod) && (!asksFirst || this.#passed.get(revision) === true);
    });
    if (able.length > 0 && this.#reachable().open.length === 0) throw this.failed('pods could serve, and none does');
  }

  #surge(replicas: number): number {
    const { strategy } = this.object.spec;
    const { maxSurge } = resolveBounds(replicas, strategy?.maxSurge, strategy?.maxUnavailable);
    if (strategy?.maxSurge !== undefined && strategy.maxSurge !== 'Auto') return maxSurge;
    if (strategy?.type === 'BlueGreen') return replicas;
    const weights = strategy?.type === 'Canary' ? stepsOf(strategy).map(({ weight }) => weight) : [0];
    return Math.max(1, Math.ceil((replicas * Math.max(...weights)) / 100));
  }

  /** No user comes to a revision that has not passed its smoke tests. */
  #checkSmoke(): void {
    if (this.object.spec.strategy?.analysis?.smokeTests === undefined) return;
    const { open, passed } = this.#reachable();
    for (const pod of [...open, ...passed]) {
      const revision = pod.metadata?.labels?.[labels.revision] ?? '';
      if (this.#passed.get(revision) !== true && !this.trusted.has(this.letter(revision))) {
        throw this.failed(`users come to ${this.letter(revision)}, which has not passed its smoke tests`);
      }
    }
  }

  /** Revisions from before there were smoke tests, or that a person chose. */
  readonly trusted = new Set<string>();

  #sentences(status: SLMDeploymentStatus | undefined): string[] {
    return [
      status?.statusText ?? '',
      status?.rollout?.message ?? '',
      status?.lastRollback?.message ?? '',
      ...(status?.conditions ?? []).map(({ message }) => message ?? ''),
      ...(status?.blockedBy ?? []).map(({ message }) => message),
    ];
  }

  override moves(): (() => void)[] {
    const moves: (() => void)[] = this.#queued ? [() => this.reconcile()] : [];
    const candidate = this.status.rollout?.revision;
    const tests = this.object.spec.strategy?.analysis?.smokeTests;
    if (tests !== undefined && candidate !== undefined && this.#passed.get(candidate) === undefined) {
      const isThere = this.podsOf(NAME).some(
        (pod) => isReady(pod) && pod.metadata?.labels?.[labels.revision] === candidate,
      );
      if (isThere) {
        moves.push(() => {
          this.#passed.set(candidate, this.qualityOf(candidate).failsSmoke !== true);
          this.#queued = true;
        });
      }
    }
    // The kubelet brings the annotation into the pod, the server reads it, the operator asks the server.
    for (const pod of this.podsOf(NAME)) {
      const uid = pod.metadata?.uid ?? '';
      const setting = this.#setting(pod);
      if (!isReady(pod) || JSON.stringify(setting) === JSON.stringify(this.#passing.get(uid))) continue;
      moves.push(() => {
        this.#passing.set(uid, setting);
        this.#queued = true;
      });
    }
    return [...moves, ...super.moves()];
  }

  /** Until nothing moves any more. `until`: a moment at which the test goes on. */
  settle(choose: Choose, { until = Number.POSITIVE_INFINITY, steps = 20_000 } = {}): this {
    for (let step = 0; step < steps; step++) {
      const moves = this.moves();
      if (moves.length > 0) {
        moves[choose(moves.length)]?.();
        continue;
      }
      this.#checkRest();
      if (this.clock.advanceToNext()) continue;
      const next = Math.min(this.#wakeAt ?? Number.POSITIVE_INFINITY, this.#wakeGates);
      if (next > until || next === Number.POSITIVE_INFINITY) {
        if (until !== Number.POSITIVE_INFINITY) this.clock.advance(Math.max(0, until - this.clock.now()));
        return this;
      }
      this.clock.advance(Math.max(0, next - this.clock.now()));
      this.#wakeGates = Number.POSITIVE_INFINITY;
      this.#queued = true;
    }
    if (steps < 20_000) return this;
    throw this.failed('no end after 20000 steps');
  }

  /** As people would tell it. */
  #tell(plan: DeploymentPlan): void {
    const sets = this.setsOf(NAME).filter((set) => (set.spec?.replicas ?? 0) + (set.status?.replicas ?? 0) > 0);
    const decided = sets.map((set) => `${set.metadata?.name} ${set.spec?.replicas} ${stateOf(set)}`);
    const line = sets.map((set) => {
      const pods = this.podsOf(NAME).filter((pod) => this.ownerOf(pod) === set.metadata?.name && !isGoing(pod));
      const { length: ready } = pods.filter(isReady);
      return `${this.letter(revisionOf(set))} ${ready}/${pods.length}→${set.spec?.replicas}${stateOf(set)}`;
    });
    const weights = new Set(
      this.podsOf(NAME)
        .filter((pod) => !isGoing(pod))
        .flatMap((pod) => this.#setting(pod)?.weight ?? []),
    );
    const passes = weights.size === 0 ? '' : `   ${[...weights].join(', ')} % passed on`;
    const said = plan.status?.statusText ?? '';
    const lettered = [...this.#letters].reduce((text, [revision, letter]) => text.replaceAll(revision, letter), said);
    const phase = plan.status?.rollout?.phase;
    // What pods do on their own is not told.
    const told = `${decided.join(' ')}${passes}${phase}${/^[^0-9:]*/.exec(lettered)?.[0]}`;
    if (told === this.#said) return;
    this.#said = told;
    this.log.push(`${this.time().slice(11, 19)} ${line.join('   ')}${passes}\n    ${phase}: ${lettered}`);
  }

  /** Revisions with pods, by letter. */
  running(): Record<string, number> {
    const entries = this.setsOf(NAME)
      .filter((set) => (set.spec?.replicas ?? 0) > 0)
      .map((set) => [this.letter(revisionOf(set)), set.status?.availableReplicas ?? 0]);
    return Object.fromEntries(entries) as Record<string, number>;
  }

  /** Conditions that are True, but for those that say nothing here. */
  summary(): string {
    return (this.status.conditions ?? [])
      .filter(({ type }) => ['Ready', 'Reconciling', 'Stalled', 'Available', 'RolledBack'].includes(type))
      .map(({ type, status, reason }) => `${type}=${status} ${reason}`)
      .join(', ');
  }

  failed(what: string): Error {
    return new Error(`${what}\n${this.log.slice(-24).join('\n')}`);
  }
}
