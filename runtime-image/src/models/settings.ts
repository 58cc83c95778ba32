/**
 * Which models a server has beside its first one, and how long they stay: the settings, all from the environment. Owns their
 * bounds and defaults; reads no file.
 */
import { serverEnv } from '@slm-operator/crds/contract';
import { parseKeepAlive } from './keep-alive.ts';

/** A model of the list in SLM_MODELS. */
export interface ListedModel {
  readonly names: readonly [string, ...string[]];
  readonly path: string;
  readonly contextLength?: number;
  /** Path of a Modelfile, whose FROM may be left out in favour of `path`. */
  readonly modelfile?: string;
}

export interface ModelSettings {
  /** Folder of models; undefined: none. */
  readonly dir: string | undefined;
  readonly list: readonly ListedModel[];
  /** Names of models to load at start, which readiness waits for. */
  readonly preload: readonly string[];
  readonly maxLoaded: number;
  /** Bytes for all loaded models; undefined: what the cgroup or the machine has. */
  readonly maxMemory: number | undefined;
  /** Milliseconds after the last request; undefined when nobody said. */
  readonly keepAliveMs: number | undefined;
  readonly loadTimeoutMs: number;
  /** Path of a Modelfile for the first model. */
  readonly modelfile: string | undefined;
  /** The same as fields: an object of JSON. */
  readonly defaults: Readonly<Record<string, unknown>> | undefined;
  /** Whether the API may pull, create and delete models. */
  readonly management: boolean;
  /** Hosts of the registries that it may ask, with their ports. */
  readonly registries: readonly string[];
}

/** How settings are read; problems are collected, not thrown. */
export interface SettingReader {
  readonly text: (name: string) => string | undefined;
  readonly integer: (name: string, min: number, max: number) => number | undefined;
  readonly problems: string[];
}

const BYTES = /^(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?$/i;

export function readModelSettings({ text, integer, problems }: SettingReader): ModelSettings {
  const json = (name: string): unknown => {
    const value = text(name);
    if (value === undefined) return undefined;
    try {
      return JSON.parse(value);
    } catch {
      problems.push(`${name} is not valid JSON.`);
      return undefined;
    }
  };
  const keepAlive = text(serverEnv.keepAlive);
  const keepAliveMs = keepAlive === undefined ? undefined : parseKeepAlive(keepAlive);
  if (keepAlive !== undefined && keepAliveMs === undefined)
    problems.push(
      `${serverEnv.keepAlive}=${keepAlive} must be a number of seconds or a duration such as 5m; -1 for ever, 0 to unload at once.`,
    );
  const memory = text(serverEnv.maxMemory);
  const maxMemory = memory === undefined ? undefined : parseBytes(memory);
  if (memory !== undefined && maxMemory === undefined)
    problems.push(`${serverEnv.maxMemory}=${memory} must be a number of bytes, such as 4Gi.`);
  const list = listed(json(serverEnv.models), problems);
  const dir = text(serverEnv.modelsDir);
  const management = text(serverEnv.management)?.toLowerCase();
  if (management !== undefined && management !== 'true' && management !== 'false')
    problems.push(`${serverEnv.management}=${management} must be one of true, false.`);
  if (management === 'true' && dir === undefined)
    problems.push(`${serverEnv.management}=true needs ${serverEnv.modelsDir}: a folder that the server may write to.`);
  const defaults = json(serverEnv.modelDefaults);
  if (defaults !== undefined && !isObject(defaults))
    problems.push(`${serverEnv.modelDefaults} must be a JSON object: {"parameters": {…}, "system": "…"}.`);
  return {
    dir,
    list,
    preload: namesOf(serverEnv.preload, text(serverEnv.preload), problems),
    maxLoaded: integer(serverEnv.maxLoadedModels, 0, 1000) || 3,
    maxMemory,
    keepAliveMs,
    loadTimeoutMs: (integer(serverEnv.loadTimeoutSeconds, 1, 86_400) ?? 300) * 1000,
    modelfile: text(serverEnv.modelfile),
    defaults: isObject(defaults) ? defaults : undefined,
    management: management === 'true',
    registries: namesOf(serverEnv.registries, text(serverEnv.registries) ?? REGISTRIES, problems),
  };
}

/** `4Gi`, `4GB`, `4096M` or a number of bytes. */
export function parseBytes(value: string): number | undefined {
  const [, number, unit = ''] = BYTES.exec(value.trim()) ?? [];
  if (number === undefined) return undefined;
  const base = unit.toLowerCase().endsWith('i') ? 1024 : 1000;
  const power = ['', 'k', 'm', 'g', 't'].indexOf(unit.charAt(0).toLowerCase());
  const bytes = Math.round(Number(number) * base ** power);
  return bytes > 0 ? bytes : undefined;
}

function listed(value: unknown, problems: string[]): ListedModel[] {
  if (value === undefined) return [];
  const wrong = (what: string) => {
    problems.push(`${serverEnv.models} ${what}.`);
    return [];
  };
  if (!Array.isArray(value))
    return wrong('must be a JSON array of objects such as {"name": "phi4:mini", "path": "/models/phi4.gguf"}');
  const known = ['name', 'names', 'path', 'contextLength', 'modelfile'];
  return value.flatMap((one: unknown, index): ListedModel[] => {
    if (!isObject(one)) return wrong(`[${index}] must be an object`);
    const { name, path, contextLength, modelfile } = one;
    const [first, ...rest] = (one['names'] ?? [name]) as unknown[];
    const stranger = Object.keys(one).find((key) => !known.includes(key));
    if (stranger !== undefined) return wrong(`[${index}].${stranger} is not a setting: ${known.join(', ')} are`);
    if (![first, ...rest].every(isName)) return wrong(`[${index}].names must be a list of names`);
    if (!isName(path)) return wrong(`[${index}].path must be a file or folder`);
    if (contextLength !== undefined && !(Number.isInteger(contextLength) && Number(contextLength) >= 16))
      return wrong(`[${index}].contextLength must be a whole number of at least 16`);
    if (modelfile !== undefined && !isName(modelfile))
      return wrong(`[${index}].modelfile must be the path of a Modelfile`);
    return [
      {
        names: [first as string, ...(rest as string[])],
        path,
        ...(contextLength === undefined ? {} : { contextLength: Number(contextLength) }),
        ...(modelfile === undefined ? {} : { modelfile }),
      },
    ];
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value.trim() !== '';
}

/** Where models are known to be. */
const REGISTRIES = 'registry.ollama.ai,hf.co';

/** A JSON array, or names with commas between. */
function namesOf(setting: string, value: string | undefined, problems: string[]): string[] {
  if (value === undefined) return [];
  if (!value.startsWith('['))
    return value
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '');
  try {
    const names: unknown = JSON.parse(value);
    if (Array.isArray(names) && names.every(isName)) return names;
  } catch {
    // Said below.
  }
  problems.push(`${setting} must be a JSON array of names, or names with commas between.`);
  return [];
}
