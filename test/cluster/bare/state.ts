/** Owns what a bare cluster keeps in its folder beside the files of its parts: the record of what was asked for. */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Instance } from './instance.ts';

/** What `up` was asked for, kept for the commands that come later. */
export interface ClusterRecord {
  readonly nodes: number;
  readonly nodeGraceSeconds: number;
}

/** The record of the last `up`; undefined after `down`. */
export async function readRecord(instance: Instance): Promise<ClusterRecord | undefined> {
  return readFile(path.join(instance.folder, 'record.json'), 'utf8').then(
    (text) => JSON.parse(text) as ClusterRecord,
    () => undefined,
  );
}

/** Writes the record. */
export async function writeRecord(instance: Instance, record: ClusterRecord): Promise<void> {
  await writeFile(path.join(instance.folder, 'record.json'), JSON.stringify(record));
}

/** Deletes what the cluster stored, but for keys and the nodes' images. */
export async function removeState(instance: Instance): Promise<void> {
  const remove = (...parts: string[]) => rm(path.join(instance.folder, ...parts), { recursive: true, force: true });
  for (const entry of ['etcd', 'log', 'record.json', 'archives.json']) await remove(entry);
  await mkdir(path.join(instance.folder, 'log'), { recursive: true });
  for (const node of await readdir(path.join(instance.folder, 'nodes')).catch(() => [])) {
    for (const entry of await readdir(path.join(instance.folder, 'nodes', node)))
      if (entry !== 'var') await remove('nodes', node, entry);
    await remove('nodes', node, 'var/log');
    const kept = await readdir(path.join(instance.folder, 'nodes', node, 'var/lib')).catch(() => []);
    for (const entry of kept) if (entry !== 'containerd') await remove('nodes', node, 'var/lib', entry);
  }
}
