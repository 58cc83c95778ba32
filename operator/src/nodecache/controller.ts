/**
 * The NodeCache controller: one SLMNodeCache for each Node, owned by it, with what the node must hold. The only writer of
 * SLMNodeCache.spec; never reads or writes a status, never deletes (garbage collection does when the Node goes).
 */
import {
  API_VERSION,
  type SLMDeployment as Deployment,
  type SLMModel as Model,
  type SLMNodeCache as NodeCache,
  type OwnerReference,
  type SLMNodeCacheSpec,
  type WantedModel,
} from '@slm-operator/crds';
import { managedSelector } from '../deployment/names.ts';
import { stableJson } from '../deployment/revision.ts';
import { executePlan, FIELD_MANAGER } from '../execution/execute.ts';
import { SLMDeployment, SLMModel, SLMNodeCache } from '../execution/kinds.ts';
import { done, type KubeObject, type Plan } from '../execution/plan.ts';
import { Node, type ObjectOf, Pod, ReplicaSet } from '../kube/resource.ts';
import { makeApplier } from '../runtime/apply.ts';
import { type Controller, defineController, watches } from '../runtime/controller.ts';
import type { EventRecorder } from '../runtime/events.ts';
import type { Manager } from '../runtime/manager.ts';
import type { StoreEvent } from '../runtime/store.ts';
import { boundPods, nodeView, revisionUse } from './views.ts';
import { type WantedInput, wantedFor } from './wanted.ts';

type NodeObject = ObjectOf<typeof Node>;

export interface NodeCacheControllerOptions {
  readonly manager: Pick<Manager, 'client' | 'store'>;
  readonly recorder: Pick<EventRecorder, 'record'>;
  /** Part of a node's file system that stays free, in percent. */
  readonly minFreePercent: number;
}

export function makeNodeCacheController({ manager, recorder, minFreePercent }: NodeCacheControllerOptions): Controller {
  const { client } = manager;
  const applier = makeApplier({ client, fieldManager: FIELD_MANAGER });
  const nodes = manager.store(Node);
  const models = manager.store(SLMModel);
  const deployments = manager.store(SLMDeployment);
  const caches = manager.store(SLMNodeCache);
  const sets = manager.store(ReplicaSet, { labelSelector: managedSelector });
  const pods = manager.store(Pod, { labelSelector: managedSelector, indexes: { node: podNode } });
  const everyNode = () => nodes.list().map((node) => node.metadata?.name ?? '');

  const gather = (name: string): { readonly node: NodeObject; readonly input: WantedInput } | undefined => {
    const node = nodes.get(name);
    if (node === undefined) return undefined;
    const input: WantedInput = {
      node: nodeView(node),
      cache: caches.get(name),
      models: models.list(),
      deployments: deployments.list(),
      uses: sets.list().flatMap((set) => revisionUse(set) ?? []),
      pods: pods.byIndex('node', name).flatMap(boundPods),
    };
    return { node, input };
  };

  return defineController({
    name: 'nodecache',
    concurrency: 4,
    sources: [
      // Kubelets write their Node's status all the time; only what wantedFor reads may wake anything.
      watches(Node, undefined, { predicate: nodeMatters }),
      watches(SLMNodeCache, undefined, { predicate: cacheMatters }),
      watches(SLMModel, everyNode, { predicate: modelMatters }),
      watches(SLMDeployment, everyNode, { predicate: deploymentMatters }),
      watches(ReplicaSet, everyNode, { labelSelector: managedSelector, predicate: setMatters }),
      watches(Pod, podNode, { labelSelector: managedSelector, predicate: podMatters }),
    ],
    async reconcile(name, { signal }) {
      const found = gather(name);
      if (found === undefined) return done;
      const { outcome } = await executePlan({
        client,
        recorder,
        applier,
        type: Node,
        // A plan for a Node has no status to write: kubelets own that.
        owner: found.node,
        plan: planNodeCache(found.node, found.input, minFreePercent),
        live: (ref) => caches.get(ref.name),
        signal,
      });
      return outcome;
    },
  });
}

/** The object of one node. Pure. */
export function planNodeCache(node: NodeObject, input: WantedInput, minFreePercent: number): Plan<never> {
  const wanted = wantedFor(input);
  const desired = makeNodeCache(node, wanted, minFreePercent);
  return {
    apply: input.node.deleted || isSo(desired, input.cache) ? [] : [desired],
    remove: [],
    events: [],
    outcome: done,
    notes: [`node ${input.node.name} is to hold ${wanted.length} revisions`],
  };
}

/** Nothing is defaulted in this kind, so what is so can be told by looking; a new leader then writes nothing. */
function isSo(desired: NodeCacheObject, live: NodeCache | undefined): boolean {
  const [owner] = desired.metadata.ownerReferences;
  return (
    live !== undefined &&
    live.metadata.ownerReferences?.some(({ uid }) => uid === owner?.uid) === true &&
    stableJson(live.spec) === stableJson(desired.spec)
  );
}

interface NodeCacheObject extends KubeObject {
  readonly metadata: KubeObject['metadata'] & { readonly ownerReferences: readonly OwnerReference[] };
  readonly spec: SLMNodeCacheSpec;
}

function makeNodeCache(node: NodeObject, wanted: WantedModel[], minFreePercent: number): NodeCacheObject {
  const name = node.metadata?.name ?? '';
  return {
    apiVersion: API_VERSION,
    kind: 'SLMNodeCache',
    metadata: {
      name,
      ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name, uid: node.metadata?.uid ?? '', controller: true }],
    },
    spec: { limits: { minFreePercent }, wanted },
  };
}

function podNode(pod: ObjectOf<typeof Pod>): string | undefined {
  return pod.spec?.nodeName;
}

function nodeMatters(event: StoreEvent<NodeObject>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, nodeKey);
}

function nodeKey(node: NodeObject): unknown {
  const { labels, taints, cordoned, deleted } = nodeView(node);
  return [labels, taints, cordoned, deleted, node.metadata?.uid];
}

/** What an agent reports matters where it decides: whether the node holds a revision. Progress does not. */
function cacheMatters(event: StoreEvent<NodeCache>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, cacheKey);
}

function cacheKey({ spec, metadata, status }: NodeCache): unknown {
  const held = (status?.entries ?? []).filter(({ state }) => state === 'Ready' || state === 'Evicting');
  return [spec, metadata.ownerReferences, held.map(({ digest }) => digest)];
}

function modelMatters(event: StoreEvent<Model>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, modelKey);
}

function modelKey({ metadata, spec, status }: Model): unknown {
  const revisions = (status?.revisions ?? []).map(({ digest, sources }) => [digest, sources]);
  return [metadata.uid, spec.prePull, spec.suspend, status?.latestRevision?.digest, revisions];
}

function deploymentMatters(event: StoreEvent<Deployment>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, deploymentKey);
}

function deploymentKey({ metadata, spec }: Deployment): unknown {
  return [metadata.uid, metadata.deletionTimestamp, spec.modelRef, spec.model === undefined, spec.podTemplate?.spec];
}

function setMatters(event: StoreEvent<ObjectOf<typeof ReplicaSet>>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, revisionUse);
}

function podMatters(event: StoreEvent<ObjectOf<typeof Pod>>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, boundPods);
}

function differ<T>(previous: T, object: T, key: (value: T) => unknown): boolean {
  return stableJson(key(previous)) !== stableJson(key(object));
}
