/**
 * The models on this node's disk, content-addressed: verified blobs, partial files, and for each revision a folder of
 * hard links that pods mount, with a manifest beside it.
 *
 *     blobs/sha256/HEX      verified; named by their own digest
 *     partial/HEX           not verified yet; HEX is the digest that the file must get
 *     models/HEX/PATH       hard links to blobs; the folder appears complete or not at all
 *     models/HEX.json       manifest: files, namespaces and models of that revision
 *
 * Hard links, because engines refuse symbolic links out of the mounted folder. Never downloads, never mounts, and never
 * removes what is mounted. Every step may be the last one before a kill: `open` finishes or undoes what is half done.
 */
import path from 'node:path';
import type { ModelFile } from '@slm-operator/crds';
import { store as layout } from '@slm-operator/crds/contract';
import { type BlobWriter, openBlobWriter } from './blob-writer.ts';
import { hasCode, isMissing, type StoreFs, syncFolder, systemFs, writeDurably } from './durable-files.ts';
import { checkFiles, safeHex } from './model-files.ts';

const HEX = /^[0-9a-f]{64}$/;
const STAGING = '.staging-';
const GONE = '.gone-';

/** What the node knows of a revision without asking the API server. */
export interface Manifest {
  readonly digest: string;
  /** Bytes of all files. */
  readonly size: number;
  readonly files: readonly ModelFile[];
  /** NAMESPACE/NAME of the SLMModels that want it. */
  readonly models: readonly string[];
  /** Namespaces whose pods may mount it. */
  readonly namespaces: readonly string[];
  /** Host that the bytes came from. */
  readonly from?: string;
}

export interface BlobStoreOptions {
  /** One folder on one file system. */
  readonly root: string;
  /** Hex digests of the revisions that are mounted somewhere now. */
  readonly mounted: () => Promise<ReadonlySet<string>>;
  readonly fs?: StoreFs | undefined;
}

/** Bytes of the file system that the store lies on. */
export interface DiskSpace {
  readonly capacityBytes: number;
  /** What an unprivileged process could still write. */
  readonly freeBytes: number;
}

/** Store of one node. Only one process may use it. */
export class BlobStore {
  readonly root: string;
  readonly #fs: StoreFs;
  readonly #mounted: () => Promise<ReadonlySet<string>>;
  readonly #manifests = new Map<string, Manifest>();
  /** Revisions that a mount is about to use, with how many. */
  readonly #pins = new Map<string, number>();
  readonly #removing = new Set<string>();

  constructor(options: BlobStoreOptions) {
    this.root = options.root;
    this.#fs = options.fs ?? systemFs;
    this.#mounted = options.mounted;
  }

