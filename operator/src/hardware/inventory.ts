/**
 * What is free on every node: allocatable less what bound pods take, less what was promised to deployments whose pods have no node
 * yet. Kept up to date by events, so that a look costs nothing. Owns the promises and who is woken by what; judges no fit.
 */
import type { NodeDevice } from '@slm-operator/crds';
import type { SLMNodeCache } from '../execution/kinds.ts';
import type { Node, ObjectOf, Pod } from '../kube/resource.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Store } from '../runtime/store.ts';
import { type BoundPod, boundPod, isSamePod } from './all-pods.ts';
import { type Amounts, addTo, sameAmounts } from './amounts.ts';
import { type Facts, factsOf, isPlacementChange, sameFacts } from './node-facts.ts';
import type { NodeStock } from './node-hardware.ts';

type NodeObject = ObjectOf<typeof Node>;
type PodObject = ObjectOf<typeof Pod>;
type CacheObject = ObjectOf<typeof SLMNodeCache>;

/** Pods of one tier that a deployment is to have. */
export interface Expectation {
  readonly tier: string;
  /** In all, those included that are there. */
  readonly replicas: number;
  /** What one takes. */
  readonly requests: Amounts;
  /** Where they may go. */
  readonly nodes: readonly string[];
}

/** What a deployment waits for, by resource: `cpu`, `memory`, `nvidia.com/gpu`. */
export interface Interest {
  /** More of it free is worth a look. */
  readonly wants: readonly string[];
  /** Nodes that offer another amount of it are. */
  readonly uses: readonly string[];
}

export interface Inventory {
  /**
   * All nodes. The same array until something changes.
   * @param key `namespace/name` of a deployment: what was promised to it is not taken off
   */
  nodes(key?: string): readonly NodeStock[];
  /** What a deployment is to have from now on, in place of what was said before. Its pods that have no node are kept a place for. */
  expect(key: string, expected: readonly Expectation[]): void;
  /** When to wake a deployment, in place of what was said before. */
  interest(key: string, interest: Interest): void;
  /** A deployment is gone: nothing is promised to it any more. */
  forget(key: string): void;
  /** Calls back with the keys of deployments that are worth a look, a moment after the change. Answers a function that ends it. */
  onWake(handler: (key: string) => void): () => void;
}

export interface InventoryOptions {
  readonly nodes: Pick<Store<NodeObject>, 'subscribe'>;
  /** Of all pods: see `all-pods.ts`. */
  readonly pods: Pick<Store<PodObject>, 'subscribe'>;
  readonly caches: Pick<Store<CacheObject>, 'subscribe'>;
  readonly clock: Clock;
}

/** Many pods end together; one look after them is enough. Milliseconds. */
const DEBOUNCE_MS = 200;
/** With many deployments waiting, looks come more seldom: this much later for each that was woken the last time. Milliseconds. */
const DEBOUNCE_EACH_MS = 2;

export function makeInventory(options: InventoryOptions): Inventory {
  return new ClusterInventory(options);
}

interface NodeEntry {
  facts: Facts;
  readonly used: Record<string, number>;
  readonly promised: Record<string, number>;
  stock: NodeStock | undefined;
}

interface PromiseEntry extends Expectation {
  /** Of `requests`, what is more than nothing. */
  readonly entries: readonly (readonly [resource: string, amount: number])[];
  /** Pods by node that places are kept for. */
  readonly placed: Map<string, number>;
}

class ClusterInventory implements Inventory {
  readonly #clock: Clock;
  readonly #nodes = new Map<string, NodeEntry>();
  readonly #pods = new Map<string, BoundPod>();
  /** Of nodes that are not known (yet). */
  readonly #strays = new Map<string, Record<string, number>>();
  readonly #devices = new Map<string, readonly NodeDevice[]>();
  /** Bound pods by deployment and tier. */
  readonly #bound = new Map<string, number>();
  readonly #promises = new Map<string, readonly PromiseEntry[]>();
  readonly #interests = new Map<string, Interest>();
  readonly #handlers = new Set<(key: string) => void>();
  /** Nodes that changed since the last wake, as they were then. */
  readonly #dirty = new Map<string, NodeStock | undefined>();
  #all: readonly NodeStock[] | undefined;
  #timer: { cancel(): void } | undefined;
  #wokenLast = 0;

