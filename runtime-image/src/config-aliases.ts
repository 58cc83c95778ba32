/**
 * Names under which other servers take the same settings, for whoever comes from them. Owns the mapping to ours: a value
 * of ours always wins, and an alias that cannot be honoured is refused with a sentence. Reads no file.
 */
import { serverEnv } from '@slm-operator/crds/contract';
import { parseKeepAlive } from './models/keep-alive.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** What an alias becomes: values of ours, nothing, or a problem. */
type Translation = { readonly set: Readonly<Record<string, string>> } | { readonly problem: string };

const nothing: Translation = { set: {} };
const same =
  (name: string) =>
  (value: string): Translation => ({ set: { [name]: value } });
const problem = (sentence: string): Translation => ({ problem: sentence });

const TRUE = /^(?:1|t|true|yes|on)$/i;
const FALSE = /^(?:0|f|false|no|off)$/i;

/** Takes values that ask for what happens anyway. */
const only =
  (harmless: RegExp, why: string) =>
  (value: string, name: string): Translation =>
    harmless.test(value) ? nothing : problem(`${name}=${value} cannot be honoured: ${why}; leave it out.`);

const ALIASES: Readonly<Record<string, (value: string, name: string) => Translation>> = {
  OLLAMA_HOST: hostAndPort,
  OLLAMA_NUM_PARALLEL: same(serverEnv.parallelRequests),
  OLLAMA_CONTEXT_LENGTH: same(serverEnv.contextLength),
  OLLAMA_NUM_THREAD: same(serverEnv.threads),
  OLLAMA_MAX_QUEUE: same(serverEnv.maxQueue),
  OLLAMA_FLASH_ATTENTION: (value, name) => {
    if (TRUE.test(value)) return { set: { [serverEnv.flashAttention]: 'Enabled' } };
    if (FALSE.test(value)) return { set: { [serverEnv.flashAttention]: 'Disabled' } };
    return problem(`${name}=${value} must be 1 or 0.`);
  },
  OLLAMA_KV_CACHE_TYPE: (value, name) =>
    /^(?:f16|q8_0|q4_0)$/i.test(value)
      ? { set: { [serverEnv.kvCacheType]: value } }
      : problem(`${name}=${value} must be one of f16, q8_0, q4_0.`),
  OLLAMA_DEBUG: (value, name) => {
    if (FALSE.test(value)) return nothing;
    if (value === '2') return { set: { [serverEnv.logLevel]: 'trace' } };
    if (TRUE.test(value)) return { set: { [serverEnv.logLevel]: 'debug' } };
    return problem(`${name}=${value} must be 0, 1 or 2.`);
  },
  OLLAMA_MAX_LOADED_MODELS: same(serverEnv.maxLoadedModels),
  OLLAMA_KEEP_ALIVE: same(serverEnv.keepAlive),
  OLLAMA_GPU_LAYERS: gpuLayers,
  // How many GPUs: all that the pod has are used, unless none is to be.
  OLLAMA_NUM_GPU: (value, name) =>
    /^\d+$/.test(value)
      ? { set: Number(value) === 0 ? { [serverEnv.gpuLayers]: '0' } : {} }
      : problem(`${name}=${value} must be a number of GPUs; 0 for none.`),
  // A hint that Ollama plans with: a model that does not fit is refused at start, with what to change.
  OLLAMA_MAX_VRAM: only(/^\d+(?:\.\d+)?\s*(?:[kmgt]i?)?b?$/i, 'it must be a size such as 8G'),
  OLLAMA_MULTIUSER_CACHE: only(FALSE, 'prompts are shared between requests as they come'),
  OLLAMA_NOPRUNE: only(/^.*$/, ''),
  OLLAMA_MODELS: same(serverEnv.modelsDir),
  OLLAMA_ORIGINS: same(serverEnv.origins),
  OLLAMA_LOAD_TIMEOUT: (value, name) => {
    const ms = parseKeepAlive(value);
    if (ms === undefined) return problem(`${name}=${value} must be a duration such as 5m.`);
    // Nothing and less than nothing mean no limit there; a day is none here.
    const seconds = ms === 0 ? 86_400 : Math.min(86_400, Math.max(1, Math.round(ms / 1000)));
    return { set: { [serverEnv.loadTimeoutSeconds]: String(seconds) } };
  },
  // Layers are spread over all GPUs that the pod has.
  OLLAMA_SCHED_SPREAD: only(/^.*$/, ''),
  OLLAMA_GPU_OVERHEAD: only(/^0$/, `the layers on the GPU are bounded by ${serverEnv.gpuLayers}`),
  // A path, or the name under which clients ask for the model that another setting points to.
  FOUNDRY_MODEL: (value) =>
    /^\.{0,2}\/|\.gguf$/i.test(value)
      ? { set: { [serverEnv.modelPath]: value } }
      : { set: { [serverEnv.servedNames]: JSON.stringify([value]) } },
  FOUNDRY_HARDWARE: same(serverEnv.device),
};

/** Every name that is known. */
export const ALIAS_NAMES: readonly string[] = Object.keys(ALIASES);

/**
 * Adds ours for every alias that is set.
 * @returns an environment with our names, and what cannot be honoured
 */
export function withAliases(env: Env): { readonly env: Env; readonly problems: readonly string[] } {
  const added: Record<string, string> = {};
  const problems: string[] = [];
  for (const [name, translate] of Object.entries(ALIASES)) {
    const value = env[name]?.trim();
    if (value === undefined || value === '') continue;
    const translation = translate(value, name);
    if ('problem' in translation) problems.push(translation.problem);
    else Object.assign(added, translation.set);
  }
  for (const name of Object.keys(env).sort())
    if (name.startsWith('OLLAMA_') && !(name in ALIASES) && !SERVICE_LINK.test(name))
      problems.push(`${name} is not a setting of this server: remove it.`);
  const ours = Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value.trim() !== ''),
  );
  return { env: { ...env, ...added, ...ours }, problems };
}

/** Ollama writes -1 for as many as the GPU holds; here that is the default. */
function gpuLayers(value: string): Translation {
  return value === '-1' ? nothing : { set: { [serverEnv.gpuLayers]: value } };
}

/** Kubernetes gives pods such variables for every Service of the namespace; one named `slm-…` looks like ours. */
export const SERVICE_LINK = /_SERVICE_(HOST|PORT(_.+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$/;

/** Ollama takes `host`, `host:port`, `:port` and all of them as a URL. */
function hostAndPort(value: string, name: string): Translation {
  const match = /^(?:https?:\/\/)?(?:\[([\da-f:.]+)\]|([^:/[\]]*))(?::(\d+))?\/?$/i.exec(value);
  if (!match) return problem(`${name}=${value} must be a host with or without a port, such as 0.0.0.0:11434.`);
  const host = match[1] ?? match[2] ?? '';
  const everywhere = host === '' || host === '0.0.0.0' || host === '::';
  return {
    set: {
      // Without a host ours listens on every address, IPv6 and IPv4.
      ...(everywhere ? {} : { [serverEnv.host]: host }),
      ...(match[3] === undefined ? {} : { [serverEnv.port]: match[3] }),
    },
  };
}
