/**
 * The server's entry. Starts the load first, because it takes longest, and the HTTP side while it runs.
 */
import { type Logger, pino } from 'pino';
import { type Config, readConfig } from './config.ts';
import { loadEngine } from './engines/select.ts';
import { StartupError, writeTerminationMessage } from './failures.ts';
import { Lifecycle } from './lifecycle.ts';
import type { Listeners } from './listeners.ts';
import { warmUp } from './warm-up.ts';

const started = performance.now();

/** Steps of the load that are worth a log line. */
const PROGRESS_STEP = 0.25;

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log: Logger = pino({
    level: config.logLevel,
    base: null,
    formatters: { level: (label) => ({ level: label }) },
  });
  const lifecycle = new Lifecycle();

  let listeners: Listeners | undefined;
  let stopping = false;
  const stop = async (signal: NodeJS.Signals) => {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, 'stopping');
    let finished = true;
    if (listeners) {
      const { shutDown } = await import('./shutdown.ts');
      finished = await shutDown({
        lifecycle,
        listeners,
        // Ctrl-C is a person who waits.
        delaySeconds: signal === 'SIGTERM' ? config.shutdownDelaySeconds : 0,
        timeoutSeconds: config.drainTimeoutSeconds,
        log,
      });
    }
    log.info({ finished }, 'stopped');
    process.exit(0);
  };
  // Before anything else: the first process of a container has no default action for signals.
  process.on('SIGTERM', (signal) => void stop(signal));
  process.on('SIGINT', (signal) => void stop(signal));

  const loading = load(config, lifecycle, log);
  // Awaited below; until then a failure must not count as unhandled.
  loading.catch(() => undefined);

  const [{ makeApp }, { listen }, { KeyStore }] = await Promise.all([
    import('./server.ts'),
    import('./listeners.ts'),
    import('./plugins/auth.ts'),
  ]);
  const keys =
    config.auth === 'APIKey' && config.apiKeysDir !== undefined ? new KeyStore(config.apiKeysDir, log) : undefined;
  await keys?.open();
  const app = makeApp({
    lifecycle,
    servedNames: config.servedNames,
    modelDigest: config.modelDigest,
    keys,
    log,
    audit: config.audit ? (line) => process.stdout.write(line) : undefined,
  });
  listeners = await listen(app, config.host, [
    config.port,
    ...(config.openaiPort === undefined ? [] : [config.openaiPort]),
  ]);
  log.info({ ports: listeners.ports, models: config.servedNames }, 'listening');
  await loading;
}

async function load(config: Config, lifecycle: Lifecycle, log: Logger): Promise<void> {
  let reported = 0;
  const engine = await loadEngine(config, {
    progress: (fraction) => {
      lifecycle.progress = fraction;
      if (fraction < reported + PROGRESS_STEP) return;
      reported = fraction;
      log.info({ progress: Math.round(fraction * 100) / 100 }, 'loading the model');
    },
    log: (level, message) => log[level]({ from: 'llama.cpp' }, message),
  });
  const tokensPerSecond = await warmUp(engine);
  const problem = lifecycle.ready(engine, tokensPerSecond, new Date());
  if (problem !== undefined) log.warn(problem);
  const { model, ...info } = engine.info;
  const { chatTemplate, ...facts } = model;
  log.info(
    {
      ...info,
      ...facts,
      hasChatTemplate: chatTemplate !== undefined,
      tokensPerSecond: Math.round(tokensPerSecond * 10) / 10,
      startMs: Math.round(performance.now() - started),
    },
    'ready',
  );
}

/** Ends the process with one line that says why; it is written before the end, so whoever looks finds it last. */
function fail(error: unknown): void {
  const known = error instanceof StartupError;
  const message = error instanceof Error ? error.message : String(error);
  const reason = known ? error.reason : 'InternalError';
  const detail = known ? {} : { stack: error instanceof Error ? error.stack : undefined };
  const line = JSON.stringify({ level: 'fatal', time: Date.now(), reason, msg: message, ...detail });
  process.stdout.write(`${line}\n`, () => {
    writeTerminationMessage({ reason, message });
    process.exit(known ? error.exitCode : 1);
  });
}

process.on('uncaughtException', fail);
main().catch(fail);
