/**
 * A file system whose process is killed at a chosen operation: that one happens half or not at all, and none after it.
 * For property tests of the store. Never used in production.
 */
import type { FileHandle } from 'node:fs/promises';
import { type StoreFs, systemFs } from '../durable-files.ts';

/** The process is dead; nothing that it still tries has any effect. */
export class KilledError extends Error {
  override readonly name = 'KilledError';
}

export interface CrashingFs {
  readonly fs: StoreFs;
  /** Operations so far, by name and arguments. */
  readonly operations: readonly string[];
}

/** @param killAt number of the operation, from 1, at which the process dies; Infinity for never */
export function makeCrashingFs(killAt: number): CrashingFs {
  const operations: string[] = [];
  const step = (name: string, args: readonly unknown[]) => {
    operations.push([name, ...args.filter((arg) => typeof arg === 'string')].join(' '));
    return operations.length < killAt ? 'alive' : operations.length === killAt ? 'dying' : 'dead';
  };
  const handles = new WeakMap<FileHandle, string>();
  const wrapHandle = (handle: FileHandle, file: string): FileHandle => {
    handles.set(handle, file);
    return new Proxy(handle, {
      get(target, key) {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== 'function' || key === 'constructor') return value;
        return async (...args: unknown[]) => {
          if (key === 'close') return (value as () => Promise<void>).apply(target);
          const state = step(`handle.${String(key)}`, [file]);
          if (state === 'dying' && key === 'write') {
            // A torn write: half of the bytes reach the file.
            const [buffer, offset, length, position] = args as [Uint8Array, number, number, number];
            await target.write(buffer, offset, Math.floor(length / 2), position);
          }
          if (state !== 'alive') throw new KilledError(`killed at ${operations.length}`);
          return (value as (...args: unknown[]) => Promise<unknown>).apply(target, args);
        };
      },
    });
  };
  const fs = new Proxy(systemFs, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (typeof value !== 'function') return value;
      return async (...args: unknown[]) => {
        if (step(String(key), args) !== 'alive') throw new KilledError(`killed at ${operations.length}`);
        const result = await (value as (...args: unknown[]) => Promise<unknown>).apply(target, args);
        return key === 'open' ? wrapHandle(result as FileHandle, String(args[0])) : result;
      };
    },
  });
  return { fs, operations };
}
