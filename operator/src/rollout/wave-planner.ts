/**
 * In which wave who may move: from what the deployments are at to who is admitted, who goes back, and where each wave stands. Pure and
 * level-based: it keeps nothing but what the status says, so a restart, a missed event or another commit in the middle changes nothing but
 * the next answer. Words for conditions are `rollout-status.ts`'s.
 */
import type { SLMRolloutSpec, SLMRolloutStatus, WaveState } from '@slm-operator/crds';
import { parseDuration } from '../deployment/quantity.ts';
import { waveNameOf } from './selectors.ts';

/** One deployment that the rollout orders. */
export interface Member {
  /** `namespace/name`. */
  readonly key: string;
  /** Index of its wave; the number of waves for the others. */
  readonly wave: number;
  /** Revision that it had when its last rollout ended. */
  readonly current: string | undefined;
  /** Revision that its spec asks for now; undefined while its model has none to serve. */
  readonly wanted: string | undefined;
  /** Getting there takes this rollout's permission. */
  readonly held: boolean;
  /** What of spec.approvedRevisions lets it through a wave that wants approval; all of them are needed. */
  readonly approvals: readonly string[];
  /** Its model is being looked at, and another revision may come out. */
  readonly settling: boolean;
  /** It says of the wanted revision that all of it serves. */
  readonly ready: boolean;
  /** It says of the wanted revision that it cannot be had, and why. */
  readonly failure: string | undefined;
}

export interface WavesInput {
  readonly spec: SLMRolloutSpec;
  /** As last written. */
  readonly status: SLMRolloutStatus | undefined;
  /** Annotation slm.dev/retry. */
  readonly retry: string | undefined;
  readonly members: readonly Member[];
  /** Whether the window lets anything begin. */
  readonly open: boolean;
  /** Milliseconds since 1970. */
  readonly now: number;
}

type Admitted = NonNullable<SLMRolloutStatus['admitted']>[number];
type Withdrawn = NonNullable<SLMRolloutStatus['withdrawn']>[number];

/** Where a wave stands. */
export interface WavePlan {
  readonly name: string;
  readonly state: WaveState;
  readonly total: number;
  readonly updated: number;
  /** Keys of those that failed. */
  readonly failed: readonly string[];
  /** Keys of those that move. */
  readonly moving: readonly string[];
  /** Keys of those that wait for their turn. */
  readonly waiting: readonly string[];
  /** Keys of those that moved and are not well. */
  readonly unwell: readonly string[];
  /** Whose models are being looked at. */
  readonly settling: readonly string[];
  /** What waits for an approval. */
  readonly unapproved: readonly string[];
  /** Milliseconds since 1970. */
  readonly completedAt: number | undefined;
  /** When its soak ends; milliseconds since 1970. */
  readonly soakedAt: number | undefined;
}

export interface WavesPlan {
  /** Those of the spec, and others where there are any. */
  readonly waves: readonly WavePlan[];
  /** By deployment. */
  readonly admitted: readonly Admitted[];
  readonly withdrawn: readonly Withdrawn[];
  /** Why each deployment failed, by key. */
  readonly failures: ReadonlyMap<string, string>;
  /** Name of the wave that is under way or waits; undefined when nothing is to be done. */
  readonly wave: string | undefined;
  /** Sentences, one a decision. */
  readonly notes: readonly string[];
}

/** Bound of the schema. */
const MAX_ENTRIES = 10_000;
const MAX_FAILURE = 256;

export function planWaves(input: WavesInput): WavesPlan {
  return new WavePlanner(input).plan();
}

interface Draft {
  readonly index: number;
  readonly name: string;
  readonly members: readonly Member[];
  waiting: Member[];
  moving: Member[];
  unwell: Member[];
  done: Member[];
  failed: string[];
  taken: Member[];
  settling: Member[];
  completedAt: number | undefined;
  soakedAt: number | undefined;
  broken: boolean;
  passed: boolean;
}

class WavePlanner {
  readonly #input: WavesInput;
  readonly #admitted = new Map<string, Admitted>();
  readonly #withdrawn = new Map<string, Withdrawn>();
  readonly #failures = new Map<string, string>();
  readonly #notes: string[] = [];

  constructor(input: WavesInput) {
    this.#input = input;
  }

