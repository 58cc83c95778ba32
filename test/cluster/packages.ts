/**
 * Owns asking the machine's package manager for what a build or the cluster needs and the machine lacks.
 * Only Debian's apt-get is driven; elsewhere the sentence says what to install. Never removes or upgrades anything.
 */
import { access } from 'node:fs/promises';
import { isInstalled, tryCommand } from './command.ts';
import { lastLines, UserError } from './errors.ts';
import type { Progress } from './progress.ts';

/** Debian package name → paths of which one shows that it is there. */
export type PackageNeeds = Readonly<Record<string, readonly string[]>>;

/** Those of `needs` that the machine lacks. */
export async function missingPackages(needs: PackageNeeds): Promise<string[]> {
  const missing: string[] = [];
  for (const [name, paths] of Object.entries(needs)) {
    const there = await Promise.any(paths.map((file) => access(file))).then(
      () => true,
      () => false,
    );
    if (!there) missing.push(name);
  }
  return missing;
}

/**
 * Installs what is missing, after saying so.
 * @param purpose what it is for, such as `to build runc`
 * @throws UserError when this user or this machine cannot, with what to install by hand
 */
export async function ensurePackages(needs: PackageNeeds, purpose: string, progress: Progress): Promise<void> {
  const missing = await missingPackages(needs);
  if (missing.length === 0) return;
  const list = missing.join(' ');
  if (!(await isInstalled('apt-get')))
    throw new UserError(
      `Debian's packages "${list}" are missing ${purpose}, and this machine has no apt-get: install their equivalents.`,
    );
  if (process.getuid?.() !== 0)
    throw new UserError(`Packages are missing ${purpose}: run "sudo apt-get install ${list}" and this command again.`);
  const step = progress.step(`apt-get install ${list} (${purpose})`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = ['apt-get', 'install', '--yes', '--quiet', '--no-install-recommends', ...missing];
  let result = await tryCommand(install, { env });
  if (result.code !== 0) {
    // A fresh machine has no package lists yet, or old ones.
    step.update('updating the package lists');
    await tryCommand(['apt-get', 'update', '--quiet'], { env });
    result = await tryCommand(install, { env });
  }
  if (result.code !== 0)
    throw new UserError(
      `apt-get could not install "${list}" ${purpose}; solve what it says and try again:\n${lastLines(result.stderr)}`,
    );
  step.done();
}
