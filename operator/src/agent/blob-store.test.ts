import { chmod, mkdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { hexOf, type WantedModel } from '@slm-operator/crds';
import { describe, expect, it, vi } from 'vitest';
import { BlobStore, type Manifest } from './blob-store.ts';
import { DigestMismatchError } from './blob-writer.ts';
import type { StoreFs } from './durable-files.ts';
import { makeCrashingFs } from './testing/crashing-fs.ts';
import { bytesOf, digestOf, filesBelow, makeModel, type TestModel, temporaryFolder } from './testing/models.ts';

// Real servers, disks and processes: on a busy machine they take their time.
vi.setConfig({ testTimeout: 30_000 });

const nothingMounted = () => Promise.resolve(new Set<string>());
const model = makeModel({ 'model.gguf': bytesOf(5000), 'tokenizer/merges.txt': bytesOf(300, 2) });
const other = makeModel({ 'model.gguf': bytesOf(4000, 3), 'shared.txt': bytesOf(300, 2) });

const manifestOf = (wanted: WantedModel): Manifest => ({
  digest: wanted.digest,
  size: wanted.size,
  files: wanted.files,
  models: wanted.models,
  namespaces: wanted.namespaces,
});

async function openStore(root: string, fs?: StoreFs, mounted = nothingMounted): Promise<BlobStore> {
  const store = new BlobStore({ root, mounted, fs });
  await store.open();
  return store;
}

/** What the puller does with a source that always answers, in pieces. */
async function put(store: BlobStore, { wanted, content }: TestModel): Promise<void> {
  for (const file of wanted.files) {
    if (await store.hasBlob(file)) continue;
    const bytes = content.get(file.path) ?? Buffer.alloc(0);
    const writer = await store.openWriter(file);
    try {
      while (!writer.complete) await writer.write(bytes.subarray(writer.offset, writer.offset + 1024));
      await writer.commit();
    } catch (error) {
      await writer.close();
      if (!(error instanceof DigestMismatchError)) throw error;
      // A torn write of the run before: from the beginning.
      const fresh = await store.openWriter(file);
      await fresh.write(bytes);
      await fresh.commit();
    }
  }
  await store.assemble(manifestOf(wanted));
}

describe('a model', () => {
  it('appears as a folder of hard links with exactly its files', async () => {
    await using folder = await temporaryFolder();
    const store = await openStore(folder.path);
    await put(store, model);
    const place = store.modelPath(model.wanted.digest);
    expect(await filesBelow(place)).toEqual(['model.gguf', 'tokenizer/merges.txt']);
    for (const [name, bytes] of model.content) {
      expect((await readFile(path.join(place, name))).equals(bytes)).toBe(true);
      const { nlink, mode } = await stat(path.join(place, name));
      expect({ nlink, mode: mode & 0o777 }).toEqual({ nlink: 2, mode: 0o444 });
    }
    expect(await filesBelow(path.join(folder.path, 'partial'))).toEqual([]);
  });

  it('is known after a restart, with its namespaces', async () => {
    await using folder = await temporaryFolder();
    const before = await openStore(folder.path);
    await put(before, model);
    await before.updateManifest({ ...manifestOf(model.wanted), namespaces: ['demo', 'prod'] });
    const after = await openStore(folder.path);
    expect(after.manifest(model.wanted.digest)?.namespaces).toEqual(['demo', 'prod']);
  });

  it('can be read by everybody where it is mounted, and be reached by nobody but root on the host', async () => {
    await using folder = await temporaryFolder();
    const umask = process.umask(0o077);
    try {
      const store = await openStore(folder.path);
      await put(store, model);
      expect((await stat(path.join(store.modelPath(model.wanted.digest), 'tokenizer'))).mode & 0o777).toBe(0o755);
      expect((await stat(store.modelPath(model.wanted.digest))).mode & 0o777).toBe(0o755);
      expect((await stat(path.join(folder.path, 'models'))).mode & 0o777).toBe(0o700);
    } finally {
      process.umask(umask);
    }
  });

  it('shares files with other models on the disk', async () => {
    await using folder = await temporaryFolder();
    const store = await openStore(folder.path);
    await put(store, model);
    await put(store, other);
    expect(await store.usedBytes()).toBe(5000 + 300 + 4000);
    await store.remove(model.wanted.digest);
    await store.collect(new Set());
    expect(await store.usedBytes()).toBe(4000 + 300);
    expect(await store.check(other.wanted.digest)).toBe(true);
  });

  it('is taken away when a file of it was cut short, and can be put again', async () => {
    await using folder = await temporaryFolder();
    const store = await openStore(folder.path);
    await put(store, model);
    const file = path.join(store.modelPath(model.wanted.digest), 'model.gguf');
    await chmod(file, 0o600);
    await truncate(file, 17);
    expect(await store.check(model.wanted.digest)).toBe(false);
    expect(store.manifest(model.wanted.digest)).toBeUndefined();
    await put(store, model);
    expect(await store.check(model.wanted.digest)).toBe(true);
  });
});

describe('removal', () => {
  it('leaves a mounted model alone', async () => {
    await using folder = await temporaryFolder();
    const mounts = new Set([hexOf(model.wanted.digest)]);
    const store = await openStore(folder.path, undefined, () => Promise.resolve(mounts));
    await put(store, model);
    expect(await store.remove(model.wanted.digest)).toBe(false);
    await store.collect(new Set());
    expect(await store.check(model.wanted.digest)).toBe(true);
    mounts.clear();
    expect(await store.remove(model.wanted.digest)).toBe(true);
    await store.collect(new Set());
    expect(await filesBelow(folder.path)).toEqual([]);
  });

  it('leaves a model alone that is just being mounted, and refuses a mount of one that is just going', async () => {
    await using folder = await temporaryFolder();
    let answer: (mounted: Set<string>) => void = () => undefined;
    const store = await openStore(folder.path, undefined, () => new Promise((resolve) => (answer = resolve)));
    await put(store, model);
    const pinned = store.pin(model.wanted.digest);
    const first = store.remove(model.wanted.digest);
    expect(store.pin(model.wanted.digest)).toBeUndefined();
    answer(new Set());
    expect(await first).toBe(false);
    pinned?.release();
    const second = store.remove(model.wanted.digest);
    answer(new Set());
    expect(await second).toBe(true);
    expect(store.pin(model.wanted.digest)).toBeUndefined();
  });
});

describe('a file', () => {
  it('with the wrong digest leaves no byte', async () => {
    await using folder = await temporaryFolder();
    const store = await openStore(folder.path);
    const [file] = model.wanted.files;
    if (file === undefined) throw new Error('the model has files');
    const writer = await store.openWriter(file);
    await writer.write(bytesOf(file.size, 99));
    await expect(writer.commit()).rejects.toThrow(digestOf(bytesOf(file.size, 99)));
    expect(writer.offset).toBe(0);
    await writer.discard();
    expect(await filesBelow(folder.path)).toEqual([]);
  });

  it('goes on where an earlier run stopped', async () => {
    await using folder = await temporaryFolder();
    const store = await openStore(folder.path);
    const [file] = model.wanted.files;
    if (file === undefined) throw new Error('the model has files');
    const bytes = model.content.get(file.path) ?? Buffer.alloc(0);
    const first = await store.openWriter(file);
    await first.write(bytes.subarray(0, 3000));
    await first.close();
    const again = await openStore(folder.path);
    expect(await again.partialSize(file.digest)).toBe(3000);
    const second = await again.openWriter(file);
    expect(second.resumedFrom).toBe(3000);
    await second.write(bytes.subarray(3000));
    await second.commit();
    expect(await again.hasBlob(file)).toBe(true);
  });

  it('never grows beyond its size', async () => {
    await using folder = await temporaryFolder();
    const store = await openStore(folder.path);
    const [file] = model.wanted.files;
    if (file === undefined) throw new Error('the model has files');
    const writer = await store.openWriter(file);
    await expect(writer.write(Buffer.alloc(file.size + 1))).rejects.toThrow(RangeError);
    expect(writer.offset).toBe(0);
    await writer.discard();
  });
});

describe('paths from a repository', () => {
  const refused = [
    '../escape',
    'a/../../escape',
    '/etc/passwd',
    'a//b',
    './a',
    'a/.',
    '',
    'a\0b',
    'a\\..\\b',
    'x'.repeat(256),
  ];
  it.each(refused)('%j is refused before anything is written', async (name) => {
    await using folder = await temporaryFolder();
    const store = await openStore(folder.path);
    const bad = makeModel({ [name]: bytesOf(10) });
    await put(store, makeModel({ good: bytesOf(10) }));
    await expect(store.assemble(manifestOf(bad.wanted))).rejects.toMatchObject({
      failure: { reason: 'SourceInvalid' },
    });
    expect((await filesBelow(folder.path)).filter((file) => file.includes(hexOf(bad.wanted.digest)))).toEqual([]);
  });

  it('a list with another digest than the revision is refused', async () => {
    await using folder = await temporaryFolder();
    const store = await openStore(folder.path);
    const forged = { ...manifestOf(model.wanted), digest: other.wanted.digest };
    await expect(store.assemble(forged)).rejects.toThrow('not that of the revision');
  });

  it('a digest that is none cannot become a path', async () => {
    await using folder = await temporaryFolder();
    const store = await openStore(folder.path);
    expect(() => store.modelPath('sha256:../../../etc')).toThrow('is not a digest');
  });
});

describe('things that are not ours in the store', () => {
  it('are cleared at start without harm to what is complete', async () => {
    await using folder = await temporaryFolder();
    const store = await openStore(folder.path);
    await put(store, model);
    const hex = hexOf(other.wanted.digest);
    await mkdir(path.join(folder.path, 'models', hex));
    await writeFile(path.join(folder.path, 'models', hex, 'unverified.gguf'), 'x');
    await writeFile(path.join(folder.path, 'models', `${hexOf(digestOf(bytesOf(1)))}.json`), '{');
    await writeFile(path.join(folder.path, 'blobs/sha256/notes.txt'), 'x');
    const again = await openStore(folder.path);
    expect(again.manifests().map(({ digest }) => digest)).toEqual([model.wanted.digest]);
    expect(await filesBelow(path.join(folder.path, 'models'))).toEqual(
      [
        `${hexOf(model.wanted.digest)}.json`,
        ...['model.gguf', 'tokenizer/merges.txt'].map((name) => `${hexOf(model.wanted.digest)}/${name}`),
      ].sort(),
    );
    expect((await filesBelow(path.join(folder.path, 'blobs'))).length).toBe(2);
  });
});

describe('killed at any operation', () => {
  /** Put one model, put a second, remove the first, collect: everything that the store does. */
  async function life(root: string, fs: StoreFs): Promise<void> {
    const store = await openStore(root, fs);
    await put(store, model);
    await store.updateManifest({ ...manifestOf(model.wanted), namespaces: ['demo', 'prod'] });
    await put(store, other);
    await store.remove(model.wanted.digest);
    await store.collect(new Set(other.wanted.files.map((file) => file.digest)));
  }

  /** Every blob has the digest that it is named by; every model folder is whole and has its manifest. */
  async function expectNothingUnverified(root: string): Promise<void> {
    for (const name of await filesBelow(path.join(root, 'blobs/sha256')).catch(() => [])) {
      expect(digestOf(await readFile(path.join(root, 'blobs/sha256', name)))).toBe(`sha256:${name}`);
    }
    for (const known of [model, other]) {
      const hex = hexOf(known.wanted.digest);
      const place = path.join(root, 'models', hex);
      const files = await filesBelow(place).catch(() => undefined);
      if (files === undefined) continue;
      expect(files).toEqual([...known.content.keys()].sort());
      for (const [name, bytes] of known.content)
        expect((await readFile(path.join(place, name))).equals(bytes)).toBe(true);
      expect(JSON.parse(await readFile(`${place}.json`, 'utf8'))).toMatchObject({ digest: known.wanted.digest });
    }
  }

  it('exposes nothing unverified, and the next run finishes the work', async () => {
    await using whole = await temporaryFolder();
    const { fs, operations } = makeCrashingFs(Number.POSITIVE_INFINITY);
    await life(whole.path, fs);
    const steps = operations.length;
    expect(steps).toBeGreaterThan(80);
    for (let killAt = 1; killAt <= steps; killAt++) {
      await using folder = await temporaryFolder();
      const where = `killed at ${killAt}: ${operations[killAt - 1]}`;
      await expect(life(folder.path, makeCrashingFs(killAt).fs), where).rejects.toThrow('killed');
      await expectNothingUnverified(folder.path);
      const store = await openStore(folder.path);
      await expectNothingUnverified(folder.path);
      await put(store, other);
      await store.remove(model.wanted.digest);
      await store.collect(new Set());
      await expectNothingUnverified(folder.path);
      expect(
        store.manifests().map(({ digest }) => digest),
        where,
      ).toEqual([other.wanted.digest]);
      expect(await filesBelow(folder.path), where).toEqual(await filesBelow(whole.path));
    }
  });

  it('flushes a file before it gets its name, and the folder after', async () => {
    await using folder = await temporaryFolder();
    const { fs, operations } = makeCrashingFs(Number.POSITIVE_INFINITY);
    await life(folder.path, fs);
    for (const [index, operation] of operations.entries()) {
      const [name, from = '', to = ''] = operation.split(' ');
      if (name !== 'rename' || !to.includes('/blobs/')) continue;
      const before = operations.slice(0, index);
      const after = operations.slice(index + 1, index + 4);
      expect(before.lastIndexOf(`handle.sync ${from}`)).toBeGreaterThan(before.lastIndexOf(`handle.write ${from}`));
      expect(after).toContain(`handle.sync ${path.dirname(to)}`);
    }
  });
});