  /** Makes the folders, tidies up after a kill, and reads which revisions are complete. Call it once, first. */
  async open(): Promise<void> {
    const folders = [path.dirname(this.#blobs), this.#blobs, this.#partials, this.#models];
    for (const folder of folders) {
      await this.#fs.mkdir(folder, { recursive: true });
      // Only the bind mounts are for others: on the host nobody but root walks through here.
      await this.#fs.chmod(folder, 0o700);
    }
    const names = new Set(await this.#fs.readdir(this.#models));
    for (const name of names) {
      const place = path.join(this.#models, name);
      if (HEX.test(name) && names.has(`${name}.json`)) {
        const manifest = await this.#readManifest(name);
        if (manifest !== undefined && (await this.#damagedFiles(manifest)).length === 0) {
          this.#manifests.set(manifest.digest, manifest);
        } else {
          await this.#takeAway(name);
        }
      } else if (!(name.endsWith('.json') && names.has(name.slice(0, -'.json'.length)))) {
        // A staging folder, something half removed, a draft, or a manifest whose folder never appeared.
        await this.#fs.rm(place, { recursive: true, force: true });
      }
    }
    for (const folder of [this.#blobs, this.#partials]) {
      for (const name of await this.#fs.readdir(folder)) {
        if (!HEX.test(name)) await this.#fs.rm(path.join(folder, name), { recursive: true, force: true });
      }
    }
  }

  /** The complete revisions. */
  manifests(): readonly Manifest[] {
    return [...this.#manifests.values()];
  }

  manifest(digest: string): Manifest | undefined {
    return this.#manifests.get(digest);
  }

  /** Folder of a revision; what is mounted. */
  modelPath(digest: string): string {
    return path.join(this.#models, safeHex(digest));
  }

  /** Whether the verified bytes of a file are here. A blob of the wrong length (a disk error) is deleted. */
  async hasBlob(file: Pick<ModelFile, 'size' | 'digest'>): Promise<boolean> {
    const blob = this.#blob(file.digest);
    const size = await this.#sizeOf(blob);
    if (size === undefined) return false;
    if (size === file.size) return true;
    await this.#fs.unlink(blob);
    return false;
  }

  /** Bytes of a file that an earlier run left. */
  async partialSize(digest: string): Promise<number> {
    return (await this.#sizeOf(path.join(this.#partials, safeHex(digest)))) ?? 0;
  }

  /** Opens the file for writing where an earlier run stopped. One writer a digest: the caller sees to that. */
  openWriter(file: Pick<ModelFile, 'size' | 'digest'>, signal?: AbortSignal): Promise<BlobWriter> {
    return openBlobWriter({
      fs: this.#fs,
      file,
      partial: path.join(this.#partials, safeHex(file.digest)),
      blob: this.#blob(file.digest),
      signal,
    });
  }

  /** Makes the folder of a revision out of blobs that are all here. Does nothing but renew the manifest when it exists. */
  async assemble(manifest: Manifest): Promise<void> {
    checkFiles(manifest.digest, manifest.files);
    const hex = safeHex(manifest.digest);
    if (this.#manifests.has(manifest.digest)) {
      await this.updateManifest(manifest);
      return;
    }
    const staging = path.join(this.#models, `${STAGING}${hex}`);
    await this.#fs.rm(staging, { recursive: true, force: true });
    const folders = new Set<string>([staging]);
    for (const file of manifest.files) {
      for (let folder = path.dirname(file.path); folder !== '.'; folder = path.dirname(folder)) {
        folders.add(path.join(staging, folder));
      }
    }
    const outerFirst = [...folders].sort((a, b) => a.length - b.length);
    for (const folder of outerFirst) {
      await this.#fs.mkdir(folder);
      // mkdir's mode is cut by the umask; the server's user must be able to read.
      await this.#fs.chmod(folder, 0o755);
    }
    for (const file of manifest.files) {
      await this.#fs.link(this.#blob(file.digest), path.join(staging, file.path));
    }
    for (const folder of outerFirst.toReversed()) await syncFolder(this.#fs, folder);
    // The manifest first: the folder's name is what makes the revision exist, and then it needs its manifest.
    await writeDurably(this.#fs, this.#manifestFile(hex), JSON.stringify(manifest));
    await this.#fs.rename(staging, path.join(this.#models, hex));
    await syncFolder(this.#fs, this.#models);
    this.#manifests.set(manifest.digest, manifest);
  }

  /** Records changed namespaces or models of a revision that is here. Writes nothing when nothing changed. */
  async updateManifest(manifest: Manifest): Promise<void> {
    const known = this.#manifests.get(manifest.digest);
    if (known === undefined) return;
    const next: Manifest = { ...known, models: manifest.models, namespaces: manifest.namespaces };
    if (JSON.stringify(next) === JSON.stringify(known)) return;
    await writeDurably(this.#fs, this.#manifestFile(safeHex(manifest.digest)), JSON.stringify(next));
    this.#manifests.set(manifest.digest, next);
  }

  /**
   * Holds a revision while it is being mounted. Answers undefined when it is not here (or on its way out); otherwise
   * call `release` when the mount is made or has failed.
   */
  pin(digest: string): { release(): void } | undefined {
    if (!this.#manifests.has(digest) || this.#removing.has(digest)) return undefined;
    this.#pins.set(digest, (this.#pins.get(digest) ?? 0) + 1);
    let released = false;
    return {
      release: () => {
        if (released) return;
        released = true;
        const left = (this.#pins.get(digest) ?? 1) - 1;
        if (left > 0) this.#pins.set(digest, left);
        else this.#pins.delete(digest);
      },
    };
  }

  /** Removes the folder and manifest of a revision; answers false, doing nothing, while it is mounted. */
  async remove(digest: string): Promise<boolean> {
    if (!this.#manifests.has(digest)) return true;
    this.#removing.add(digest);
    try {
      const hex = safeHex(digest);
      if ((await this.#mounted()).has(hex) || this.#pins.has(digest)) return false;
      this.#manifests.delete(digest);
      await this.#takeAway(hex);
      return true;
    } finally {
      this.#removing.delete(digest);
    }
  }

  /**
   * Looks whether the files of a complete revision are still there at full length. When not (somebody deleted them, a
   * disk error), the revision is taken away so that it is pulled again.
   */
  async check(digest: string): Promise<boolean> {
    const manifest = this.#manifests.get(digest);
    if (manifest === undefined) return false;
    if ((await this.#damagedFiles(manifest)).length === 0) return true;
    this.#manifests.delete(digest);
    await this.#takeAway(safeHex(digest));
    return false;
  }

  /** Deletes blobs and partial files other than those named. Blobs of complete revisions always stay. */
  async collect(keep: ReadonlySet<string>): Promise<void> {
    const used = new Set(keep);
    for (const manifest of this.#manifests.values()) for (const file of manifest.files) used.add(file.digest);
    for (const folder of [this.#blobs, this.#partials]) {
      for (const name of await this.#fs.readdir(folder)) {
        if (!used.has(`sha256:${name}`)) await this.#fs.rm(path.join(folder, name), { force: true });
      }
    }
  }

  /** Bytes of blobs and partial files. */
  async usedBytes(): Promise<number> {
    let sum = 0;
    for (const folder of [this.#blobs, this.#partials]) {
      for (const name of await this.#fs.readdir(folder)) sum += (await this.#sizeOf(path.join(folder, name))) ?? 0;
    }
    return sum;
  }

  async disk(): Promise<DiskSpace> {
    const { bsize, blocks, bavail } = await this.#fs.statfs(this.root);
    return { capacityBytes: bsize * blocks, freeBytes: bsize * bavail };
  }

  get #blobs(): string {
    return path.join(this.root, layout.blobs);
  }

  get #partials(): string {
    return path.join(this.root, layout.partial);
  }

  get #models(): string {
    return path.join(this.root, layout.models);
  }

  #blob(digest: string): string {
    return path.join(this.#blobs, safeHex(digest));
  }

  #manifestFile(hex: string): string {
    return path.join(this.#models, `${hex}.json`);
  }

  /** The folder's name goes first, so that a kill leaves no folder with only some of its files. */
  async #takeAway(hex: string): Promise<void> {
    const gone = path.join(this.#models, `${GONE}${hex}`);
    await this.#fs.rm(gone, { recursive: true, force: true });
    try {
      await this.#fs.rename(path.join(this.#models, hex), gone);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
    await this.#fs.rm(this.#manifestFile(hex), { force: true });
    await this.#fs.rm(gone, { recursive: true, force: true });
  }

  async #readManifest(hex: string): Promise<Manifest | undefined> {
    try {
      const manifest = JSON.parse(await this.#fs.readFile(this.#manifestFile(hex), 'utf8')) as Manifest;
      checkFiles(`sha256:${hex}`, manifest.files);
      return Array.isArray(manifest.models) && Array.isArray(manifest.namespaces) ? manifest : undefined;
    } catch (error) {
      if (error instanceof Error && 'errno' in error && !isMissing(error)) throw error;
      return undefined;
    }
  }

  async #damagedFiles(manifest: Manifest): Promise<string[]> {
    const folder = this.modelPath(manifest.digest);
    const damaged: string[] = [];
    for (const file of manifest.files) {
      const size = await this.#sizeOf(path.join(folder, file.path));
      if (size !== file.size) damaged.push(file.path);
    }
    return damaged;
  }

  /** Undefined when there is no such plain file. */
  async #sizeOf(file: string): Promise<number | undefined> {
    try {
      const stats = await this.#fs.lstat(file);
      return stats.isFile() ? stats.size : undefined;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }
}
