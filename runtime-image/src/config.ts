/**
 * The server's settings, all from the environment. Owns names, defaults and bounds; reads no file.
 * An unknown `SLM_*` variable is refused, because a misspelt setting would otherwise pass in silence.
 */
import { ports, serverEnv } from '@slm-operator/crds/contract';
import { SERVICE_LINK, withAliases } from './config-aliases.ts';
import { AUTO, DEVICE_WORDS, type DeviceOrder, parseDevices } from './devices.ts';
import { StartupError } from './failures.ts';
import { DEFAULT_LIMITS, type Limits } from './limits.ts';
import { type ModelSettings, readModelSettings } from './models/settings.ts';
import type { Apis } from './plugins/api-switch.ts';
import { isOrigin } from './plugins/cors.ts';

export interface Config {
  /** Of the model that the server is about; empty where it has only those of `models`. */
  readonly modelPath: string;
  /** The other models, and how long models stay loaded. */
  readonly models: ModelSettings;
  /** Digest of the revision, `sha256:<hex>`; undefined when run by hand. */
  readonly modelDigest: string | undefined;
  /** Names that clients may use; the first is the canonical one. */
  readonly servedNames: readonly [string, ...string[]];
  /** Undefined: min(the model's own, 4096). */
  readonly contextLength: number | undefined;
  readonly parallelRequests: number;
  readonly batchSize: number;
  /** Undefined: the cgroup's CPU limit decides. */
  readonly threads: number | undefined;
  /** What to compute on, the best first. */
  readonly devices: DeviceOrder;
  /** Layers that the GPU computes; undefined: all. */
  readonly gpuLayers: number | undefined;
  /** With fewer tokens a second at start the server does not get ready; undefined: any will do. */
  readonly minTokensPerSecond: number | undefined;
  readonly flashAttention: (typeof FLASH_ATTENTION)[number];
  readonly kvCacheType: (typeof KV_CACHE_TYPES)[number];
  readonly maxQueue: number;
  /** Memory for prompts whose slot is gone, in bytes; 0 for none. */
  readonly promptCacheBytes: number;
  /** Tokens of an answer that are guessed at a time; 0 for none. */
  readonly mostGuesses: number;
  /** LoRA adapters of the model at `modelPath`. */
  readonly adapters: readonly Adapter[];
  readonly auth: (typeof AUTH)[number];
  readonly apiKeysDir: string | undefined;
  /** For auth ServiceAccount: where tokens are reviewed, and for whom they must be made. */
  readonly tokens: { readonly brokerDir: string; readonly audience: string } | undefined;
  readonly drainTimeoutSeconds: number;
  /** Seconds after SIGTERM in which new connections are still served. */
  readonly shutdownDelaySeconds: number;
  /** Undefined: every address, IPv6 and IPv4. */
  readonly host: string | undefined;
  readonly port: number;
  /** Undefined: no second listener. */
  readonly openaiPort: number | undefined;
  /** Undefined: the file decides. */
  readonly engine: (typeof ENGINES)[number] | undefined;
  readonly logLevel: (typeof LOG_LEVELS)[number];
  /** Whether each request leaves a line in the audit log. */
  readonly audit: boolean;
  /** Whether the audit log has what was asked and answered too. */
  readonly auditContent: boolean;
  readonly limits: Limits;
  readonly apis: Apis;
  /** Origins of web pages that may ask besides this machine's own. */
  readonly origins: readonly string[];
  /** Undefined: plain HTTP. */
  readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined;
  /** Folder with what a running pod is told; undefined: the operator's, where it is there. */
  readonly podDir: string | undefined;
  /** Whether a parent process restarts the server after a crash in native code. */
  readonly supervise: boolean;
}

/** A LoRA adapter, and how much of it is added. */
export interface Adapter {
  readonly path: string;
  /** 1 as it was trained, 0 for nothing. */
  readonly scale: number;
}

