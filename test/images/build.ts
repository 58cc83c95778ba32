/**
 * Owns building our images on a machine without Docker: the recipe's entries become layers and archives in the cache.
 * A second build of the same sources takes what is there. Never talks to a registry or a container runtime.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Progress } from '../cluster/progress.ts';
import { type ImageArchive, packLayer, pruneCache, writeArchive } from './archive.ts';
import { layOut } from './entries.ts';
import { type AnyImageName, imageCache, makeRecipe } from './recipe.ts';

export type { ImageArchive } from './archive.ts';
export { type AnyImageName, allImageNames, type ImageName, imageNames, imageReference } from './recipe.ts';

/**
 * Builds images, or takes them from the cache.
 * @param options.out folder for the archives; default: below the cache
 * @throws UserError when this machine cannot; esbuild's own error when a source does not compile
 */
export async function buildImages(
  names: readonly AnyImageName[],
  progress: Progress,
  options: { readonly out?: string } = {},
): Promise<ImageArchive[]> {
  const images: ImageArchive[] = [];
  for (const name of names) {
    const step = progress.step(`image ${name}`);
    const recipe = await makeRecipe(name);
    const layers = [];
    for (const { title, entries, compress } of recipe.layers)
      layers.push(
        await packLayer(title, entries, path.join(imageCache, 'layers'), {
          ...(compress === undefined ? {} : { compress }),
          onPack: () => step.update(`packing layer ${title}`),
        }),
      );
    const image = await writeArchive(recipe.reference, recipe.config, layers, options.out ?? imageCache);
    images.push(image);
    step.done(`${image.reference}, ${megabytes(layers.reduce((sum, layer) => sum + layer.size, 0))}`);
  }
  // An archive is a copy of its layers, and every change of a source makes another one.
  await pruneCache(imageCache, 6);
  await pruneCache(path.join(imageCache, 'layers'), 14 * 24);
  return images;
}

/** Lays the root file system of one image out as plain files below `folder`, which is emptied first: for Dockerfiles. */
export async function stageImage(name: AnyImageName, folder: string): Promise<void> {
  const recipe = await makeRecipe(name);
  await rm(folder, { recursive: true, force: true });
  await layOut(
    recipe.layers.flatMap((layer) => layer.entries),
    folder,
  );
}

/** `41.2 MB` of bytes. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
