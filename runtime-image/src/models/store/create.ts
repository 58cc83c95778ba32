/**
 * Makes a model of another one, or of files that were sent before: a new manifest over the same blobs. Owns which layers it has.
 */
import { open } from 'node:fs/promises';
import { ApiError } from '../../api-error.ts';
import type { ModelDefaults } from '../../modelfile/defaults.ts';
import { inherited } from '../../modelfile/modelfile.ts';
import { readFacts } from '../facts.ts';
import type { ModelSpec } from '../model-spec.ts';
import { CONFIG_TYPE, type Layer, mediaType } from './manifest.ts';
import { type StoreName } from './names.ts';
import type { ModelStore } from './store.ts';
import type { Progress } from './transfer.ts';

/** What a model is made of. */
export type Base =
  /** A model that is served. */
  | { readonly spec: ModelSpec }
  /** A blob. */
  | { readonly digest: string };

/** @throws ApiError */
export async function* create(
  store: ModelStore,
  name: StoreName,
  base: Base,
  own: ModelDefaults,
  adapters: readonly string[],
): AsyncGenerator<Progress> {
  const model = 'spec' in base ? await modelLayer(store, base.spec) : await blobLayer(store, base.digest, 'model');
  yield { status: `using existing layer ${model.digest}` };
  const defaults = 'spec' in base ? inherited(own, base.spec.defaults) : own;
  const layers = [model];
  for (const digest of adapters) layers.push(await blobLayer(store, digest, 'adapter'));
  if (adapters.length === 0)
    for (const file of defaults.adapters)
      layers.push({ ...(await store.importFile(file)), mediaType: mediaType('adapter') });
  const texts: (readonly ['template' | 'system' | 'params' | 'messages' | 'license', string | undefined])[] = [
    ...defaults.license.map((text) => ['license', text] as const),
    ['template', defaults.template],
    ['system', defaults.system],
    ['params', Object.keys(defaults.parameters).length === 0 ? undefined : JSON.stringify(defaults.parameters)],
    ['messages', defaults.messages.length === 0 ? undefined : JSON.stringify(defaults.messages)],
  ];
  for (const [kind, text] of texts) {
    if (text === undefined) continue;
    const layer = await store.writeText(mediaType(kind), text);
    layers.push(layer);
    yield { status: `creating new layer ${layer.digest}` };
  }
  const config = await store.writeText(CONFIG_TYPE, JSON.stringify(await configOf(store, model, layers)));
  yield { status: 'writing manifest' };
  await store.writeManifest(name, {
    schemaVersion: 2,
    mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    config,
    layers,
  });
  yield { status: 'success' };
}

/** The file of a served model as a blob of the store. */
async function modelLayer(store: ModelStore, { path, names }: ModelSpec): Promise<Layer> {
  const digest = /\/blobs\/sha256-([\da-f]{64})$/.exec(path)?.[1];
  if (digest !== undefined && path === store.blobPath(`sha256:${digest}`))
    return blobLayer(store, `sha256:${digest}`, 'model');
  await checkGguf(path, names[0]);
  return store.importFile(path);
}

async function blobLayer(store: ModelStore, digest: string, kind: 'model' | 'adapter'): Promise<Layer> {
  const size = await store.blobSize(digest);
  if (size === undefined)
    throw new ApiError(400, `the blob ${digest} is missing: send it to /api/blobs/${digest} first`);
  await checkGguf(store.blobPath(digest), digest);
  return { mediaType: mediaType(kind), digest, size };
}

/** @throws ApiError (400) for what is no GGUF file */
async function checkGguf(file: string, what: string): Promise<void> {
  const handle = await open(file).catch(() => undefined);
  try {
    const { buffer, bytesRead } = (await handle?.read(Buffer.alloc(4), 0, 4, 0).catch(() => undefined)) ?? {
      buffer: Buffer.alloc(0),
      bytesRead: 0,
    };
    if (bytesRead === 4 && buffer.toString('latin1') === 'GGUF') return;
  } finally {
    await handle?.close();
  }
  throw new ApiError(400, `${what} is no single GGUF file: models are made of one, so convert or merge it before`);
}

/** What Ollama's own clients read of a model before they load it. */
async function configOf(store: ModelStore, model: Layer, layers: readonly Layer[]): Promise<Record<string, unknown>> {
  const facts = await readFacts(store.blobPath(model.digest)).catch((error: unknown) => {
    throw new ApiError(400, `the GGUF file cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  });
  return {
    model_format: facts.format,
    model_family: facts.architecture,
    model_families: [facts.architecture],
    file_type: facts.quantization,
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.digest) },
  };
}
