/**
 * Nodes with devices, pods, ReplicaSets, a scheduler and kubelets in miniature, moving one small step at a time in any order.
 * Knows nothing of planners.
 */

export interface SimulatedNode {
  readonly name: string;
  /** Devices that the node offers, by tier; `cpu` is how many pods fit beside each other. */
  readonly devices: Record<string, number>;
  /** Cordoned or tainted, for all to see. */
  closed: boolean;
  /** Refuses pods for a reason that nobody can foresee. */
  grudge: boolean;
  /** Tiers whose devices do not work, although they are offered. */
  readonly broken: Set<string>;
}

export interface SimulatedPod {
  /** Its deployment and its set; undefined: somebody else's. */
  readonly owner: string | undefined;
  readonly set: string | undefined;
  readonly tier: string;
  node: SimulatedNode | undefined;
  /** The scheduler found no node. */
  refused: boolean;
  available: boolean;
  idle: boolean;
  going: boolean;
}

export interface SimulatedSet {
  readonly name: string;
  readonly owner: string;
  readonly revision: string;
  readonly tier: string;
  number: number;
  desired: number;
  /** What its status says; follows the pods with delay. */
  current: number;
  available: number;
}

/** The cluster; a simulation puts a controller on it. */
export class SimulatedCluster {
  readonly nodes: SimulatedNode[] = [];
  readonly sets: SimulatedSet[] = [];
  pods: SimulatedPod[] = [];
  /** Whether what ReplicaSets and stores say may be behind. */
  stale = false;

  node(name: string, devices: Record<string, number>): this {
    this.nodes.push({ name, devices: { ...devices }, closed: false, grudge: false, broken: new Set() });
    return this;
  }

  /** Takes a device away, or brings it back; pods that ran on it no longer serve. */
  offer(nodeName: string, tier: string, count: number): void {
    const node = found(this.nodes.find((candidate) => candidate.name === nodeName));
    node.devices[tier] = count;
    const there = this.pods.filter((pod) => pod.node === node && pod.tier === tier);
    for (const pod of there.slice(count)) pod.available = false;
  }

  /** Pods of somebody else take devices. */
  occupy(nodeName: string, tier: string, count: number): void {
    const node = found(this.nodes.find((candidate) => candidate.name === nodeName));
    this.pods = this.pods.filter((pod) => pod.set !== undefined || pod.node !== node || pod.tier !== tier);
    for (let index = 0; index < count; index++) {
      this.pods.push({
        owner: undefined,
        set: undefined,
        tier,
        node,
        refused: false,
        available: true,
        idle: false,
        going: false,
      });
    }
  }

  removeNode(nodeName: string): void {
    const index = this.nodes.findIndex((node) => node.name === nodeName);
    if (index < 0) return;
    const [node] = this.nodes.splice(index, 1);
    this.pods = this.pods.filter((pod) => pod.node !== node);
  }

  /** Pods of a deployment that are there and stay, by tier. */
  placed(name: string): Record<string, number> {
    const placed: Record<string, number> = {};
    for (const pod of this.podsOf(name)) if (!pod.going) placed[pod.tier] = (placed[pod.tier] ?? 0) + 1;
    return placed;
  }

  serving(name: string): number {
    return this.podsOf(name).filter((pod) => pod.available && !pod.going).length;
  }

  podsOf(name: string): SimulatedPod[] {
    return this.pods.filter((pod) => pod.owner === name);
  }

  /** Devices of a tier that a node still has. */
  free(node: SimulatedNode, tier: string, pods: readonly SimulatedPod[] = this.pods): number {
    const used = pods.filter((pod) => pod.node === node && pod.tier === tier).length;
    return Math.max(0, (node.devices[tier] ?? 0) - used);
  }

  /** Devices of a tier that a pod could have now and that no pod waits for. */
  open(tier: string): number {
    const free = this.nodes
      .filter((node) => !node.closed && !node.grudge)
      .reduce((sum, node) => sum + this.free(node, tier), 0);
    return free - this.pods.filter((pod) => pod.tier === tier && pod.node === undefined).length;
  }

  /** The device of a pod is gone or does not work. */
  isBad(node: SimulatedNode, tier: string): boolean {
    const used = this.pods.filter((pod) => pod.node?.name === node.name && pod.tier === tier).length;
    return node.broken.has(tier) || used > (node.devices[tier] ?? 0);
  }

  /** What the cluster could do next. */
  moves(): (() => unknown)[] {
    const moves: (() => unknown)[] = [];
    for (const set of this.sets) {
      const pods = this.pods.filter((pod) => pod.set === set.name && !pod.going);
      const available = pods.filter((pod) => pod.available).length;
      const quota = this.quotaOf(set);
      if (pods.length < set.desired && pods.length < quota) moves.push(() => this.#start(set));
      if (pods.length > set.desired) moves.push(() => this.#stop(set, pods));
      const isBehind = set.current !== pods.length || set.available !== available;
      if (isBehind && !this.stale) Object.assign(set, { current: pods.length, available });
      else if (isBehind) moves.push(() => Object.assign(set, { current: pods.length, available }));
    }
    for (const pod of this.pods) {
      if (pod.going) moves.push(() => this.pods.splice(this.pods.indexOf(pod), 1));
      else if (pod.node === undefined) {
        const node = this.nodes.find((candidate) => this.#takes(candidate, pod.tier));
        if (node !== undefined || !pod.refused)
          moves.push(() => Object.assign(pod, { node, refused: node === undefined }));
      } else if (!pod.available && !this.isBad(pod.node, pod.tier)) {
        moves.push(() => Object.assign(pod, { available: true, idle: true }));
      }
    }
    return moves;
  }

  /** Pods of a set that are let in. */
  protected quotaOf(_set: SimulatedSet): number {
    return Infinity;
  }

  #takes(node: SimulatedNode, tier: string): boolean {
    return !node.closed && !node.grudge && this.free(node, tier) > 0;
  }

  #start(set: SimulatedSet): void {
    const base = { owner: set.owner, set: set.name, tier: set.tier, node: undefined, refused: false };
    this.pods.push({ ...base, available: false, idle: false, going: false });
  }

  /** As the ReplicaSet controller does: those without a node go first, then those that do not serve, then the idle. */
  #stop(_set: SimulatedSet, pods: readonly SimulatedPod[]): void {
    const cost = (pod: SimulatedPod) => (pod.node === undefined ? 0 : !pod.available ? 1 : pod.idle ? 2 : 3);
    const pod = found(pods.toSorted((a, b) => cost(a) - cost(b))[0]);
    if (pod.node === undefined) this.pods.splice(this.pods.indexOf(pod), 1);
    else Object.assign(pod, { going: true, available: false });
  }
}

export function found<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('no such thing in the simulation');
  return value;
}
