/** Owns that only one command at a time changes a cluster. A lock whose holder is dead is free. */
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isAlive, type MarkedProcess, parseStat } from '../daemons.ts';
import { UserError } from '../errors.ts';

/**
 * Runs `work` while holding the lock of that folder.
 * @throws UserError when another command holds it
 */
export async function withLock<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const file = path.join(folder, 'lock');
  const mine = `${file}.${process.pid}`;
  const { startTime } = parseStat(readFileSync('/proc/self/stat', 'latin1'));
  const self: MarkedProcess = { pid: process.pid, name: process.argv.slice(2).join(' ') || 'a test', startTime };
  // Linking a whole file into place is atomic: nobody ever reads half a lock.
  writeFileSync(mine, JSON.stringify(self));
  try {
    try {
      linkSync(mine, file);
    } catch {
      const holder = readHolder(file);
      if (holder && isAlive(holder))
        throw new UserError(
          `Another command is at work on this cluster ("${holder.name}", process ${holder.pid}): wait for its end.`,
        );
      rmSync(file, { force: true });
      linkSync(mine, file);
    }
  } finally {
    rmSync(mine, { force: true });
  }
  try {
    return await work();
  } finally {
    rmSync(file, { force: true });
  }
}

function readHolder(file: string): MarkedProcess | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as MarkedProcess;
  } catch {
    return undefined;
  }
}
