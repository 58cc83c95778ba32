/** Entry point of the node agent: one process a node, `node agent.mjs`. Owns environment, logging and signals. */
import { pino } from 'pino';
import { loadAccess } from '../kube/cluster-access.ts';
import { makeKubeClient } from '../kube/http-client.ts';
import { makeRuntimeMetrics } from '../runtime/metrics.ts';
import { runAgent } from './agent.ts';
import { readAgentConfig } from './config.ts';

/** Put in by the bundler. */
declare const __SLM_VERSION__: string | undefined;
const version = typeof __SLM_VERSION__ === 'string' ? __SLM_VERSION__ : 'dev';

async function main(): Promise<void> {
  const config = readAgentConfig(process.env);
  const log = pino({ level: config.logLevel, base: { node: config.nodeName } });
  const metrics = makeRuntimeMetrics();
  const client = makeKubeClient({
    access: await loadAccess(process.env),
    userAgent: `slm-agent/${version}`,
    fieldManager: 'slm-agent',
    onRequest: metrics.onRequest,
  });
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'stopping');
      stop.abort(new Error(`got ${signal}`));
    });
  }
  log.info({ version, store: config.storeRoot }, 'node agent starts');
  try {
    await runAgent({ config, client, log, version, metrics }, stop.signal);
  } finally {
    await client.close();
  }
}

try {
  await main();
} catch (error) {
  console.error(`slm agent: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
