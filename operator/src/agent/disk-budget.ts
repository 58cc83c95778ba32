/** Whether a model fits on the disk, and the sentence that says by how much it does not. Pure. */
import type { SourceFailure } from '../sources/http-errors.ts';
import type { DiskSpace } from './blob-store.ts';
import { formatBytes } from './text.ts';

/** Part of the file system that stays free when the spec does not say. */
export const DEFAULT_MIN_FREE_PERCENT = 10;

export interface DiskRequest {
  /** NAMESPACE/NAME, for the sentence. */
  readonly name: string;
  /** Bytes that are still to be written. */
  readonly neededBytes: number;
  /** Bytes that downloads now running will still write. */
  readonly reservedBytes: number;
  /** Bytes of models and partial files already there. */
  readonly usedBytes: number;
  readonly limits: { readonly maxBytes?: number | undefined; readonly minFreePercent?: number | undefined };
  readonly root: string;
}

/** The failure with reason InsufficientDisk, or undefined when the model fits. */
export function checkDisk(disk: DiskSpace, request: DiskRequest): SourceFailure | undefined {
  if (request.neededBytes === 0) return undefined;
  const percent = request.limits.minFreePercent ?? DEFAULT_MIN_FREE_PERCENT;
  const reserve = Math.ceil((disk.capacityBytes * percent) / 100);
  const free = disk.freeBytes - request.reservedBytes;
  const needs = `${request.name} needs ${formatBytes(request.neededBytes)}`;
  if (request.neededBytes > free - reserve) {
    const others =
      request.reservedBytes > 0 ? ` (${formatBytes(request.reservedBytes)} of it for downloads under way)` : '';
    return insufficient(
      `${needs}, but ${formatBytes(Math.max(0, disk.freeBytes))} of ${formatBytes(disk.capacityBytes)} are free${others} and ${percent}% (${formatBytes(reserve)}) must stay free on ${request.root}. Free ${formatBytes(request.neededBytes - free + reserve)} on this node, or use a smaller model`,
    );
  }
  const { maxBytes } = request.limits;
  const taken = request.usedBytes + request.reservedBytes;
  if (maxBytes !== undefined && taken + request.neededBytes > maxBytes) {
    return insufficient(
      `${needs}, but models already take ${formatBytes(taken)} of the ${formatBytes(maxBytes)} that they may take on this node. Raise the limit, or remove models from this node`,
    );
  }
  return undefined;
}

/** The failure for a write that the file system refused. */
export function diskFull(name: string, root: string): SourceFailure {
  return insufficient(`${name}: the file system of ${root} ran full while it was written. Free space on this node`);
}

function insufficient(message: string): SourceFailure {
  return { reason: 'InsufficientDisk', message, terminal: false };
}
