/**
 * A cluster in miniature made of real objects: nodes, pods and ReplicaSets, with a scheduler, kubelets and the ReplicaSet
 * controller, which move one small step at a time, in any order. Tests play the rest of the world. Knows no SLMDeployment.
 */
import { labels } from '@slm-operator/crds';
import { requestsOfPod } from '../../hardware/all-pods.ts';
import type { Node, ObjectOf } from '../../kube/resource.ts';
import type { StoreEvent, StoreHandler } from '../../runtime/store.ts';
import { makeManualClock } from '../../runtime/testing/clocks.ts';
import type { PodObject, ReplicaSetObject } from '../observed.ts';
import { isReady } from '../pod-causes.ts';
import { now as start } from './objects.ts';

type NodeObject = ObjectOf<typeof Node>;

/** What of a store the inventory listens to. */
export class Feed<T extends { metadata?: { name?: string | undefined } | undefined }> {
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

const UNSCHEDULED = 'PodScheduled';

/** The cluster; a simulation puts an operator on it. */
export abstract class ObjectCluster {
  readonly clock = makeManualClock(start);
  readonly nodes = new Feed<NodeObject>();
  readonly pods = new Feed<PodObject>();
  readonly sets = new Map<string, ReplicaSetObject>();
  /** `NODE/RESOURCE` whose devices no engine finds. */
  readonly broken = new Set<string>();
  #names = 0;
  #version = 0;

  /** A pod or a ReplicaSet of a deployment changed. */
  protected abstract onChild(deployment: string | undefined): void;

  /** A node changed. */
  protected abstract onNodes(): void;

  /** What becomes of a pod that has its devices: it serves, it never gets ready, or its server ends again and again. */
  protected fateOf(_pod: PodObject): 'serves' | 'hangs' | 'crashes' {
    return 'serves';
  }

  node(name: string, allocatable: Record<string, number>): this {
    const amounts = Object.fromEntries(Object.entries(allocatable).map(([key, amount]) => [key, String(amount)]));
    this.nodes.put({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name },
      status: { allocatable: amounts, capacity: amounts, conditions: [{ type: 'Ready', status: 'True' }] },
    });
    this.onNodes();
    return this;
  }

