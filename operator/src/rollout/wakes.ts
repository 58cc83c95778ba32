/**
 * Who is woken by whom between deployments and SLMRollouts. Owns the mapping of events to keys; decides nothing. Where there is no
 * SLMRollout, nothing here costs more than that look.
 */
import {
  type SLMDeployment as Deployment,
  annotations as names,
  type SLMRollout as Rollout,
  type SLMRolloutStatus,
} from '@slm-operator/crds';
import { SLMDeployment, SLMModel, SLMRollout } from '../execution/kinds.ts';
import { keyOf, Namespace } from '../kube/resource.ts';
import { isConditionTrue } from '../runtime/conditions.ts';
import type { Source } from '../runtime/controller.ts';
import type { Store, StoreEvent } from '../runtime/store.ts';

/** So long events of deployments gather: a wave of a hundred is told of in a few writes. Milliseconds. */
const GATHER_MS = 500;

/** SLMRollouts that may have to plan anew: all of them, since which of them orders a deployment is theirs to find out. */
export function rolloutsTouched(rollouts: Store<Rollout>): Source {
  return {
    name: 'fleet',
    bind({ store, enqueue, onError }) {
      const all = (delayMs: number) => {
        for (const rollout of rollouts.list()) enqueue(keyOf(rollout), delayMs);
      };
      const on =
        <T>(matters: (event: StoreEvent<T>) => boolean, delayMs: number) =>
        (event: StoreEvent<T>) => {
          try {
            if (rollouts.size > 0 && matters(event)) all(delayMs);
          } catch (error) {
            onError(error);
          }
        };
      store(SLMDeployment).subscribe(on(deploymentMatters, GATHER_MS));
      store(SLMModel).subscribe(on(modelMatters, GATHER_MS));
      store(Namespace).subscribe(on(labelsMatter, GATHER_MS));
      // Which of several SLMRollouts orders a deployment may change with any of them.
      store(SLMRollout).subscribe(on((event) => event.type !== 'update' || specChanged(event), 0));
    },
  };
}

/** Deployments whose permission may be another one now. */
export function deploymentsTouched(deployments: Store<Deployment>, rollouts: Store<Rollout>): Source {
  return {
    name: 'SLMRollout',
    bind({ store, enqueue, onError }) {
      store(SLMRollout).subscribe((event) => {
        try {
          for (const key of keysTouched(event, deployments)) enqueue(key);
        } catch (error) {
          onError(error);
        }
      });
      store(Namespace).subscribe((event) => {
        try {
          if (rollouts.size === 0 || !labelsMatter(event)) return;
          for (const deployment of deployments.inNamespace(keyOf(event.object))) enqueue(keyOf(deployment));
        } catch (error) {
          onError(error);
        }
      });
    },
  };
}

/** Pure. */
export function keysTouched(
  event: StoreEvent<Rollout>,
  deployments: Pick<Store<Deployment>, 'list'>,
): ReadonlySet<string> {
  if (event.type !== 'update' || specChanged(event)) {
    return new Set(deployments.list().map((deployment) => keyOf(deployment)));
  }
  const before = entriesOf(event.previous.status);
  const after = entriesOf(event.object.status);
  const touched = new Set<string>();
  for (const [key, entry] of after) if (before.get(key) !== entry) touched.add(key);
  for (const key of before.keys()) if (!after.has(key)) touched.add(key);
  if (statesOf(event.previous.status) !== statesOf(event.object.status)) {
    for (const deployment of deployments.list()) {
      if (deployment.status?.rollout?.phase === 'WaitingForWave') touched.add(keyOf(deployment));
    }
  }
  return touched;
}

/** Whether nodes may pull for other deployments than before; never where spec.prePullAhead is not used. */
export function pullingAheadMatters(event: StoreEvent<Rollout>): boolean {
  const { object } = event;
  const previous = event.type === 'update' ? event.previous : undefined;
  if (object.spec.prePullAhead === undefined && previous?.spec.prePullAhead === undefined) return false;
  if (event.type !== 'update' || specChanged(event) || statesOf(object.status) !== statesOf(event.previous.status)) {
    return true;
  }
  const keys = ({ status }: Rollout) => (status?.admitted ?? []).map(({ deployment }) => deployment).join();
  return keys(object) !== keys(event.previous);
}

function specChanged({ object, previous }: { readonly object: Rollout; readonly previous: Rollout }): boolean {
  const key = ({ metadata }: Rollout) => `${metadata.generation} ${metadata.deletionTimestamp} ${retryOf(metadata)}`;
  return key(object) !== key(previous);
}

/** The annotation by which people have failures forgotten. */
export function retryOf(metadata: Rollout['metadata']): string | undefined {
  return metadata.annotations?.[names.retry];
}

function entriesOf(status: SLMRolloutStatus | undefined): ReadonlyMap<string, string> {
  const entries = new Map<string, string>();
  for (const { deployment, revision } of status?.admitted ?? []) entries.set(deployment, revision);
  for (const { deployment, revision, to } of status?.withdrawn ?? [])
    entries.set(deployment, `${revision} ${to ?? '-'}`);
  return entries;
}

function statesOf(status: SLMRolloutStatus | undefined): string {
  return (status?.waves ?? []).map(({ name, state }) => `${name}=${state}`).join();
}

/** What the planner reads of a deployment. Sizes, addresses and counts are not among it. */
function deploymentMatters(event: StoreEvent<Deployment>): boolean {
  return event.type !== 'update' || deploymentKey(event.previous) !== deploymentKey(event.object);
}

function deploymentKey({ metadata, status }: Deployment): string {
  const { generation, deletionTimestamp, labels, annotations } = metadata;
  const bad = status?.conditions?.filter(({ type }) => type === 'Stalled' || type === 'RolledBack');
  return JSON.stringify([
    [generation, deletionTimestamp, labels, annotations?.[names.rollbackTo]],
    [status?.observedGeneration, status?.currentRevision, status?.updateRevision],
    [isConditionTrue(status?.conditions, 'Ready'), bad?.map(({ status: is, message }) => [is, message])],
  ]);
}

function modelMatters(event: StoreEvent<{ readonly metadata: object; readonly status?: object }>): boolean {
  return event.type !== 'update' || modelKey(event.previous) !== modelKey(event.object);
}

function modelKey(model: {
  readonly metadata: { readonly generation?: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly latestRevision?: { readonly name: string };
    readonly revisions?: readonly { readonly name: string }[];
    readonly conditions?: readonly { readonly type: string; readonly reason: string }[];
  };
}): string {
  const { status, metadata } = model;
  const resolved = status?.conditions?.find(({ type }) => type === 'Resolved')?.reason;
  const names = status?.revisions?.map(({ name }) => name);
  return JSON.stringify([
    metadata.generation,
    status?.observedGeneration,
    status?.latestRevision?.name,
    names,
    resolved,
  ]);
}

function labelsMatter(event: StoreEvent<{ readonly metadata?: { readonly labels?: object | undefined } | undefined }>) {
  if (event.type !== 'update') return true;
  return JSON.stringify(event.previous.metadata?.labels) !== JSON.stringify(event.object.metadata?.labels);
}
