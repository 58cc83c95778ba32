/** `npm run images`: builds the images, or stages one for its Dockerfile, and prints their sizes. */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { UserError } from '../cluster/errors.ts';
import { makeProgress } from '../cluster/progress.ts';
import {
  type AnyImageName,
  allImageNames,
  buildImages,
  type ImageArchive,
  imageNames,
  megabytes,
  stageImage,
} from './build.ts';

const USAGE = `Usage: npm run images -- [${allImageNames.join('|')} …] [--out DIR] [--stage DIR]
  Builds OCI image archives (default: ${imageNames.join(', ')}, into the cache folder); docker load, ctr images import, kind load image-archive
  and skopeo read them.
  --out DIR    write the archives there
  --stage DIR  lay the root file system of ONE image out in DIR instead (what the Dockerfiles copy)`;

/** One line for each layer and the sum of each image. Exported for its test. */
export function sizeTable(images: readonly ImageArchive[]): string {
  const rows = [['IMAGE', 'LAYER', 'COMPRESSED', 'UNPACKED']];
  for (const image of images) {
    const sum = (pick: 'size' | 'unpackedSize') => image.layers.reduce((total, layer) => total + layer[pick], 0);
    rows.push([image.reference, '(all)', megabytes(sum('size')), megabytes(sum('unpackedSize'))]);
    for (const layer of image.layers)
      rows.push(['', layer.title, megabytes(layer.size), megabytes(layer.unpackedSize)]);
  }
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { out: { type: 'string' }, stage: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help) return console.log(USAGE);
  const unknown = positionals.find((name) => !allImageNames.includes(name as AnyImageName));
  if (unknown) throw new UserError(`There is no image "${unknown}".\n${USAGE}`);
  const names = (positionals.length > 0 ? positionals : imageNames) as AnyImageName[];
  const progress = makeProgress();
  if (values.stage !== undefined) {
    const [name, ...more] = names;
    if (!name || more.length > 0) throw new UserError(`--stage takes one image.\n${USAGE}`);
    const target = path.resolve(values.stage);
    await stageImage(name, target);
    return progress.note(`staged ${name} in ${target}`);
  }
  const images = await buildImages(names, progress, values.out === undefined ? {} : { out: path.resolve(values.out) });
  console.log(sizeTable(images));
  for (const image of images) console.log(image.archive);
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    const isUsage = error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
    if (isUsage) console.error(`${error.message}\n${USAGE}`);
    else console.error(error instanceof UserError ? error.message : error);
    process.exitCode = 1;
  });
}
