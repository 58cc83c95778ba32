/** What the node agent is told at start, by environment (the chart sets it). Owns names, defaults and sentences. */
import { store } from '@slm-operator/crds/contract';

export interface AgentConfig {
  /** Name of this node, and of its SLMNodeCache. */
  readonly nodeName: string;
  /** Folder of the store. */
  readonly storeRoot: string;
  /** The kubelet's folder, under the same path as on the host. */
  readonly kubeletDir: string;
  /** The node's /dev. */
  readonly deviceDir: string;
  /** The operator's broker; absent: no grants, only public sources. */
  readonly broker: { readonly url: string; readonly caFile: string; readonly tokenFile: string } | undefined;
  /** Port of /metrics, /healthz and /readyz. */
  readonly metricsPort: number;
  readonly logLevel: string;
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/** Reads the configuration; throws an Error whose message names the variable and says what to write. */
export function readAgentConfig(env: Readonly<Record<string, string | undefined>>): AgentConfig {
  const nodeName = env['SLM_NODE_NAME'];
  if (!nodeName) throw new Error('SLM_NODE_NAME is not set: the chart sets it from spec.nodeName of the pod');
  const logLevel = env['SLM_LOG_LEVEL'] || 'info';
  if (!LOG_LEVELS.includes(logLevel)) {
    throw new Error(`SLM_LOG_LEVEL is "${logLevel}": write one of ${LOG_LEVELS.join(', ')}`);
  }
  return {
    nodeName,
    storeRoot: folder(env, 'SLM_STORE', store.root),
    kubeletDir: folder(env, 'SLM_KUBELET_DIR', '/var/lib/kubelet'),
    deviceDir: folder(env, 'SLM_DEVICE_DIR', '/dev'),
    broker: readBroker(env),
    metricsPort: port(env, 'SLM_METRICS_PORT', 8082),
    logLevel,
  };
}

function readBroker(env: Readonly<Record<string, string | undefined>>): AgentConfig['broker'] {
  const url = env['SLM_BROKER_URL'];
  if (!url) return undefined;
  // A token travels there: never without TLS.
  if (!/^https:\/\/[^/?#]+$/.test(url)) throw new Error(`SLM_BROKER_URL is "${url}": write https://HOST:PORT`);
  const caFile = env['SLM_BROKER_CA_FILE'];
  const tokenFile = env['SLM_BROKER_TOKEN_FILE'];
  if (!caFile || !tokenFile) {
    throw new Error('SLM_BROKER_URL is set, so SLM_BROKER_CA_FILE and SLM_BROKER_TOKEN_FILE must be set too');
  }
  return { url, caFile, tokenFile };
}

function folder(env: Readonly<Record<string, string | undefined>>, name: string, standard: string): string {
  const value = (env[name] || standard).replace(/\/+$/, '');
  if (!value.startsWith('/')) throw new Error(`${name} is "${value}": write an absolute path`);
  return value;
}

function port(env: Readonly<Record<string, string | undefined>>, name: string, standard: number): number {
  const value = env[name];
  if (!value) return standard;
  const parsed = Number(value);
  if (!Number.isInteger(parsed) || parsed < 0 || parsed > 65535) {
    throw new Error(`${name} is "${value}": write a port from 0 to 65535`);
  }
  return parsed;
}
