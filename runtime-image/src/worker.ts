/**
 * The server process. Starts the load first, because it takes longest, and the HTTP side while it runs.
 */
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { pod as podContract, serverEnv } from '@slm-operator/crds/contract';
import { destination, type Logger, pino } from 'pino';
import type { Certificate } from './certificate.ts';
import { type Config, readConfig } from './config.ts';
import { fail, StartupError } from './failures.ts';
import { Lifecycle } from './lifecycle.ts';
import type { Listeners } from './listeners.ts';
import { managementOf, openModels, startModels } from './models/start.ts';
import type { Authenticator } from './plugins/auth.ts';
import type { Tracing } from './tracing/provider.ts';
import { readTracing } from './tracing/settings.ts';
import type { Forwarding } from './traffic/forwarding.ts';
import { EXCEPTION_EXIT_CODE, type WorkerState } from './worker-state.ts';

const started = performance.now();

/**
 * How long connections wait in the backlog for the model after a crash, in milliseconds, before they are told that it loads.
 * Less than two of the kubelet's readiness probes, so that a restart of a few seconds leaves the pod ready.
 */
const RELOAD_MS = 5000;

/** For the last spans, in milliseconds. */
const FLUSH_MS = 2000;

/**
 * Serves until a signal ends the process.
 * @param state undefined when no supervisor started this process
 * @throws StartupError
 */
export async function serve(env: NodeJS.ProcessEnv, state: WorkerState | undefined): Promise<void> {
  const config = readConfig(env);
  const podDir = podDirOf(config);
  const log: Logger = pino(
    {
      level: config.logLevel,
      base: null,
      formatters: { level: (label) => ({ level: label }) },
    },
    // At once: a crash in native code would take with it what is still to be written.
    destination({ dest: 1, sync: true }),
  );

  let tracing: Tracing | undefined;
  let running: { readonly lifecycle: Lifecycle; readonly listeners: Listeners } | undefined;
  let stopping = false;
  const stop = async (signal: NodeJS.Signals) => {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, 'stopping');
    let finished = true;
    if (running) {
      const { shutDown } = await import('./shutdown.ts');
      finished = await shutDown({
        ...running,
        // Ctrl-C is a person who waits.
        delaySeconds: signal === 'SIGTERM' ? config.shutdownDelaySeconds : 0,
        timeoutSeconds: config.drainTimeoutSeconds,
        log,
      });
    }
    // Not without bound: a collector that is away must not keep the process from ending.
    await Promise.race([tracing?.close(), delay(FLUSH_MS)]);
    log.info({ finished }, 'stopped');
    process.exit(0);
  };
  // Before anything else: the first process of a container has no default action for signals.
  process.on('SIGTERM', (signal) => void stop(signal));
  process.on('SIGINT', (signal) => void stop(signal));

  const lifecycle = new Lifecycle(await openModels(config, log));
  // Without its supervisor nobody would ever end it.
  process.once('disconnect', () => process.exit(1));
  process.channel?.unref();

  const loading = startModels(config, lifecycle, log, started);
  // Awaited below; until then a failure must not count as unhandled.
  loading.catch(() => undefined);

  const [{ makeApp }, { listen }, auth] = await Promise.all([
    import('./server.ts'),
    import('./listeners.ts'),
    makeAuthenticator(config, log),
  ]);
  const certificate = config.tls && new (await import('./certificate.ts')).Certificate(config.tls, log);
  await certificate?.open();
  const traffic = await makeForwarding(podDir, certificate, log);
  const tracingSettings = readTracing(env);
  tracing = tracingSettings && (await import('./tracing/provider.ts')).startTracing(tracingSettings, log);
  const app = makeApp({
    lifecycle,
    auth,
    log,
    audit: config.audit ? { write: (line) => process.stdout.write(line), content: config.auditContent } : undefined,
    apis: config.apis,
    origins: config.origins,
    tracing,
    traffic,
    restarts: state?.restarts,
    limits: config.limits,
    certificate,
    management: managementOf(config),
  });
  const crashed = Object.keys(state?.restarts ?? {}).length > 0;
  if (crashed) await Promise.race([loading, delay(RELOAD_MS)]);
  const own = [config.port, ...(config.openaiPort === undefined ? [] : [config.openaiPort])];
  const listeners = await listen(app, config.host, state?.sockets.map((fd) => ({ fd })) ?? own, {
    limits: config.limits,
    certificate,
    onDrop: () => app.metrics.connectionDropped(),
  });
  running = { lifecycle, listeners };
  if (!auth) log.warn('no authentication: whoever reaches these ports may use the models');
  const models = lifecycle.models.entries.flatMap((entry) => entry.spec.names);
  log.info({ ports: listeners.ports, models, pid: process.pid }, 'listening');
  await loading;
  // From here on another process would serve where this one failed.
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => fail(error, EXCEPTION_EXIT_CODE));
}

/** The folder with what a running pod is told; undefined where nobody ever does. */
function podDirOf({ podDir }: Config): string | undefined {
  if (existsSync(podDir ?? podContract.infoPath)) return podDir ?? podContract.infoPath;
  if (podDir === undefined) return undefined;
  throw new StartupError('InvalidConfiguration', `${serverEnv.podDir}=${podDir} is not there: set it to a folder.`);
}

/** What passes requests on; undefined where nobody ever tells this server to. */
async function makeForwarding(
  podDir: string | undefined,
  certificate: Certificate | undefined,
  log: Logger,
): Promise<Forwarding | undefined> {
  if (podDir === undefined) return undefined;
  const [{ PodInfo }, { Forwarding: Front }, { Peer }] = await Promise.all([
    import('./traffic/pod-info.ts'),
    import('./traffic/forwarding.ts'),
    import('./traffic/peer.ts'),
  ]);
  const info = new PodInfo(podDir, log);
  await info.open();
  return new Front({ info, peer: new Peer(certificate), log });
}

/** Loads only what the setting needs. */
async function makeAuthenticator(config: Config, log: Logger): Promise<Authenticator | undefined> {
  if (config.tokens) {
    const [{ BrokerClient }, { ServiceAccounts }] = await Promise.all([
      import('./plugins/broker-client.ts'),
      import('./plugins/service-accounts.ts'),
    ]);
    const broker = new BrokerClient(config.tokens.brokerDir);
    return new ServiceAccounts({
      review: (token) => broker.review(token),
      audience: config.tokens.audience,
      log,
    });
  }
  if (config.auth !== 'APIKey' || config.apiKeysDir === undefined) return undefined;
  const { KeyStore } = await import('./plugins/auth.ts');
  const keys = new KeyStore(config.apiKeysDir, log);
  await keys.open();
  return keys;
}
