/**
 * The Python clients that the server is tested with: installed once into the cache, without resolving, under a name that
 * their list and the interpreter decide. Runs check files.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { cacheDir } from '../cache.ts';
import { runCommand } from '../cluster/command.ts';
import { type CheckResult, checkNames, runChecks } from './checks.ts';

const CHECKS = path.join(import.meta.dirname, 'python');

/** Names of the checks in a file, in their order. */
export function pythonCheckNames(file: string): Promise<string[]> {
  return checkNames(path.join(CHECKS, file), /^@check\("(.+)"\)$/gm);
}

/** Folder with the clients, installed when it is not there. @throws Error with what pip said */
export async function pythonClients(): Promise<string> {
  const requirements = path.join(CHECKS, 'requirements.txt');
  // Wheels fit one version of Python on one kind of machine.
  const platform = await runCommand(['python3', '-c', 'import sysconfig; print(sysconfig.get_config_var("SOABI"))']);
  const name = createHash('sha256')
    .update(await readFile(requirements))
    .update(platform)
    .digest('hex')
    .slice(0, 12);
  const folder = path.join(cacheDir, 'clients', `python-${name}`);
  if ((await stat(folder).catch(() => undefined)) !== undefined) return folder;
  const work = `${folder}.${randomUUID()}`;
  await mkdir(path.dirname(folder), { recursive: true });
  try {
    await runCommand(
      [
        'python3',
        '-m',
        'pip',
        'install',
        '--quiet',
        '--disable-pip-version-check',
        '--no-deps',
        '--target',
        work,
      ].concat(['--requirement', requirements]),
    );
    await rename(work, folder).catch((error: NodeJS.ErrnoException) => {
      // Another run was faster.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return folder;
}

/** Runs a check file. */
export async function runPythonChecks(file: string, env: Readonly<Record<string, string>>): Promise<CheckResult[]> {
  return runChecks(['python3', path.join(CHECKS, file)], {
    env: {
      PATH: process.env['PATH'],
      PYTHONPATH: await pythonClients(),
      PYTHONDONTWRITEBYTECODE: '1',
      LANGSMITH_TRACING: 'false',
      ...env,
    },
  });
}
