/**
 * Finds the models that the settings name: the first, those of a list, those of a folder. Reads folders and Modelfiles, no
 * model.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { serverEnv } from '@slm-operator/crds/contract';
import type { Config } from '../config.ts';
import { StartupError } from '../failures.ts';
import { type ModelDefaults, NO_DEFAULTS } from '../modelfile/defaults.ts';
import { inherited, type Modelfile, readDefaults, readModelfile } from '../modelfile/modelfile.ts';
import { hasName, type ModelSpec, makeSpec } from './model-spec.ts';
import type { ListedModel } from './settings.ts';

/**
 * The model that the server was started with, where there is one.
 * @throws StartupError
 */
export async function firstModel(config: Config): Promise<ModelSpec[]> {
  if (config.modelPath === '') return [];
  const { modelfile, defaults: fields, keepAliveMs } = config.models;
  let defaults: ModelDefaults = NO_DEFAULTS;
  if (modelfile !== undefined)
    defaults = atPath((await readAt(modelfile, serverEnv.modelfile)).defaults, path.dirname(modelfile));
  if (fields !== undefined)
    try {
      defaults = inherited(readDefaults(fields), defaults);
    } catch (error) {
      throw refused(serverEnv.modelDefaults, error);
    }
  return [
    makeSpec({
      names: config.servedNames,
      path: config.modelPath,
      digest: config.modelDigest,
      // Whoever says how long it stays wants it to go.
      resident: keepAliveMs === undefined || keepAliveMs === Number.POSITIVE_INFINITY,
      defaults,
    }),
  ];
}

/** @throws StartupError for a Modelfile that cannot be read */
export async function listedModels(list: readonly ListedModel[]): Promise<ModelSpec[]> {
  return Promise.all(
    list.map(async ({ names, path: file, contextLength, modelfile }) => {
      const defaults =
        modelfile === undefined
          ? NO_DEFAULTS
          : atPath((await readAt(modelfile, serverEnv.models)).defaults, path.dirname(modelfile));
      return makeSpec({ names, path: file, defaults, ...(contextLength === undefined ? {} : { contextLength }) });
    }),
  );
}

const SPLIT = /-(\d+)-of-\d+\.gguf$/i;

/**
 * The models of a folder: `NAME.gguf`, the first file of a split model, folders with a model in them, and `NAME.Modelfile` or
 * `NAME/Modelfile`, whose FROM is a path from there or the name of another of these.
 * @param report told what cannot be used, and why
 */
export async function modelsIn(dir: string, report: (problem: string) => void): Promise<ModelSpec[]> {
  const entries = await readdir(dir, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    report(`${dir} cannot be read (${error.code ?? error.message})`);
    return [];
  });
  const specs = new Map<string, ModelSpec>();
  const modelfiles: { readonly name: string; readonly file: string }[] = [];
  for (const { name: entry } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.startsWith('.')) continue;
    const full = path.join(dir, entry);
    const part = SPLIT.exec(entry)?.[1];
    if (part !== undefined && Number(part) !== 1) continue;
    // A volume's files may be links.
    const isFolder = (await stat(full).catch(() => undefined))?.isDirectory() === true;
    const [, bare = '', kind = ''] = /^(.+)\.(gguf|onnx|Modelfile)$/i.exec(entry) ?? [];
    if (isFolder) {
      const inside: string[] = await readdir(full).catch(() => []);
      if (inside.some((one) => one === 'Modelfile'))
        modelfiles.push({ name: entry, file: path.join(full, 'Modelfile') });
      else if (inside.some((one) => /\.(?:gguf|onnx)$/i.test(one) || one === 'genai_config.json' || one === 'onnx'))
        specs.set(entry, makeSpec({ names: [entry], path: full }));
    } else if (kind.toLowerCase() === 'modelfile') modelfiles.push({ name: bare, file: full });
    else if (kind.toLowerCase() === 'gguf' && !/mmproj/i.test(bare)) {
      const name = part === undefined ? bare : entry.replace(SPLIT, '');
      specs.set(name, makeSpec({ names: [name], path: full }));
    }
  }
  await addModelfiles(modelfiles, specs, report);
  return [...specs.values()];
}

async function addModelfiles(
  files: readonly { readonly name: string; readonly file: string }[],
  specs: Map<string, ModelSpec>,
  report: (problem: string) => void,
): Promise<void> {
  const read = await Promise.all(
    files.map(async ({ name, file }) => {
      try {
        const text = await readFile(file, 'utf8');
        return [{ name, file, text, modelfile: readModelfile(text) }];
      } catch (error) {
        report(`${file} is left out: ${sentence(error)}`);
        return [];
      }
    }),
  );
  // One may be made from another: each round makes those whose base is there.
  let left = read.flat();
  for (let before = Number.POSITIVE_INFINITY; left.length > 0 && left.length < before; ) {
    before = left.length;
    const waiting: typeof left = [];
    const names = left.map(({ name }) => name);
    for (const one of left) {
      const spec = await made(one.name, one.file, one.modelfile, [...specs.values()], names);
      if (spec) specs.set(one.name, { ...spec, modelfile: one.text });
      else waiting.push(one);
    }
    left = waiting;
  }
  for (const { file, modelfile } of left)
    report(`${file} is left out: its FROM ${modelfile.from ?? ''} is neither a file nor a model of this folder`);
}

/** Whether a FROM can only be a path. */
const PATH = /^\.{0,2}\//;

/** @param waiting names of models that are made later; a name wins over a file that is called the same */
async function made(
  name: string,
  file: string,
  { from = '.', defaults }: Modelfile,
  others: readonly ModelSpec[],
  waiting: readonly string[],
): Promise<ModelSpec | undefined> {
  const folder = path.dirname(file);
  const own = atPath(defaults, folder);
  if (!PATH.test(from)) {
    const base = others.find((spec) => hasName(spec, from));
    if (base)
      return makeSpec({ names: [name], path: base.path, digest: base.digest, defaults: inherited(own, base.defaults) });
    if (from !== name && waiting.includes(from.replace(/:latest$/, ''))) return undefined;
  }
  const source = path.resolve(folder, from);
  const found = await stat(source).catch(() => undefined);
  return found && makeSpec({ names: [name], path: source, defaults: own });
}

/** Adapters are files beside the Modelfile. */
function atPath(defaults: ModelDefaults, folder: string): ModelDefaults {
  return { ...defaults, adapters: defaults.adapters.map((file) => path.resolve(folder, file)) };
}

async function readAt(file: string, setting: string): Promise<Modelfile> {
  try {
    return readModelfile(await readFile(file, 'utf8'));
  } catch (error) {
    throw refused(`${setting}: ${file}`, error);
  }
}

function refused(what: string, error: unknown): StartupError {
  return new StartupError('InvalidConfiguration', `${what}: ${sentence(error)}.`, { cause: error });
}

function sentence(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' ? 'there is no such file' : (message ?? String(error));
}
