/**
 * Which pod goes when a ReplicaSet shrinks. Kubernetes removes the pod of the lowest deletion cost first, after those that have
 * no node or do not serve; so the chosen ones are marked, and the ReplicaSet shrinks only once the marks were seen. Owns the
 * marks; who is chosen is `promotion.ts`'s and `per-node.ts`'s. Pure.
 */
import { labels } from '@slm-operator/crds';
import { type PatchIntent, refTo } from '../execution/plan.ts';
import { type Observed, type PodObject, type ReplicaSetObject, revisionOf, tierOf } from './observed.ts';
import { isReady } from './pod-causes.ts';
import type { SizeIntent } from './rollout-planner.ts';
import { tierOfPod } from './tier-plan.ts';

const COST = 'controller.kubernetes.io/pod-deletion-cost';
/** Lower than what anybody gives. */
const FIRST_TO_GO = '-1000';

export interface PodsToGo {
  /** Marks to set and to take away. */
  readonly patch: readonly PatchIntent[];
  /** What is to be written now: without those that must wait until the marks were seen. */
  readonly sizes: readonly SizeIntent[];
}

/** Pods of a ReplicaSet that nobody has told to go. */
export function podsOfSet(pods: readonly PodObject[], set: ReplicaSetObject): PodObject[] {
  return pods.filter(
    (pod) =>
      pod.metadata?.deletionTimestamp === undefined &&
      pod.metadata?.labels?.[labels.revision] === revisionOf(set) &&
      tierOfPod(pod) === tierOf(set),
  );
}

/** Marks for exactly these of a set's pods. */
export function marksFor(there: readonly PodObject[], chosen: readonly PodObject[]): PatchIntent[] {
  return there.flatMap((pod) => {
    const wants = chosen.includes(pod);
    if (isMarked(pod) === wants) return [];
    return { target: refTo(pod), patch: { metadata: { annotations: { [COST]: wants ? FIRST_TO_GO : null } } } };
  });
}

function isMarked(pod: PodObject): boolean {
  return pod.metadata?.annotations?.[COST] === FIRST_TO_GO;
}

/** A ReplicaSet of which pods go. */
interface Shrinking {
  readonly set: ReplicaSetObject;
  readonly from: number;
  readonly to: number;
  readonly why: string;
  readonly there: readonly PodObject[];
  /** Those that do not serve go first in any case, and before them those that were not made yet. */
  readonly idle: number;
}

/**
 * Pods of a deployment with one on each node: the first to go are those whose node has another pod that serves, so that every
 * node stays served. How many go is the rollout planner's; of which old revision, it does not matter.
 *
 * @param old names of the ReplicaSets that are left
 */
export function choosePodsByNode(
  { pods, replicaSets, beside = [] }: Pick<Observed, 'pods' | 'replicaSets' | 'beside'>,
  sizes: readonly SizeIntent[],
  old: ReadonlySet<string>,
): PodsToGo {
  const sets = replicaSets.map((set): Shrinking => {
    const { name = '' } = set.metadata ?? {};
    const size = sizes.find((candidate) => candidate.name === name);
    const from = set.spec?.replicas ?? 1;
    const there = podsOfSet(pods, set);
    const idle = from - there.length + there.filter((pod) => !isReady(pod)).length;
    return { set, from, to: size?.to ?? from, why: size?.why ?? '', there, idle: Math.max(0, idle) };
  });
  const kept = sizes.filter(({ name, from, to }) => to >= from || !sets.some(({ set }) => set.metadata?.name === name));
  const shrinking = sets.filter(({ from, to }) => to < from);
  if (shrinking.length === 0) return { patch: [], sizes };
  // What was told to shrink and did not yet will choose by the marks of before.
  if (sets.some(({ from, there }) => there.length > from)) return { patch: [], sizes: kept };

  const choice = new Choice(pods);
  const isOld = ({ set }: Shrinking) => old.has(set.metadata?.name ?? '');
  for (const one of shrinking) if (one.to === 0 && !isOld(one)) choice.goes(...one.there);
  const patch: PatchIntent[] = [];
  const planned: SizeIntent[] = [];
  for (const group of [sets.filter(isOld), ...shrinking.filter((one) => !isOld(one)).map((one) => [one])]) {
    const working = (one: Shrinking) => Math.max(0, one.from - one.to - one.idle);
    const going = group.reduce((sum, one) => sum + working(one), 0);
    // A set with pods that do not serve, and that are to stay for now, could lose none but those.
    const open = group.filter((one) => one.to < one.from || one.idle === 0);
    const chosen = choice.choose(open.flatMap(({ there }) => there).filter(isReady), going);
    const why = group.find(({ to, from }) => to < from)?.why ?? '';
    for (const one of group) {
      const mine = one.there.filter((pod) => chosen.includes(pod));
      const fromIdle = Math.min(one.from - one.to, one.idle);
      const to = one.from - fromIdle - mine.length;
      if (to >= one.from) continue;
      // They are marked as well: one that gets ready in this very moment must not send another one away in its place.
      const unready = one.there.filter((pod) => !isReady(pod));
      const idle = choice.choose(unready, fromIdle - (one.idle - unready.length));
      const all = to === 0 && podsOfSet(beside, one.set).length === 0;
      const marks = all ? [] : marksFor(one.there, [...mine, ...idle]);
      patch.push(...marks);
      if (marks.length === 0) planned.push({ name: one.set.metadata?.name ?? '', from: one.from, to, why });
    }
  }
  return { patch, sizes: [...kept, ...planned] };
}

/** Pods that are chosen one by one, each in view of those before. */
class Choice {
  /** Pods by node that serve and stay. */
  readonly #serving = new Map<string, number>();
  readonly #going = new Set<PodObject>();

  constructor(pods: readonly PodObject[]) {
    for (const pod of pods) if (isServing(pod)) this.#count(pod, 1);
  }

  goes(...pods: readonly PodObject[]): void {
    for (const pod of pods) {
      if (this.#going.has(pod)) continue;
      this.#going.add(pod);
      if (isServing(pod)) this.#count(pod, -1);
    }
  }

  choose(among: readonly PodObject[], count: number): PodObject[] {
    const left = new Set(among.toSorted((a, b) => Number(isMarked(b)) - Number(isMarked(a)) || byName(a, b)));
    const chosen: PodObject[] = [];
    while (chosen.length < count) {
      let next: PodObject | undefined;
      for (const pod of left) {
        next ??= pod;
        if (!this.#isCovered(pod)) continue;
        next = pod;
        break;
      }
      if (next === undefined) break;
      left.delete(next);
      chosen.push(next);
      this.goes(next);
    }
    return chosen;
  }

  #count(pod: PodObject, more: number): void {
    const node = pod.spec?.nodeName ?? '';
    this.#serving.set(node, (this.#serving.get(node) ?? 0) + more);
  }

  /** Its node has another pod that serves, and that stays. */
  #isCovered(pod: PodObject): boolean {
    const own = isServing(pod) && !this.#going.has(pod) ? 1 : 0;
    return (this.#serving.get(pod.spec?.nodeName ?? '') ?? 0) > own;
  }
}

/** Ready, and the Service leads to it. */
function isServing(pod: PodObject): boolean {
  return (
    pod.metadata?.deletionTimestamp === undefined && isReady(pod) && pod.metadata?.labels?.[labels.traffic] !== 'closed'
  );
}

function byName(a: PodObject, b: PodObject): number {
  return (a.metadata?.name ?? '') < (b.metadata?.name ?? '') ? -1 : 1;
}
