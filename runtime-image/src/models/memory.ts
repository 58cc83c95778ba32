/**
 * How much memory a model will take, and how much there is. Estimates from the file's header err on the high side, because
 * a server that is killed for memory takes every model with it.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { totalmem } from 'node:os';
import path from 'node:path';
import type { ModelFacts } from './facts.ts';

/** Compute buffers and what belongs to a model beside its weights: 64 MiB and a twentieth of them. */
const OVERHEAD = 64 * 2 ** 20;
const OVERHEAD_SHARE = 0.05;

/** Bytes of a value of the KV cache: a block of 32 values and its scale. */
const VALUE_BYTES = { F16: 2, Q8_0: 34 / 32, Q4_0: 18 / 32 } as const;

export interface Run {
  /** Tokens of all requests together. */
  readonly tokens: number;
  readonly kvCacheType: keyof typeof VALUE_BYTES;
}

/** Bytes of a loaded model. */
export function estimateBytes(facts: Pick<ModelFacts, 'size' | 'kvValuesPerToken'>, run: Run): number {
  const cache = facts.kvValuesPerToken * VALUE_BYTES[run.kvCacheType] * run.tokens;
  return Math.round(facts.size * (1 + OVERHEAD_SHARE) + cache + OVERHEAD);
}

/** Bytes that this process may use: the tightest limit of its cgroup and those above, else what the machine has. */
export async function memoryLimit(root = '/sys/fs/cgroup', self = '/proc/self/cgroup'): Promise<number> {
  const limits = [totalmem()];
  const groups = (await readFile(self, 'utf8').catch(() => '0::/')).trim().split('\n');
  for (const line of groups) {
    const [, controllers = '', ...rest] = line.split(':');
    const [mount, file] = controllers === '' ? ['', 'memory.max'] : ['memory', 'memory.limit_in_bytes'];
    if (controllers !== '' && !controllers.split(',').includes('memory')) continue;
    for (let folder = rest.join(':') || '/'; ; folder = path.dirname(folder)) {
      const text = await readFile(path.join(root, mount, folder, file), 'utf8').catch(() => '');
      const bytes = Number(text.trim());
      if (text.trim() !== '' && bytes > 0) limits.push(bytes);
      if (folder === '/' || folder === '.') break;
    }
  }
  return Math.min(...limits);
}

/** Bytes of a file, or of everything in a folder. @returns 0 for what is not there */
export async function sizeOnDisk(file: string): Promise<number> {
  const found = await stat(file).catch(() => undefined);
  if (!found) return 0;
  if (!found.isDirectory()) return found.size;
  const names = await readdir(file, { recursive: true, withFileTypes: true });
  const sizes = await Promise.all(
    names.map(async (entry) => {
      if (entry.isDirectory()) return 0;
      return (await stat(path.join(entry.parentPath, entry.name)).catch(() => undefined))?.size ?? 0;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
