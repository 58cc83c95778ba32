/**
 * The Model controller: resolves the source of each SLMModel once, and says in its status what it is and how far the nodes
 * are with it. Writes SLMModel.status and nothing else; what a node must hold is the NodeCache controller's.
 */
import { isDeepStrictEqual } from 'node:util';
import type {
  SLMDeployment as Deployment,
  SLMModel as Model,
  SLMNodeCache as NodeCache,
  SLMModelStatus,
} from '@slm-operator/crds';
import { borrowerOf, managedSelector, modelKeyOf, modelKeyOfSet } from '../deployment/names.ts';
import { executePlan, FIELD_MANAGER } from '../execution/execute.ts';
import { SLMDeployment, SLMModel, SLMNodeCache } from '../execution/kinds.ts';
import { done } from '../execution/plan.ts';
import { keyOf, Namespace, Node, type ObjectOf, ReplicaSet } from '../kube/resource.ts';
import { allowedBy, demandOf, usesModel } from '../nodecache/demand.ts';
import type { HardwareOptions } from '../nodecache/file-choice.ts';
import { prePullFor } from '../nodecache/pre-pull.ts';
import { nodeView, revisionUse } from '../nodecache/views.ts';
import { makeApplier } from '../runtime/apply.ts';
import { type Controller, defineController, makeChannel, type Source, watches } from '../runtime/controller.ts';
import type { EventRecorder } from '../runtime/events.ts';
import type { Logger } from '../runtime/log.ts';
import type { Manager } from '../runtime/manager.ts';
import type { Store, StoreEvent } from '../runtime/store.ts';
import type { resolveSource } from '../sources/resolve.ts';
import { pastUseOf } from './history.ts';
import { labelsChanged, labelsIn } from './namespaces.ts';
import type { ObservedModel } from './observed.ts';
import { sourceHash } from './parts.ts';
import { planModel } from './plan.ts';
import { makeResolutions } from './resolutions.ts';
import { stableJson } from './stable-json.ts';

export interface ModelControllerOptions {
  readonly manager: Pick<Manager, 'client' | 'store' | 'addRunnable'>;
  readonly recorder: Pick<EventRecorder, 'record'>;
  readonly log: Logger;
  /** Base address of the Hub API where a model names none; no trailing slash. */
  readonly hfEndpoint: string;
  readonly hfEndpointInsecure: boolean;
  /** Default: the built-in profiles, and the processors' image alone. The object that the NodeCache controller has. */
  readonly hardware?: HardwareOptions | undefined;
  /** For tests. */
  readonly resolve?: typeof resolveSource | undefined;
}

/** Index of deployments and ReplicaSets by the key of their model. */
const BY_MODEL = 'nodecache.model';
/** Index of deployments by their namespace, where their model is in another one. */
const BY_BORROWER = 'nodecache.borrower';

/** The last status that this process wrote for a model. */
interface Written {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly uid: string | undefined;
  readonly status: SLMModelStatus;
}

/** So long the deployments and ReplicaSets of a model gather: a thousand that come at once are a few looks at it. Milliseconds. */
const USERS_DELAY_MS = 500;
/** The same of what nodes report. */
const REPORTS_DELAY_MS = 100;

