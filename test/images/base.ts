/**
 * Owns what every image stands on: the C library of the machine that builds, certificates, users, the pinned Node, and
 * mount for the node agent. Takes only what these need, so there is no shell and no package manager in an image.
 */
import { access, copyFile, mkdir, realpath, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { repoRoot } from '../cache.ts';
import { isInstalled, runCommand } from '../cluster/command.ts';
import { UserError } from '../cluster/errors.ts';
import { markUsed } from './archive.ts';
import { type Entry, file, folder, link, text } from './entries.ts';

/** uid and gid of everything that needs no root; the same as pod.user in the contract. */
export const USER = 65532;

const CERTIFICATES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/**
 * Users, name service, certificates, folders, and the shared libraries that Node and its add-ons are linked to.
 * @param libraries default: this machine's
 */
export async function baseEntries(node: string, libraries?: readonly Entry[]): Promise<Entry[]> {
  const certificates = await firstThatExists(CERTIFICATES);
  return [
    // One /usr, as distributions have it: libraries are found under either name.
    ...['bin', 'sbin', 'lib', 'lib64'].flatMap((name) => [folder(`usr/${name}`), link(name, `usr/${name}`)]),
    ...['proc', 'sys', 'dev', 'run', 'root'].map((name) => folder(name)),
    folder('tmp', 0o1777),
    folder('var/tmp', 0o1777),
    folder('home/nonroot'),
    text(
      'etc/passwd',
      `root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:${USER}:${USER}:nonroot:/home/nonroot:/sbin/nologin\n`,
    ),
    text('etc/group', `root:x:0:\nnonroot:x:${USER}:\n`),
    text('etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n'),
    text('etc/os-release', 'ID=slm\nNAME="slm-operator image"\n'),
    // Node brings its own authorities; this file is for SSL_CERT_FILE and for everything that is not Node.
    ...(certificates ? [file('etc/ssl/certs/ca-certificates.crt', certificates)] : []),
    ...(libraries ?? (await libraryEntries([node]))),
  ];
}

/** The pinned Node, without debug information. */
export function nodeEntries(node: string): Entry[] {
  return [file('usr/local/bin/node', node, 0o755)];
}

/** mount and umount of this machine with the libraries that the base has not. */
export async function mountEntries(base: readonly Entry[]): Promise<Entry[]> {
  const programs = await Promise.all(
    ['mount', 'umount'].map(async (name) => {
      const found = await firstThatExists([`/usr/bin/${name}`, `/bin/${name}`]);
      if (!found)
        throw new UserError(`${name} is not on this machine, and the node agent needs it: install util-linux`);
      return { name, found: await realpath(found) };
    }),
  );
  return [
    ...programs.map(({ name, found }) => file(`usr/bin/${name}`, found, 0o755)),
    ...(await missingLibraries(
      programs.map((program) => program.found),
      base,
    )),
  ];
}

/** The machine's libraries that native add-ons among these entries are linked to, and the base has not. */
export function addonLibraries(entries: readonly Entry[], base: readonly Entry[]): Promise<Entry[]> {
  const addons = entries.flatMap(({ content }) =>
    'file' in content && /\.(node|so(\.\d+)*)$/.test(content.file) ? [content.file] : [],
  );
  return missingLibraries(addons, base);
}

async function missingLibraries(programs: readonly string[], base: readonly Entry[]): Promise<Entry[]> {
  const there = new Set(base.map((entry) => entry.path));
  return (await libraryEntries(programs)).filter((entry) => !there.has(entry.path));
}

/** The licence of libgomp, where the machine has it: GPL, with the exception for what GCC compiles. */
export async function openmpLicence(): Promise<Entry[]> {
  const text = await firstThatExists(['/usr/share/doc/libgomp1/copyright', '/usr/share/licenses/libgomp/COPYING3']);
  return text ? [file('usr/share/doc/libgomp1/copyright', await realpath(text))] : [];
}

/** Path of the pinned Node without debug information (150 MB become 116), made once. */
export async function strippedNode(cache: string): Promise<string> {
  const { binary: source, version } = pinnedNode();
  if (!(await isInstalled('strip'))) return source;
  const target = path.join(cache, `node-${version}-${process.arch}`);
  if (await markUsed(target)) return target;
  await mkdir(cache, { recursive: true });
  const work = `${target}.${process.pid}`;
  try {
    await copyFile(source, work);
    await runCommand(['strip', work]);
    await rename(work, target);
  } finally {
    await rm(work, { force: true });
  }
  return target;
}

function pinnedNode(): { readonly binary: string; readonly version: string } {
  const name = `node-linux-${process.arch}`;
  const require = createRequire(path.join(repoRoot, 'package.json'));
  try {
    const manifest = require.resolve(`${name}/package.json`);
    const { version } = require(manifest) as { version: string };
    return { binary: path.join(path.dirname(manifest), 'bin', 'node'), version };
  } catch {
    throw new UserError(
      `The package ${name} is not installed, so there is no Node to put into an image: run npm install on Linux (x64 or arm64).`,
    );
  }
}

/** What `ldd` lists for the programs, each under /usr, where the links of the base lead. */
async function libraryEntries(programs: readonly string[]): Promise<Entry[]> {
  const entries = new Map<string, Entry>();
  for (const program of programs) {
    for (const library of parseLdd(await runCommand(['ldd', program]))) {
      // Add-ons that find each other lie beside each other in the image too.
      if (path.dirname(library) === path.dirname(program)) continue;
      const at = library.replace(/^\/(?:usr\/)?/, 'usr/');
      entries.set(at, file(at, await realpath(library), 0o755));
    }
  }
  return [...entries.values()];
}

/** Absolute paths in what ldd prints. Exported for its test. */
export function parseLdd(output: string): string[] {
  return output.split('\n').flatMap((line) => /(?:=>\s+|^\s*)(\/\S+)\s+\(0x/.exec(line)?.[1] ?? []);
}

async function firstThatExists(candidates: readonly string[]): Promise<string | undefined> {
  for (const candidate of candidates) {
    const there = await access(candidate).then(
      () => true,
      () => false,
    );
    if (there) return candidate;
  }
  return undefined;
}
