/**
 * Owns bringing image archives into the nodes' containerd. An archive whose images a node has already, by digest, is not
 * sent again.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { runCommand } from '../command.ts';
import { UserError } from '../errors.ts';
import type { ToolPaths } from '../tools.ts';
import { COREDNS_IMAGE } from './coredns.ts';
import type { Instance } from './instance.ts';
import type { NodeMachine } from './node.ts';
import { PAUSE_IMAGE } from './node-files.ts';
import { makeProgramImage, readImages } from './oci-archive.ts';

/** Makes the archives of the images that every cluster needs; they are written once for each build of their programs. */
export async function makeSystemImages(
  instance: Instance,
  tools: Pick<ToolPaths, 'pause' | 'coredns'>,
): Promise<string[]> {
  const folder = path.join(instance.folder, 'images');
  await mkdir(folder, { recursive: true });
  const images = [
    { name: PAUSE_IMAGE, program: 'pause', source: tools.pause, user: '65535:65535' },
    { name: COREDNS_IMAGE, program: 'coredns', source: tools.coredns, user: '0:0' },
  ];
  const archives: string[] = [];
  for (const { name, program, source, user } of images) {
    // The tool's folder is named after its inputs.
    const archive = path.join(folder, `${path.basename(path.dirname(source))}.tar`);
    if (!existsSync(archive)) {
      await writeFile(`${archive}.part`, makeProgramImage({ name, program, content: await readFile(source), user }));
      await rename(`${archive}.part`, archive);
    }
    archives.push(archive);
  }
  return archives;
}

/** Notes archives that every node is to have, also one that is off now or joins later. */
export async function noteArchives(instance: Instance, archives: readonly string[]): Promise<void> {
  const namesIn = async (archive: string) =>
    existsSync(archive) ? (await readImages(archive)).map(({ name }) => name) : [];
  const fresh = new Set((await Promise.all(archives.map(namesIn))).flat());
  const kept: string[] = [];
  // An archive whose images have come again under the same names is out of date: imported later, it would win.
  for (const archive of await notedArchives(instance))
    if (!archives.includes(archive) && !(await namesIn(archive)).some((name) => fresh.has(name))) kept.push(archive);
  await writeFile(noteFile(instance), JSON.stringify([...kept, ...archives]));
}

/** The noted archives that still exist. */
export async function notedArchives(instance: Instance): Promise<string[]> {
  const text = await readFile(noteFile(instance), 'utf8').catch(() => '[]');
  return (JSON.parse(text) as string[]).filter((archive) => existsSync(archive));
}

function noteFile(instance: Instance): string {
  return path.join(instance.folder, 'archives.json');
}

/**
 * Imports those archives that the node lacks.
 * @returns how many were imported
 */
export async function importImages(node: NodeMachine, archives: readonly string[], ctr: string): Promise<number> {
  const containerd = [ctr, '--address', node.containerdSocket(), '--namespace', 'k8s.io'];
  const known = parseImageList(await runCommand([...containerd, 'images', 'list']));
  let imported = 0;
  for (const archive of archives) {
    if (!existsSync(archive)) throw new UserError(`There is no image archive ${archive}.`);
    const images = await readImages(archive);
    // An archive without such an index is known by its own digest, noted in the store's folder and gone with it.
    const note =
      images.length > 0
        ? undefined
        : path.join(node.place.folder, 'var/lib/containerd', `imported-${await sha256OfFile(archive)}`);
    const isThere = note ? existsSync(note) : images.every(({ name, digest }) => known.get(name) === digest);
    if (isThere) continue;
    await runCommand([...containerd, 'images', 'import', archive]);
    if (note) await writeFile(note, archive);
    imported += 1;
  }
  return imported;
}

/** Name → digest, from the table that `ctr images list` prints. Exported for its test. */
export function parseImageList(table: string): Map<string, string> {
  return new Map(
    table
      .split('\n')
      .slice(1)
      .flatMap((line) => {
        const [name, , digest] = line.split(/\s+/);
        return name && digest ? [[name, digest] as const] : [];
      }),
  );
}

async function sha256OfFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}