  changeNode(name: string, change: (node: NodeObject) => NodeObject): void {
    const node = this.nodes.objects.get(name);
    if (node !== undefined) this.nodes.put(change(node));
    this.onNodes();
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
    this.onNodes();
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

  /** What could happen next. */
  moves(): (() => void)[] {
    const moves: (() => void)[] = [];
    for (const set of this.sets.values()) {
      const pods = this.#alive(set);
      const available = pods.filter(isReady).length;
      if (pods.length < (set.spec?.replicas ?? 0)) moves.push(() => this.#start(set));
      if (pods.length > (set.spec?.replicas ?? 0)) moves.push(() => this.#stop(pods));
      if (set.status?.replicas !== pods.length || (set.status.availableReplicas ?? 0) !== available) {
        const status = { replicas: pods.length, readyReplicas: available, availableReplicas: available };
        moves.push(() => this.putSet({ ...found(this.sets.get(set.metadata?.name ?? '')), status }));
      }
    }
    for (const [key, pod] of this.pods.objects) {
      if (this.ownerOf(pod) === undefined) continue;
      const place = this.nodes.objects.get(pod.spec?.nodeName ?? '');
      if (place !== undefined && !isNodeReady(place)) {
        // Its kubelet does nothing, and the node controller says so of its pods.
        if (isReady(pod)) moves.push(() => this.#lose(pod));
      } else if (isGoing(pod)) moves.push(() => this.#removePod(key));
      else if (pod.spec?.nodeName === undefined) {
        const node = this.#placeFor(pod);
        const isTold =
          pod.status?.conditions?.some(({ type, status }) => type === UNSCHEDULED && status === 'False') === true;
        if (node !== undefined) moves.push(() => this.#bind(pod, node));
        else if (!isTold) moves.push(() => this.#refuse(pod));
      } else if (!isReady(pod) && !this.#isBad(pod)) {
        const fate = this.fateOf(pod);
        if (fate === 'serves') moves.push(() => this.#serve(pod));
        if (fate === 'crashes' && restartsOf(pod) < 3) moves.push(() => this.#end(pod));
      } else if (!isReady(pod) && pod.status?.containerStatuses === undefined) moves.push(() => this.#crash(pod));
    }
    return moves;
  }

  #alive(set: ReplicaSetObject): PodObject[] {
    return [...this.pods.objects.values()].filter((pod) => this.ownerOf(pod) === set.metadata?.name && !isGoing(pod));
  }

  ownerOf(pod: PodObject): string | undefined {
    return pod.metadata?.ownerReferences?.[0]?.name;
  }

  #placeFor(pod: PodObject): NodeObject | undefined {
    const takers = [...this.nodes.objects.values()].filter((node) => this.#takes(node, pod));
    const { preferredDuringSchedulingIgnoredDuringExecution: preferred = [] } =
      pod.spec?.affinity?.podAntiAffinity ?? {};
    const nearby = (node: NodeObject) =>
      preferred.reduce(
        (sum, { podAffinityTerm: { labelSelector } }) =>
          sum + this.#podsOn(node).filter((other) => hasLabels(other.metadata, labelSelector?.matchLabels)).length,
        0,
      );
    return preferred.length === 0 ? takers[0] : takers.toSorted((a, b) => nearby(a) - nearby(b))[0];
  }

  #podsOn(node: NodeObject): PodObject[] {
    return [...this.pods.objects.values()].filter((pod) => pod.spec?.nodeName === node.metadata?.name);
  }

  #takes(node: NodeObject, pod: PodObject): boolean {
    if (node.spec?.unschedulable === true || !isNodeReady(node)) return false;
    if (!hasLabels(node.metadata, pod.spec?.nodeSelector)) return false;
    const used = this.#podsOn(node);
    const { requiredDuringSchedulingIgnoredDuringExecution: required = [] } = pod.spec?.affinity?.podAntiAffinity ?? {};
    if (
      required.some(({ labelSelector }) => used.some((other) => hasLabels(other.metadata, labelSelector?.matchLabels)))
    )
      return false;
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
    this.putPod({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        ...metadata,
        name,
        namespace: 'demo',
        uid: `${name}-uid`,
        ownerReferences: [owner],
        creationTimestamp: this.time(),
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
    else this.putPod({ ...pod, metadata: { ...pod.metadata, deletionTimestamp: this.time() } });
  }

  #bind(pod: PodObject, node: NodeObject): void {
    const spec = { ...pod.spec, nodeName: node.metadata?.name } as NonNullable<PodObject['spec']>;
    this.putPod({ ...pod, spec, status: { phase: 'Pending', conditions: [this.#condition(UNSCHEDULED, 'True')] } });
  }

  #refuse(pod: PodObject): void {
    const [resource] = Object.entries(requestsOfPod(pod))
      .filter(([key, amount]) => key.includes('/') && amount > 0)
      .map(([key]) => key);
    const total = this.nodes.objects.size;
    const message = `0/${total} nodes are available: ${total} ${resource === undefined ? 'Too many pods' : `Insufficient ${resource}`}.`;
    const condition = { ...this.#condition(UNSCHEDULED, 'False'), reason: 'Unschedulable', message };
    this.putPod({ ...pod, status: { phase: 'Pending', conditions: [condition] } });
  }

  #serve(pod: PodObject): void {
    const conditions = [UNSCHEDULED, 'Ready'].map((type) => this.#condition(type, 'True'));
    const state = { running: { startedAt: this.time() } };
    const containerStatuses = [{ name: 'server', image: '', imageID: '', ready: true, restartCount: 0, state }];
    this.putPod({ ...pod, status: { phase: 'Running', conditions, containerStatuses } });
  }

  /** Nobody hears of its node. */
  #lose(pod: PodObject): void {
    const conditions = [this.#condition(UNSCHEDULED, 'True'), this.#condition('Ready', 'False')];
    this.putPod({ ...pod, status: { ...pod.status, conditions } });
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
    this.putPod({ ...pod, status: { phase: 'Running', conditions, containerStatuses } });
  }

  /** Its server ended once more. */
  #end(pod: PodObject): void {
    const lastState = { terminated: { exitCode: 1, reason: 'Error', message: 'the model is no model' } };
    const state = { waiting: { reason: 'CrashLoopBackOff' } };
    const restartCount = restartsOf(pod) + 1;
    const containerStatuses = [
      { name: 'server', image: '', imageID: '', ready: false, restartCount, state, lastState },
    ];
    const conditions = [this.#condition(UNSCHEDULED, 'True'), this.#condition('Ready', 'False')];
    this.putPod({ ...pod, status: { phase: 'Running', conditions, containerStatuses } });
  }

  /** Pods whose devices went no longer serve. */
  loseDevices(): void {
    for (const pod of this.pods.objects.values()) {
      if (this.ownerOf(pod) !== undefined && isReady(pod) && this.#isBad(pod)) this.#crash(pod);
    }
  }

  #condition(type: string, status: string) {
    return { type, status, lastTransitionTime: this.time() };
  }

  putPod(pod: PodObject): void {
    this.pods.put(pod);
    this.onChild(pod.metadata?.labels?.[labels.deployment]);
  }

  #removePod(key: string): void {
    const owner = this.pods.objects.get(key)?.metadata?.labels?.[labels.deployment];
    this.pods.remove(key);
    this.onChild(owner);
  }

  putSet(set: ReplicaSetObject): void {
    const metadata = { ...set.metadata, resourceVersion: String(++this.#version) };
    this.sets.set(metadata.name ?? '', { ...set, metadata });
    this.onChild(metadata.labels?.[labels.deployment]);
  }

  /** Now, as objects say it. */
  time(): string {
    return new Date(this.clock.now()).toISOString().replace(/\.\d+/, '');
  }
}

function restartsOf(pod: PodObject): number {
  return pod.status?.containerStatuses?.[0]?.restartCount ?? 0;
}

function isNodeReady(node: NodeObject): boolean {
  return node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;
}

function hasLabels(
  metadata: { readonly labels?: Readonly<Record<string, string>> | undefined } | undefined,
  wanted: Readonly<Record<string, string>> = {},
): boolean {
  return Object.entries(wanted).every(([key, value]) => metadata?.labels?.[key] === value);
}

export function isGoing(pod: PodObject): boolean {
  return pod.metadata?.deletionTimestamp !== undefined;
}

export function found<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('no such thing in the simulation');
  return value;
}
