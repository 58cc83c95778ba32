/**
 * How many CPU threads the engine may use: as many as the container's CPU limit pays for. More would be throttled in the
 * middle of a token, and all others would wait for the throttled one.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';

/** Reads a file or says that there is none. */
export type ReadText = (file: string) => string | undefined;

const readText: ReadText = (file) => {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
};

/**
 * The tightest CPU limit of this process's cgroup and the groups above it, in cores.
 * @returns undefined when there is no limit
 */
export function cgroupCpuLimit(read: ReadText = readText): number | undefined {
  // Lines are `hierarchy:controllers:path`; version 2 has the one line `0::path`.
  const groups = (read('/proc/self/cgroup') ?? '0::/').trim().split('\n');
  const limits: number[] = [];
  for (const line of groups) {
    const [, controllers = '', ...rest] = line.split(':');
    const group = rest.join(':') || '/';
    if (controllers === '') {
      for (const folder of ancestors(group)) {
        const [quota, period] = (read(path.join('/sys/fs/cgroup', folder, 'cpu.max')) ?? '').trim().split(/\s+/);
        add(limits, Number(quota), Number(period));
      }
    } else if (controllers.split(',').includes('cpu')) {
      for (const mount of ['cpu', 'cpu,cpuacct'])
        for (const folder of ancestors(group)) {
          const file = (name: string) => read(path.join('/sys/fs/cgroup', mount, folder, name));
          add(limits, Number(file('cpu.cfs_quota_us')), Number(file('cpu.cfs_period_us')));
        }
    }
  }
  return limits.length === 0 ? undefined : Math.min(...limits);
}

/**
 * Threads to compute with: the whole cores of the CPU limit, never more than there are, at least 1. Without a limit one core
 * stays free: threads meet a thousand times a token, and one that must share its core with another program (the kubelet, another
 * server) holds up all others. A small model on two cores: 215 tokens a second with two threads and 105 with one; with a busy
 * neighbour 58 and 105.
 * @param cores what the process may run on (affinity)
 */
export function computeThreads(limit: number | undefined, cores: number = availableParallelism()): number {
  return Math.max(1, Math.min(cores, limit === undefined ? cores - 1 : Math.floor(limit)));
}

/** `max` and -1 mean no limit; both end as a quota that is no positive number. */
function add(limits: number[], quota: number, period: number): void {
  if (quota > 0 && period > 0 && Number.isFinite(quota)) limits.push(quota / period);
}

/** A path as a container sees it may not exist in its own mount: the root is tried as well. */
function ancestors(group: string): string[] {
  const folders = [group];
  while (folders.at(-1) !== '/' && folders.length < 32) folders.push(path.dirname(folders.at(-1) ?? '/'));
  return folders;
}