const SPECULATION = ['None', 'NGram'] as const;
const DEFAULT_GUESSES = 4;
/** For a request where clients upload models. */
const UPLOAD_SECONDS = 3600;

const FLASH_ATTENTION = ['Auto', 'Enabled', 'Disabled'] as const;
const KV_CACHE_TYPES = ['F16', 'Q8_0', 'Q4_0'] as const;
const AUTH = ['APIKey', 'ServiceAccount', 'None'] as const;
const ENGINES = ['llama-cpp', 'llama-cpp-public', 'onnx', 'fake'] as const;
const SWITCH = ['true', 'false'] as const;
const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

/**
 * Reads the settings.
 * @throws StartupError (InvalidConfiguration) with one sentence for each thing to change.
 */
export function readConfig(given: Readonly<Record<string, string | undefined>>): Config {
  const { env, problems: refused } = withAliases(given);
  const problems = [...unknownNames(given), ...refused];
  const text = (name: string) => {
    const value = env[name]?.trim();
    return value === undefined || value === '' ? undefined : value;
  };
  const integer = (name: string, min: number, max: number): number | undefined => {
    const value = text(name);
    if (value === undefined) return undefined;
    const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (number >= min && number <= max) return number;
    const hint = value.includes('://') ? ' (a Service link of Kubernetes: set enableServiceLinks: false)' : '';
    problems.push(`${name}=${value} must be a whole number from ${min} to ${max}${hint}.`);
    return undefined;
  };
  const choice = <T extends string>(name: string, values: readonly T[]): T | undefined => {
    const value = text(name);
    if (value === undefined) return undefined;
    const found = values.find((one) => one.toLowerCase() === value.toLowerCase());
    if (found === undefined) problems.push(`${name}=${value} must be one of ${values.join(', ')}.`);
    return found;
  };

  const modelPath = text(serverEnv.modelPath);
  const models = readModelSettings({ text, integer, problems });
  if (modelPath === undefined && models.dir === undefined && models.list.length === 0)
    problems.push(`${serverEnv.modelPath} is missing: set it to a GGUF file or to the folder that holds it.`);
  const parallelRequests = integer(serverEnv.parallelRequests, 1, 256) ?? 4;
  const batchSize = integer(serverEnv.batchSize, 1, 65_536) ?? 512;
  if (batchSize < parallelRequests)
    problems.push(
      `${serverEnv.batchSize}=${batchSize} must be at least ${serverEnv.parallelRequests}=${parallelRequests}: each running request needs one token of every batch.`,
    );
  const apiKeysDir = text(serverEnv.apiKeysDir);
  const auth = choice(serverEnv.auth, AUTH) ?? (apiKeysDir === undefined ? 'None' : 'APIKey');
  if (auth === 'APIKey' && apiKeysDir === undefined)
    problems.push(`${serverEnv.auth}=APIKey needs ${serverEnv.apiKeysDir}: the folder with one key a file.`);
  const brokerDir = text(serverEnv.brokerDir);
  const audience = text(serverEnv.tokenAudience);
  if (auth === 'ServiceAccount' && (brokerDir === undefined || audience === undefined))
    problems.push(
      `${serverEnv.auth}=ServiceAccount needs ${serverEnv.brokerDir} and ${serverEnv.tokenAudience}, which the operator sets: use an SLMDeployment with spec.auth.type: ServiceAccount, or API keys.`,
    );
  const auditContent = choice(serverEnv.auditContent, SWITCH) === 'true';
  const certFile = text(serverEnv.tlsCertFile);
  const keyFile = text(serverEnv.tlsKeyFile);
  if ((certFile === undefined) !== (keyFile === undefined))
    problems.push(`${serverEnv.tlsCertFile} and ${serverEnv.tlsKeyFile} belong together: set both, or neither.`);
  const openaiPort =
    text(serverEnv.openaiPort)?.toLowerCase() === 'none'
      ? undefined
      : (integer(serverEnv.openaiPort, 0, 65_535) ?? ports.openai);
  const port = integer(serverEnv.port, 0, 65_535) ?? ports.ollama;
  if (openaiPort !== undefined && openaiPort === port && port !== 0)
    problems.push(`${serverEnv.port} and ${serverEnv.openaiPort} are both ${port}: set the second to another or none.`);

  const speculation = choice(serverEnv.speculation, SPECULATION);
  const mostGuesses = integer(serverEnv.maxDraft, 1, 32) ?? DEFAULT_GUESSES;
  const config: Config = {
    modelPath: modelPath ?? '',
    models,
    modelDigest: text(serverEnv.modelDigest),
    servedNames: servedNames(text(serverEnv.servedNames), modelPath ?? '', problems),
    contextLength: integer(serverEnv.contextLength, 16, 16_777_216),
    parallelRequests,
    batchSize,
    threads: integer(serverEnv.threads, 1, 1024),
    devices: devices(text(serverEnv.device), problems),
    gpuLayers: integer(serverEnv.gpuLayers, 0, 100_000),
    minTokensPerSecond: positive(text(serverEnv.minTokensPerSecond), problems),
    flashAttention: choice(serverEnv.flashAttention, FLASH_ATTENTION) ?? 'Auto',
    kvCacheType: choice(serverEnv.kvCacheType, KV_CACHE_TYPES) ?? 'F16',
    maxQueue: integer(serverEnv.maxQueue, 0, 100_000) ?? 64,
    promptCacheBytes: integer(serverEnv.promptCacheBytes, 0, Number.MAX_SAFE_INTEGER) ?? 0,
    mostGuesses: speculation === 'NGram' ? mostGuesses : 0,
    adapters: adapters(text(serverEnv.adapters), problems),
    auth,
    apiKeysDir,
    tokens:
      auth === 'ServiceAccount' && brokerDir !== undefined && audience !== undefined
        ? { brokerDir, audience }
        : undefined,
    drainTimeoutSeconds: integer(serverEnv.drainTimeoutSeconds, 0, 86_400) ?? 30,
    shutdownDelaySeconds: integer(serverEnv.shutdownDelaySeconds, 0, 3600) ?? 0,
    host: text(serverEnv.host),
    port,
    openaiPort,
    engine: choice(serverEnv.engine, ENGINES),
    logLevel: choice(serverEnv.logLevel, LOG_LEVELS) ?? 'info',
    audit: auditContent || choice(serverEnv.audit, SWITCH) === 'true',
    auditContent,
    limits: {
      maxBodyBytes: integer(serverEnv.maxBodyBytes, 1024, 2 ** 30) ?? DEFAULT_LIMITS.maxBodyBytes,
      maxTokens: integer(serverEnv.maxTokens, 1, 16_777_216),
      requestTimeoutSeconds: integer(serverEnv.requestTimeoutSeconds, 1, 86_400),
      receiveTimeoutSeconds:
        integer(serverEnv.receiveTimeoutSeconds, 1, 86_400) ??
        (models.management ? UPLOAD_SECONDS : DEFAULT_LIMITS.receiveTimeoutSeconds),
      sendTimeoutSeconds: integer(serverEnv.sendTimeoutSeconds, 1, 86_400) ?? DEFAULT_LIMITS.sendTimeoutSeconds,
      maxConnections: integer(serverEnv.maxConnections, 1, 1_000_000) ?? DEFAULT_LIMITS.maxConnections,
    },
    origins: origins(text(serverEnv.origins), problems),
    apis: {
      openai: choice(serverEnv.openaiApi, SWITCH) !== 'false',
      ollama: choice(serverEnv.ollamaApi, SWITCH) !== 'false',
    },
    tls: certFile === undefined || keyFile === undefined ? undefined : { certFile, keyFile },
    podDir: text(serverEnv.podDir),
    supervise: choice(serverEnv.supervise, SWITCH) !== 'false',
  };
  if (!config.apis.openai && !config.apis.ollama)
    problems.push(`${serverEnv.openaiApi} and ${serverEnv.ollamaApi} are both false: leave one API on.`);
  if (problems.length > 0) throw new StartupError('InvalidConfiguration', problems.join(' '));
  return config;
}

