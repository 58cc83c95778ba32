/**
 * Bind mounts of model folders into pods. Owns the commands and the reading of /proc/self/mountinfo, which is the only
 * record of what is mounted: it survives any restart of the agent. Never removes files.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';

/** One line of mountinfo. */
export interface Mount {
  /** Folder inside the mounted file system that is the root of this mount. */
  readonly root: string;
  /** Where it is mounted, as this process sees it. */
  readonly target: string;
  /** Options of this mount, for example `ro`. */
  readonly options: readonly string[];
}

/** Runs a program; rejects with what it wrote to stderr. */
export type CommandRunner = (command: string, args: readonly string[]) => Promise<void>;

export interface Mounter {
  list(): Promise<readonly Mount[]>;
  /** Makes `source` appear at `target`, read-only. A kill between its two steps leaves a mount without `ro`. */
  bindReadOnly(source: string, target: string): Promise<void>;
  unmount(target: string): Promise<void>;
}

/** A mount of a model into a pod. */
export interface PublishedMount extends Mount {
  /** Hex of the revision's digest. */
  readonly hex: string;
}

const MODEL_ROOT = /\/models\/([0-9a-f]{64})$/;
/** A pod can neither write, nor run programs, nor use devices or set-uid bits in the folder. */
const OPTIONS = 'ro,nosuid,nodev,noexec';
const COMMAND_TIMEOUT_MS = 30_000;

/** Parses /proc/self/mountinfo. Lines that are no mounts are left out. */
export function parseMountInfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    const [, , , root, target, options] = line.split(' ');
    if (root === undefined || target === undefined || options === undefined) continue;
    mounts.push({ root: unescape(root), target: unescape(target), options: options.split(',') });
  }
  return mounts;
}

/** The mounts of models below the kubelet's folder. */
export function publishedMounts(mounts: readonly Mount[], kubeletDir: string): PublishedMount[] {
  const published: PublishedMount[] = [];
  for (const mount of mounts) {
    const hex = MODEL_ROOT.exec(mount.root)?.[1];
    if (hex !== undefined && mount.target.startsWith(`${kubeletDir}/`)) published.push({ ...mount, hex });
  }
  return published;
}

/** Mounts with mount(8) and umount(8) of util-linux or busybox. */
export function makeMounter(
  options: { readonly run?: CommandRunner | undefined; readonly mountInfo?: string | undefined } = {},
): Mounter {
  const run = options.run ?? runCommand;
  const list = async () => parseMountInfo(await readFile(options.mountInfo ?? '/proc/self/mountinfo', 'utf8'));
  return {
    list,
    async bindReadOnly(source, target) {
      await run('mount', ['-o', 'bind', source, target]);
      try {
        // The kernel ignores these options in the first call of a bind mount.
        await run('mount', ['-o', `remount,bind,${OPTIONS}`, target]);
      } catch (error) {
        await run('umount', [target]).catch(() => undefined);
        throw error;
      }
    },
    unmount: (target) => run('umount', [target]),
  };
}

/** mountinfo writes space, tab, newline and backslash as octal numbers. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

const runCommand: CommandRunner = (command, args) =>
  new Promise((resolve, reject) => {
    execFile(command, args, { timeout: COMMAND_TIMEOUT_MS }, (error, _stdout, stderr) => {
      if (error === null) resolve();
      else reject(new Error(`${command} ${args.join(' ')}: ${stderr.trim() || error.message}`, { cause: error }));
    });
  });