  plan(): WavesPlan {
    const { spec, members, status, retry } = this.#input;
    const again = retry !== status?.retry;
    if (again && status !== undefined) this.#notes.push('annotation slm.dev/retry is new: failures are forgotten');
    const byKey = new Map(members.map((member) => [member.key, member]));
    this.#readEntries(byKey, again);
    const drafts = this.#drafts();
    for (const draft of drafts) this.#judge(draft);
    const broken = drafts.find((draft) => draft.broken);
    if (broken === undefined) {
      // What was taken back along with others is due again.
      if (this.#withdrawn.size > 0) {
        this.#withdrawn.clear();
        this.#notes.push('what was taken back is due again');
        for (const draft of drafts) this.#judge(draft);
      }
    } else this.#takeBack(broken, drafts);
    const waves = this.#advance(drafts, broken);
    this.#forgetWhatIsDone(drafts, byKey);
    const present = waves.find(({ state }) => state !== 'Done');
    return {
      waves: spec.waves.length === waves.length || (waves.at(-1)?.total ?? 0) > 0 ? waves : waves.slice(0, -1),
      admitted: sorted(this.#admitted),
      withdrawn: sorted(this.#withdrawn),
      failures: this.#failures,
      wave: present?.name,
      notes: this.#notes,
    };
  }

  /** What the status says of deployments that are there and still want the same. */
  #readEntries(byKey: ReadonlyMap<string, Member>, again: boolean): void {
    const { admitted = [], withdrawn = [] } = this.#input.status ?? {};
    for (const entry of admitted) {
      const member = byKey.get(entry.deployment);
      if (member === undefined) continue;
      const { failure: before, ...rest } = entry;
      const fresh = isFresh(member, entry.revision);
      // One of before a new commit stays while it may be under way; it lets nobody move to the new one.
      if (!fresh && (member.current === entry.revision || before !== undefined)) continue;
      const failure = !fresh || member.ready ? undefined : (member.failure ?? (again ? undefined : before));
      this.#admitted.set(entry.deployment, failure === undefined ? rest : { ...rest, failure });
      if (failure !== undefined) this.#failures.set(entry.deployment, failure);
    }
    if (again) return;
    for (const entry of withdrawn) {
      const member = byKey.get(entry.deployment);
      if (member === undefined || !isFresh(member, entry.revision)) continue;
      this.#withdrawn.set(entry.deployment, entry);
      this.#admitted.delete(entry.deployment);
      if (entry.failure !== undefined) this.#failures.set(entry.deployment, entry.failure);
    }
  }

  #drafts(): Draft[] {
    const { spec, members } = this.#input;
    return Array.from({ length: spec.waves.length + 1 }, (_, index) => ({
      index,
      name: waveNameOf(spec, index),
      members: members.filter((member) => member.wave === index),
      waiting: [],
      moving: [],
      unwell: [],
      done: [],
      failed: [],
      taken: [],
      settling: [],
      completedAt: undefined,
      soakedAt: undefined,
      broken: false,
      passed: false,
    }));
  }

