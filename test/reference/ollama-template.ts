/**
 * Runs templates through Go's text/template and Ollama's own package: the reference for ours. The program is built once into the
 * cache, under a name that its sources decide.
 */
import { spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { TemplateCase } from '../../runtime-image/src/modelfile/go-template/cases.ts';
import { cacheDir } from '../cache.ts';
import { runCommand } from '../cluster/command.ts';

const SOURCES = path.join(import.meta.dirname, 'go');

export interface ReferenceResult {
  readonly output?: string;
  readonly error?: string;
}

/** What Go makes of each case. @throws Error with what the compiler or the program said */
export async function renderByReference(cases: readonly TemplateCase[]): Promise<readonly ReferenceResult[]> {
  const child = spawn(await program(), { stdio: ['pipe', 'pipe', 'inherit'] });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stdin.end(JSON.stringify(cases));
  const [code] = (await once(child, 'close')) as [number];
  if (code !== 0) throw new Error(`the reference ended with ${code}`);
  return JSON.parse(Buffer.concat(chunks).toString()) as ReferenceResult[];
}

async function program(): Promise<string> {
  const hash = createHash('sha256').update(`${process.platform}-${process.arch}`);
  for (const name of (await readdir(SOURCES)).sort())
    hash.update(JSON.stringify([name, await readFile(path.join(SOURCES, name), 'utf8')]));
  const built = path.join(cacheDir, 'reference', `templates-${hash.digest('hex').slice(0, 12)}`);
  if ((await stat(built).catch(() => undefined)) !== undefined) return built;
  await mkdir(path.dirname(built), { recursive: true });
  const work = `${built}.${randomUUID()}`;
  try {
    await runCommand(['go', 'build', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w', '-o', work, '.'], {
      cwd: SOURCES,
      env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly', GOWORK: 'off' },
    });
    await rename(work, built);
  } finally {
    await rm(work, { force: true });
  }
  return built;
}