  constructor({ nodes, pods, caches, clock }: InventoryOptions) {
    this.#clock = clock;
    caches.subscribe(({ type, object }) =>
      this.#onDevices(object.metadata?.name ?? '', type === 'delete' ? [] : (object.status?.devices ?? [])),
    );
    nodes.subscribe(({ type, object }) => (type === 'delete' ? this.#onNodeGone(object) : this.#onNode(object)));
    pods.subscribe(({ type, key, object }) => this.#onPod(key, type === 'delete' ? undefined : object));
  }

  nodes(key?: string): readonly NodeStock[] {
    this.#all ??= Array.from(this.#nodes.values(), stockOf);
    const own = key === undefined ? undefined : this.#promises.get(key);
    if (own === undefined || own.every(({ placed }) => placed.size === 0)) return this.#all;
    const back = new Map<string, Record<string, number>>();
    for (const { placed, requests } of own) {
      for (const [node, pods] of placed) {
        const sum = back.get(node) ?? {};
        addTo(sum, requests, pods);
        back.set(node, sum);
      }
    }
    return this.#all.map((node) => {
      const more = back.get(node.name);
      if (more === undefined) return node;
      const free = { ...node.free };
      addTo(free, more);
      return { ...node, free };
    });
  }

  expect(key: string, expected: readonly Expectation[]): void {
    const before = this.#promises.get(key) ?? [];
    if (isSame(before, expected)) {
      this.#replace(key);
      return;
    }
    for (const promise of before) this.#release(promise);
    if (expected.length === 0) {
      this.#promises.delete(key);
      return;
    }
    const promises = expected.map((expectation) => ({
      ...expectation,
      entries: Object.entries(expectation.requests).filter(([, amount]) => amount > 0),
      placed: new Map<string, number>(),
    }));
    this.#promises.set(key, promises);
    for (const promise of promises) this.#place(key, promise);
  }

  interest(key: string, interest: Interest): void {
    if (interest.wants.length === 0 && interest.uses.length === 0) this.#interests.delete(key);
    else this.#interests.set(key, interest);
  }

  forget(key: string): void {
    this.expect(key, []);
    this.#interests.delete(key);
  }

  onWake(handler: (key: string) => void): () => void {
    this.#handlers.add(handler);
    return () => {
      this.#handlers.delete(handler);
    };
  }

  #onNode(node: NodeObject): void {
    const name = node.metadata?.name ?? '';
    const facts = factsOf(node, this.#devices.get(name) ?? []);
    const entry = this.#nodes.get(name);
    if (entry === undefined) {
      this.#touch(name, undefined);
      const used = this.#strays.get(name) ?? {};
      this.#strays.delete(name);
      this.#nodes.set(name, { facts, used, promised: {}, stock: undefined });
      this.#replaceUnplaced();
      return;
    }
    // Heartbeats and image lists change a Node all the time; what counts here seldom does.
    if (sameFacts(entry.facts, facts)) return;
    this.#touch(name, entry);
    entry.facts = facts;
    this.#relieve(name, entry);
  }

  #onNodeGone(node: NodeObject): void {
    const name = node.metadata?.name ?? '';
    const entry = this.#nodes.get(name);
    if (entry === undefined) return;
    this.#touch(name, entry);
    this.#nodes.delete(name);
    this.#strays.set(name, entry.used);
    this.#moveAwayFrom(name);
  }

