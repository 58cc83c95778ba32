/**
 * Bind mounts of model folders into pods. Owns the commands and the reading of /proc/self/mountinfo, which is the only
 * record of what is mounted: it survives any restart of the agent. Never removes files.
 */
import { execFile } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';

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
  /** Makes the model's folder appear at `target`, read-only. Rejects, leaving nothing mounted, when it would not be. */
  bindReadOnly(hex: string, target: string): Promise<void>;
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

export interface MounterOptions {
  /** The store's folder of models, one folder HEX each. */
  readonly models: string;
  /** An empty folder for the read-only view, outside of what is shared with the host. Made when it is missing. */
  readonly view: string;
  readonly run?: CommandRunner | undefined;
  readonly mountInfo?: string | undefined;
}

/**
 * Mounts with mount(8) and umount(8) of util-linux or busybox.
 *
 * The kernel tells other namespaces of a mount when it is made, but not when its options change later. A folder that is
 * bound into the kubelet's directory and made read-only there would stay writable on the host, and in pods. So a view of
 * all models, which is this namespace's own, is made read-only first; what is bound out of it is read-only from its
 * beginning, everywhere.
 */
export function makeMounter(options: MounterOptions): Mounter {
  const { models, view } = options;
  const run = options.run ?? runCommand;
  const list = async () => parseMountInfo(await readFile(options.mountInfo ?? '/proc/self/mountinfo', 'utf8'));
  const isReadOnlyAt = async (target: string) =>
    (await list()).findLast((mount) => mount.target === target)?.options.includes('ro');
  let viewing: Promise<void> | undefined;
  const makeView = async () => {
    await mkdir(view, { recursive: true, mode: 0o700 });
    // Left by a run that was killed in this very namespace, perhaps between its two steps.
    for (const mount of await list()) if (mount.target === view) await run('umount', [view]);
    await run('mount', ['-o', 'bind', models, view]);
    // The kernel ignores these options in the first call of a bind mount.
    await run('mount', ['-o', `remount,bind,${OPTIONS}`, view]);
    if ((await isReadOnlyAt(view)) !== true) throw new Error(`${view} could not be made read-only`);
  };
  return {
    list,
    async bindReadOnly(hex, target) {
      viewing ??= makeView();
      await viewing.catch((error: unknown) => {
        viewing = undefined;
        throw error;
      });
      await run('mount', ['-o', 'bind', path.join(view, hex), target]);
      if ((await isReadOnlyAt(target)) === true) return;
      await run('umount', [target]);
      throw new Error(`the kernel did not mount ${target} read-only; nothing was mounted`);
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
