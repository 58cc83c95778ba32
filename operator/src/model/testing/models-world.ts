/**
 * A world for tests of the Model and NodeCache controllers: both run against a real API server, with Nodes that exist on paper,
 * a real file server as source, and a test that plays the node agents. Owns its namespace and nodes and removes them.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type {
  CacheEntry,
  SLMModel as Model,
  SLMNodeCache as NodeCache,
  SLMDeploymentSpec,
  SLMModelSpec,
} from '@slm-operator/crds';
import { API_VERSION } from '@slm-operator/crds';
import { type FileServer, startFileServer } from '@slm-operator/test/fixtures/file-server';
import { makeGguf } from '@slm-operator/test/fixtures/gguf';
import { expect } from 'vitest';
import { SLMDeployment, SLMModel, SLMNodeCache } from '../../execution/kinds.ts';
import { storedParts } from '../../execution/stored-parts.ts';
import { builtInProfiles, defaultOrder } from '../../hardware/profiles.ts';
import type { KubeClient, RequestRecord } from '../../kube/client.ts';
import { accessFrom, loadKubeConfig } from '../../kube/config.ts';
import { makeKubeClient } from '../../kube/http-client.ts';
import { type KubeObject, Namespace, Node } from '../../kube/resource.ts';
import { makeNodeCacheController } from '../../nodecache/controller.ts';
import type { EventMessage } from '../../runtime/events.ts';
import { silentLogger } from '../../runtime/log.ts';
import { type Manager, makeManager } from '../../runtime/manager.ts';
import { makeModelController } from '../controller.ts';

const WRITES = new Set(['create', 'update', 'patch', 'apply', 'delete']);
/** Patience with a busy machine; everything is polled for. */
export const patient = { timeout: 20_000, interval: 50 };

/** The built-in profiles, with an image for all of them. */
const images = { cpu: 'cpu', cuda: 'cuda', vulkan: 'vulkan', openvino: 'openvino' };
const hardware = { profiles: builtInProfiles(), order: defaultOrder, images };

export class ModelsWorld {
  readonly namespace = `models-${randomBytes(4).toString('hex')}`;
  /** Events in the order in which they were told. */
  readonly events: EventMessage[] = [];
  /** Writes of the controllers: verb and resource. */
  readonly writes: string[] = [];
  readonly client: KubeClient;
  readonly server: FileServer;
  readonly root: string;
  readonly #kubeconfig: string;
  readonly #nodes: string[] = [];
  #operator: { manager: Manager; client: KubeClient; ended: Promise<void> } | undefined;

  constructor(kubeconfig: string, root: string, server: FileServer) {
    this.#kubeconfig = kubeconfig;
    this.root = root;
    this.server = server;
    this.client = this.#makeClient(() => undefined);
  }

  static async start(kubeconfig: string): Promise<ModelsWorld> {
    const root = await mkdtemp(path.join(tmpdir(), 'slm-models-'));
    const world = new ModelsWorld(kubeconfig, root, await startFileServer({ root }));
    await world.client.create(Namespace, { metadata: { name: world.namespace } });
    await world.startOperator();
    return world;
  }

  #makeClient(onRequest: (record: RequestRecord) => void): KubeClient {
    const access = accessFrom(loadKubeConfig({ file: this.#kubeconfig }));
    return makeKubeClient({ access, userAgent: 'slm-operator/test', onRequest });
  }

  /** Starts the controllers; call it again after `stopOperator` for a restart. */
  async startOperator(): Promise<void> {
    const client = this.#makeClient(({ verb, resource }) => {
      if (WRITES.has(verb)) this.writes.push(`${verb} ${resource}`);
    });
    const manager = makeManager({ client, log: silentLogger, transforms: storedParts });
    const recorder = {
      record: (_type: unknown, regarding: KubeObject, message: EventMessage) => {
        if (regarding.metadata?.namespace === this.namespace) this.events.push(message);
      },
    };
    manager.add(makeNodeCacheController({ manager, recorder, minFreePercent: 10, hardware }));
    const hub = { hfEndpoint: this.server.url, hfEndpointInsecure: true };
    manager.add(makeModelController({ manager, recorder, log: silentLogger, hardware, ...hub }));
    this.#operator = { manager, client, ended: manager.start() };
    await manager.running;
  }

  async stopOperator(): Promise<void> {
    await this.#operator?.manager.stop();
    await this.#operator?.ended;
    await this.#operator?.client.close();
    this.#operator = undefined;
  }

