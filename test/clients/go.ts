/**
 * The program that checks the server through Ollama's own Go package: built once into the cache, under a name that its
 * sources decide.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { cacheDir } from '../cache.ts';
import { runCommand } from '../cluster/command.ts';

const SOURCES = path.join(import.meta.dirname, 'go');

/** Where the checks are written down. */
export const GO_CHECKS = path.join(SOURCES, 'main.go');

/** Path of the program, built when it is not there. @throws Error with what the compiler said */
export async function goClient(): Promise<string> {
  const hash = createHash('sha256').update(`${process.platform}-${process.arch}`);
  for (const name of (await readdir(SOURCES)).sort())
    hash.update(JSON.stringify([name, await readFile(path.join(SOURCES, name), 'utf8')]));
  const program = path.join(cacheDir, 'clients', `go-${hash.digest('hex').slice(0, 12)}`);
  if ((await stat(program).catch(() => undefined)) !== undefined) return program;
  await mkdir(path.dirname(program), { recursive: true });
  const work = `${program}.${randomUUID()}`;
  try {
    await runCommand(['go', 'build', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w', '-o', work, '.'], {
      cwd: SOURCES,
      env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly', GOWORK: 'off' },
    });
    await rename(work, program);
  } finally {
    await rm(work, { force: true });
  }
  return program;
}
