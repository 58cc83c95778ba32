/**
 * Owns what shared libraries say they need: the closure of some of them in folders that are not this machine's, and the proof that an
 * image is complete. Reads ELF headers only; runs nothing of what it looks at, so it also works for other C libraries than ours.
 */
import { access, realpath } from 'node:fs/promises';
import path from 'node:path';
import { isInstalled, tryCommand } from '../cluster/command.ts';
import { UserError } from '../cluster/errors.ts';
import { type Entry, file } from './entries.ts';

/** Names of libraries that each file is linked to (its NEEDED entries); empty for what is no ELF file. */
export async function neededBy(files: readonly string[]): Promise<Map<string, readonly string[]>> {
  const found = new Map<string, readonly string[]>(files.map((name) => [name, []]));
  if (files.length === 0) return found;
  if (!(await isInstalled('readelf')))
    throw new UserError('readelf is needed to see what the libraries of an image are linked to: install binutils.');
  // At least two, so that it names the file before each; of what is no ELF file it says so, and goes on.
  const { stdout } = await tryCommand(['readelf', '--wide', '--dynamic', '--', ...files, files[0] ?? '']);
  for (const [name, needed] of parseDynamic(stdout)) found.set(name, needed);
  return found;
}

/** What `readelf --dynamic` prints of several files. Exported for its test. */
export function parseDynamic(output: string): Map<string, readonly string[]> {
  const found = new Map<string, readonly string[]>();
  for (const part of output.split(/^File: /m).slice(1)) {
    const name = part.slice(0, part.indexOf('\n')).trim();
    found.set(
      name,
      [...part.matchAll(/\(NEEDED\)\s+Shared library: \[([^\]]+)\]/g)].map((match) => match[1] ?? ''),
    );
  }
  return found;
}

/** A library, and where its bytes lie on this machine. */
interface Library {
  readonly name: string;
  readonly file: string;
}

/**
 * Everything that the files are linked to, and what that is linked to, as entries below `at`.
 * @param folders where libraries are looked for, in this order; one of none of them is left out, and {@link unresolved} tells of it
 */
export async function closure(files: readonly string[], folders: readonly string[], at: string): Promise<Entry[]> {
  const found = new Map<string, Library>();
  let front = [...files];
  while (front.length > 0) {
    const names = new Set([...(await neededBy(front)).values()].flat());
    front = [];
    for (const name of names) {
      if (found.has(name)) continue;
      const library = await locate(name, folders);
      if (library === undefined) continue;
      found.set(name, { name, file: library });
      front.push(library);
    }
  }
  return [...found.values()].map((library) => file(`${at}/${library.name}`, library.file, 0o755));
}

async function locate(name: string, folders: readonly string[]): Promise<string | undefined> {
  for (const folder of folders) {
    const candidate = path.join(folder, name);
    const there = await access(candidate).then(
      () => true,
      () => false,
    );
    if (there) return await realpath(candidate);
  }
  return undefined;
}

/**
 * What programs and libraries of an image need and would not find there, as `FILE needs LIBRARY`.
 * @param folders of the image in which the loader looks, beside that of the file itself (all of ours have $ORIGIN)
 * @param provided libraries that come from the node
 */
export async function unresolved(
  entries: readonly Entry[],
  folders: readonly string[],
  provided: readonly string[],
): Promise<string[]> {
  const paths = new Set(entries.map((entry) => entry.path));
  const binaries = entries.flatMap((entry) =>
    'file' in entry.content && (isLibrary(entry.path) || entry.mode === 0o755)
      ? [{ at: entry.path, file: entry.content.file }]
      : [],
  );
  const needed = await neededBy([...new Set(binaries.map((binary) => binary.file))]);
  return binaries.flatMap(({ at, file: source }) =>
    (needed.get(source) ?? [])
      .filter((name) => !provided.includes(name))
      .filter((name) => ![path.dirname(at), ...folders].some((folder) => paths.has(`${folder}/${name}`)))
      .map((name) => `${at} needs ${name}`),
  );
}

function isLibrary(at: string): boolean {
  return /\.(node|so(\.[\d.]+)*)$/.test(at);
}
