/**
 * What the operator is told at start, by environment (the chart sets it). Owns names, defaults and the sentences for bad
 * values; reads nothing else.
 */
import { type Profiles, readImages, readOrder, readProfiles } from './hardware/profiles.ts';

export interface OperatorConfig {
  /** Namespace that the operator runs in. */
  readonly namespace: string;
  /** Name of this replica; the pod's name. */
  readonly identity: string;
  /** Server image of new revisions. */
  readonly serverImage: string;
  /** The same for each variant of it: `cpu` is serverImage, others are for other hardware. */
  readonly serverImages: Readonly<Record<string, string>>;
  /** Hardware that there may be: the built-in kinds and the site's. */
  readonly hardwareProfiles: Profiles;
  /** Classes and profiles, the best first, for deployments that name none. */
  readonly hardwareOrder: readonly string[];
  /** Whether a pod is made only when a node has room for it. False where a cluster autoscaler makes nodes for pods that wait. */
  readonly waitForFit: boolean;
  /** Pull policy of the server image. */
  readonly serverImagePullPolicy: 'IfNotPresent' | 'Always' | 'Never';
  /** Base address of the Hugging Face Hub API for hf:// sources without an endpoint of their own. */
  readonly hfEndpoint: string;
  /** Whether hfEndpoint may be http://. */
  readonly hfEndpointInsecure: boolean;
  /** Part of a node's file system that stays free. */
  readonly minFreePercent: number;
  /** Name of the ServiceAccount of the node agent, in `namespace`. */
  readonly agentServiceAccount: string;
  /** Name of the operator's own ServiceAccount, in `namespace`. */
  readonly serviceAccount: string;
  /** Seconds of the leader's lease: duration, renew deadline, retry period. */
  readonly lease: { readonly durationSeconds: number; readonly renewSeconds: number; readonly retrySeconds: number };
  /** Port of metrics and probes. */
  readonly metricsPort: number;
  /** Port of the download broker. */
  readonly brokerPort: number;
  /** The operator's Service, with the broker's port. */
  readonly service: string;
  /** DNS names of the broker's Service. */
  readonly brokerHosts: readonly string[];
  readonly logLevel: string;
}

/** Reads the configuration; throws an Error whose message names the variable and says what to write. */
export function readConfig(env: Readonly<Record<string, string | undefined>>): OperatorConfig {
  const namespace = required(env, 'SLM_NAMESPACE');
  const hfEndpoint = env['SLM_HF_ENDPOINT'] || 'https://huggingface.co';
  const hfEndpointInsecure = flag(env, 'SLM_HF_ENDPOINT_INSECURE');
  if (!/^https?:\/\/[^/]/.test(hfEndpoint)) throw new Error(`SLM_HF_ENDPOINT is "${hfEndpoint}": write https://HOST`);
  if (hfEndpoint.startsWith('http://') && !hfEndpointInsecure) {
    throw new Error('SLM_HF_ENDPOINT is http://: write https://, or set SLM_HF_ENDPOINT_INSECURE=true');
  }
  const pullPolicy = env['SLM_SERVER_IMAGE_PULL_POLICY'] || 'IfNotPresent';
  if (pullPolicy !== 'IfNotPresent' && pullPolicy !== 'Always' && pullPolicy !== 'Never') {
    throw new Error(`SLM_SERVER_IMAGE_PULL_POLICY is "${pullPolicy}": write IfNotPresent, Always or Never`);
  }
  const serverImage = required(env, 'SLM_SERVER_IMAGE');
  const serverImages = { cpu: serverImage, ...readImages(env['SLM_SERVER_IMAGES'], 'SLM_SERVER_IMAGES') };
  const hardwareProfiles = readProfiles(
    env['SLM_HARDWARE_PROFILES'],
    'SLM_HARDWARE_PROFILES',
    Object.keys(serverImages),
  );
  const service = env['SLM_SERVICE'] || 'slm-operator';
  return {
    namespace,
    identity: required(env, 'SLM_IDENTITY'),
    serverImage,
    serverImages,
    hardwareProfiles,
    hardwareOrder: readOrder(env['SLM_HARDWARE_ORDER'], hardwareProfiles, 'SLM_HARDWARE_ORDER'),
    waitForFit: flag(env, 'SLM_WAIT_FOR_FIT', true),
    serverImagePullPolicy: pullPolicy,
    hfEndpoint: hfEndpoint.replace(/\/+$/, ''),
    hfEndpointInsecure,
    minFreePercent: number(env, 'SLM_MIN_FREE_PERCENT', 10, 0, 95),
    agentServiceAccount: env['SLM_AGENT_SERVICE_ACCOUNT'] || 'slm-operator-agent',
    serviceAccount: env['SLM_SERVICE_ACCOUNT'] || 'slm-operator',
    lease: {
      durationSeconds: number(env, 'SLM_LEASE_DURATION_SECONDS', 15, 2, 3600),
      renewSeconds: number(env, 'SLM_LEASE_RENEW_SECONDS', 10, 1, 3600),
      retrySeconds: number(env, 'SLM_LEASE_RETRY_SECONDS', 2, 0.1, 3600),
    },
    metricsPort: number(env, 'SLM_METRICS_PORT', 8081, 0, 65535),
    brokerPort: number(env, 'SLM_BROKER_PORT', 9443, 0, 65535),
    service,
    brokerHosts: [
      service,
      `${service}.${namespace}`,
      `${service}.${namespace}.svc`,
      `${service}.${namespace}.svc.cluster.local`,
    ],
    logLevel: env['SLM_LOG_LEVEL'] || 'info',
  };
}

function required(env: Readonly<Record<string, string | undefined>>, name: string): string {
  const value = env[name];
  if (!value) throw new Error(`${name} is not set: the chart sets it; by hand, export ${name}=…`);
  return value;
}

function flag(env: Readonly<Record<string, string | undefined>>, name: string, standard = false): boolean {
  const value = env[name] ?? String(standard);
  if (value !== 'true' && value !== 'false') throw new Error(`${name} is "${value}": write true or false`);
  return value === 'true';
}

function number(
  env: Readonly<Record<string, string | undefined>>,
  name: string,
  standard: number,
  minimum: number,
  maximum: number,
): number {
  const value = env[name];
  if (value === undefined || value === '') return standard;
  const parsed = Number(value);
  if (!Number.isFinite(parsed) || parsed < minimum || parsed > maximum) {
    throw new Error(`${name} is "${value}": write a number from ${minimum} to ${maximum}`);
  }
  return parsed;
}
