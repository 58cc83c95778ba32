/** Builds a Go program of this folder once, into the cache, under a name that its sources decide. */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { cacheDir } from '../cache.ts';
import { runCommand } from '../cluster/command.ts';

/** Path of the program. @throws Error with what the compiler said */
export async function builtProgram(sources: string, name: string): Promise<string> {
  const hash = createHash('sha256').update(`${process.platform}-${process.arch}`);
  for (const file of (await readdir(sources)).sort())
    hash.update(JSON.stringify([file, await readFile(path.join(sources, file), 'utf8')]));
  const built = path.join(cacheDir, 'reference', `${name}-${hash.digest('hex').slice(0, 12)}`);
  if ((await stat(built).catch(() => undefined)) !== undefined) return built;
  await mkdir(path.dirname(built), { recursive: true });
  const work = `${built}.${randomUUID()}`;
  try {
    await runCommand(['go', 'build', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w', '-o', work, '.'], {
      cwd: sources,
      env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly', GOWORK: 'off' },
    });
    await rename(work, built);
  } finally {
    await rm(work, { force: true });
  }
  return built;
}
