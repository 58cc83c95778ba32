/**
 * File operations that survive a power cut in the order in which they were made. Owns the rule "content before name":
 * a file is flushed before it gets its final name, and the folder after it. Knows nothing of models.
 */
import * as fsPromises from 'node:fs/promises';
import path from 'node:path';

/** The operations that the store needs; tests give one that dies after any of them. */
export type StoreFs = Pick<
  typeof fsPromises,
  | 'chmod'
  | 'link'
  | 'lstat'
  | 'mkdir'
  | 'open'
  | 'readdir'
  | 'readFile'
  | 'rename'
  | 'rm'
  | 'stat'
  | 'statfs'
  | 'truncate'
  | 'unlink'
>;

/** The machine's own file system. */
export const systemFs: StoreFs = fsPromises;

/** Flushes a folder: its list of names, not the files' content. */
export async function syncFolder(fs: StoreFs, folder: string): Promise<void> {
  const handle = await fs.open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes a small file so that readers see the old content or the new, never a part of it. */
export async function writeDurably(fs: StoreFs, file: string, content: string): Promise<void> {
  const draft = `${file}.draft`;
  const handle = await fs.open(draft, 'w', 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await fs.rename(draft, file);
  await syncFolder(fs, path.dirname(file));
}

/** Whether an error says that there is no such file. */
export function isMissing(error: unknown): boolean {
  return hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR');
}

/** Whether an error carries this system code. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}
