/**
 * The limit that the operator is compared with in `placement`: a client that knows beforehand which objects there will be, and only
 * writes them. Owns the recording of the operator's objects and the writing of the same ones.
 */
import type { KubeClient } from '@slm-operator/operator/kube/client';
import {
  apiVersionOf,
  type KubeObject,
  NetworkPolicy,
  PodDisruptionBudget,
  ReplicaSet,
  type ResourceType,
  Secret,
  Service,
} from '@slm-operator/operator/kube/resource';
import type { Write } from './audit-log.ts';
import { inLanes } from './placement-load.ts';
import type { Watched } from './placement-watch.ts';
import { isSettled } from './placement-watch.ts';
import { until } from './placement-world.ts';

/** Every kind of child, in the order in which the operator makes them. */
export const childKinds: readonly ResourceType[] = [Secret, Service, NetworkPolicy, PodDisruptionBudget, ReplicaSet];
const names = new Set(childKinds.map((type) => (type.group === '' ? type.plural : `${type.plural}.${type.group}`)));

/** Whether a write was the making of a child. */
export function madeChild({ resource, code }: Write): boolean {
  return code === 201 && names.has(resource);
}

interface Child {
  readonly type: ResourceType;
  readonly object: KubeObject & { readonly metadata: { readonly name: string; readonly namespace: string } };
}

/** The children of each deployment, by `namespace/name` of the deployment. */
export type Recording = ReadonlyMap<string, readonly Child[]>;

const OWNED = 'app.kubernetes.io/managed-by=slm-operator';

/** Reads all children that there are now. */
export async function recordChildren(client: KubeClient): Promise<Recording> {
  const found = new Map<string, Child[]>();
  for (const type of childKinds) {
    const { items } = await client.listAll(type, { labelSelector: OWNED });
    for (const item of items) {
      const { name = '', namespace = '' } = item.metadata ?? {};
      const owner = item.metadata?.labels?.['slm.dev/deployment'];
      if (owner === undefined) continue;
      const key = `${namespace}/${owner}`;
      const child = { type, object: asWritten(type, item, name, namespace) };
      found.set(key, [...(found.get(key) ?? []), child]);
    }
  }
  return found;
}

/** An object as somebody would write it: without what the server put in. It has no owner, because there is none here. */
function asWritten(type: ResourceType, item: KubeObject, name: string, namespace: string): Child['object'] {
  const {
    status: _status,
    metadata,
    spec,
    ...rest
  } = item as KubeObject & {
    readonly status?: unknown;
    readonly spec?: Readonly<Record<string, unknown>>;
  };
  const { labels, annotations } = metadata ?? {};
  const { clusterIP: _ip, clusterIPs: _ips, ...ownSpec } = spec ?? {};
  return {
    ...rest,
    apiVersion: apiVersionOf(type),
    kind: type.kind,
    metadata: { name, namespace, ...(labels && { labels }), ...(annotations && { annotations }) },
    ...(spec === undefined ? {} : { spec: ownSpec }),
  };
}

/** Children that `after` has and `before` has not. */
export function addedSince(before: Recording, after: Recording): Map<string, Child[]> {
  const added = new Map<string, Child[]>();
  for (const [key, children] of after) {
    const known = new Set(before.get(key)?.map(idOf));
    const fresh = children.filter((child) => !known.has(idOf(child)));
    if (fresh.length > 0) added.set(key, fresh);
  }
  return added;
}

function idOf({ type, object }: Child): string {
  return `${type.kind} ${object.metadata.name}`;
}

/** Writes all children, those of one deployment one after the other. Resolves when all ReplicaSets have their pods. */
export async function writeChildren(
  client: KubeClient,
  watched: Watched,
  recording: Recording,
  lanes: number,
): Promise<void> {
  await inLanes(recording.values(), lanes, async (children) => {
    for (const { type, object } of children) await client.create(type, object);
  });
  const sets = [...recording.values()].flat().filter(({ type }) => type === ReplicaSet);
  await until(
    () => watched.replicaSets.size >= sets.length && watched.replicaSets.list().every(isSettled),
    'the pods of the bare client',
    600_000,
  );
}

/**
 * Makes the new ReplicaSets, and empties the old ones of each deployment right after: it has no promise to keep about how many serve
 * meanwhile. Resolves when all ReplicaSets have the pods that they want.
 */
export async function replaceSets(
  client: KubeClient,
  watched: Watched,
  before: Recording,
  added: Recording,
  lanes: number,
): Promise<void> {
  const known = watched.replicaSets.size;
  let made = 0;
  await inLanes(added, lanes, async ([key, children]) => {
    for (const { type, object } of children) {
      await client.create(type, object);
      if (type === ReplicaSet) made++;
    }
    for (const { type, object } of before.get(key) ?? []) {
      if (type !== ReplicaSet) continue;
      const { name, namespace } = object.metadata;
      await client.patch(ReplicaSet, { name, namespace }, 'merge', { spec: { replicas: 0 } });
    }
  });
  await until(
    () => watched.replicaSets.size >= known + made && watched.replicaSets.list().every(isSettled),
    'the new pods of the bare client',
    600_000,
  );
}
