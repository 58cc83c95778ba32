/**
 * The NodeCache controller: one SLMNodeCache for each Node, owned by it, with what the node must hold. The only writer of
 * SLMNodeCache.spec; never reads or writes a status, never deletes (garbage collection does when the Node goes).
 */
import { isDeepStrictEqual } from 'node:util';
import {
  API_VERSION,
  type SLMDeployment as Deployment,
  type SLMModel as Model,
  type SLMNodeCache as NodeCache,
  type OwnerReference,
  type SLMNodeCacheSpec,
  type WantedModel,
} from '@slm-operator/crds';
import { managedSelector, modelKeyOf, modelKeyOfSet } from '../deployment/names.ts';
import { executePlan, FIELD_MANAGER } from '../execution/execute.ts';
import { SLMDeployment, SLMModel, SLMNodeCache, SLMRollout } from '../execution/kinds.ts';
import { done, type KubeObject, type Plan, waiting } from '../execution/plan.ts';
import { allPods, isManaged } from '../hardware/all-pods.ts';
import { keyOf, Namespace, Node, type ObjectOf, Pod, ReplicaSet } from '../kube/resource.ts';
import { revisionsAsked } from '../model/history.ts';
import { labelsChanged, labelsIn } from '../model/namespaces.ts';
import { pullingAheadMatters } from '../rollout/wakes.ts';
import { makeApplier } from '../runtime/apply.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { type Controller, defineController, makeChannel, watches } from '../runtime/controller.ts';
import type { EventRecorder } from '../runtime/events.ts';
import type { Manager } from '../runtime/manager.ts';
import type { StoreEvent } from '../runtime/store.ts';
import { makeDemands } from './demands.ts';
import type { HardwareOptions } from './file-choice.ts';
import { prePullFor } from './pre-pull.ts';
import { makeRests } from './rests.ts';
import { boundPods, nodeView, revisionUse } from './views.ts';
import { type WantedInput, wantedFor } from './wanted.ts';

type NodeObject = ObjectOf<typeof Node>;

export interface NodeCacheControllerOptions {
  readonly manager: Pick<Manager, 'client' | 'store'>;
  readonly recorder: Pick<EventRecorder, 'record'>;
  /** Part of a node's file system that stays free, in percent. */
  readonly minFreePercent: number;
  /** Default: the built-in profiles, and the processors' image alone. */
  readonly hardware?: HardwareOptions | undefined;
  /** Default: the system's. */
  readonly clock?: Clock | undefined;
}

/** Keys are names of nodes, and with this before them models whose demand is to be worked out anew. No node's name has a colon. */
const MODEL = 'model:';
/** Deployments and ReplicaSets come and change many at a time; the demand of their model is worked out once for all of them. */
const GATHER_MS = 100;

export function makeNodeCacheController(options: NodeCacheControllerOptions): Controller {
  const { manager, recorder, minFreePercent, hardware, clock = systemClock } = options;
  const { client } = manager;
  const applier = makeApplier({ client, fieldManager: FIELD_MANAGER });
  const nodes = manager.store(Node);
  const caches = manager.store(SLMNodeCache);
  const pods = manager.store(Pod, { ...allPods, indexes: { 'nodecache.node': podNode } });
  const { shelf, choice } = prePullFor(manager, hardware);
  const deployments = manager.store(SLMDeployment);
  const demands = makeDemands({
    models: manager.store(SLMModel),
    deployments,
    sets: manager.store(ReplicaSet, { labelSelector: managedSelector }),
    caches,
    shelf,
    choice,
    labelsOf: labelsIn(manager.store(Namespace)),
  });
  const rests = makeRests(clock);
  const woken = makeChannel('demands');
  let kinds = '';

  const gather = (name: string): { readonly node: NodeObject; readonly input: WantedInput } | undefined => {
    const node = nodes.get(name);
    const stock = shelf.get(name);
    if (node === undefined || stock === undefined) return undefined;
    const input: WantedInput = {
      node: stock,
      cache: caches.get(name),
      demands: demands.all(),
      isKnown: (namespace, digest) => demands.isKnown(namespace, digest),
      lists: (model, digest) => demands.lists(model, digest),
      usedOf: (namespace, digest) => demands.usedOf(namespace, digest),
      pods: pods.byIndex('nodecache.node', name).flatMap(boundPods),
    };
    return { node, input };
  };

  /** The node itself; all of them when there is a new kind of node, since deployments may run on other hardware now. */
  const nodesToWake = (name: string): readonly string[] => {
    const { version } = shelf.kinds();
    if (version === kinds) return [name];
    kinds = version;
    demands.clear();
    return [name, ...shelf.list().map((node) => node.name)];
  };

  return defineController({
    name: 'nodecache',
    concurrency: 4,
    sources: [
      // Kubelets write their Node's status all the time; only what decides over placement may wake anything.
      watches(Node, (node) => nodesToWake(keyOf(node)), { predicate: nodeMatters }),
      watches(SLMNodeCache, (cache) => nodesToWake(keyOf(cache)), { predicate: cacheMatters }),
      woken,
      watches(SLMModel, (model) => modelWork(keyOf(model)), { predicate: modelMatters }),
      watches(SLMDeployment, (deployment) => modelWork(modelKeyOf(deployment)), {
        predicate: deploymentMatters,
        delayMs: GATHER_MS,
      }),
      watches(SLMRollout, () => new Set(deployments.list().map((deployment) => modelWork(modelKeyOf(deployment)))), {
        predicate: pullingAheadMatters,
        delayMs: GATHER_MS,
      }),
      watches(ReplicaSet, workOfSet, {
        labelSelector: managedSelector,
        predicate: setMatters,
        delayMs: GATHER_MS,
      }),
      watches(Pod, podNode, { ...allPods, predicate: podMatters }),
      watches(Namespace, (namespace) => [...demands.borrowedBy(keyOf(namespace))].map(modelWork), {
        predicate: labelsChanged,
      }),
    ],
    async reconcile(name, { signal }) {
      if (name.startsWith(MODEL)) {
        for (const node of demands.changed(name.slice(MODEL.length))) woken.push(node);
        return done;
      }
      const left = rests.left(name);
      if (left > 0 && nodes.get(name) !== undefined) {
        return waiting('Progressing', 'the list of a moment ago is written already', left);
      }
      const found = gather(name);
      if (found === undefined) {
        rests.forget(name);
        return done;
      }
      const plan = planNodeCache(found.node, found.input, minFreePercent);
      const { outcome, writes } = await executePlan({
        client,
        recorder,
        applier,
        type: Node,
        // A plan for a Node has no status to write: kubelets own that.
        owner: found.node,
        plan,
        live: (ref) => caches.get(ref.name),
        signal,
      });
      rests.looked(name, writes > 0, nodes.size);
      return outcome;
    },
  });
}

