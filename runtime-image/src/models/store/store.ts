/**
 * A folder of models in Ollama's layout: `blobs/sha256-<hex>` and `manifests/<host>/<namespace>/<model>/<tag>`. Owns reading and
 * writing there; a blob appears under its name only when its bytes are those of its digest.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { copyFile, link, mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ApiError } from '../../api-error.ts';
import { type ModelDefaults, NO_DEFAULTS } from '../../modelfile/defaults.ts';
import { readDefaults } from '../../modelfile/modelfile.ts';
import { type ModelSpec, makeSpec } from '../model-spec.ts';
import { blobsOf, type Layer, type LayerKind, layersOf, type Manifest, mediaType, readManifest } from './manifest.ts';
import { manifestPath, parseDigest, parseName, type StoreName, showName } from './names.ts';

/** Of a text that is part of a model; the largest licences have a tenth of this. */
const LARGEST_TEXT = 4 * 1024 * 1024;

export class ModelStore {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** Where a blob lies, or is going to. @param digest `sha256:<hex>` */
  blobPath(digest: string): string {
    const checked = parseDigest(digest);
    if (checked === undefined) throw new ApiError(400, `${digest} is no digest: sha256: and 64 hexadecimal digits`);
    return path.join(this.dir, 'blobs', checked.replace(':', '-'));
  }

  /** Bytes of a blob; undefined where it is not there. */
  async blobSize(digest: string): Promise<number | undefined> {
    return (await stat(this.blobPath(digest)).catch(() => undefined))?.size;
  }

