/**
 * Owns taking libraries out of packages of Debian, pinned by version and digest, into a folder of the cache. apt fetches them and
 * checks their signature, in a state of its own: nothing is installed, and the machine's own sources do not matter. Needs apt-get
 * and dpkg-deb, and no root.
 */
import { createHash } from 'node:crypto';
import { access, mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { isInstalled, tryCommand } from '../cluster/command.ts';
import { lastLines, UserError } from '../cluster/errors.ts';
import { checkDigest, madeOnce } from '../unpacked.ts';

/** A release of Debian as it was on one day. */
export interface DebianPins {
  readonly suite: string;
  /** When it was so, as snapshot.debian.org names it: a release replaces versions, and only that mirror keeps old ones. */
  readonly snapshot: string;
  /** Package → version and SHA-256 of its file for x64. */
  readonly packages: Readonly<Record<string, { readonly version: string; readonly sha256: string }>>;
}

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Why this machine cannot take Debian's packages apart; undefined when it can. */
export async function whyNoDebian(): Promise<string | undefined> {
  for (const program of ['apt-get', 'dpkg-deb'])
    if (!(await isInstalled(program))) return `${program} is not on this machine: build on Debian or Ubuntu.`;
  const keyring = await access(KEYRING).then(
    () => true,
    () => false,
  );
  return keyring ? undefined : `${KEYRING} is not there: install the package debian-archive-keyring.`;
}

/**
 * The folder with everything that is in the packages.
 * @throws UserError when this machine cannot, or neither mirror has the pinned versions
 */
export async function debianFolder(pins: DebianPins): Promise<string> {
  const key = createHash('sha256').update(JSON.stringify(pins)).digest('hex').slice(0, 12);
  return await madeOnce(path.join('debian', `${pins.suite}-${key}`), async (output, work) => {
    const why = await whyNoDebian();
    if (why) throw new UserError(`Libraries of Debian ${pins.suite} go into this image, and ${why}`);
    await download(pins, work);
    for (const file of (await readdir(work)).filter((name) => name.endsWith('.deb'))) {
      const archive = path.join(work, file);
      const name = file.slice(0, file.indexOf('_'));
      await checkDigest(archive, 'sha256', pins.packages[name]?.sha256 ?? '', file);
      const unpacked = await tryCommand(['dpkg-deb', '-x', archive, output]);
      if (unpacked.code !== 0) throw new Error(`dpkg-deb could not unpack ${file}: ${lastLines(unpacked.stderr)}`);
    }
  });
}

async function download({ suite, snapshot, packages }: DebianPins, folder: string): Promise<void> {
  const wanted = Object.entries(packages).map(([name, { version }]) => `${name}=${version}`);
  const mirror = process.env['SLM_DEBIAN_MIRROR'] || 'http://deb.debian.org/debian';
  const complaints: string[] = [];
  for (const [index, source] of [mirror, `http://snapshot.debian.org/archive/debian/${snapshot}`].entries()) {
    const options = await aptOptions(path.join(folder, `apt-${index}`), source, suite);
    // What matters is whether the packages come, and apt says that best.
    await tryCommand(['apt-get', ...options, '--quiet', 'update']);
    const result = await tryCommand(['apt-get', ...options, '--quiet', 'download', ...wanted], { cwd: folder });
    if (result.code === 0) return;
    complaints.push(`${source}: ${lastLines(result.stderr)}`);
  }
  throw new UserError(
    `Pinned packages of Debian ${suite} could not be had (set SLM_DEBIAN_MIRROR to a mirror that has them, or pin newer ones in test/images/mesa.ts):\n${complaints.join('\n')}`,
  );
}

/** apt with folders of its own. */
async function aptOptions(folder: string, source: string, suite: string): Promise<string[]> {
  const parts = path.join(folder, 'sources');
  for (const name of ['sources', 'lists/partial', 'cache/archives/partial'])
    await mkdir(path.join(folder, name), { recursive: true });
  await writeFile(path.join(folder, 'status'), '');
  await writeFile(
    path.join(parts, 'debian.sources'),
    `Types: deb\nURIs: ${source}\nSuites: ${suite}\nComponents: main\nSigned-By: ${KEYRING}\n`,
  );
  const settings = {
    'Dir::Etc::SourceList': '/dev/null',
    'Dir::Etc::SourceParts': parts,
    'Dir::State': folder,
    'Dir::State::Lists': path.join(folder, 'lists'),
    'Dir::State::status': path.join(folder, 'status'),
    'Dir::Cache': path.join(folder, 'cache'),
    'APT::Architecture': 'amd64',
    'APT::Architectures': 'amd64',
    // As root apt would become a user that may not write here.
    'APT::Sandbox::User': '',
    'Acquire::Languages': 'none',
    'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled': 'false',
    'Acquire::Check-Valid-Until': 'false',
    'Acquire::http::Timeout': '20',
    'Acquire::Retries': '2',
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}