function modelWork(model: string): string {
  return `${MODEL}${model}`;
}

function workOfSet(set: ObjectOf<typeof ReplicaSet>): string | undefined {
  const model = modelKeyOfSet(set);
  return model === undefined ? undefined : modelWork(model);
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
    isDeepStrictEqual(live.spec, desired.spec)
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
  return isManaged(pod) ? pod.spec?.nodeName : undefined;
}

function nodeMatters(event: StoreEvent<NodeObject>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, nodeKey);
}

function nodeKey(node: NodeObject): unknown {
  const { labels, taints, cordoned, deleted } = nodeView(node);
  const { capacity, allocatable } = node.status ?? {};
  return [labels, taints, cordoned, deleted, node.metadata?.uid, capacity, allocatable];
}

/** What an agent reports matters where it decides: whether the node holds a revision, and what it can compute on. Progress does not. */
function cacheMatters(event: StoreEvent<NodeCache>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, cacheKey);
}

function cacheKey({ metadata, status }: NodeCache): unknown {
  const held = (status?.entries ?? []).filter(({ state }) => state === 'Ready' || state === 'Evicting');
  // The generation stands for the spec, which may list hundreds of models.
  return [metadata.generation, metadata.ownerReferences, held.map(({ digest }) => digest), status?.devices];
}

function modelMatters(event: StoreEvent<Model>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, modelKey);
}

function modelKey({ metadata, spec, status }: Model): unknown {
  const revisions = (status?.revisions ?? []).map(({ name, sources, variants }) => [
    name,
    sources,
    variants?.map((variant) => [variant.name, variant.accelerators, variant.digest, variant.sources]),
  ]);
  const { prePull, suspend, allowedNamespaces } = spec;
  return [metadata.uid, prePull, suspend, allowedNamespaces, status?.latestRevision?.name, revisions, status?.metadata];
}

function deploymentMatters(event: StoreEvent<Deployment>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, deploymentKey);
}

function deploymentKey(deployment: Deployment): unknown {
  const { metadata, spec } = deployment;
  const { modelRef, model, podTemplate, hardware, engine, resources, image } = spec;
  const { uid, deletionTimestamp } = metadata;
  const again = [...revisionsAsked(deployment)];
  return [
    uid,
    deletionTimestamp,
    modelRef,
    model === undefined,
    podTemplate,
    hardware,
    engine,
    resources,
    image,
    again,
  ];
}

function setMatters(event: StoreEvent<ObjectOf<typeof ReplicaSet>>): boolean {
  return event.type !== 'update' || differ(event.previous, event.object, revisionUse);
}

function podMatters(event: StoreEvent<ObjectOf<typeof Pod>>): boolean {
  if (!isManaged(event.object)) return false;
  return event.type !== 'update' || differ(event.previous, event.object, boundPods);
}

function differ<T>(previous: T, object: T, key: (value: T) => unknown): boolean {
  return !isDeepStrictEqual(key(previous), key(object));
}
