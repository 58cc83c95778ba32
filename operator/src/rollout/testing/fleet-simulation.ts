/**
 * A fleet of deployments under an SLMRollout, in memory: actors that act in any order, each from what it last saw. Owns the world, the
 * log and the checks of what must hold at every step; the planner and the permission are the real ones.
 */
import type { SLMDeployment, SLMRollout, SLMRolloutSpec } from '@slm-operator/crds';
import { parseDuration } from '../../deployment/quantity.ts';
import type { Choose } from '../../hardware/testing/choices.ts';
import { planRolloutOf } from '../controller.ts';
import { type Adoption, isHeld, permissionOf } from '../permission.ts';
import { isOrdered, selectableOf, waveIndexOf, waveNameOf } from '../selectors.ts';
import type { Member } from '../wave-planner.ts';
import { windowAt } from '../window.ts';

/** One deployment, and how it is. */
interface Served {
  readonly object: SLMDeployment;
  /** Revision of its model that the spec leads to. */
  wanted: string;
  /** What its status says. */
  current: string | undefined;
  update: string;
  state: 'ready' | 'moving' | 'failed' | 'held' | 'back';
  /** Where it moves to. */
  target: string;
  /** Broken by something else than the revision. */
  sick: boolean;
}

export interface FleetOptions {
  readonly spec: SLMRolloutSpec;
  /** By wave label: how many. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Revisions with which some deployments fail, by key. */
  readonly faults?: Readonly<Record<string, readonly string[]>>;
  /** Milliseconds since 1970. */
  readonly now?: number;
}

/** Each step is so long. Milliseconds. */
const STEP_MS = 60_000;

export class FleetSimulation {
  readonly log: string[] = [];
  readonly fleet = new Map<string, Served>();
  rollout: SLMRollout;
  now: number;
  /** Status versions that actors may still see. */
  readonly #seen: SLMRollout[] = [];
  readonly #faults: Map<string, Set<string>>;
  /** By wave: when the last of its deployments became well. */
  readonly #wellSince = new Map<number, number>();
  writes = 0;

  constructor({ spec, sizes, faults = {}, now = Date.parse('2026-11-23T12:00:00Z') }: FleetOptions) {
    this.now = now;
    this.#faults = new Map(Object.entries(faults).map(([key, revisions]) => [key, new Set(revisions)]));
    this.rollout = {
      apiVersion: 'slm.dev/v1alpha1',
      kind: 'SLMRollout',
      metadata: { name: 'fleet', generation: 1, uid: 'u' },
      spec,
    };
    for (const [wave, size] of Object.entries(sizes)) {
      for (let index = 1; index <= size; index++) {
        const name = `d${index}`;
        const object: SLMDeployment = {
          apiVersion: 'slm.dev/v1alpha1',
          kind: 'SLMDeployment',
          metadata: { name, namespace: wave, labels: { wave } },
          spec: { modelRef: { name: 'm' } },
        };
        this.fleet.set(`${wave}/${name}`, {
          object,
          wanted: 'r1',
          current: 'r1',
          update: 'r1',
          state: 'ready',
          target: 'r1',
          sick: false,
        });
      }
    }
    this.#seen.push(this.rollout);
  }

  /** One commit for these; all by default. */
  commit(revision: string, keys: Iterable<string> = this.fleet.keys()): void {
    this.log.push(`commit ${revision}`);
    for (const key of keys) this.#of(key).wanted = revision;
  }

  change(change: Partial<SLMRolloutSpec>): void {
    this.log.push(`spec ${JSON.stringify(change)}`);
    const { metadata, spec } = this.rollout;
    const generation = (metadata.generation ?? 0) + 1;
    this.#store({ ...this.rollout, metadata: { ...metadata, generation }, spec: { ...spec, ...change } });
  }

  annotateRetry(value: string): void {
    this.log.push(`retry ${value}`);
    const { metadata } = this.rollout;
    this.#store({ ...this.rollout, metadata: { ...metadata, annotations: { 'slm.dev/retry': value } } });
  }

  /** Faults end: what is tried again goes well. */
  heal(): void {
    this.#faults.clear();
    for (const served of this.fleet.values()) served.sick = false;
  }

  makeSick(key: string): void {
    this.#of(key).sick = true;
  }

