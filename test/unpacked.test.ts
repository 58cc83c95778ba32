import { randomBytes } from 'node:crypto';
import { access, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { cacheDir } from './cache.ts';
import { checkDigest, madeOnce } from './unpacked.ts';

const parent = `test-unpacked-${randomBytes(4).toString('hex')}`;
afterEach(() => rm(path.join(cacheDir, parent), { recursive: true, force: true }));

describe('a folder that is made once', () => {
  it('is whole when it is there, and not made again', async () => {
    let made = 0;
    const make = () =>
      madeOnce(path.join(parent, 'thing'), async (output, work) => {
        made++;
        await writeFile(path.join(work, 'scratch'), 'not kept');
        await writeFile(path.join(output, 'kept'), 'kept');
      });
    const folder = await make();
    expect(await make()).toBe(folder);
    expect(made).toBe(1);
    expect(await readdir(folder)).toEqual(['kept']);
  });

  it('is made by two at once without harm', async () => {
    const make = () =>
      madeOnce(path.join(parent, 'both'), async (output) => {
        await writeFile(path.join(output, 'kept'), 'kept');
      });
    const [one, two] = await Promise.all([make(), make()]);
    expect(one).toBe(two);
    expect(await readFile(path.join(one, 'kept'), 'utf8')).toBe('kept');
    expect(await readdir(path.join(cacheDir, parent))).toEqual(['both']);
  });

  it('leaves nothing when making it fails', async () => {
    await expect(madeOnce(path.join(parent, 'broken'), () => Promise.reject(new Error('cut')))).rejects.toThrow('cut');
    expect(await readdir(path.join(cacheDir, parent))).toEqual([]);
  });
});

describe('the digest of what was fetched', () => {
  it('is compared as hex and as npm writes it', async () => {
    const folder = await madeOnce(path.join(parent, 'digest'), (output) => writeFile(path.join(output, 'file'), 'abc'));
    const file = path.join(folder, 'file');
    await access(file);
    const hex = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
    await checkDigest(file, 'sha256', hex, 'it');
    await checkDigest(file, 'sha256', Buffer.from(hex, 'hex').toString('base64'), 'it');
    await expect(checkDigest(file, 'sha256', 'f00', 'wheel 1.0')).rejects.toThrow(
      /^wheel 1\.0 has sha256 ba7816bf.*, and f00 is pinned: the registry serves something else than was tested here\.$/,
    );
  });
});
