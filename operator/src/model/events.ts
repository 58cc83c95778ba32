/** Events about an SLMModel: what changed between two statuses, for `kubectl describe`. Pure. */
import type { Reason, SLMModel, SLMModelStatus } from '@slm-operator/crds';
import { formatBytes } from '../deployment/text.ts';
import type { EventIntent } from '../execution/plan.ts';

/** What is to be told: what `status` says and the model's present one does not. */
export function eventsFor({ spec, status: previous }: SLMModel, status: SLMModelStatus): EventIntent[] {
  const events: EventIntent[] = [];
  const { latestRevision: latest, cache } = status;
  const isNew = latest !== undefined && latest.name !== previous?.latestRevision?.name;
  if (isNew) {
    const commit = latest.sourceRevision === undefined ? '' : ` at commit ${latest.sourceRevision.slice(0, 12)}`;
    const { length } = spec.variants ?? [];
    const more = length === 0 ? '' : ` with ${length} variant${length === 1 ? '' : 's'}`;
    const note = `${spec.source.uri}${commit} is revision ${latest.name}, ${formatBytes(latest.size)}${more}`;
    events.push({ reason: 'RevisionResolved', action: 'Resolve', note });
  }
  const before = reasonOf(previous, 'Resolved');
  const now = status.conditions?.find(({ type }) => type === 'Resolved');
  if (now?.status === 'False' && now.reason !== before) {
    events.push({ type: 'Warning', reason: now.reason as Reason, action: 'Resolve', note: now.message });
  }
  for (const failure of (status.failures ?? []).slice(0, 8)) {
    if (previous?.failures?.some(({ node, reason }) => node === failure.node && reason === failure.reason)) continue;
    const note = `node ${failure.node}: ${failure.message}`;
    events.push({ type: 'Warning', reason: failure.reason as Reason, action: 'Pull', note });
  }
  if (latest !== undefined && cache !== undefined && cache.desiredNodes > 0) {
    events.push(...pullEvents(latest.name, isNew ? undefined : previous?.cache, cache));
  }
  return events;
}

function pullEvents(
  name: string,
  previous: SLMModelStatus['cache'] | undefined,
  cache: NonNullable<SLMModelStatus['cache']>,
): EventIntent[] {
  const wasComplete =
    previous !== undefined && previous.desiredNodes > 0 && previous.readyNodes === previous.desiredNodes;
  if (cache.readyNodes === cache.desiredNodes) {
    if (wasComplete) return [];
    const nodes = cache.desiredNodes === 1 ? '1 node holds' : `${cache.desiredNodes} nodes hold`;
    return [
      {
        reason: 'PullComplete',
        action: 'Pull',
        note: `${nodes} revision ${name}, ${formatBytes(cache.bytesTotal)} in all`,
      },
    ];
  }
  const quarter = Math.floor(cache.percent / 25);
  if (wasComplete || quarter === 0 || quarter <= Math.floor((previous?.percent ?? 0) / 25)) return [];
  return [
    {
      reason: 'PullProgress',
      action: 'Pull',
      note: `revision ${name}: ${cache.progress} on ${cache.desiredNodes === 1 ? '1 node' : `${cache.desiredNodes} nodes`}`,
    },
  ];
}

function reasonOf(status: SLMModelStatus | undefined, type: string): string | undefined {
  return status?.conditions?.find((candidate) => candidate.type === type)?.reason;
}