export function makeModelController(options: ModelControllerOptions): Controller {
  const { manager, recorder, log } = options;
  const { client } = manager;
  const applier = makeApplier({ client, fieldManager: FIELD_MANAGER });
  const models = manager.store(SLMModel);
  const deployments = manager.store(SLMDeployment, {
    indexes: { [BY_MODEL]: modelKeyOf, [BY_BORROWER]: borrowerOf },
  });
  const caches = manager.store(SLMNodeCache);
  const sets = manager.store(ReplicaSet, { labelSelector: managedSelector, indexes: { [BY_MODEL]: modelKeyOfSet } });
  const { shelf, choice } = prePullFor(manager, options.hardware);
  const labelsOf = labelsIn(manager.store(Namespace));
  const answers = makeChannel('resolutions');
  const resolutions = makeResolutions({ ...options, client, onAnswer: (key) => answers.push(key) });
  manager.addRunnable({
    name: 'resolutions',
    run: (signal) =>
      new Promise((resolve) => {
        const end = () => {
          resolutions.close();
          resolve();
        };
        if (signal.aborted) end();
        else signal.addEventListener('abort', end, { once: true });
      }),
  });
  const written = new Map<string, Written>();
  const usersSince = new Map<string, number>();

  const gather = (key: string): ObservedModel | undefined => {
    const stored = models.get(key);
    if (stored === undefined) return undefined;
    const last = written.get(key);
    const model = last !== undefined && isBehind(stored, last) ? { ...stored, status: last.status } : stored;
    const isAllowed = allowedBy(model, labelsOf);
    const users = deployments
      .byIndex(BY_MODEL, key)
      .filter((deployment) => usesModel(deployment, model) && isAllowed(deployment.metadata.namespace));
    const own = sets.byIndex(BY_MODEL, key);
    const uses = own.flatMap((set) => revisionUse(set) ?? []);
    return {
      model,
      sourceHash: sourceHash(model.spec),
      resolution: resolutions.get(key),
      nodes: shelf.list(),
      caches,
      deployments: users,
      demandOf: (of) => demandOf({ model: of, deployments: users, uses, choice, labelsOf }),
      uses,
      past: own.filter((set) => revisionUse(set) === undefined).flatMap((set) => pastUseOf(set) ?? []),
      lastWrite: last?.at,
      usersSince: usersSince.get(key),
    };
  };

  const forget = (key: string) => {
    resolutions.forget(key);
    usersSince.delete(key);
    written.delete(key);
  };

  return defineController({
    name: 'model',
    concurrency: 4,
    sources: [
      answers,
      watches(SLMModel),
      touchedModels(),
      watches(SLMDeployment, modelKeyOf, { predicate: placementChanged, delayMs: USERS_DELAY_MS }),
      watches(ReplicaSet, modelKeyOfSet, {
        labelSelector: managedSelector,
        predicate: useChanged,
        delayMs: USERS_DELAY_MS,
      }),
      watches(Node, modelsOfNode(caches), { predicate: nodeMatters }),
      watches(Namespace, (namespace) => deployments.byIndex(BY_BORROWER, keyOf(namespace)).map(modelKeyOf), {
        predicate: labelsChanged,
        delayMs: USERS_DELAY_MS,
      }),
    ],
    async reconcile(key, { signal }) {
      const observed = gather(key);
      if (observed === undefined) {
        forget(key);
        return done;
      }
      const { model } = observed;
      if (model.metadata.deletionTimestamp !== undefined) return done;
      const plan = planModel(observed, { now: Date.now() });
      if (!plan.usersWait) usersSince.delete(key);
      else if (!usersSince.has(key)) usersSince.set(key, Date.now());
      if (plan.resolve) resolutions.start(model, observed.sourceHash);
      const { outcome, writes } = await executePlan({
        client,
        recorder,
        applier,
        type: SLMModel,
        owner: model,
        plan,
        signal,
      });
      if (writes > 0) {
        if (plan.status !== undefined)
          written.set(key, { at: Date.now(), uid: model.metadata.uid, status: plan.status });
        log.debug({ model: key, notes: plan.notes }, 'model status written');
      }
      return outcome;
    },
  });
}

/** Longest time that a store is believed to lag behind a write of ours, milliseconds. */
const LAG_MS = 5000;

/**
 * Whether the store has not seen our last write: then what we wrote is what the status is. Otherwise an event would be told
 * twice, and several writes in a row come back one by one. Nobody else writes the status, so only a lost race takes all of the time.
 */
