/**
 * Owns the control groups of the nodes, on machines with the unified hierarchy (v2) and with the old ones (v1).
 * Only ever inside the groups that it made itself.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '../errors.ts';

const ROOT = '/sys/fs/cgroup';

/** What a kubelet cannot do without. */
export const CONTROLLERS = ['cpu', 'cpuset', 'memory', 'pids'];

/** Whether the machine has the unified hierarchy alone. */
export function isUnified(): boolean {
  return existsSync(path.join(ROOT, 'cgroup.controllers'));
}

/** Makes `cluster/node` in every hierarchy, ready for a kubelet to work under it. */
export async function makeControlGroup(cluster: string, node: string): Promise<void> {
  if (isUnified()) {
    // A group hands out only the controllers that are switched on in its parent.
    for (const parent of ['', cluster, `${cluster}/${node}`]) {
      await mkdir(path.join(ROOT, parent), { recursive: true });
      const wanted = (await readFile(path.join(ROOT, parent, 'cgroup.controllers'), 'utf8')).trim().split(/\s+/);
      for (const controller of wanted)
        await writeFile(path.join(ROOT, parent, 'cgroup.subtree_control'), `+${controller}`).catch(() => undefined);
    }
    const given = await readFile(path.join(ROOT, cluster, node, 'cgroup.subtree_control'), 'utf8');
    const lacking = CONTROLLERS.filter((controller) => !given.split(/\s+/).includes(controller));
    if (lacking.length > 0)
      throw new UserError(
        `The control group controllers ${lacking.join(', ')} cannot be handed to the nodes, as inside of a container: run this on the machine itself, or use --provider kind.`,
      );
    return;
  }
  for (const hierarchy of await hierarchies()) {
    for (const group of [cluster, `${cluster}/${node}`]) {
      await mkdir(path.join(hierarchy, group), { recursive: true });
      // A new cpuset is empty, and nothing can run in it before it is filled.
      for (const file of ['cpuset.mems', 'cpuset.cpus'])
        if (existsSync(path.join(hierarchy, file)))
          await writeFile(path.join(hierarchy, group, file), await readFile(path.join(hierarchy, file), 'utf8'));
    }
  }
}

/** Removes a group and all groups under it, once their processes are gone. Waits up to 5 s for that. */
export async function removeControlGroup(name: string): Promise<void> {
  for (const hierarchy of isUnified() ? [ROOT] : await hierarchies()) {
    const group = path.join(hierarchy, name);
    for (let attempt = 0; attempt < 100 && existsSync(group); attempt += 1) {
      await removeTree(group);
      if (existsSync(group)) await sleep(50);
    }
  }
}

async function removeTree(group: string): Promise<void> {
  const entries = await readdir(group, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeTree(path.join(group, entry.name));
  // Busy while a killed process is not yet buried; the caller tries again.
  await rmdir(group).catch(() => undefined);
}

/** Mount points of the old hierarchies, and of the unified one that may stand beside them without controllers. */
async function hierarchies(): Promise<string[]> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' '));
  return mounts.flatMap(([, point, type]) => ((type === 'cgroup' || type === 'cgroup2') && point ? [point] : []));
}
