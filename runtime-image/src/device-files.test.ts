import type * as Fs from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { deniedDeviceFiles } from './device-files.ts';

// Root may open everything: the kernel's answer is played.
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof Fs>();
  const accessSync: typeof fs.accessSync = (file) => {
    if ((fs.statSync(file).mode & 0o006) === 0) throw new Error('EACCES');
  };
  return { ...fs, accessSync };
});

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'slm-devices-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

test('device files that compute and are closed to this user, and no others', async () => {
  await mkdir(path.join(root, 'dri'));
  for (const [name, mode] of [
    ['dri/renderD128', 0o660],
    ['dri/renderD129', 0o666],
    ['dri/card0', 0o660],
    ['kfd', 0o660],
    ['kmsg', 0o600],
  ] as const) {
    await writeFile(path.join(root, name), '');
    await chmod(path.join(root, name), mode);
  }
  const files = deniedDeviceFiles(root).map(({ file, group }) => [path.relative(root, file), typeof group]);
  expect(files).toEqual([
    ['dri/renderD128', 'number'],
    ['kfd', 'number'],
  ]);
  expect(deniedDeviceFiles(path.join(root, 'nothing'))).toEqual([]);
});
