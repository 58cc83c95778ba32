/**
 * Owns the one description of what lies in an image: a list of files, folders and links, made before any image format is
 * chosen. Both packers read it: the archive writer, and `--stage` for a Dockerfile. Never writes outside the folder given.
 */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { chmod, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** One thing in an image's root file system. */
export interface Entry {
  /** Path from the root, without a leading slash. */
  readonly path: string;
  /** Permission bits. Default 0o755 for folders and 0o644 for files. */
  readonly mode?: number;
  readonly content:
    | { readonly folder: true }
    /** A file whose bytes lie on this machine. */
    | { readonly file: string }
    | { readonly text: string }
    | { readonly linkTo: string };
}

export const folder = (at: string, mode?: number): Entry => ({
  path: at,
  content: { folder: true },
  ...(mode === undefined ? {} : { mode }),
});
export const file = (at: string, source: string, mode?: number): Entry => ({
  path: at,
  content: { file: source },
  ...(mode === undefined ? {} : { mode }),
});
export const text = (at: string, value: string): Entry => ({ path: at, content: { text: value } });
export const link = (at: string, target: string): Entry => ({ path: at, content: { linkTo: target } });

/** The entries with all parent folders, each path once (a later entry wins), sorted: equal input gives equal bytes. */
export function complete(entries: readonly Entry[]): Entry[] {
  const byPath = new Map<string, Entry>();
  for (const entry of entries) {
    for (let parent = path.dirname(entry.path); parent !== '.'; parent = path.dirname(parent))
      if (!byPath.has(parent)) byPath.set(parent, folder(parent));
    byPath.set(entry.path, entry);
  }
  return [...byPath.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

/** The permission bits of an entry. */
export function modeOf(entry: Entry): number {
  if (entry.mode !== undefined) return entry.mode;
  return 'folder' in entry.content ? 0o755 : 'linkTo' in entry.content ? 0o777 : 0o644;
}

/**
 * All files below a folder of this machine, as entries below `at`.
 * @param keep says of a path below the folder (with `/`) whether it comes along; asked for folders too
 */
export async function tree(at: string, source: string, keep: (relative: string) => boolean): Promise<Entry[]> {
  const entries: Entry[] = [];
  const walk = async (relative: string) => {
    for (const item of await readdir(path.join(source, relative), { withFileTypes: true })) {
      const below = path.posix.join(relative, item.name);
      if (!keep(below)) continue;
      const from = path.join(source, below);
      const to = path.posix.join(at, below);
      if (item.isDirectory()) await walk(below);
      else if (item.isSymbolicLink()) entries.push(link(to, await readlink(from)));
      else entries.push(file(to, from, ((await stat(from)).mode & 0o111) === 0 ? 0o644 : 0o755));
    }
  };
  await walk('');
  return entries;
}

/** A digest over paths, modes and contents: equal for equal images, whatever the machine's clock or folders. */
export async function contentKey(entries: readonly Entry[]): Promise<string> {
  const hash = createHash('sha256');
  for (const entry of complete(entries)) {
    const { content } = entry;
    const what =
      'file' in content
        ? ['file', await digestOf(content.file)]
        : 'text' in content
          ? ['file', createHash('sha256').update(content.text).digest('hex')]
          : 'linkTo' in content
            ? ['link', content.linkTo]
            : ['folder'];
    hash.update(`${JSON.stringify([entry.path, modeOf(entry), ...what])}\n`);
  }
  return hash.digest('hex');
}

const digests = new Map<string, string>();

/** SHA-256 of a file in hex; once for each state of it, because all images share the largest files. */
async function digestOf(source: string): Promise<string> {
  const { size, mtimeMs } = await stat(source);
  const state = `${source} ${size} ${mtimeMs}`;
  let digest = digests.get(state);
  if (digest === undefined) {
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(source, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
    digest = hash.digest('hex');
    digests.set(state, digest);
  }
  return digest;
}

/** Lays the entries out as files below `root`, for a Dockerfile to copy. */
export async function layOut(entries: readonly Entry[], root: string): Promise<void> {
  for (const entry of complete(entries)) {
    const target = path.join(root, entry.path);
    const { content } = entry;
    if ('folder' in content) {
      await mkdir(target, { recursive: true });
      await chmod(target, modeOf(entry));
    } else if ('linkTo' in content) {
      await symlink(content.linkTo, target);
    } else {
      await writeFile(target, 'text' in content ? content.text : await readFile(content.file));
      await chmod(target, modeOf(entry));
    }
  }
}
