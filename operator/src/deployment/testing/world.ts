/**
 * A real API server with the deployment controller on it, for tests. The test itself plays everybody else: the model
 * controller, the node agents, the scheduler and the kubelets, by writing status as they would.
 */
import { randomUUID } from 'node:crypto';
import type { SLMDeployment as Deployment, ReadyReport, SLMDeploymentSpec } from '@slm-operator/crds';
import { API_VERSION, labels, revisionDigest } from '@slm-operator/crds';
import { expect } from 'vitest';
import { SLMDeployment, SLMModel, SLMNodeCache } from '../../execution/kinds.ts';
import { storedParts } from '../../execution/stored-parts.ts';
import {
  accessFrom,
  type ClusterAccess,
  type KubeClient,
  type KubeObject,
  loadKubeConfig,
  makeKubeClient,
  Namespace,
  Node,
  type ObjectOf,
  Pod,
  ReplicaSet,
  type RequestRecord,
  ServiceAccount,
} from '../../kube/index.ts';
import { type EventMessage, makeManager, silentLogger } from '../../runtime/index.ts';
import type { Analyst } from '../analysis/analyst.ts';
import { makeDeploymentController } from '../controller.ts';
import type { DeploymentConfig } from '../plan.ts';
import { isReady } from '../pod-causes.ts';
import { makePodReports } from '../pod-reports.ts';
import { deviceOf, placesFor } from './device-places.ts';
import { config } from './objects.ts';
import { trafficReport } from './rollout-servers.ts';

export { condition, conditions, versionOf } from './expectations.ts';

export type PodObject = ObjectOf<typeof Pod>;
export type ReplicaSetObject = ObjectOf<typeof ReplicaSet>;

const writing = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);

/** Everything that one test needs, in a namespace of its own. */
export class World implements AsyncDisposable {
  readonly namespace = `dep-${randomUUID().slice(0, 8)}`;
  /** With which the test plays. */
  readonly client: KubeClient;
  /** What the controller asked of the API server. */
  readonly requests: RequestRecord[] = [];
  readonly events: EventMessage[] = [];
  readonly #config: DeploymentConfig;
  readonly #access: ClusterAccess;
  readonly #operator: KubeClient;
  readonly #operators = new Set<() => Promise<void>>();
  readonly #nodes: string[] = [];
  /** Devices by node and resource. */
  readonly #offers = new Map<string, Map<string, number>>();
  /** What servers say of themselves, by the address of their pod. */
  readonly said = new Map<string, ReadyReport>();
  /** With one, servers also say what they pass on. */
  readonly analyst: Analyst | undefined;
  #addresses = 1;
  readonly #heart: NodeJS.Timeout;