  /**
   * Keeps bytes under their digest.
   * @throws ApiError (400) when they have another; AbortError
   */
  async writeBlob(digest: string, bytes: NodeJS.ReadableStream, signal?: AbortSignal): Promise<void> {
    const file = this.blobPath(digest);
    const work = `${file}-${randomUUID()}`;
    await mkdir(path.dirname(file), { recursive: true });
    const hash = createHash('sha256');
    const hashing = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        done(null, chunk);
      },
    });
    try {
      await pipeline(bytes, hashing, createWriteStream(work), signal ? { signal } : {});
      const found = `sha256:${hash.digest('hex')}`;
      if (found !== parseDigest(digest))
        throw new ApiError(400, `the bytes have the digest ${found}, not ${digest}: send the whole file`);
      await rename(work, file);
    } finally {
      await rm(work, { force: true });
    }
  }

  /** Keeps a text. @param type its media type @returns the layer that names it */
  async writeText(type: string, text: string): Promise<Layer> {
    const digest = `sha256:${createHash('sha256').update(text).digest('hex')}`;
    const file = this.blobPath(digest);
    await mkdir(path.dirname(file), { recursive: true });
    await replaceFile(file, text);
    return { mediaType: type, digest, size: Buffer.byteLength(text) };
  }

  /** Takes a file of this machine in, without another copy of its bytes where the file system allows. */
  async importFile(file: string): Promise<Layer> {
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
    const digest = `sha256:${hash.digest('hex')}`;
    const target = this.blobPath(digest);
    await mkdir(path.dirname(target), { recursive: true });
    if ((await this.blobSize(digest)) === undefined)
      await link(file, target).catch(async () => {
        const work = `${target}-${randomUUID()}`;
        await copyFile(file, work);
        await rename(work, target);
      });
    return { mediaType: mediaType('model'), digest, size: (await stat(target)).size };
  }

  async readManifest(name: StoreName): Promise<Manifest | undefined> {
    const text = await readFile(this.#manifestFile(name), 'utf8').catch(() => undefined);
    return text === undefined ? undefined : readManifest(text);
  }

  /** @throws ApiError (400) for a manifest whose blobs are not all there */
  async writeManifest(name: StoreName, manifest: Manifest, text = JSON.stringify(manifest)): Promise<void> {
    for (const { digest } of blobsOf(manifest))
      if ((await this.blobSize(digest)) === undefined)
        throw new ApiError(400, `the blob ${digest} is missing: send it first`);
    const file = this.#manifestFile(name);
    await mkdir(path.dirname(file), { recursive: true });
    await replaceFile(file, text);
  }

  /** Removes a model and the blobs that only it had. @returns whether there was one */
  async remove(name: StoreName): Promise<boolean> {
    const manifest = await this.readManifest(name);
    if (!manifest) return false;
    const file = this.#manifestFile(name);
    await rm(file, { force: true });
    for (let folder = path.dirname(file); folder !== path.join(this.dir, 'manifests'); folder = path.dirname(folder))
      if (
        !(await rmdir(folder).then(
          () => true,
          () => false,
        ))
      )
        break;
    const kept = new Set<string>();
    for (const other of await this.#names())
      for (const { digest } of blobsOf((await this.readManifest(other)) ?? EMPTY)) kept.add(digest);
    for (const { digest } of blobsOf(manifest)) if (!kept.has(digest)) await rm(this.blobPath(digest), { force: true });
    return true;
  }

  /** The models of the store. @param report told what cannot be used, and why */
  async specs(report: (problem: string) => void): Promise<ModelSpec[]> {
    const specs: ModelSpec[] = [];
    for (const name of await this.#names())
      try {
        const manifest = await this.readManifest(name);
        const spec = manifest && (await this.#spec(name, manifest));
        if (spec) specs.push(spec);
        else report(`${showName(name)} is left out: its manifest names no model`);
      } catch (error) {
        report(`${showName(name)} is left out: ${error instanceof Error ? error.message : String(error)}`);
      }
    return specs;
  }

  /** Why a model of the store cannot be served; undefined where it can. */
  async problemOf(name: StoreName): Promise<string | undefined> {
    try {
      const manifest = await this.readManifest(name);
      return manifest && (await this.#spec(name, manifest)) ? undefined : 'its manifest names no model';
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  /** The settings that a manifest's layers hold. @throws ApiError (400) */
  async defaultsOf(manifest: Manifest): Promise<ModelDefaults> {
    const texts = (kind: LayerKind) => Promise.all(layersOf(manifest, kind).map((layer) => this.#text(layer)));
    const [[template], [system], [params], [messages], license] = await Promise.all([
      texts('template'),
      texts('system'),
      texts('params'),
      texts('messages'),
      texts('license'),
    ]);
    const defaults = readDefaults({
      parameters: parsed(params, 'parameters') ?? {},
      ...(system ? { system } : {}),
      ...(template ? { template } : {}),
      messages: parsed(messages, 'messages') ?? [],
      license,
    });
    return { ...defaults, adapters: layersOf(manifest, 'adapter').map((layer) => this.blobPath(layer.digest)) };
  }

  async #spec(name: StoreName, manifest: Manifest): Promise<ModelSpec | undefined> {
    const [model] = layersOf(manifest, 'model');
    if (!model) return undefined;
    const file = this.#manifestFile(name);
    const [text, { mtime }] = await Promise.all([readFile(file), stat(file)]);
    return makeSpec({
      names: [showName(name)],
      path: this.blobPath(model.digest),
      digest: `sha256:${createHash('sha256').update(text).digest('hex')}`,
      defaults: manifest.layers.length > 1 ? await this.defaultsOf(manifest) : NO_DEFAULTS,
      modifiedAt: mtime,
    });
  }

  async #text({ digest, size }: Layer): Promise<string> {
    if (size > LARGEST_TEXT) throw new ApiError(400, `the blob ${digest} is too large for a text`);
    return readFile(this.blobPath(digest), 'utf8');
  }

  async #names(): Promise<StoreName[]> {
    const root = path.join(this.dir, 'manifests');
    const files = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
    return files.flatMap((entry) => {
      const parts = path.relative(root, path.join(entry.parentPath, entry.name)).split(path.sep);
      const [host, namespace, model, tag] = parts;
      const name = entry.isFile() && parts.length === 4 ? parseName(`${host}/${namespace}/${model}:${tag}`) : undefined;
      return name ? [name] : [];
    });
  }

  #manifestFile(name: StoreName): string {
    return path.join(this.dir, 'manifests', ...manifestPath(name));
  }
}

const EMPTY: Manifest = { schemaVersion: 2, config: { mediaType: '', digest: '', size: 0 }, layers: [] };

function parsed(text: string | undefined, what: string): unknown {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new ApiError(400, `its ${what} are no valid JSON`);
  }
}

/** Whoever reads sees the old or the new, never half. */
async function replaceFile(file: string, text: string): Promise<void> {
  const work = `${file}-${randomUUID()}`;
  await writeFile(work, text);
  await rename(work, file);
}
