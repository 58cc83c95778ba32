/**
 * The Model controller: resolves the source of each SLMModel once, and says in its status what it is and how far the nodes
 * are with it. Writes SLMModel.status and nothing else; what a node must hold is the NodeCache controller's.
 */
import type {
  SLMDeployment as Deployment,
  SLMModel as Model,
  SLMNodeCache as NodeCache,
  SLMModelStatus,
} from '@slm-operator/crds';
import { labels } from '@slm-operator/crds';
import { managedSelector, modelNameOf } from '../deployment/names.ts';
import { executePlan, FIELD_MANAGER } from '../execution/execute.ts';
import { SLMDeployment, SLMModel, SLMNodeCache } from '../execution/kinds.ts';
import { done } from '../execution/plan.ts';
import { keyOf, makeKey, Node, type ObjectOf, ReplicaSet } from '../kube/resource.ts';
import { nodeView, revisionUse } from '../nodecache/views.ts';
import { makeApplier } from '../runtime/apply.ts';
import { type Controller, defineController, makeChannel, watches } from '../runtime/controller.ts';
import type { EventRecorder } from '../runtime/events.ts';
import type { Logger } from '../runtime/log.ts';
import type { Manager } from '../runtime/manager.ts';
import type { StoreEvent } from '../runtime/store.ts';
import type { resolveSource } from '../sources/resolve.ts';
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
  /** For tests. */
  readonly resolve?: typeof resolveSource | undefined;
}

/** The last status that this process wrote for a model. */
interface Written {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly uid: string | undefined;
  readonly status: SLMModelStatus;
}

export function makeModelController(options: ModelControllerOptions): Controller {
  const { manager, recorder, log } = options;
  const { client } = manager;
  const applier = makeApplier({ client, fieldManager: FIELD_MANAGER });
  const models = manager.store(SLMModel);
  const deployments = manager.store(SLMDeployment);
  const nodes = manager.store(Node);
  const caches = manager.store(SLMNodeCache);
  const sets = manager.store(ReplicaSet, { labelSelector: managedSelector });
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

  const gather = (key: string): ObservedModel | undefined => {
    const stored = models.get(key);
    if (stored === undefined) return undefined;
    const last = written.get(key);
    const model = last !== undefined && isBehind(stored, last) ? { ...stored, status: last.status } : stored;
    const namespace = model.metadata.namespace ?? '';
    return {
      model,
      sourceHash: sourceHash(model.spec),
      resolution: resolutions.get(key),
      nodes: nodes.list().map(nodeView),
      caches: new Map(caches.list().map((cache) => [cache.metadata.name, cache])),
      deployments: deployments.inNamespace(namespace),
      uses: sets
        .inNamespace(namespace)
        .flatMap((set) => revisionUse(set) ?? [])
        .filter((use) => use.model === model.metadata.name),
      lastWrite: last?.at,
    };
  };

  const forget = (key: string) => {
    resolutions.forget(key);
    written.delete(key);
  };
  const everyModel = () => models.list().map((model) => keyOf(model));

  return defineController({
    name: 'model',
    concurrency: 4,
    sources: [
      answers,
      watches(SLMModel),
      watches(SLMNodeCache, modelsOfCache),
      watches(SLMDeployment, modelOfDeployment, { predicate: placementChanged }),
      watches(ReplicaSet, modelOfSet, { labelSelector: managedSelector }),
      watches(Node, everyModel, { predicate: nodeMatters }),
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

/** Models that a node is to hold, or holds an entry of. */
function modelsOfCache({ spec }: NodeCache): string[] {
  return [...new Set((spec?.wanted ?? []).flatMap(({ models }) => models))];
}

function modelOfDeployment(deployment: Deployment): string {
  return makeKey(deployment.metadata.namespace, modelNameOf(deployment));
}

function modelOfSet(set: ObjectOf<typeof ReplicaSet>): string | undefined {
  const model = set.metadata?.labels?.[labels.model];
  return model === undefined ? undefined : makeKey(set.metadata?.namespace, model);
}

function placementChanged(event: StoreEvent<Deployment>): boolean {
  return event.type !== 'update' || event.previous.metadata.generation !== event.object.metadata.generation;
}

/** Labels, taints, cordon and readiness decide which nodes count; the rest of a Node changes every few seconds. */
function nodeMatters(event: StoreEvent<ObjectOf<typeof Node>>): boolean {
  return event.type !== 'update' || JSON.stringify(nodeView(event.previous)) !== JSON.stringify(nodeView(event.object));
}
