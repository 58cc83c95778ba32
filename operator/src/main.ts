/**
 * Entry point of the operator: `node operator.mjs`. Owns environment, logging, signals and the list of what runs in this
 * process; every replica keeps its stores warm and serves the broker, and the one that leads runs the controllers.
 */
import { pino } from 'pino';
import { makeBroker } from './broker/server.ts';
import { type OperatorConfig, readConfig } from './config.ts';
import { makeAnalyst } from './deployment/analysis/analyst.ts';
import { registerEvaluationMetrics } from './deployment/analysis/metrics.ts';
import { makeDeploymentController } from './deployment/controller.ts';
import { registerHardwareMetrics } from './deployment/hardware-metrics.ts';
import { openStores, podsOf } from './deployment/observe.ts';
import { SLMDeployment, SLMModel, SLMNodeCache } from './execution/kinds.ts';
import { storedParts } from './execution/stored-parts.ts';
import { allPods } from './hardware/all-pods.ts';
import { profilesHere } from './hardware/claims.ts';
import { loadAccess } from './kube/cluster-access.ts';
import { makeKubeClient } from './kube/http-client.ts';
import { Pod } from './kube/resource.ts';
import { makeModelController } from './model/controller.ts';
import { makeNodeCacheController } from './nodecache/controller.ts';
import { makeRolloutController } from './rollout/controller.ts';
import { systemClock } from './runtime/clock.ts';
import { makeEventRecorder } from './runtime/events.ts';
import { makeManager, terminationSignal } from './runtime/manager.ts';
import { makeRuntimeMetrics } from './runtime/metrics.ts';

/** Put in by the bundler. */
declare const __SLM_VERSION__: string | undefined;
const version = typeof __SLM_VERSION__ === 'string' ? __SLM_VERSION__ : 'dev';

/** Time for the last events to be written. Milliseconds. */
const FLUSH_MS = 3000;

async function main(given: OperatorConfig): Promise<void> {
  const log = pino({ level: given.logLevel, base: { replica: given.identity } });
  const stop = terminationSignal();
  const metrics = makeRuntimeMetrics();
  const client = makeKubeClient({
    access: await loadAccess(process.env),
    userAgent: `slm-operator/${version}`,
    onRequest: metrics.onRequest,
  });
  const config = { ...given, hardwareProfiles: await profilesHere(client, given.hardwareProfiles, stop) };
  const manager = makeManager({
    client,
    log,
    metrics,
    transforms: storedParts,
    leaderElection: {
      name: 'slm-operator',
      namespace: config.namespace,
      identity: config.identity,
      leaseDurationMs: config.lease.durationSeconds * 1000,
      renewDeadlineMs: config.lease.renewSeconds * 1000,
      retryPeriodMs: config.lease.retrySeconds * 1000,
    },
    probes: { port: config.metricsPort },
    metricsServer: { port: config.metricsPort },
  });
  const recorder = makeEventRecorder({ client, log, controller: 'slm.dev/operator', instance: config.identity });

  const { hfEndpoint, hfEndpointInsecure, minFreePercent } = config;
  const hardware = { profiles: config.hardwareProfiles, order: config.hardwareOrder, images: config.serverImages };
  manager.add(makeNodeCacheController({ manager, recorder, minFreePercent, hardware }));
  manager.add(makeModelController({ manager, recorder, log, hfEndpoint, hfEndpointInsecure, hardware }));
  const place = { namespace: config.namespace, service: config.service };
  const deploymentStores = openStores(manager);
  const analyst = makeAnalyst({
    client,
    serviceAccount: { namespace: config.namespace, name: config.serviceAccount },
    findDeployment: (key) => deploymentStores.deployments.get(key),
    podsOf: (key) => podsOf(deploymentStores, key),
    clock: systemClock,
    log,
  });
  manager.add(makeDeploymentController({ manager, client, config, broker: place, recorder, analyst }));
  manager.add(makeRolloutController({ manager, recorder, images: config.serverImages }));

  const models = manager.store(SLMModel);
  const caches = manager.store(SLMNodeCache);
  const deployments = manager.store(SLMDeployment);
  registerHardwareMetrics(metrics.registry, () => deployments.list());
  registerEvaluationMetrics(metrics.registry, () => analyst.results());
  const pods = manager.store(Pod, allPods);
  const broker = makeBroker({
    client,
    findModel: (key) => models.get(key),
    findCache: (node) => caches.get(node),
    findPod: (key) => pods.get(key),
    findDeployment: (key) => deployments.get(key),
    namespace: config.namespace,
    agentServiceAccount: config.agentServiceAccount,
    serviceAccount: config.serviceAccount,
    hosts: config.brokerHosts,
    hfEndpoint,
    port: config.brokerPort,
    log,
  });
  manager.addRunnable({ name: 'broker', needsLeader: false, run: (signal) => broker.run(signal) });
  manager.addReadyCheck('broker', () => broker.check());

  log.info({ version, namespace: config.namespace }, 'operator starts');
  try {
    await manager.start(stop);
    log.info({}, 'operator stopped');
  } finally {
    await recorder.flush(AbortSignal.timeout(FLUSH_MS));
    await client.close();
  }
}

try {
  await main(readConfig(process.env));
} catch (error) {
  console.error(`slm operator: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
// Whatever still holds a handle (a request that nobody waits for) must not keep a process alive that leads no more.
setTimeout(() => process.exit(), 1000).unref();
