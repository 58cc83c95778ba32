/**
 * Owns the OCI image format: layers as compressed blobs in a cache, and the archive that containerd, Docker and the usual
 * registry tools read. Reproducible: equal entries and configuration give equal digests. Knows nothing of this project.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress } from 'node:zlib';
import { contentKey, type Entry } from './entries.ts';
import { padding, tarEnd, tarFile, tarHeader, tarStream } from './tar.ts';

/** A packed layer. */
export interface Layer {
  /** What it holds, for people: base, node, modules, app. */
  readonly title: string;
  readonly mediaType: string;
  /** Of the blob as it is stored. */
  readonly digest: string;
  /** Bytes of the blob as it is stored. */
  readonly size: number;
  /** Digest of the tar stream inside. */
  readonly diffId: string;
  /** Bytes of the tar stream inside. */
  readonly unpackedSize: number;
  /** Where the blob lies on this machine. */
  readonly file: string;
}

/** What a container of the image starts with. */
export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** `uid:gid`. */
  readonly user: string;
  readonly workingDir?: string;
  readonly ports?: readonly number[];
  readonly labels?: Readonly<Record<string, string>>;
}

/** An image archive on this machine. */
export interface ImageArchive {
  /** Such as `slm.dev/operator:0.1.0`. */
  readonly reference: string;
  /** Path of the archive. */
  readonly archive: string;
  /** Digest of the manifest: what identifies the image in a registry or a container runtime. */
  readonly digest: string;
  readonly layers: readonly Layer[];
}

/** Packs entries into a blob below `cache`, or takes the one that is there already for equal entries. */
export async function packLayer(
  title: string,
  entries: readonly Entry[],
  cache: string,
  options: {
    /** Off for what does not get smaller, such as weights. Default true. */
    readonly compress?: boolean;
    /** Called when there is work to do. */
    readonly onPack?: () => void;
  } = {},
): Promise<Layer> {
  const compress = options.compress ?? true;
  const key = createHash('sha256')
    .update(`1 ${compress ? process.versions.zstd : 'plain'} ${await contentKey(entries)}`)
    .digest('hex');
  const blob = path.join(cache, `${key}.blob`);
  const description = path.join(cache, `${key}.json`);
  const known = await readFile(description, 'utf8').catch(() => undefined);
  if (known && (await markUsed(blob)) && (await markUsed(description)))
    return { ...(JSON.parse(known) as Omit<Layer, 'title' | 'file'>), title, file: blob };

  options.onPack?.();
  await mkdir(cache, { recursive: true });
  // Packed beside its place and renamed, so that a run killed half-way leaves nothing that looks whole.
  const work = `${blob}.${randomBytes(4).toString('hex')}`;
  const inner = meter();
  const outer = meter();
  try {
    const source = Readable.from(tarStream(entries), { objectMode: false });
    const target = createWriteStream(work);
    // The window is fixed by the level, so the bytes depend on the zstd version alone, which is part of the key.
    if (compress)
      await pipeline(
        source,
        inner.stream,
        createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 9 } }),
        outer.stream,
        target,
      );
    else await pipeline(source, inner.stream, outer.stream, target);
    await rename(work, blob);
  } finally {
    await rm(work, { force: true });
  }
  const layer = {
    mediaType: `application/vnd.oci.image.layer.v1.tar${compress ? '+zstd' : ''}`,
    digest: outer.digest(),
    size: outer.size(),
    diffId: inner.digest(),
    unpackedSize: inner.size(),
  };
  await writeFile(description, JSON.stringify(layer));
  return { ...layer, title, file: blob };
}

