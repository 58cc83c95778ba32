/** How a revision gets its digest. Pure, and the same in operator and agent. */
import { createHash } from 'node:crypto';
import type { ModelFile } from './common.ts';
import type { ModelVariant } from './slm-model-status.ts';

/**
 * Digest of a revision: SHA-256 over one line `HEX  PATH\n` for each file, sorted by path in code-unit order. That is what
 * `sha256sum FILES | LC_ALL=C sort -k2 | sha256sum` prints.
 */
export function revisionDigest(files: readonly Pick<ModelFile, 'path' | 'digest'>[]): string {
  const hash = createHash('sha256');
  for (const file of [...files].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))) {
    hash.update(`${hexOf(file.digest)}  ${file.path}\n`);
  }
  return `sha256:${hash.digest('hex')}`;
}

/** The hex part of `sha256:HEX`. */
export function hexOf(digest: string): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/**
 * Name of a revision: first ten hex digits of its digest. With variants, of the SHA-256 over that digest and what each variant is and is
 * for; their names and their order say nothing about bytes.
 */
export function revisionName(
  digest: string,
  variants: readonly Pick<ModelVariant, 'accelerators' | 'digest'>[] = [],
): string {
  if (variants.length === 0) return hexOf(digest).slice(0, 10);
  const lines = variants.map((variant) => `${hexOf(variant.digest)}  ${variant.accelerators.toSorted().join(',')}\n`);
  const hash = createHash('sha256').update(`${hexOf(digest)}\n`);
  for (const line of lines.toSorted()) hash.update(line);
  return hash.digest('hex').slice(0, 10);
}

/** Digests of all files of a revision: the default ones and those of its variants, each once. */
export function digestsOf(revision: {
  readonly digest: string;
  readonly variants?: readonly Pick<ModelVariant, 'digest'>[] | undefined;
}): string[] {
  return [...new Set([revision.digest, ...(revision.variants ?? []).map(({ digest }) => digest)])];
}

/** Address of a file at a source: `{path}` replaced by the path, percent-encoded part by part. */
export function fileUrl(template: string, path: string): string {
  return template.replace('{path}', path.split('/').map(encodeURIComponent).join('/'));
}
