/**
 * The node agent as a whole: the node's SLMNodeCache in, pulled models, mounts and a status that also tells of devices out. Owns how the parts are
 * wired and the order of start and stop. It serves mounts also while the API server is away.
 */
import path from 'node:path';
import type { SLMNodeCacheSpec, SLMNodeCacheStatus } from '@slm-operator/crds';
import { API_VERSION, store as layout } from '@slm-operator/crds/contract';
import type { KubeClient } from '../kube/client.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import { type Manager, makeManager } from '../runtime/manager.ts';
import { makeRuntimeMetrics, type RuntimeMetrics } from '../runtime/metrics.ts';
import type { SourceClientOptions } from '../sources/http.ts';
import { BlobStore } from './blob-store.ts';
import { makeBrokerClient } from './broker-client.ts';
import type { AgentConfig } from './config.ts';
import { Driver } from './csi/driver.ts';
import { DeviceScanner } from './devices/device-scanner.ts';
import { makeHostFiles } from './devices/host-files.ts';
import { makeAgentMetrics } from './metrics.ts';
import { type Mounter, makeMounter, publishedMounts } from './mounts.ts';
import { Puller } from './puller.ts';
import { Reporter } from './reporter.ts';
import { SLMNodeCache } from './resource.ts';

export interface AgentOptions {
  readonly config: AgentConfig;
  readonly client: KubeClient;
  readonly log: Logger;
  readonly version: string;
  /** Give its `onRequest` to the client. Default: a fresh set. */
  readonly metrics?: RuntimeMetrics | undefined;
  readonly mounter?: Mounter | undefined;
  readonly clock?: Clock | undefined;
  readonly http?: SourceClientOptions | undefined;
}

/** Runs until the signal is aborted. Rejects when the store cannot be opened or a socket or port is taken. */
export async function runAgent(options: AgentOptions, signal: AbortSignal): Promise<void> {
  const { config, log, version } = options;
  const clock = options.clock ?? systemClock;
  const mounter =
    options.mounter ??
    makeMounter({
      models: path.join(config.storeRoot, layout.models),
      view: path.join(config.storeRoot, 'readonly'),
    });
  const runtimeMetrics = options.metrics ?? makeRuntimeMetrics();

  const store = new BlobStore({
    root: config.storeRoot,
    mounted: async () => new Set(publishedMounts(await mounter.list(), config.kubeletDir).map(({ hex }) => hex)),
  });
  await store.open();

  const metrics = makeAgentMetrics({
    registry: runtimeMetrics.registry,
    entries: () => puller.snapshot(),
    storeBytes: () => store.usedBytes(),
  });
  const puller = new Puller({
    store,
    clock,
    log,
    ...(config.broker === undefined ? {} : { broker: makeBrokerClient(config.broker) }),
    http: options.http,
    onChange: (kind) => reporter.changed(kind),
    onAttempt: (result) => metrics.attempt(result),
    onBytes: (bytes) => metrics.bytes(bytes),
  });
  const driver = new Driver({
    nodeName: config.nodeName,
    kubeletDir: config.kubeletDir,
    store,
    puller,
    mounter,
    log,
    clock,
    version,
  });
  const manager = makeManager({
    client: options.client,
    log,
    metrics: runtimeMetrics,
    probes: { port: config.metricsPort },
    metricsServer: { port: config.metricsPort },
    clock,
  });
  const caches = manager.store(SLMNodeCache, { fieldSelector: `metadata.name=${config.nodeName}` });
  const scanner = new DeviceScanner({
    host: makeHostFiles({ dev: config.deviceDir }),
    clock,
    log,
    onChange: () => reporter.changed('state'),
  });
  let observedGeneration: number | undefined;
  const reporter = new Reporter({
    read: () => caches.get(config.nodeName),
    write: (status) => writeStatus(options.client, config.nodeName, status),
    entries: () => puller.snapshot(),
    disk: async () => ({ ...(await store.disk()), usedBytes: await store.usedBytes() }),
    devices: () => scanner.devices,
    observedGeneration: () => observedGeneration,
    agentVersion: version,
    clock,
    log,
  });

  // Before the API server has answered: pods of this node may be waiting for models that are already here.
  await driver.start();
  await scanner.start();
  addChecks(manager, driver);
  let actedOn: string | undefined;
  const act = async (spec: SLMNodeCacheSpec, generation: number | undefined) => {
    await puller.setSpec(spec);
    observedGeneration = generation;
    reporter.changed('state');
  };
  const unsubscribe = caches.subscribe((event) => {
    // An object that went comes back with its node; until then what is here stays.
    if (event.type === 'delete') return;
    const { metadata, spec } = event.object;
    const revision = `${metadata.uid}/${metadata.generation}`;
    // Our own status writes come back too, and change nothing.
    if (spec !== undefined && revision !== actedOn) {
      actedOn = revision;
      void act(spec, metadata.generation);
    } else reporter.observed();
  });
  try {
    await manager.start(signal);
  } finally {
    unsubscribe();
    await reporter.stop();
    await Promise.all([puller.stop(), driver.stop(), scanner.stop()]);
  }
}

function addChecks(manager: Manager, driver: Driver): void {
  manager.addReadyCheck('csi-registration', () => {
    if (!driver.registered) throw new Error('the kubelet has not registered the driver yet');
  });
}

/**
 * Server-side apply: the status has one writer, so there is nothing to lose, and fields that fell away go. No conflict can
 * arise with the operator's writes of the spec.
 */
async function writeStatus(client: KubeClient, name: string, status: SLMNodeCacheStatus) {
  const object = { apiVersion: API_VERSION, kind: 'SLMNodeCache', metadata: { name }, status };
  await client.applyStatus(SLMNodeCache, object, { force: true });
}
