/**
 * Mounts a folder as the agent does, tries what a pod must not be able to do, and prints what came of it. To be run in a
 * mount namespace of its own. For tests. Never used in production.
 */
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { makeMounter, publishedMounts } from '../mounts.ts';
import { bytesOf, makeModel, temporaryFolder } from './models.ts';

await using folder = await temporaryFolder();
const hex = makeModel({ 'model.gguf': bytesOf(2_000_000) }).wanted.digest.slice('sha256:'.length);
const source = path.join(folder.path, 'store/models', hex);
const kubeletDir = path.join(folder.path, 'kubelet with space');
const target = path.join(kubeletDir, 'pods/1/mount');
await mkdir(source, { recursive: true });
await mkdir(target, { recursive: true });
await writeFile(path.join(source, 'model.gguf'), 'weights');
await writeFile(path.join(source, 'program'), '#!/bin/sh\necho ran\n');
await chmod(path.join(source, 'program'), 0o755);

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code;
const mounter = makeMounter();
await mounter.bindReadOnly(source, target);
const [mount] = publishedMounts(await mounter.list(), kubeletDir);
const result = {
  content: await readFile(path.join(target, 'model.gguf'), 'utf8'),
  write: await writeFile(path.join(target, 'new'), 'x').then(() => 'written', codeOf),
  execute: codeOf(spawnSync(path.join(target, 'program')).error),
  options: ['ro', 'nosuid', 'nodev', 'noexec'].filter((option) => mount?.options.includes(option)),
  hex: mount?.hex,
};
await mounter.unmount(target);
console.log(JSON.stringify({ ...result, afterUnmount: publishedMounts(await mounter.list(), kubeletDir) }));