  /** @param more configuration that differs from the tests' usual */
  static async start(kubeconfig: string, more: Partial<DeploymentConfig> = {}, analyst?: Analyst): Promise<World> {
    const world = new World(kubeconfig, more, analyst);
    const { client, namespace } = world;
    await client.create(Namespace, {
      metadata: { name: namespace, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
    });
    // The ReplicaSet controller cannot make pods before, and then backs off for seconds.
    await expect.poll(() => client.find(ServiceAccount, { name: 'default', namespace }), slow).toBeDefined();
    return world;
  }

  constructor(kubeconfig: string, more: Partial<DeploymentConfig> = {}, analyst?: Analyst) {
    this.analyst = analyst;
    this.#config = { ...config, serverImages: { cpu: 'slm.dev/server:1', cuda: 'slm.dev/server-cuda:1' }, ...more };
    const access = accessFrom(loadKubeConfig({ file: kubeconfig }));
    this.#access = access;
    this.client = makeKubeClient({ access, userAgent: 'test/1' });
    this.#operator = makeKubeClient({
      access,
      userAgent: 'slm-operator/test',
      onRequest: (record) => this.requests.push(record),
    });
    this.startOperator();
    // The controller manager gives up nodes that it does not hear of for some seconds.
    this.#heart = setInterval(() => {
      for (const name of this.#nodes) void this.#beat(name).catch(() => undefined);
    }, 1000);
  }

  /** Ends every controller. */
  async stopOperators(): Promise<void> {
    for (const stop of this.#operators) await stop();
  }

  /**
   * A controller that knows nothing of what others did, as a process that has just started.
   * @returns every request of it so far, and the keys that it has reconciled
   */
  startFresh(): { readonly requests: RequestRecord[]; readonly seen: Set<string> } {
    const requests: RequestRecord[] = [];
    const seen = new Set<string>();
    const client = makeKubeClient({
      access: this.#access,
      userAgent: 'slm-operator/test',
      onRequest: (record) => requests.push(record),
    });
    const stop = this.startOperator(client, (key) => seen.add(key));
    this.#operators.delete(stop);
    this.#operators.add(async () => {
      await stop();
      await client.close();
    });
    return { requests, seen };
  }

  /** One more controller, with stores of its own, as a replica that thinks it leads. Answers what ends it. */
  startOperator(client: KubeClient = this.#operator, onOutcome?: (key: string) => void): () => Promise<void> {
    const manager = makeManager({ client, log: silentLogger, shutdownTimeoutMs: 0, transforms: storedParts });
    manager.add(
      makeDeploymentController({
        manager,
        client,
        onOutcome,
        ...(this.analyst === undefined ? {} : { analyst: this.analyst }),
        config: this.#config,
        broker: { namespace: this.namespace, service: 'slm-operator' },
        recorder: { record: (_type, _object, message) => this.events.push(message) },
        reports: makePodReports({
          ask: ({ ip }) => {
            const report = this.said.get(ip);
            if (this.analyst !== undefined) return trafficReport(this.client, this.namespace, ip);
            return report === undefined ? Promise.reject(new Error('it says nothing')) : Promise.resolve(report);
          },
        }),
      }),
    );
    const running = manager.start();
    const stop = async () => {
      this.#operators.delete(stop);
      await manager.stop();
      await running;
    };
    this.#operators.add(stop);
    return stop;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A namespace goes piece by piece, and controllers of the tests to come would see to every piece.
    for (const type of [SLMDeployment, SLMModel]) {
      const { items } = await this.client.listAll<KubeObject>(type, { namespace: this.namespace });
      for (const item of items) {
        await this.client.delete<KubeObject>(type, this.ref(item.metadata?.name ?? '')).catch(ignoreGone);
      }
    }
    clearInterval(this.#heart);
    for (const stop of this.#operators) await stop();
    await this.client.delete(Namespace, { name: this.namespace });
    for (const name of this.#nodes) {
      await this.client.delete(SLMNodeCache, { name }).catch(() => undefined);
      await this.client.delete(Node, { name });
    }
    await Promise.all([this.#operator.close(), this.client.close()]);
  }

  /** Writes of the controller so far. */
  get writes(): RequestRecord[] {
    return this.requests.filter((record) => writing.has(record.method));
  }

  ref(name: string) {
    return { name, namespace: this.namespace };
  }

  /** A ready node with an agent that has reported. Its label lets pods be bound to this test's nodes alone. */
  async addNode(): Promise<string> {
    const name = `${this.namespace}-n${this.#nodes.length + 1}`;
    this.#nodes.push(name);
    await this.client.create(Node, { metadata: { name, labels: { test: this.namespace } } });
    await this.#beat(name);
    // The controller manager takes this taint away from ready nodes, a little later than a test likes to wait.
    await this.client.patch(Node, { name }, 'merge', { spec: { taints: null } });
    await this.client.create(SLMNodeCache, {
      apiVersion: API_VERSION,
      kind: 'SLMNodeCache',
      metadata: { name },
      spec: {},
    });
    await this.reportNode(name, undefined, 0);
    return name;
  }

  async #beat(name: string): Promise<void> {
    const ready = { type: 'Ready', status: 'True', reason: 'Test', lastHeartbeatTime: new Date().toISOString() };
    const status = { conditions: [ready] };
    await this.client.patch(Node, { name }, 'merge', { status }, { subresource: 'status' });
  }

  /** What a device plugin offers on a node; 0 when it ended. */
  async offer(node: string, resource: string, amount: number): Promise<void> {
    this.#offers.set(node, new Map(this.#offers.get(node)).set(resource, amount));
    const status = { allocatable: { [resource]: String(amount) }, capacity: { [resource]: String(amount) } };
    await this.client.patch(Node, { name: node }, 'merge', { status }, { subresource: 'status' });
  }

  /** What the agent of a node says of a revision. */
  async reportNode(name: string, digest: string | undefined, percent: number, model = 'smollm2'): Promise<void> {
    const size = 98_362_432;
    if (digest !== undefined) {
      const wanted = {
        digest,
        size,
        files: [],
        sources: [],
        models: [model.includes('/') ? model : `${this.namespace}/${model}`],
        namespaces: [this.namespace],
      };
      await this.client.patch(SLMNodeCache, { name }, 'merge', { spec: { wanted: [wanted] } });
    }
    const entry = {
      digest,
      state: percent === 100 ? 'Ready' : 'Downloading',
      bytesDone: Math.ceil((size * percent) / 100),
      bytesTotal: size,
      bytesPerSecond: 10_000_000,
    };
    const status = { observedGeneration: 1, entries: digest === undefined ? [] : [entry] };
    await this.client.patch(SLMNodeCache, { name }, 'merge', { status }, { subresource: 'status' });
  }

  /** A model, resolved to a revision whose bytes are told from `content`. */
  async addModel(name: string, content: string, namespace = this.namespace): Promise<string> {
    await this.client.create(SLMModel, {
      apiVersion: API_VERSION,
      kind: 'SLMModel',
      metadata: { name, namespace },
      spec: { source: { uri: 'hf://org/repo' } },
    });
    return this.resolveModel(name, content, namespace);
  }

  /** What the model controller writes when the source was resolved. Answers the digest. */
  async resolveModel(name: string, content: string, namespace = this.namespace): Promise<string> {
    const files = [
      {
        path: 'model.gguf',
        size: 98_362_432,
        digest: `sha256:${Buffer.from(content).toString('hex').padEnd(64, '0').slice(0, 64)}`,
      },
    ];
    const digest = revisionDigest(files);
    const model = await this.client.get(SLMModel, { name, namespace });
    const common = {
      name: digest.slice(7, 17),
      digest,
      size: 98_362_432,
      resolvedAt: new Date().toISOString().replace(/\.\d+/, ''),
    };
    const status = {
      observedGeneration: model.metadata.generation ?? 1,
      latestRevision: common,
      revisions: [{ ...common, files, sources: [{ url: 'https://example.com/{path}' }] }],
      metadata: { format: 'GGUF', contextLength: 2048 },
      estimate: { weights: 98_362_432, kvCachePer1kTokens: 23_592_960 },
    };
    await this.client.patch(SLMModel, { name, namespace }, 'merge', { status }, { subresource: 'status' });
    return digest;
  }

  async deploy(name: string, spec: SLMDeploymentSpec): Promise<void> {
    await this.client.create(SLMDeployment, {
      apiVersion: API_VERSION,
      kind: 'SLMDeployment',
      metadata: this.ref(name),
      spec: { ...spec, podTemplate: { spec: { nodeSelector: { test: this.namespace } } } },
    });
  }

  async change(name: string, spec: Readonly<Record<string, unknown>>): Promise<void> {
    await this.client.patch(SLMDeployment, this.ref(name), 'merge', { spec });
  }

  deployment(name: string): Promise<Deployment> {
    return this.client.get(SLMDeployment, this.ref(name));
  }

  async pods(): Promise<PodObject[]> {
    const { items } = await this.client.listAll(Pod, { namespace: this.namespace });
    return items.filter((pod) => pod.metadata?.deletionTimestamp === undefined);
  }

  /** ReplicaSets, the oldest revision first. */
  async replicaSets(): Promise<ReplicaSetObject[]> {
    const { items } = await this.client.listAll(ReplicaSet, { namespace: this.namespace });
    const number = (set: ReplicaSetObject) => Number(set.metadata?.annotations?.['slm.dev/revision-number']);
    return items.toSorted((a, b) => number(a) - number(b));
  }

  /** Binds a pod to a node, as the scheduler does. */
  async bind(pod: PodObject, node: string): Promise<void> {
    const { name, namespace } = pod.metadata ?? {};
    await this.client.request({
      method: 'POST',
      path: `/api/v1/namespaces/${namespace}/pods/${name}/binding`,
      body: { apiVersion: 'v1', kind: 'Binding', metadata: { name, namespace }, target: { kind: 'Node', name: node } },
    });
  }

  async podStatus(pod: PodObject, status: object): Promise<void> {
    const { name = '' } = pod.metadata ?? {};
    await this.client.patch(Pod, this.ref(name), 'strategic', { status }, { subresource: 'status' });
  }

  /** Schedules a pod and lets it serve, as kubelet and server do. */
  async serve(pod: PodObject, node: string = this.#nodes[0] ?? ''): Promise<void> {
    if (pod.spec?.nodeName === undefined) await this.bind(pod, node);
    const condition = (type: string) => ({ type, status: 'True', lastTransitionTime: new Date().toISOString() });
    const report = this.said.get(pod.metadata?.labels?.[labels.tier] ?? '');
    const podIP = `10.9.${this.#addresses >> 8}.${this.#addresses++ & 255}`;
    if (report !== undefined) this.said.set(podIP, report);
    await this.podStatus(pod, {
      phase: 'Running',
      ...(report === undefined && this.analyst === undefined ? {} : { podIP, podIPs: [{ ip: podIP }] }),
      conditions: ['PodScheduled', 'Initialized', 'ContainersReady', 'Ready'].map(condition),
    });
  }

  /** Lets all pods serve that have a node to go to, and those that are going go. */
  async serveAll(): Promise<void> {
    const { items } = await this.client.listAll(Pod, { namespace: this.namespace });
    const places = placesFor(items, this.#offers);
    for (const pod of items) {
      const { name = '', deletionTimestamp } = pod.metadata ?? {};
      if (deletionTimestamp !== undefined) {
        await this.client.delete(Pod, this.ref(name), { gracePeriodSeconds: 0 }).catch(() => undefined);
      } else if (!isReady(pod)) {
        const node = places.get(pod);
        const stays = places.has(pod) && node === undefined;
        await (stays ? this.#leaveUnscheduled(pod) : this.serve(pod, node)).catch(ignoreGone);
      }
    }
  }

  /** What the scheduler says of a pod for which no device is free. */
  async #leaveUnscheduled(pod: PodObject): Promise<void> {
    const device = deviceOf(pod);
    const count = this.#nodes.length;
    const message = `0/${count} nodes are available: ${count} Insufficient ${device}.`;
    const condition = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message };
    if (pod.status?.conditions?.some(({ reason }) => reason === 'Unschedulable')) return;
    await this.podStatus(pod, { conditions: [condition] });
  }

  /** Waits until the deployment looks like this. */
  async until(name: string, expected: object): Promise<Deployment> {
    await expect.poll(async () => (await this.deployment(name)).status, slow).toMatchObject(expected);
    return this.deployment(name);
  }

  /** The same, with kubelets that let every pod serve. */
  async serveUntil(name: string, expected: object): Promise<Deployment> {
    const check = async () => {
      await this.serveAll();
      return (await this.deployment(name)).status;
    };
    await expect.poll(check, slow).toMatchObject(expected);
    return this.deployment(name);
  }

  /** Waits until the controller has not written for a while; answers how many writes came meanwhile. */
  async quiet(milliseconds: number): Promise<number> {
    let before = -1;
    await expect
      .poll(
        () => {
          const same = this.writes.length === before;
          before = this.writes.length;
          return same;
        },
        { ...slow, interval: 500 },
      )
      .toBe(true);
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    return this.writes.length - before;
  }
}

/** Patience for a busy machine. */
export const slow = { timeout: 30_000, interval: 100 };

function ignoreGone(error: unknown): void {
  if (!(error instanceof Error && /not found|being deleted|AlreadyExists|Conflict|assigned/i.test(error.message)))
    throw error;
}