/** Writes the archive of an image into `folder`, or takes the one that is there already. */
export async function writeArchive(
  reference: string,
  config: ImageConfig,
  layers: readonly Layer[],
  folder: string,
): Promise<ImageArchive> {
  const configBytes = json({
    architecture: architectureOf(process.arch),
    os: 'linux',
    created: '1970-01-01T00:00:00Z',
    config: {
      User: config.user,
      Env: Object.entries({ PATH: '/usr/local/bin:/usr/bin', ...config.env }).map(
        ([name, value]) => `${name}=${value}`,
      ),
      Entrypoint: config.entrypoint,
      WorkingDir: config.workingDir ?? '/',
      ...(config.ports ? { ExposedPorts: Object.fromEntries(config.ports.map((port) => [`${port}/tcp`, {}])) } : {}),
      ...(config.labels ? { Labels: config.labels } : {}),
    },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
    history: layers.map((layer) => ({ created: '1970-01-01T00:00:00Z', created_by: layer.title })),
  });
  const manifestBytes = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: descriptor('application/vnd.oci.image.config.v1+json', configBytes),
    layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
  });
  const digest = digestOf(manifestBytes);
  const [name, tag] = splitReference(reference);
  const archive = path.join(folder, `${path.posix.basename(name)}-${tag}-${digest.slice(7, 19)}.tar`);
  const image = { reference, archive, digest, layers };
  if (await markUsed(archive)) return image;

  const index = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [
      {
        ...descriptor('application/vnd.oci.image.manifest.v1+json', manifestBytes),
        platform: { architecture: architectureOf(process.arch), os: 'linux' },
        annotations: { 'io.containerd.image.name': reference, 'org.opencontainers.image.ref.name': tag },
      },
    ],
  });
  // For `docker load` of Docker before 25, which reads this file and not index.json.
  const dockerManifest = json([
    {
      Config: blobPath(digestOf(configBytes)),
      RepoTags: [reference],
      Layers: layers.map((layer) => blobPath(layer.digest)),
    },
  ]);
  async function* stream(): AsyncGenerator<Buffer> {
    yield* tarFile('oci-layout', json({ imageLayoutVersion: '1.0.0' }));
    yield* tarFile('index.json', index);
    yield* tarFile('manifest.json', dockerManifest);
    yield* tarFile(blobPath(digest), manifestBytes);
    yield* tarFile(blobPath(digestOf(configBytes)), configBytes);
    for (const layer of new Map(layers.map((item) => [item.digest, item])).values()) {
      yield tarHeader({ path: blobPath(layer.digest), type: '0', mode: 0o644, size: layer.size });
      for await (const chunk of createReadStream(layer.file, { highWaterMark: 1 << 20 })) yield chunk as Buffer;
      yield padding(layer.size);
    }
    yield tarEnd();
  }
  await mkdir(folder, { recursive: true });
  const work = `${archive}.${randomBytes(4).toString('hex')}`;
  try {
    await pipeline(Readable.from(stream(), { objectMode: false }), createWriteStream(work));
    await rename(work, archive);
  } finally {
    await rm(work, { force: true });
  }
  return image;
}

/** Deletes files of a cache folder that no build has used for so many hours. A build marks what it uses. */
export async function pruneCache(folder: string, hours: number): Promise<void> {
  const oldest = Date.now() - hours * 3_600_000;
  for (const name of await readdir(folder).catch(() => [])) {
    const file = path.join(folder, name);
    const found = await stat(file).catch(() => undefined);
    if (found?.isFile() && found.mtimeMs < oldest) await rm(file, { force: true });
  }
}

/** Says that a cached file is in use; false when it is not there. */
export async function markUsed(file: string): Promise<boolean> {
  const now = new Date();
  return utimes(file, now, now).then(
    () => true,
    () => false,
  );
}

/** `['slm.dev/operator', '0.1.0']` of `slm.dev/operator:0.1.0`; a port in the host is no tag. */
export function splitReference(reference: string): [name: string, tag: string] {
  const colon = reference.lastIndexOf(':');
  return colon > reference.lastIndexOf('/')
    ? [reference.slice(0, colon), reference.slice(colon + 1)]
    : [reference, 'latest'];
}

/** The name that image formats have for this machine's architecture. */
export function architectureOf(arch: string): string {
  return arch === 'x64' ? 'amd64' : arch;
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function descriptor(mediaType: string, bytes: Buffer) {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

function blobPath(digest: string): string {
  return `blobs/sha256/${digest.slice('sha256:'.length)}`;
}

/** A stream that passes everything on and knows its digest and size afterwards. */
function meter() {
  const hash = createHash('sha256');
  let bytes = 0;
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      bytes += chunk.length;
      done(null, chunk);
    },
  });
  return { stream, digest: () => `sha256:${hash.digest('hex')}`, size: () => bytes };
}