function isBehind({ metadata, status }: Model, last: Written): boolean {
  return metadata.uid === last.uid && Date.now() - last.at < LAG_MS && stableJson(status) !== stableJson(last.status);
}

/**
 * Models whose bytes a node reports something new of, or is or was to hold. An agent that pulls reports every second, and a node
 * may hold the bytes of hundreds of models.
 */
function touchedModels(): Source {
  return {
    name: 'SLMNodeCache',
    bind({ store, enqueue, onError }) {
      store(SLMNodeCache).subscribe((event) => {
        try {
          for (const key of modelsTouched(event)) enqueue(key, REPORTS_DELAY_MS);
        } catch (error) {
          onError(error);
        }
      });
    },
  };
}

/** Pure. */
export function modelsTouched(event: StoreEvent<NodeCache>): ReadonlySet<string> {
  const { object } = event;
  if (event.type !== 'update') return new Set(modelsListed(object));
  const { previous } = event;
  // The first report of an agent says of everything that it is on its way.
  const isFirst =
    (object.status?.observedGeneration === undefined) !== (previous.status?.observedGeneration === undefined);
  if (isFirst) return new Set([...modelsListed(object), ...modelsListed(previous)]);
  const touched = new Set<string>();
  const lists = [...(object.spec?.wanted ?? []), ...(previous.spec?.wanted ?? [])];
  if (object.metadata.generation !== previous.metadata.generation) {
    const before = wantedBy(previous);
    const after = wantedBy(object);
    for (const { digest, models } of lists) {
      if (before.get(digest) !== after.get(digest)) for (const model of models) touched.add(model);
    }
  }
  const changed = changedEntries(previous, object);
  if (changed.size === 0) return touched;
  for (const { digest, models } of lists) if (changed.has(digest)) for (const model of models) touched.add(model);
  return touched;
}

/** By digest: the models that want it. */
function wantedBy({ spec }: NodeCache): ReadonlyMap<string, string> {
  return new Map((spec?.wanted ?? []).map(({ digest, models }) => [digest, models.join()]));
}

/** Digests of which the agent says something else than before. */
function changedEntries(previous: NodeCache, object: NodeCache): ReadonlySet<string> {
  const before = new Map(previous.status?.entries?.map((entry) => [entry.digest, entry]));
  const changed = new Set<string>();
  for (const entry of object.status?.entries ?? []) {
    if (!isDeepStrictEqual(entry, before.get(entry.digest))) changed.add(entry.digest);
    before.delete(entry.digest);
  }
  for (const digest of before.keys()) changed.add(digest);
  return changed;
}

function placementChanged(event: StoreEvent<Deployment>): boolean {
  return event.type !== 'update' || event.previous.metadata.generation !== event.object.metadata.generation;
}

/** Sizes change in every rollout, step by step; who uses which bytes changes at its ends. */
function useChanged(event: StoreEvent<ObjectOf<typeof ReplicaSet>>): boolean {
  return event.type !== 'update' || !isDeepStrictEqual(revisionUse(event.previous), revisionUse(event.object));
}

type NodeObject = ObjectOf<typeof Node>;

/** What the node is to hold. What it has yet to be told to hold comes with its SLMNodeCache. */
function modelsOfNode(caches: Store<NodeCache>) {
  return (node: NodeObject): Iterable<string> => modelsListed(caches.get(node.metadata?.name ?? ''));
}

function modelsListed(cache: NodeCache | undefined): string[] {
  return [...new Set((cache?.spec?.wanted ?? []).flatMap(({ models }) => models))];
}

/** Labels, taints, cordon, readiness and devices decide which nodes count; the rest of a Node changes every few seconds. */
function nodeMatters(event: StoreEvent<NodeObject>): boolean {
  return event.type !== 'update' || stableJson(nodeKey(event.previous)) !== stableJson(nodeKey(event.object));
}

function nodeKey(node: NodeObject): unknown {
  return [nodeView(node), node.status?.allocatable, node.status?.capacity];
}
