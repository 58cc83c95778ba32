/**
 * Owns the list of everything that a cluster changes on the machine outside of its folder: links, routes, control groups
 * and kernel settings. Each change is written down before it is made, so that whatever kills the command half-way, the
 * list is never short, and undoing it undoes all. What is not in the list is not ours and is left alone.
 */
import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { tryCommand } from '../command.ts';
import { removeControlGroup } from './cgroups.ts';
import { instanceNames, instancesFolder } from './instance.ts';

/** One change. `sysctl` holds the value from before. */
export type Change =
  | { readonly kind: 'link'; readonly name: string }
  | { readonly kind: 'route'; readonly route: readonly string[] }
  | { readonly kind: 'cgroup'; readonly name: string }
  | { readonly kind: 'sysctl'; readonly name: string; readonly before: string };

/** The list of one instance. */
export interface Changes {
  /** Whether the list has a link of that name: then it is ours. */
  hasLink(name: string): boolean;
  /** Writes a change down. To be called before it is made; a second time it does nothing. */
  record(change: Change): void;
  /** Undoes everything, the youngest first, and forgets the list. */
  undo(): Promise<void>;
}

/** The kernel settings that a kubelet changes for the whole machine. */
const KUBELET_SYSCTLS = [
  'vm/overcommit_memory',
  'vm/panic_on_oom',
  'kernel/panic',
  'kernel/panic_on_oops',
  'kernel/keys/root_maxkeys',
  'kernel/keys/root_maxbytes',
];

/**
 * Kernel settings that are too small for several kubelets on one machine. A kubelet, its containerd and their shims take some
 * twenty inotify instances of one user, and many machines allow 128.
 */
const RAISED_SYSCTLS: Readonly<Record<string, number>> = {
  'fs/inotify/max_user_instances': 1024,
  'fs/inotify/max_user_watches': 524_288,
};

/** Opens the list of the instance in that folder. A list from before a reboot is void: the reboot undid it. */
export function openChanges(folder: string): Changes {
  const file = path.join(folder, 'changes');
  let changes = readChanges(folder);
  if (changes.length === 0) {
    rmSync(file, { force: true });
    appendFileSync(file, `${JSON.stringify({ boot: bootId() })}\n`);
  }
  const record = (change: Change) => {
    if (changes.some((known) => JSON.stringify(known) === JSON.stringify(change))) return;
    appendFileSync(file, `${JSON.stringify(change)}\n`);
    changes.push(change);
  };
  return {
    hasLink: (name) => changes.some((change) => change.kind === 'link' && change.name === name),
    record,
    async undo() {
      for (const change of changes.toReversed()) await undoChange(change, folder);
      rmSync(file, { force: true });
      changes = [];
    },
  };
}

/** Writes down the kernel settings that kubelets are about to change, and raises those that are too small for them. */
export async function prepareKernelSettings(folder: string, changes: Changes): Promise<void> {
  if (readChanges(folder).some((change) => change.kind === 'sysctl')) return;
  // With another cluster running, the machine's own values are those that it found.
  const known = otherChanges(folder).filter((change) => change.kind === 'sysctl');
  for (const name of [...KUBELET_SYSCTLS, ...Object.keys(RAISED_SYSCTLS)]) {
    const before = known.find((change) => change.name === name)?.before ?? (await readSysctl(name));
    if (before !== undefined) changes.record({ kind: 'sysctl', name, before });
  }
  for (const [name, least] of Object.entries(RAISED_SYSCTLS)) {
    const value = await readSysctl(name);
    // Where it may not be written, few nodes work all the same.
    if (value !== undefined && Number(value) < least)
      await writeFile(path.join('/proc/sys', name), String(least)).catch(() => undefined);
  }
}

/** Reads a list's lines. Exported for its test. */
export function parseChanges(text: string, boot: string): Change[] {
  const [head, ...lines] = text.split('\n').filter(Boolean);
  if (!head || (JSON.parse(head) as { boot: string }).boot !== boot) return [];
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line) as Change];
    } catch {
      // A line cut off by a full disk: its change was not made, because writing it down failed.
      return [];
    }
  });
}

function readChanges(folder: string): Change[] {
  try {
    return parseChanges(readFileSync(path.join(folder, 'changes'), 'utf8'), bootId());
  } catch {
    return [];
  }
}

function otherChanges(folder: string): Change[] {
  return instanceNames()
    .map((name) => path.join(instancesFolder, name))
    .filter((other) => other !== folder)
    .flatMap(readChanges);
}

async function undoChange(change: Change, folder: string): Promise<void> {
  switch (change.kind) {
    case 'link':
      await tryCommand(['ip', 'link', 'delete', change.name]);
      break;
    case 'route':
      await tryCommand(['ip', 'route', 'delete', ...change.route]);
      break;
    case 'cgroup':
      await removeControlGroup(change.name);
      break;
    case 'sysctl':
      // The last cluster on the machine puts the settings back.
      if (otherChanges(folder).some((other) => other.kind === 'sysctl')) break;
      if ((await readSysctl(change.name)) !== change.before)
        await writeFile(path.join('/proc/sys', change.name), change.before).catch(() => undefined);
      break;
  }
}

async function readSysctl(name: string): Promise<string | undefined> {
  return readFile(path.join('/proc/sys', name), 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
