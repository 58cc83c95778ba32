/**
 * Device files of this container that its user may not open: the commonest reason why a device that the pod was given is not found.
 * Knows the paths that Linux's drivers use; opens nothing.
 */
import { accessSync, constants, readdirSync, statSync } from 'node:fs';
import path from 'node:path';

/** Folder and names of what engines open to compute. */
const FILES: readonly (readonly [folder: string, name: RegExp])[] = [
  ['dri', /^renderD\d+$/],
  ['', /^(?:kfd|nvidia\d+|nvidiactl|dxg)$/],
  ['accel', /^accel\d+$/],
];

export interface DeniedFile {
  readonly file: string;
  /** The number of the group whose members may open it. */
  readonly group: number;
}

/** @param root where device files are */
export function deniedDeviceFiles(root = '/dev'): readonly DeniedFile[] {
  return FILES.flatMap(([folder, pattern]) =>
    namesIn(path.join(root, folder))
      .filter((name) => pattern.test(name))
      .map((name) => path.join(root, folder, name))
      .filter((file) => !isOpen(file))
      .map((file) => ({ file, group: statSync(file).gid })),
  );
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function isOpen(file: string): boolean {
  try {
    accessSync(file, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
