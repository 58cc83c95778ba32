/**
 * Owns the two smallest images of the cluster, made of one program each (pause, CoreDNS), and reading what images an archive
 * holds. The product's own images have a builder of their own.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';

const BLOCK = 512;

/** A file in an archive. */
interface Entry {
  readonly name: string;
  readonly data: Buffer;
  readonly mode?: number;
}

/** An image name and the digest of what it points to. */
export interface ArchivedImage {
  readonly name: string;
  /** `sha256:…` */
  readonly digest: string;
}

/** Makes an OCI archive of an image with a single program, as bytes. The same inputs give the same bytes. */
export function makeProgramImage(options: {
  readonly name: string;
  /** Path in the image, without the leading slash. */
  readonly program: string;
  readonly content: Buffer;
  readonly user: string;
}): Buffer {
  const blobs: Entry[] = [];
  const blob = (mediaType: string, data: Buffer) => {
    const digest = sha256(data);
    blobs.push({ name: `blobs/sha256/${digest}`, data });
    return { mediaType, digest: `sha256:${digest}`, size: data.length };
  };
  const layerData = tar([{ name: options.program, data: options.content, mode: 0o755 }]);
  const layer = blob('application/vnd.oci.image.layer.v1.tar', layerData);
  const configuration = {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Entrypoint: [`/${options.program}`], User: options.user },
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
  };
  const config = blob('application/vnd.oci.image.config.v1+json', json(configuration));
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = blob(mediaType, json({ schemaVersion: 2, mediaType, config, layers: [layer] }));
  const index = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [{ ...manifest, annotations: { 'io.containerd.image.name': options.name } }],
  };
  return tar([
    { name: 'oci-layout', data: json({ imageLayoutVersion: '1.0.0' }) },
    { name: 'index.json', data: json(index) },
    ...blobs,
  ]);
}

/** The images that an OCI archive names in its index; none for other archives (`docker save` of old engines). */
export async function readImages(file: string): Promise<ArchivedImage[]> {
  const index = await readMember(file, 'index.json');
  if (!index) return [];
  const { manifests } = JSON.parse(index.toString()) as {
    manifests?: { digest: string; annotations?: Record<string, string> }[];
  };
  return (manifests ?? []).flatMap(({ digest, annotations }) => {
    const name = annotations?.['io.containerd.image.name'];
    return name ? [{ name, digest }] : [];
  });
}

async function readMember(file: string, wanted: string): Promise<Buffer | undefined> {
  const handle = await open(file);
  try {
    const header = Buffer.alloc(BLOCK);
    for (let offset = 0; ; ) {
      const { bytesRead } = await handle.read(header, 0, BLOCK, offset);
      const name = text(header, 0, 100).replace(/^\.\//, '');
      if (bytesRead < BLOCK || !name) return undefined;
      const size = Number.parseInt(text(header, 124, 12), 8);
      if (name === wanted) {
        const data = Buffer.alloc(size);
        await handle.read(data, 0, size, offset + BLOCK);
        return data;
      }
      offset += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
    }
  } finally {
    await handle.close();
  }
}

function tar(entries: readonly Entry[]): Buffer {
  const parts = entries.flatMap(({ name, data, mode = 0o644 }) => {
    const header = Buffer.alloc(BLOCK);
    const octal = (value: number, at: number, length: number) =>
      header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
    header.write(name, 0, 'latin1');
    octal(mode, 100, 8);
    octal(0, 108, 8);
    octal(0, 116, 8);
    octal(data.length, 124, 12);
    octal(0, 136, 12);
    header.fill(' ', 148, 156);
    header.write('0', 156, 'latin1');
    header.write('ustar\x0000', 257, 'latin1');
    octal(
      header.reduce((sum, byte) => sum + byte, 0),
      148,
      7,
    );
    return [header, data, Buffer.alloc((BLOCK - (data.length % BLOCK)) % BLOCK)];
  });
  return Buffer.concat([...parts, Buffer.alloc(BLOCK * 2)]);
}

function text(buffer: Buffer, at: number, length: number): string {
  const end = buffer.indexOf(0, at);
  return buffer.toString('latin1', at, end < 0 ? at + length : Math.min(end, at + length)).trim();
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}