function devices(value: string | undefined, problems: string[]): DeviceOrder {
  const order = value === undefined ? AUTO : parseDevices(value);
  if (!('unknown' in order)) return order;
  problems.push(
    `${serverEnv.device}=${value} has ${JSON.stringify(order.unknown)}: write ${DEVICE_WORDS.join(', ')} or auto, with commas, the best first.`,
  );
  return AUTO;
}

/** The API has whole numbers and fractions of tokens a second. */
function positive(value: string | undefined, problems: string[]): number | undefined {
  if (value === undefined) return undefined;
  const number = /^\d+(?:\.\d+)?$/.test(value) ? Number(value) : 0;
  if (number > 0 && number <= 1_000_000) return number;
  problems.push(`${serverEnv.minTokensPerSecond}=${value} must be a number above 0, such as 20.`);
  return undefined;
}

function adapters(value: string | undefined, problems: string[]): Adapter[] {
  if (value === undefined) return [];
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch {
    parsed = undefined;
  }
  const list = (Array.isArray(parsed) ? (parsed as readonly unknown[]) : []).flatMap((one) => {
    const { path, scale = 1 } = (one ?? {}) as { readonly path?: unknown; readonly scale?: unknown };
    return typeof path === 'string' && path !== '' && typeof scale === 'number' ? [{ path, scale }] : [];
  });
  if (!Array.isArray(parsed) || list.length !== parsed.length)
    problems.push(`${serverEnv.adapters} must be a JSON array such as [{"path":"/adapters/style.gguf","scale":1}].`);
  return list;
}

