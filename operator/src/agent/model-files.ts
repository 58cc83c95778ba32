/**
 * What a list of files must look like before a byte of it is written to a node's disk. Pure. The paths come from a
 * repository that somebody else fills, so nothing about them is taken on trust.
 */
import type { ModelFile } from '@slm-operator/crds';
import { hexOf, revisionDigest } from '@slm-operator/crds/digest';
import { SourceError } from '../sources/http-errors.ts';

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const MAX_PART_BYTES = 255;

/** Whether this is `sha256:` and 64 hex digits. */
export function isDigest(text: string): boolean {
  return DIGEST.test(text);
}

/** The hex part of a digest. Throws for anything else, so that it can be a file's name. */
export function safeHex(digest: string): string {
  if (!isDigest(digest))
    throw invalid(`"${digest.slice(0, 80)}" is not a digest: it must be sha256: and 64 hex digits`);
  return hexOf(digest);
}

/**
 * Refuses lists that cannot lie in one folder, that would leave it, or that have another digest than the revision.
 * Throws a SourceError with reason SourceInvalid.
 */
export function checkFiles(digest: string, files: readonly ModelFile[]): void {
  if (files.length === 0) throw invalid('the revision lists no files');
  const paths = new Set<string>();
  const folders = new Set<string>();
  for (const file of files) {
    checkPath(file.path);
    safeHex(file.digest);
    if (paths.has(file.path)) throw invalid(`the file ${file.path} is listed twice`);
    paths.add(file.path);
    const parts = file.path.split('/');
    for (let depth = 1; depth < parts.length; depth++) folders.add(parts.slice(0, depth).join('/'));
  }
  for (const path of paths) {
    if (folders.has(path)) throw invalid(`${path} is listed as a file and as a folder`);
  }
  const actual = revisionDigest(files);
  if (actual !== digest) {
    throw invalid(`the list of files has the digest ${actual}, not that of the revision, ${digest}`);
  }
}

function checkPath(path: string): void {
  const parts = path.split('/');
  for (const part of parts) {
    if (part === '' || part === '.' || part === '..' || part.includes('\0') || part.includes('\\')) {
      throw invalid(
        `the path ${JSON.stringify(path.slice(0, 120))} leaves the folder of the model or is no plain path; it is refused`,
      );
    }
    if (Buffer.byteLength(part) > MAX_PART_BYTES) {
      throw invalid(
        `a part of the path ${path.slice(0, 60)}… is longer than the ${MAX_PART_BYTES} bytes of a file name`,
      );
    }
  }
}

function invalid(message: string): SourceError {
  return new SourceError({ reason: 'SourceInvalid', message, terminal: true });
}