  /** Lets one actor act, chosen at random, and time go on. */
  step(choose: Choose): void {
    const keys = [...this.fleet.keys()];
    const actor = choose(keys.length + Math.ceil(keys.length / 2));
    const key = keys[actor];
    if (key === undefined) this.#plan();
    else this.#act(key, choose);
    this.now += choose(3) === 0 ? STEP_MS : 0;
  }

  /** Everybody acts in turn until nothing changes but the clock, and that changes nothing either. */
  settle(most = 400): void {
    let idle = 0;
    for (let round = 0; idle < 3; round++) {
      if (round > most) throw new Error(`it does not end:\n${this.log.slice(-40).join('\n')}`);
      const before = this.#text();
      this.#plan();
      for (const key of this.fleet.keys()) this.#act(key, () => 0);
      this.now += STEP_MS;
      const again = planRolloutOf(this.rollout, { members: this.members(), elsewhere: new Map() }, this.now).outcome;
      const later = again.outcome === 'waiting' ? again.requeueAfter : undefined;
      // Far ahead is nothing to wait for here: a window, a long soak.
      if (later !== undefined && later < 26 * 3_600_000) this.now += later;
      idle = this.#text() === before && later === undefined ? idle + 1 : 0;
    }
  }

  members(): Member[] {
    return [...this.fleet].flatMap(([key, served]) => {
      const selectable = selectableOf(served.object, {});
      if (!isOrdered(this.rollout.spec, selectable)) return [];
      const isAbout = served.update === served.wanted;
      return {
        key,
        wave: waveIndexOf(this.rollout.spec, selectable),
        current: served.current,
        wanted: served.wanted,
        held: isHeld(this.rollout, adoption(served)),
        approvals: [served.wanted],
        settling: false,
        ready: isAbout && served.state === 'ready' && !served.sick,
        failure: isAbout && served.state === 'failed' ? `no pod of ${served.wanted} gets ready` : undefined,
      };
    });
  }

  /** `wave: revisions` of all, for assertions. */
  summary(): Record<string, string> {
    const waves = new Map<string, Map<string, number>>();
    for (const { object, current } of this.fleet.values()) {
      const counts = waves.get(object.metadata.namespace ?? '') ?? new Map<string, number>();
      counts.set(current ?? '-', (counts.get(current ?? '-') ?? 0) + 1);
      waves.set(object.metadata.namespace ?? '', counts);
    }
    const text = (counts: ReadonlyMap<string, number>) =>
      [...counts]
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(([revision, count]) => `${count}×${revision}`)
        .join(' ');
    return Object.fromEntries([...waves].map(([wave, counts]) => [wave, text(counts)]));
  }

  states(): string {
    return (this.rollout.status?.waves ?? []).map(({ name, state }) => `${name} ${state}`).join(', ');
  }