  /** Sorts the members of a wave by where they are. */
  #judge(draft: Draft): void {
    const { spec, status, now } = this.#input;
    Object.assign(draft, { waiting: [], moving: [], unwell: [], done: [], failed: [], taken: [], settling: [] });
    for (const member of draft.members) {
      const { key, settling, ready, held } = member;
      if (settling) draft.settling.push(member);
      const taken = this.#withdrawn.get(key);
      const entry = this.#admitted.get(key);
      if (taken !== undefined) {
        draft.taken.push(member);
        if (taken.failure !== undefined) draft.failed.push(key);
      } else if (entry === undefined || !isFresh(member, entry.revision)) {
        if (held) draft.waiting.push(member);
      } else if (entry.failure !== undefined) draft.failed.push(key);
      else if (ready) draft.done.push(member);
      else if (member.current === entry.revision) draft.unwell.push(member);
      else draft.moving.push(member);
    }
    const { waiting, moving, unwell, done, failed, settling } = draft;
    draft.broken = failed.length > (spec.maxFailed ?? 0);
    const touched = done.length + unwell.length + failed.length > 0;
    const finished = waiting.length + moving.length + settling.length === 0 && !draft.broken;
    const before = Date.parse(status?.waves?.find(({ name }) => name === draft.name)?.completedAt ?? '');
    const known = Number.isNaN(before) ? undefined : before;
    draft.completedAt = !finished ? undefined : (known ?? (touched && unwell.length === 0 ? now : undefined));
    const soak = parseDuration(spec.waves[draft.index]?.soak) ?? 0;
    draft.soakedAt = touched && draft.completedAt !== undefined ? draft.completedAt + soak : undefined;
    const soaked = draft.soakedAt !== undefined && draft.soakedAt <= now && unwell.length === 0;
    draft.passed = finished && (!touched || soaked);
  }

  #takeBack(broken: Draft, drafts: readonly Draft[]): void {
    const { spec } = this.#input;
    const how = spec.onFailure ?? 'Pause';
    if (how === 'Pause') return;
    const keys = new Set(
      (how === 'RollbackAll' ? drafts : [broken]).flatMap(({ members }) => members.map(({ key }) => key)),
    );
    let count = 0;
    for (const [key, { deployment, revision, from, failure }] of Array.from(this.#admitted)) {
      if (!keys.has(key)) continue;
      this.#admitted.delete(key);
      count++;
      this.#withdrawn.set(key, {
        deployment,
        revision,
        ...(from === undefined ? {} : { to: from }),
        ...(failure === undefined ? {} : { failure }),
      });
    }
    if (count === 0) return;
    this.#notes.push(`wave ${broken.name} failed: ${count} deployments go back`);
    for (const draft of drafts) this.#judge(draft);
  }

  /** Admits whom it is the turn of, and says where each wave is. */
  #advance(drafts: readonly Draft[], broken: Draft | undefined): WavePlan[] {
    let isTurn = broken === undefined;
    return drafts.map((draft) => {
      const unapproved = isTurn && draft.waiting.length > 0 ? this.#unapproved(draft) : [];
      if (isTurn) this.#admit(draft, unapproved);
      const state = this.#stateOf(draft, isTurn, unapproved);
      isTurn &&= draft.passed;
      const keys = (some: readonly Member[]) => some.map(({ key }) => key).toSorted();
      return {
        name: draft.name,
        state,
        total: draft.members.length,
        updated: draft.members.length - draft.waiting.length - draft.moving.length - countOut(draft),
        failed: draft.failed.toSorted(),
        moving: keys(draft.moving),
        waiting: keys(draft.waiting),
        unwell: keys(draft.unwell),
        settling: keys(draft.settling),
        unapproved: [...new Set(unapproved.flatMap((member) => this.#missing(member)))].toSorted(),
        completedAt: draft.completedAt,
        soakedAt: draft.soakedAt,
      };
    });
  }

  #unapproved(draft: Draft): Member[] {
    if (this.#input.spec.waves[draft.index]?.requireApproval !== true) return [];
    return draft.waiting.filter((member) => this.#missing(member).length > 0);
  }

  #missing({ approvals }: Member): string[] {
    const given = this.#input.spec.approvedRevisions ?? [];
    return approvals.filter((name) => !given.includes(name));
  }

  #admit(draft: Draft, unapproved: readonly Member[]): void {
    const { spec, open } = this.#input;
    if (spec.paused === true || !open) return;
    const most = spec.waves[draft.index]?.maxParallel ?? MAX_ENTRIES;
    const room = Math.min(most - draft.moving.length, MAX_ENTRIES - this.#admitted.size);
    const next = draft.waiting
      .filter((member) => !unapproved.includes(member))
      .toSorted((a, b) => (a.key < b.key ? -1 : 1))
      .slice(0, Math.max(0, room));
    for (const { key, wanted, current } of next) {
      if (wanted === undefined) continue;
      const entry = { deployment: key, revision: wanted, ...(current === undefined ? {} : { from: current }) };
      this.#admitted.set(key, entry);
      this.#notes.push(`wave ${draft.name}: ${key} may move to ${wanted}`);
    }
    draft.moving.push(...next);
    draft.waiting = draft.waiting.filter((member) => !next.includes(member));
  }

  #stateOf(draft: Draft, isTurn: boolean, unapproved: readonly Member[]): WaveState {
    const { spec, open } = this.#input;
    const { waiting, moving, settling, unwell, soakedAt, passed, taken } = draft;
    if (taken.length > 0) return 'RolledBack';
    if (draft.broken) return 'Failed';
    if (passed) return 'Done';
    if (moving.length > 0) return 'Running';
    if (waiting.length > 0) {
      if (!isTurn) return 'Waiting';
      if (spec.paused === true) return 'Paused';
      if (unapproved.length === waiting.length) return 'WaitingForApproval';
      return open ? 'Running' : 'WaitingForWindow';
    }
    if (settling.length > 0) return 'Waiting';
    return soakedAt !== undefined && unwell.length === 0 ? 'Soaking' : 'Running';
  }

  /** With the last wave over, what was moved is what is. Failures that are tolerated are remembered while they last. */
  #forgetWhatIsDone(drafts: readonly Draft[], byKey: ReadonlyMap<string, Member>): void {
    if (!drafts.every(({ passed }) => passed)) return;
    for (const [key, entry] of Array.from(this.#admitted)) {
      const member = byKey.get(key);
      if (entry.failure === undefined && member?.current === entry.revision) this.#admitted.delete(key);
    }
  }
}

/** The entry speaks of what the deployment wants now; of one whose model has nothing to serve nobody knows. */
function isFresh({ wanted }: Member, revision: string): boolean {
  return wanted === undefined || wanted === revision;
}

function countOut({ failed, taken }: Draft): number {
  const keys = new Set([...failed, ...taken.map(({ key }) => key)]);
  return keys.size;
}

function sorted<T>(entries: ReadonlyMap<string, T>): T[] {
  return [...entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
}

/** A failure as the status keeps it. */
export function shortFailure(message: string): string {
  return message.length <= MAX_FAILURE ? message : `${message.slice(0, MAX_FAILURE - 1)}…`;
}
