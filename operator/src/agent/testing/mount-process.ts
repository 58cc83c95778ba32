/**
 * Mounts a model as the agent does and tries what a pod must not be able to do, there and as the host sees it. To be run
 * in a mount namespace of its own, which plays the host; it runs itself again in another, which plays the agent's
 * container. For tests. Never used in production.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { makeMounter, publishedMounts } from '../mounts.ts';
import { temporaryFolder } from './models.ts';

const hex = 'ab'.repeat(32);
const codeOf = (error: unknown) => (error as NodeJS.ErrnoException | undefined)?.code;
const placesIn = (folder: string) => ({
  models: path.join(folder, 'store/models'),
  view: path.join(folder, 'store/readonly'),
  kubeletDir: path.join(folder, 'kubelet with space'),
  target: path.join(folder, 'kubelet with space/pods/1/mount'),
});

/** What somebody can do with the mounted folder. */
async function tryOut(folder: string) {
  const { target, kubeletDir } = placesIn(folder);
  const mounts = await makeMounter(placesIn(folder)).list();
  const [mount] = publishedMounts(mounts, kubeletDir);
  return {
    content: await readFile(path.join(target, 'model.gguf'), 'utf8'),
    write: await writeFile(path.join(target, 'model.gguf'), 'x').then(() => 'written', codeOf),
    execute: codeOf(spawnSync(path.join(target, 'program')).error),
    flags: ['ro', 'nosuid', 'nodev', 'noexec'].filter((flag) => mount?.options.includes(flag)),
    hex: mount?.hex,
  };
}

async function playAgent(folder: string): Promise<void> {
  const { target } = placesIn(folder);
  await makeMounter(placesIn(folder)).bindReadOnly(hex, target);
  console.log(JSON.stringify(await tryOut(folder)));
}

async function playHost(): Promise<void> {
  await using folder = await temporaryFolder();
  const { models, kubeletDir, target, view } = placesIn(folder.path);
  const model = path.join(models, hex);
  await mkdir(model, { recursive: true });
  await mkdir(target, { recursive: true });
  await writeFile(path.join(model, 'model.gguf'), 'weights');
  await writeFile(path.join(model, 'program'), '#!/bin/sh\necho ran\n');
  await chmod(path.join(model, 'program'), 0o755);
  // As mountPropagation: Bidirectional makes it.
  execFileSync('/bin/mount', ['--bind', kubeletDir, kubeletDir]);
  execFileSync('/bin/mount', ['--make-shared', kubeletDir]);
  const self = [process.execPath, process.argv[1] ?? '', folder.path];
  const output = execFileSync('unshare', ['--mount', '--propagation', 'unchanged', ...self], { encoding: 'utf8' });
  // That namespace is gone with its process, as after a restart of the agent; the mount on the host is not.
  const onHost = await tryOut(folder.path);
  const mounter = makeMounter(placesIn(folder.path));
  const viewOnHost = (await mounter.list()).some((mount) => mount.target === view);
  const store = await writeFile(path.join(model, 'new'), 'x').then(() => 'still writable', codeOf);
  await mounter.unmount(target);
  const afterUnmount = publishedMounts(await mounter.list(), kubeletDir).length;
  execFileSync('/bin/umount', [kubeletDir]);
  console.log(JSON.stringify({ inAgent: JSON.parse(output), onHost, store, viewOnHost, afterUnmount }));
}

const [folder] = process.argv.slice(2);
await (folder === undefined ? playHost() : playAgent(folder));