  #onDevices(name: string, devices: readonly NodeDevice[]): void {
    if (JSON.stringify(this.#devices.get(name) ?? []) === JSON.stringify(devices)) return;
    this.#devices.set(name, devices);
    const entry = this.#nodes.get(name);
    if (entry === undefined) return;
    this.#touch(name, entry);
    entry.facts = { ...entry.facts, devices };
  }

  #onPod(podKey: string, pod: PodObject | undefined): void {
    const before = this.#pods.get(podKey);
    const after = pod === undefined ? undefined : boundPod(pod);
    if (before === undefined && after === undefined) return;
    if (before !== undefined && after !== undefined && isSamePod(before, after)) return;
    if (before !== undefined) this.#count(before, -1);
    if (after === undefined) this.#pods.delete(podKey);
    else {
      this.#pods.set(podKey, after);
      this.#count(after, 1);
    }
    for (const entry of [before, after]) if (entry?.key !== undefined) this.#replace(entry.key);
    const node = after === undefined ? undefined : this.#nodes.get(after.node);
    if (after !== undefined && node !== undefined) this.#relieve(after.node, node);
  }

  #count(pod: BoundPod, times: 1 | -1): void {
    const entry = this.#nodes.get(pod.node);
    if (entry === undefined) {
      const sum = this.#strays.get(pod.node) ?? {};
      addTo(sum, pod.requests, times);
      this.#strays.set(pod.node, sum);
    } else {
      this.#touch(pod.node, entry);
      addTo(entry.used, pod.requests, times);
    }
    if (pod.key === undefined) return;
    const key = boundKey(pod.key, pod.tier);
    const bound = (this.#bound.get(key) ?? 0) + times;
    if (bound === 0) this.#bound.delete(key);
    else this.#bound.set(key, bound);
  }

  /** Keeps places anew for what a deployment still waits for. */
  #replace(key: string): void {
    for (const promise of this.#promises.get(key) ?? []) this.#place(key, promise);
  }