  /** The rollout controller, which knows its own writes. */
  #plan(): void {
    const members = this.members();
    const before = this.rollout;
    const { status, notes } = planRolloutOf(before, { members, elsewhere: new Map() }, this.now);
    const again = planRolloutOf(before, { members, elsewhere: new Map() }, this.now);
    if (JSON.stringify(again.status) !== JSON.stringify(status))
      throw new Error('the plan is not a function of its input');
    if (status === undefined) throw new Error('a plan without a status');
    this.#check(before, members, status);
    for (const note of notes) this.log.push(note);
    if (JSON.stringify(before.status) === JSON.stringify(status)) return;
    const line = `${status.statusText}`;
    if (line !== before.status?.statusText) this.log.push(`status: ${line}`);
    this.writes++;
    this.#store({ ...before, status });
  }

  #store(rollout: SLMRollout): void {
    this.rollout = rollout;
    this.#seen.push(rollout);
    if (this.#seen.length > 2) this.#seen.shift();
  }

  /** A deployment's controller, which may not have seen the last status. */
  #act(key: string, choose: Choose): void {
    const served = this.#of(key);
    const rollout = this.#seen.at(-1 - choose(this.#seen.length)) ?? this.rollout;
    const permission = permissionOf({ rollouts: [rollout], namespaceLabels: {} }, served.object, adoption(served));
    served.update = served.wanted;
    if (!permission.allowed) {
      const goal = permission.withdrawn ? (permission.to ?? served.current) : (permission.admitted ?? served.current);
      if (goal === served.current || goal === undefined) {
        served.target = served.current ?? served.wanted;
        served.state = 'held';
        return;
      }
      if (served.target === goal) served.current = goal;
      served.target = goal;
      served.state = 'back';
      return;
    }
    if (served.current === served.wanted) {
      served.state = 'ready';
      served.target = served.wanted;
      return;
    }
    if (served.target !== served.wanted) {
      served.target = served.wanted;
      served.state = 'moving';
      return;
    }
    if (this.#faults.get(key)?.has(served.wanted)) {
      served.state = 'failed';
      return;
    }
    served.state = 'ready';
    served.current = served.wanted;
  }

  /** What must hold of every decision, looked at from outside of the planner. */
  #check(before: SLMRollout, members: readonly Member[], status: NonNullable<SLMRollout['status']>): void {
    const { spec } = before;
    const known = new Map(before.status?.admitted?.map(({ deployment, revision }) => [deployment, revision]));
    const taken = new Set(before.status?.withdrawn?.map(({ deployment }) => deployment));
    const added = (status.admitted ?? []).filter(({ deployment, revision }) => known.get(deployment) !== revision);
    const out = (why: string): never => {
      throw new Error(`${why}\n${this.log.slice(-30).join('\n')}`);
    };
    const isOut = ({ key, failure }: Member) =>
      failure !== undefined ||
      status.admitted?.some((entry) => entry.deployment === key && entry.failure !== undefined);
    for (let wave = 0; wave <= spec.waves.length; wave++) {
      const own = members.filter((member) => member.wave === wave);
      if (own.some((member) => member.held && !isOut(member))) this.#wellSince.delete(wave);
      else if (!this.#wellSince.has(wave) && own.every((member) => member.ready || isOut(member))) {
        this.#wellSince.set(wave, this.now);
      }
    }
    for (const { deployment, revision } of added) {
      const member = members.find(({ key }) => key === deployment) ?? out(`${deployment} is nobody`);
      const name = waveNameOf(spec, member.wave);
      if (member.wanted !== revision) out(`${deployment} was let go to ${revision}, which it does not want`);
      if (spec.paused) out('something began while paused');
      if (windowAt(spec.window, this.now).state !== 'open') out('something began outside of the window');
      if (spec.waves[member.wave]?.requireApproval && !spec.approvedRevisions?.includes(revision)) {
        out(`wave ${name} began without approval`);
      }
      for (const other of members.filter(({ wave }) => wave < member.wave)) {
        if (other.held && !isOut(other)) out(`${deployment} was let go before ${other.key}`);
        if (!other.held && !other.ready && !other.failure && wasLet(status, other)) {
          out(`${deployment} was let go while ${other.key} was not well`);
        }
      }
      for (let wave = 0; wave < member.wave; wave++) {
        const moved = members.some((other) => other.wave === wave && wasLet(status, other));
        const soak = parseDuration(spec.waves[wave]?.soak) ?? 0;
        const since = this.#wellSince.get(wave) ?? this.now;
        if (moved && this.now - since < soak) out(`wave ${name} began before wave ${wave} had soaked`);
      }
      if (taken.has(deployment) && status.withdrawn?.some((entry) => entry.deployment === deployment)) {
        out(`${deployment} was let go and taken back at the same time`);
      }
    }
    for (let wave = 0; wave <= spec.waves.length; wave++) {
      const moving = members.filter(
        (member) => member.wave === wave && wasLet(status, member) && member.held && !isOut(member),
      );
      const most = spec.waves[wave]?.maxParallel ?? Infinity;
      if (added.length > 0 && moving.length > most) out(`${moving.length} of wave ${wave} move at once, ${most} may`);
      const failed = members.filter(
        (member) =>
          member.wave === wave &&
          status.admitted?.some((entry) => entry.deployment === member.key && entry.failure !== undefined),
      );
      if (failed.length > (spec.maxFailed ?? 0) && added.length > 0) out('something began after a wave had failed');
    }
  }

  #text(): string {
    return JSON.stringify([
      this.rollout.status,
      [...this.fleet.values()].map((served) => ({ ...served, object: undefined })),
    ]);
  }

  #of(key: string): Served {
    const served = this.fleet.get(key);
    if (served === undefined) throw new Error(`there is no ${key}`);
    return served;
  }
}

function wasLet(status: NonNullable<SLMRollout['status']>, { key, wanted }: Member): boolean {
  return status.admitted?.some(({ deployment, revision }) => deployment === key && revision === wanted) ?? false;
}

function adoption({ wanted, current }: Served): Adoption {
  const makings = (revision: string) => ({ revision, model: revision, digests: [revision] });
  return { wanted: makings(wanted), current: current === undefined ? undefined : makings(current) };
}
