/**
 * The node's files that tell of devices, as the agent's container sees them: sysfs, procfs and device files. Owns where they
 * lie and what counts as "not there". Only reads, never opens a device.
 */
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import path from 'node:path';

export interface HostFolders {
  /** Default `/sys`. */
  readonly sys?: string | undefined;
  /** Default `/proc`. */
  readonly proc?: string | undefined;
  /** The node's own `/dev`: a container's copy lacks what appeared after it was started. Default `/dev`. */
  readonly dev?: string | undefined;
}

/** Paths begin with sys/, proc/ or dev/. */
export interface HostFiles {
  /** The text without white space at its ends; undefined when the file is not there or the kernel has no answer. */
  read(at: string): Promise<string | undefined>;
  /** Names in a folder, sorted; empty when it is not there. */
  list(at: string): Promise<readonly string[]>;
  /** Last part of what a link points to: how sysfs names a device's driver. */
  linkName(at: string): Promise<string | undefined>;
  exists(at: string): Promise<boolean>;
}

/** What sysfs answers for files that are there in name only, beside plain absence. */
const NOT_THERE = new Set(['ENOENT', 'ENOTDIR', 'ENODEV', 'ENXIO', 'EIO', 'EINVAL', 'ENODATA', 'EOPNOTSUPP', 'EPERM']);

export function makeHostFiles(folders: HostFolders = {}): HostFiles {
  const roots: Readonly<Record<string, string>> = {
    sys: folders.sys ?? '/sys',
    proc: folders.proc ?? '/proc',
    dev: folders.dev ?? '/dev',
  };
  const locate = (at: string) => {
    const [first = '', ...rest] = at.split('/');
    const root = roots[first];
    if (root === undefined) throw new Error(`${at} begins with none of ${Object.keys(roots).join(', ')}`);
    return path.join(root, ...rest);
  };
  return {
    read: (at) => unlessMissing(async () => (await readFile(locate(at), 'utf8')).trim()),
    list: async (at) => (await unlessMissing(() => readdir(locate(at))))?.toSorted() ?? [],
    linkName: (at) => unlessMissing(async () => path.basename(await readlink(locate(at)))),
    exists: async (at) => (await unlessMissing(() => lstat(locate(at)))) !== undefined,
  };
}

async function unlessMissing<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look();
  } catch (error) {
    if (error instanceof Error && 'code' in error && NOT_THERE.has(String(error.code))) return undefined;
    throw error;
  }
}