  /** Brings a promise to as many places as its pods that have no node, where there are so many. */
  #place(key: string, promise: PromiseEntry): void {
    const bound = this.#bound.get(boundKey(key, promise.tier)) ?? 0;
    let missing = Math.max(0, promise.replicas - bound);
    for (const [node, pods] of promise.placed) {
      const kept = Math.min(pods, missing);
      missing -= kept;
      if (kept < pods) this.#promise(promise, node, kept - pods);
    }
    if (missing === 0 || promise.nodes.length === 0) return;
    // Each deployment begins elsewhere, as the scheduler spreads them too.
    const start = hashOf(key) % promise.nodes.length;
    for (let index = 0; index < promise.nodes.length && missing > 0; index++) {
      const name = promise.nodes[(start + index) % promise.nodes.length] ?? '';
      const entry = this.#nodes.get(name);
      if (entry === undefined || !entry.facts.ready || entry.facts.cordoned || entry.facts.deleted) continue;
      const fitting = Math.min(missing, slotsIn(stockOf(entry), promise.entries));
      if (fitting === 0) continue;
      missing -= fitting;
      this.#promise(promise, name, fitting);
    }
  }

  #promise(promise: PromiseEntry, node: string, pods: number): void {
    const now = (promise.placed.get(node) ?? 0) + pods;
    if (now === 0) promise.placed.delete(node);
    else promise.placed.set(node, now);
    const entry = this.#nodes.get(node);
    if (entry === undefined) return;
    this.#touch(node, entry);
    addTo(entry.promised, promise.requests, pods);
  }

  #release(promise: PromiseEntry): void {
    for (const [node, pods] of promise.placed) this.#promise(promise, node, -pods);
  }

  /** Others took what was promised there: the promises move elsewhere, where there is room. */
  #relieve(name: string, entry: NodeEntry): void {
    const { free, ready, cordoned } = stockOf(entry);
    const usable = ready && !cordoned;
    if (
      usable &&
      Object.entries(entry.promised).every(([resource, amount]) => amount <= 0 || (free[resource] ?? 0) >= 0)
    )
      return;
    if (Object.values(entry.promised).every((amount) => amount <= 0)) return;
    this.#moveAwayFrom(name);
  }

  #moveAwayFrom(name: string): void {
    for (const [key, promises] of this.#promises) {
      for (const promise of promises) {
        const pods = promise.placed.get(name);
        if (pods === undefined) continue;
        this.#promise(promise, name, -pods);
        this.#place(key, promise);
      }
    }
  }

  /** A new node may hold what had no place. */
  #replaceUnplaced(): void {
    for (const key of this.#promises.keys()) this.#replace(key);
  }

  #touch(name: string, entry: NodeEntry | undefined): void {
    if (!this.#dirty.has(name)) this.#dirty.set(name, entry === undefined ? undefined : stockOf(entry));
    if (entry !== undefined) entry.stock = undefined;
    this.#all = undefined;
    if (this.#timer !== undefined) return;
    const pause = DEBOUNCE_MS + DEBOUNCE_EACH_MS * this.#wokenLast;
    this.#timer = this.#clock.schedule(pause, () => this.#wake());
  }

  #wake(): void {
    this.#timer = undefined;
    // What came free belongs first to pods that are promised and wait.
    this.#replaceUnplaced();
    const freed = new Set<string>();
    const changed = new Set<string>();
    let placement = false;
    for (const [name, before] of this.#dirty) {
      const entry = this.#nodes.get(name);
      const after = entry === undefined ? undefined : stockOf(entry);
      placement ||= isPlacementChange(before, after);
      for (const resource of new Set([
        ...Object.keys(before?.allocatable ?? {}),
        ...Object.keys(after?.allocatable ?? {}),
      ])) {
        if ((after?.free[resource] ?? 0) > (before?.free[resource] ?? 0)) freed.add(resource);
        if ((after?.allocatable[resource] ?? 0) !== (before?.allocatable[resource] ?? 0)) changed.add(resource);
      }
    }
    this.#dirty.clear();
    const keys: string[] = [];
    for (const [key, { wants, uses }] of this.#interests) {
      const has = (resource: string) => freed.has(resource) || changed.has(resource);
      if (wants.length > 0 && (placement || wants.some(has))) keys.push(key);
      else if (uses.some((resource) => changed.has(resource))) keys.push(key);
    }
    this.#wokenLast = keys.length;
    for (const handler of this.#handlers) for (const key of keys) handler(key);
  }
}

function stockOf(entry: NodeEntry): NodeStock {
  if (entry.stock === undefined) {
    const free: Record<string, number> = { ...entry.facts.allocatable };
    addTo(free, entry.used, -1);
    addTo(free, entry.promised, -1);
    entry.stock = { ...entry.facts, free, facts: entry.facts };
  }
  return entry.stock;
}

function boundKey(key: string, tier: string | undefined): string {
  return `${key} ${tier}`;
}

function isSame(before: readonly PromiseEntry[], after: readonly Expectation[]): boolean {
  return (
    before.length === after.length &&
    after.every((expectation, index) => {
      const promise = before[index];
      return (
        promise !== undefined &&
        promise.tier === expectation.tier &&
        promise.replicas === expectation.replicas &&
        sameAmounts(promise.requests, expectation.requests) &&
        promise.nodes.length === expectation.nodes.length &&
        promise.nodes.every((node, at) => node === expectation.nodes[at])
      );
    })
  );
}

/** Pods with these requests that fit into what is free. */
function slotsIn(node: NodeStock, entries: PromiseEntry['entries']): number {
  let slots = Number.MAX_SAFE_INTEGER;
  for (const [name, amount] of entries) {
    // A node that does not say what it has of cpu and memory has not reported yet; devices it must offer.
    if (node.allocatable[name] === undefined && !name.includes('/')) continue;
    slots = Math.min(slots, Math.floor((node.free[name] ?? 0) / amount));
    if (slots <= 0) return 0;
  }
  return slots;
}

function hashOf(text: string): number {
  let hash = 0;
  for (let index = 0; index < text.length; index++) hash = (hash * 31 + text.charCodeAt(index)) >>> 0;
  return hash;
}