function origins(value: string | undefined, problems: string[]): string[] {
  const list = (value ?? '')
    .split(',')
    .map((origin) => origin.trim().replace(/\/$/, ''))
    .filter((origin) => origin !== '');
  for (const origin of list)
    if (!isOrigin(origin))
      problems.push(`${serverEnv.origins} has ${origin}: write origins such as https://chat.example.com, with commas.`);
  return list;
}

/** Without names of its own a model is called like its file. */
function servedNames(value: string | undefined, modelPath: string, problems: string[]): [string, ...string[]] {
  const fallback =
    modelPath
      .replace(/\/+$/, '')
      .split('/')
      .at(-1)
      ?.replace(/\.gguf$/i, '') || 'model';
  if (value === undefined) return [fallback];
  let names: unknown;
  try {
    names = JSON.parse(value);
  } catch {
    names = undefined;
  }
  if (Array.isArray(names) && names.every((name) => typeof name === 'string' && name.trim() !== '')) {
    const [first, ...rest] = names as string[];
    if (first !== undefined) return [first, ...rest];
  }
  problems.push(`${serverEnv.servedNames} must be a JSON array of names, such as ["chat","smollm2"].`);
  return [fallback];
}

function unknownNames(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = Object.values(serverEnv) as string[];
  return Object.keys(env)
    .filter((name) => name.startsWith('SLM_') && !known.includes(name) && !SERVICE_LINK.test(name))
    .sort()
    .map((name) => {
      const nearest = known
        .map((candidate) => ({
          candidate,
          // Half a name is as good as a misspelt one.
          distance: candidate.startsWith(`${name}_`) ? 0 : editDistance(name, candidate),
        }))
        .reduce((best, one) => (one.distance < best.distance ? one : best));
      return nearest.distance <= Math.max(3, name.length / 3)
        ? `${name} is not a setting: did you mean ${nearest.candidate}?`
        : `${name} is not a setting: remove it; the settings are ${known.join(', ')}.`;
    });
}

/** Insertions, deletions and replacements between two names. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(
        Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)),
      );
    row = next;
  }
  return row[b.length] ?? 0;
}
