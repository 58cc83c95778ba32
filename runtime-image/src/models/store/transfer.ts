/**
 * Pulls models from a registry into the store and pushes them back. Owns the order of the steps and what is told of each; every
 * byte is checked against its digest before it has a name.
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, openAsBlob } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ApiError } from '../../api-error.ts';
import { blobsOf, type Layer, layersOf, readManifest } from './manifest.ts';
import { type StoreName, showName } from './names.ts';
import { type RegistryAccess, RegistryClient } from './registry-client.ts';
import type { ModelStore } from './store.ts';

/** A line of a stream, in Ollama's words. */
export interface Progress {
  readonly status: string;
  readonly digest?: string;
  readonly total?: number;
  readonly completed?: number;
}

/** Lines about bytes are no closer than this, in milliseconds. */
const TELL_EVERY_MS = 100;
/** No byte for so long, in milliseconds, and a download is given up; the next goes on from there. */
const STALLED_MS = 60_000;

const short = (digest: string) => digest.replace('sha256:', '').slice(0, 12);

/**
 * Brings a model into the store.
 * @throws ApiError; AbortError
 */
export async function* pull(store: ModelStore, name: StoreName, access: RegistryAccess): AsyncGenerator<Progress> {
  yield { status: 'pulling manifest' };
  const client = new RegistryClient(name, access);
  const text = await client.manifest(name.tag);
  const manifest = readManifest(text);
  if (!manifest || layersOf(manifest, 'model').length === 0)
    throw new ApiError(502, `${showName(name)} is no model: its manifest names none that this server can use`);
  for (const layer of blobsOf(manifest)) yield* download(store, client, layer, access.signal);
  yield { status: 'verifying sha256 digest' };
  yield { status: 'writing manifest' };
  await store.writeManifest(name, manifest, text);
  yield { status: 'success' };
}

/** Files that somebody is downloading: a second pull waits for the first. */
const busy = new Map<string, Promise<void>>();

async function* download(
  store: ModelStore,
  client: RegistryClient,
  layer: Layer,
  signal: AbortSignal | undefined,
): AsyncGenerator<Progress> {
  const file = store.blobPath(layer.digest);
  for (let other = busy.get(file); other; other = busy.get(file)) {
    yield { status: `pulling ${short(layer.digest)}`, digest: layer.digest, total: layer.size };
    await Promise.race([other, aborted(signal)]);
  }
  const done = Promise.withResolvers<void>();
  busy.set(file, done.promise);
  try {
    yield* downloadAlone(store, client, layer, signal);
  } finally {
    busy.delete(file);
    done.resolve();
  }
}

/** Never resolves. @throws AbortError */
function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    if (signal?.aborted) reject(signal.reason as Error);
    signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

async function* downloadAlone(
  store: ModelStore,
  client: RegistryClient,
  { digest, size }: Layer,
  signal: AbortSignal | undefined,
): AsyncGenerator<Progress> {
  const about = { status: `pulling ${short(digest)}`, digest, total: size };
  if ((await store.blobSize(digest)) === size) {
    yield { ...about, completed: size };
    return;
  }
  yield about;
  const file = store.blobPath(digest);
  const partial = `${file}-partial`;
  await mkdir(path.dirname(file), { recursive: true });
  const before = (await stat(partial).catch(() => undefined))?.size ?? 0;
  if (before > size) await rm(partial);
  let completed = 0;
  if (before < size || size === 0) {
    const { body, from } = await client.blob(digest, before > size ? 0 : before);
    completed = from;
    const stalled = new AbortController();
    const ended = signal ? AbortSignal.any([signal, stalled.signal]) : stalled.signal;
    const source = Readable.fromWeb(body as never);
    let timer = setTimeout(() => undefined, 0);
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(
        () => stalled.abort(new ApiError(502, 'the registry stopped sending: try again, and it goes on from there')),
        STALLED_MS,
      );
    };
    alive();
    source.on('data', (chunk: Buffer) => {
      completed += chunk.length;
      alive();
      // More than was promised is no part of this model.
      if (completed > size) stalled.abort(new ApiError(502, `the registry sends more bytes than ${digest} has`));
    });
    const writing = pipeline(source, createWriteStream(partial, { flags: from > 0 ? 'a' : 'w' }), { signal: ended });
    writing.catch(() => undefined);
    try {
      for await (const _ of whileRunning(writing)) yield { ...about, completed: Math.min(completed, size) };
    } catch (error) {
      throw stalled.signal.aborted ? (stalled.signal.reason as Error) : error;
    } finally {
      clearTimeout(timer);
      stalled.abort();
    }
  }
  await check(partial, digest);
  await rename(partial, file);
}

/** @throws ApiError (502); the bytes are gone then */
async function check(file: string, digest: string): Promise<void> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  const found = `sha256:${hash.digest('hex')}`;
  if (found === digest) return;
  await rm(file, { force: true });
  throw new ApiError(502, `what the registry sent has the digest ${found}, not ${digest}: try again`);
}

/**
 * Sends a model of the store to its registry.
 * @throws ApiError; AbortError
 */
export async function* push(store: ModelStore, name: StoreName, access: RegistryAccess): AsyncGenerator<Progress> {
  yield { status: 'retrieving manifest' };
  const client = new RegistryClient(name, access);
  const manifest = await store.readManifest(name);
  if (!manifest) throw new ApiError(404, `model '${showName(name)}' not found`, { code: 'model_not_found' });
  for (const { digest, size } of blobsOf(manifest)) {
    const about = { status: `pushing ${short(digest)}`, digest, total: size };
    yield about;
    if (!(await client.hasBlob(digest))) {
      let completed = 0;
      const counting = new TransformStream<Uint8Array, Uint8Array>({
        transform: (chunk, out) => {
          completed += chunk.length;
          out.enqueue(chunk);
        },
      });
      const file = await openAsBlob(store.blobPath(digest));
      for await (const _ of whileRunning(client.putBlob(digest, () => file.stream().pipeThrough(counting))))
        yield { ...about, completed };
    }
    yield { ...about, completed: size };
  }
  yield { status: 'pushing manifest' };
  await client.putManifest(name.tag, JSON.stringify(manifest));
  yield { status: 'success' };
}

/** Something now and then while a work goes on, and once at its end. @throws what the work throws */
async function* whileRunning(work: Promise<unknown>): AsyncGenerator<void> {
  for (let done = false; !done; ) {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), TELL_EVERY_MS);
    });
    done = await Promise.race([work.then(() => true), late]).finally(() => clearTimeout(timer));
    yield;
  }
}
