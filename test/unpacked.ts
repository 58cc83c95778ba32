/**
 * Owns folders of the cache that are made once, out of pinned packages of public registries. Whoever looks sees all of a folder
 * or nothing, also after a kill half-way; nothing is kept whose digest is not the pinned one.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { cacheDir } from './cache.ts';
import { runCommand } from './cluster/command.ts';
import { UserError } from './cluster/errors.ts';

/**
 * The folder of that name below the cache.
 * @param make fills an empty folder, the first time; it may use `work` for what is not to be kept
 */
export async function madeOnce(name: string, make: (output: string, work: string) => Promise<void>): Promise<string> {
  const target = path.join(cacheDir, name);
  if (await exists(target)) return target;
  await mkdir(path.dirname(target), { recursive: true });
  const work = await mkdtemp(`${target}.`);
  const output = path.join(work, 'output');
  try {
    await mkdir(output);
    await make(output, work);
    await rename(output, target).catch((error: NodeJS.ErrnoException) => {
      // Another run finished the same thing first; its result is as good as ours.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return target;
}

/** @throws UserError when the file has another digest than `wanted` (hex, or base64 as npm writes it) */
export async function checkDigest(
  file: string,
  algorithm: 'sha256' | 'sha512',
  wanted: string,
  what: string,
): Promise<void> {
  const hash = createHash(algorithm);
  await pipeline(createReadStream(file), hash);
  const digest = hash.digest();
  if (digest.toString('hex') !== wanted && digest.toString('base64') !== wanted)
    throw new UserError(
      `${what} has ${algorithm} ${digest.toString('hex')}, and ${wanted} is pinned: the registry serves something else than was tested here.`,
    );
}

/** A wheel on PyPI. */
export interface WheelPin {
  readonly name: string;
  readonly version: string;
  /** Hex. */
  readonly sha256: string;
}

/** Whether all of them are in the cache. */
export async function areFetched(pins: readonly WheelPin[]): Promise<boolean> {
  const there = await Promise.all(pins.map((pin) => exists(path.join(cacheDir, wheelName(pin)))));
  return there.every(Boolean);
}

const wheelName = ({ name, version, sha256 }: WheelPin) =>
  path.join('wheels', `${name}-${version}-${sha256.slice(0, 12)}`);

/** The files of a wheel for CPython 3.12 or any Python, on x64. Needs python3 with pip the first time. */
export async function wheelFolder(pin: WheelPin): Promise<string> {
  const { name, version, sha256 } = pin;
  return await madeOnce(wheelName(pin), async (output, work) => {
    const platforms = ['manylinux_2_28', 'manylinux_2_27', 'manylinux_2_17', 'manylinux2014'];
    const pip = 'python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all:';
    await runCommand([
      ...`${pip} --implementation cp --python-version 3.12`.split(' '),
      ...platforms.flatMap((platform) => ['--platform', `${platform}_x86_64`]),
      '-d',
      work,
      `${name}==${version}`,
    ]);
    const wheel = (await readdir(work)).find((file) => file.endsWith('.whl'));
    if (!wheel) throw new Error(`pip downloaded no wheel for ${name} ${version}`);
    await checkDigest(path.join(work, wheel), 'sha256', sha256, wheel);
    await runCommand(['python3', '-m', 'zipfile', '-e', path.join(work, wheel), output]);
  });
}

async function exists(file: string): Promise<boolean> {
  return await access(file).then(
    () => true,
    () => false,
  );
}
