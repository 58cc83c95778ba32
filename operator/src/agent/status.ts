/**
 * What the agent says of its node: puller's entries and the devices folded into SLMNodeCache.status. Pure: the time and the disk's
 * numbers are arguments, and the previous status is only read for transition times.
 */
import type { CacheEntry, NodeDevice, Reason, SLMNodeCacheStatus } from '@slm-operator/crds';
import { type DesiredCondition, reconcileConditions, summaryConditions, toRfc3339 } from '../runtime/conditions.ts';
import type { DiskSpace } from './blob-store.ts';
import type { PullEntry } from './puller.ts';
import { formatBytes, formatProgress, shorten } from './text.ts';

/** The API's bounds for these fields. */
const MAX_MESSAGE = 1024;
const MAX_FROM = 512;

export interface StatusInput {
  readonly entries: readonly PullEntry[];
  /** `metadata.generation` of the spec that the entries answer to. */
  readonly observedGeneration: number | undefined;
  readonly disk: (DiskSpace & { readonly usedBytes: number }) | undefined;
  /** What the node can compute on. */
  readonly devices: readonly NodeDevice[] | undefined;
  readonly agentVersion: string;
  /** Wall clock in milliseconds. */
  readonly now: number;
  readonly previous: SLMNodeCacheStatus | undefined;
}

/** The whole status. */
export function desiredStatus(input: StatusInput): SLMNodeCacheStatus {
  const wanted = input.entries.filter((entry) => entry.state !== 'Evicting');
  const ready = wanted.filter((entry) => entry.state === 'Ready');
  return {
    ...(input.observedGeneration === undefined ? {} : { observedGeneration: input.observedGeneration }),
    conditions: reconcileConditions(input.previous?.conditions, conditionsOf(wanted), {
      now: input.now,
      observedGeneration: input.observedGeneration,
    }).map((condition) => ({ ...condition })) as NonNullable<SLMNodeCacheStatus['conditions']>,
    agentVersion: input.agentVersion,
    ...(input.disk === undefined
      ? {}
      : {
          capacityBytes: input.disk.capacityBytes,
          freeBytes: input.disk.freeBytes,
          usedBytes: input.disk.usedBytes,
        }),
    summary: `${ready.length}/${wanted.length}`,
    ...(input.devices === undefined || input.devices.length === 0 ? {} : { devices: [...input.devices] }),
    // Server-side apply stores no empty list: with one here the status would never be what was written.
    ...(input.entries.length === 0
      ? {}
      : { entries: input.entries.map(cacheEntry).sort((a, b) => (a.digest < b.digest ? -1 : 1)) }),
  };
}

/** Name for messages: `smollm2`, with its namespace only where that is needed to tell two apart. */
export function shortNames(entries: readonly Pick<PullEntry, 'digest' | 'models'>[]): ReadonlyMap<string, string> {
  const counts = new Map<string, number>();
  for (const entry of entries) {
    const name = lastPart(entry);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return new Map(
    entries.map((entry) => {
      const name = lastPart(entry);
      return [entry.digest, counts.get(name) === 1 ? name : (entry.models[0] ?? name)];
    }),
  );
}

function lastPart(entry: Pick<PullEntry, 'digest' | 'models'>): string {
  return entry.models[0]?.split('/').at(-1) ?? entry.digest.slice(0, 17);
}

function conditionsOf(wanted: readonly PullEntry[]): DesiredCondition[] {
  const names = shortNames(wanted);
  const name = (entry: PullEntry) => names.get(entry.digest) ?? entry.digest;
  const failed = wanted.filter((entry) => entry.error !== undefined);
  const pending = wanted.filter((entry) => entry.state !== 'Ready' && entry.error === undefined);
  const sentences = [
    ...failed.map((entry) => `${name(entry)}: ${entry.error?.message ?? ''}`),
    ...pending.map((entry) => `${name(entry)}: ${pendingText(entry)}`),
  ];
  if (sentences.length === 0) return summaryConditions({ state: 'ready', reason: 'Ready', message: readyText(wanted) });
  const reason: Reason =
    failed[0]?.error?.reason ?? (pending.some((entry) => entry.state !== 'Queued') ? 'Downloading' : 'Queued');
  const more = sentences.length > 3 ? `; and ${sentences.length - 3} more` : '';
  return summaryConditions({
    state: failed.some((entry) => entry.error?.terminal === true) ? 'stalled' : 'reconciling',
    reason,
    message: `${sentences.slice(0, 3).join('; ')}${more}`,
  });
}

function readyText(wanted: readonly PullEntry[]): string {
  if (wanted.length === 0) return 'no model is wanted on this node';
  const bytes = formatBytes(wanted.reduce((sum, entry) => sum + entry.bytesTotal, 0));
  return wanted.length === 1 ? `the model is here, ${bytes}` : `all ${wanted.length} models are here, ${bytes}`;
}

function pendingText(entry: PullEntry): string {
  if (entry.state === 'Verifying') return `verifying ${formatBytes(entry.bytesTotal)}`;
  if (entry.state === 'Queued' && entry.bytesDone === 0) {
    return `waits for its turn to pull ${formatBytes(entry.bytesTotal)}`;
  }
  return formatProgress(entry);
}

function cacheEntry(entry: PullEntry): CacheEntry {
  return {
    digest: entry.digest,
    state: entry.state,
    bytesDone: entry.bytesDone,
    bytesTotal: entry.bytesTotal,
    ...(entry.bytesPerSecond === undefined ? {} : { bytesPerSecond: entry.bytesPerSecond }),
    ...(entry.from === undefined ? {} : { from: shorten(entry.from, MAX_FROM) }),
    ...(entry.error === undefined
      ? {}
      : {
          error: {
            reason: entry.error.reason,
            message: shorten(entry.error.message, MAX_MESSAGE),
            attempts: entry.error.attempts,
            nextRetry: toRfc3339(entry.error.nextRetry),
          },
        }),
  };
}