  /** A ready node with these labels. */
  async addNode(labels: Record<string, string> = {}): Promise<string> {
    const name = `node-${randomBytes(4).toString('hex')}`;
    this.#nodes.push(name);
    // Only this world's models are to see it.
    const node = { metadata: { name, labels: { ...labels, world: this.namespace } } };
    await this.client.create(Node, node);
    await this.setReady(name, true);
    return name;
  }

  async setReady(name: string, ready: boolean): Promise<void> {
    const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
    const condition = { type: 'Ready', status: ready ? 'True' : 'False', reason: 'Test', message: '' };
    const conditions = [{ ...condition, lastHeartbeatTime: now, lastTransitionTime: now }];
    await this.client.patch(Node, { name }, 'strategic', { status: { conditions } }, { subresource: 'status' });
  }

  /** What the node's kubelet offers; a name with 0 is one whose plugin has ended. */
  async offer(name: string, allocatable: Readonly<Record<string, string>>): Promise<void> {
    const status = { allocatable, capacity: allocatable };
    await this.client.patch(Node, { name }, 'strategic', { status }, { subresource: 'status' });
  }

  /** Puts a small model into the server and answers its digest as sha256sum prints it. */
  async addFile(file: string, content: Uint8Array = makeGguf({ dataBytes: 1000 })): Promise<string> {
    const absolute = path.join(this.root, file);
    await mkdir(path.dirname(absolute), { recursive: true });
    await writeFile(absolute, content);
    return createHash('sha256').update(content).digest('hex');
  }

  /** Applies an SLMModel as a user would. */
  async applyModel(name: string, spec: SLMModelSpec): Promise<void> {
    const model = { apiVersion: API_VERSION, kind: 'SLMModel', metadata: this.ref(name), spec };
    await this.client.apply(SLMModel, model, { fieldManager: 'user', force: true });
  }

  /** A deployment of this model on the nodes of this world. */
  async applyDeployment(name: string, model: string, more: Partial<SLMDeploymentSpec> = {}): Promise<void> {
    const spec = {
      modelRef: { name: model },
      podTemplate: { spec: { nodeSelector: { world: this.namespace } } },
      ...more,
    };
    const deployment = { apiVersion: API_VERSION, kind: 'SLMDeployment', metadata: this.ref(name), spec };
    await this.client.apply(SLMDeployment, deployment, { fieldManager: 'user', force: true });
  }

  ref(name: string): { namespace: string; name: string } {
    return { namespace: this.namespace, name };
  }

  async model(name: string): Promise<Model> {
    return await this.client.get(SLMModel, this.ref(name));
  }

  async cache(node: string): Promise<NodeCache | undefined> {
    return await this.client.find(SLMNodeCache, { name: node });
  }

  /** Waits until the model has these conditions, each as `Type=Status Reason`, and answers it. */
  async until(name: string, ...conditions: string[]): Promise<Model> {
    let model: Model | undefined;
    await expect
      .poll(async () => {
        model = await this.model(name);
        return (model.status?.conditions ?? []).map(({ type, status, reason }) => `${type}=${status} ${reason}`);
      }, patient)
      .toEqual(expect.arrayContaining(conditions));
    return model as Model;
  }

  /** Waits until the node is to hold something, and answers the digest. */
  async wantedOn(node: string): Promise<string> {
    let digest: string | undefined;
    await expect
      .poll(async () => {
        digest = (await this.cache(node))?.spec?.wanted?.[0]?.digest;
        return digest;
      }, patient)
      .toMatch(/^sha256:/);
    return digest ?? '';
  }

  /** Digests that the node is to hold, sorted; empty before it has an object. */
  async wantedDigests(node: string): Promise<string[]> {
    return ((await this.cache(node))?.spec?.wanted ?? []).map(({ digest }) => digest);
  }

  /** What the agent of a node would report. */
  async report(node: string, ...entries: CacheEntry[]): Promise<void> {
    const generation = (await this.cache(node))?.metadata.generation ?? 1;
    const status = { observedGeneration: generation, entries };
    await this.client.applyStatus(
      SLMNodeCache,
      { apiVersion: API_VERSION, kind: 'SLMNodeCache', metadata: { name: node }, status },
      { fieldManager: 'slm-agent', force: true },
    );
  }

  /** Deletes nodes, models and namespace, and ends everything that was started. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopOperator();
    for (const name of this.#nodes) await this.client.delete(Node, { name }).catch(() => undefined);
    await this.client.delete(Namespace, { name: this.namespace }).catch(() => undefined);
    await this.client.close();
    await this.server.close();
    await rm(this.root, { recursive: true, force: true });
  }
}

/** An entry as an agent reports it. */
export function entry(digest: string, size: number, more: Partial<CacheEntry> = {}): CacheEntry {
  return { digest, state: 'Ready', bytesDone: size, bytesTotal: size, ...more };
}
