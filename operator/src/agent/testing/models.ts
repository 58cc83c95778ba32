/** Small made-up models, folders and waiting for the tests of the agent. Never used in production. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type ModelFile, type ModelSource, revisionDigest, type WantedModel } from '@slm-operator/crds';

/** `sha256:HEX` of some bytes. */
export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** Bytes that are the same in every run and differ with the seed. */
export function bytesOf(size: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  let state = seed >>> 0 || 1;
  for (let index = 0; index < size; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}

export interface TestModel {
  readonly content: ReadonlyMap<string, Buffer>;
  readonly wanted: WantedModel;
}

/** A revision of these files, wanted by `demo/smollm2` for pods of `demo`. */
export function makeModel(
  content: Readonly<Record<string, Buffer>>,
  sources: readonly ModelSource[] = [],
  change: Partial<WantedModel> = {},
): TestModel {
  const files: ModelFile[] = Object.entries(content).map(([name, bytes]) => ({
    path: name,
    size: bytes.byteLength,
    digest: digestOf(bytes),
  }));
  return {
    content: new Map(Object.entries(content)),
    wanted: {
      digest: revisionDigest(files),
      size: files.reduce((sum, file) => sum + file.size, 0),
      files,
      sources: [...sources],
      models: ['demo/smollm2'],
      namespaces: ['demo'],
      ...change,
    },
  };
}

/** Puts the files where a file server finds them below /files/. */
export async function publishFiles(root: string, model: TestModel): Promise<void> {
  for (const [name, bytes] of model.content) {
    const file = path.join(root, 'files', name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, bytes);
  }
}

/** A folder that goes at the end of its scope. */
export async function temporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slm-agent-'));
  return { path: folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}

/** Paths of all plain files below a folder, sorted. */
export async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .sort();
}
