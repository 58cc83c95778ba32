/** What keeps the pods of a deployment from being made or from serving, each reason once. Pure. */
import { csi, labels, type SLMNodeCache } from '@slm-operator/crds';
import type { Observed, PodObject, ReplicaSetObject } from './observed.ts';
import { revisionOf } from './observed.ts';
import { type Cause, causeOf, isMounting, replicaSetCause } from './pod-causes.ts';
import { formatBytes, formatDuration } from './text.ts';

/** Causes in the order in which a person should look at them: those of the update revision first. */
export function causesOf(
  observed: Observed,
  update: readonly ReplicaSetObject[],
  old: readonly ReplicaSetObject[],
): Cause[] {
  const refused = [...update, ...old]
    .filter((set) => (set.spec?.replicas ?? 0) > (set.status?.replicas ?? 0))
    .map(replicaSetCause);
  const pods = observed.pods
    .filter((pod) => pod.metadata?.deletionTimestamp === undefined)
    .toSorted((a, b) => rank(a, update) - rank(b, update) || compare(a.metadata?.name, b.metadata?.name));
  const ofPods = pods.map((pod) =>
    causeOf(pod, mountProblem(pod, observed), observed.reports.get(pod.metadata?.uid ?? '')),
  );

  const byReason = new Map<string, { cause: Cause; count: number }>();
  for (const cause of [...refused, ...ofPods]) {
    if (cause === undefined) continue;
    const known = byReason.get(cause.reason);
    if (known === undefined) byReason.set(cause.reason, { cause, count: 1 });
    else known.count++;
  }
  return [...byReason.values()].map(({ cause, count }) =>
    count === 1 ? cause : { ...cause, message: `${cause.message} (${count} pods alike)` },
  );
}

function rank(pod: PodObject, update: readonly ReplicaSetObject[]): number {
  return update.some((set) => pod.metadata?.labels?.[labels.revision] === revisionOf(set)) ? 0 : 1;
}

function compare(a: string | undefined, b: string | undefined): number {
  return (a ?? '') < (b ?? '') ? -1 : 1;
}

/** Why the model volume of a pod does not mount: how far its node is, else what the kubelet says. */
function mountProblem(pod: PodObject, observed: Observed): string | undefined {
  if (!isMounting(pod)) return undefined;
  const cache = observed.caches.get(pod.spec?.nodeName ?? '');
  const fromCache = cache === undefined ? undefined : progressOn(cache, digestOf(pod));
  return fromCache ?? observed.mountEvents.get(pod.metadata?.name ?? '');
}

/** Digest of the model that a pod mounts. */
export function digestOf(pod: PodObject): string | undefined {
  const volume = pod.spec?.volumes?.find((candidate) => candidate.csi?.driver === csi.driver);
  return volume?.csi?.volumeAttributes?.[csi.attributes.digest];
}

function progressOn(cache: SLMNodeCache, digest: string | undefined): string | undefined {
  const entry = cache.status?.entries?.find((candidate) => candidate.digest === digest);
  if (entry === undefined || entry.state === 'Ready') return undefined;
  const node = cache.metadata.name;
  if (entry.state === 'Failed')
    return `node ${node} does not have the model: ${entry.error?.message ?? 'the pull failed'}`;
  const percent = entry.bytesTotal === 0 ? 0 : Math.min(99, Math.floor((entry.bytesDone / entry.bytesTotal) * 100));
  const rate = entry.bytesPerSecond ?? 0;
  const left = rate > 0 ? `, ${formatDuration(Math.ceil((entry.bytesTotal - entry.bytesDone) / rate))} left` : '';
  return `node ${node} has ${percent}% of ${formatBytes(entry.bytesTotal)} of the model${left}`;
}
