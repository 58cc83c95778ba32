/** Files as the kubelet writes them, and what a server takes from them. */
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { PodInfo } from './pod-info.ts';
import { cleanUp, later, log } from './testing.ts';

afterEach(cleanUp);

describe('what the operator tells a pod', () => {
  async function folder() {
    const root = await mkdtemp(path.join(tmpdir(), 'slm-pod-'));
    later(() => rm(root, { recursive: true }));
    for (const name of ['traffic', 'revision']) await symlink(`..data/${name}`, path.join(root, name));
    /** As the kubelet writes: a new folder, and a symlink swapped to it. */
    const write = async (traffic: string) => {
      const data = `..${Math.random()}`;
      await mkdir(path.join(root, data));
      await writeFile(path.join(root, data, 'traffic'), traffic);
      await writeFile(path.join(root, data, 'revision'), '0123456789');
      await symlink(data, path.join(root, '..data_tmp'));
      await rename(path.join(root, '..data_tmp'), path.join(root, '..data'));
    };
    return { root, write };
  }

  test('holds as soon as the kubelet has written it', async () => {
    const { root, write } = await folder();
    await write('{}');
    const info = new PodInfo(root, log);
    await info.open();
    later(() => info.close());
    expect([info.revision, info.target]).toEqual(['0123456789', undefined]);
    await write('{"weight":10,"address":"10.0.0.1:11434","revision":"abc"}');
    await expect.poll(() => info.target?.weight).toBe(10);
    await write('{"weight":1000}');
    await expect.poll(() => info.target).toBeUndefined();
  });

  test('a folder without files says nothing', async () => {
    const root = await mkdtemp(path.join(tmpdir(), 'slm-pod-'));
    later(() => rm(root, { recursive: true }));
    const info = new PodInfo(root, log);
    await info.open();
    later(() => info.close());
    expect([info.revision, info.target]).toEqual([undefined, undefined]);
  });
});
