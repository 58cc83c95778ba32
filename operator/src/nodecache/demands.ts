/**
 * What is wanted of every model, kept as long as it holds: a change of one model, deployment or ReplicaSet computes that model anew and
 * tells which nodes it matters to. Owns the cached demands and the indexes behind them; writes nothing.
 */
import type { SLMDeployment as Deployment, SLMModel as Model, SLMNodeCache as NodeCache } from '@slm-operator/crds';
import { labels } from '@slm-operator/crds';
import { borrowerOf, borrowerOfSet, modelKeyOf, modelKeyOfSet } from '../deployment/names.ts';
import type { NodeStock } from '../hardware/node-hardware.ts';
import { keyOf, makeKey, type ObjectOf, type ReplicaSet } from '../kube/resource.ts';
import { revisionsAsked } from '../model/history.ts';
import type { NamespaceLabels } from '../model/sharing.ts';
import type { Store } from '../runtime/store.ts';
import { type Demand, demandOf, type FileChoice } from './demand.ts';
import { standingOn } from './places.ts';
import type { NodeShelf } from './shelf.ts';
import { type RevisionUse, revisionUse, useOfSet } from './views.ts';

type SetObject = ObjectOf<typeof ReplicaSet>;

export interface DemandsOptions {
  readonly models: Store<Model>;
  readonly deployments: Store<Deployment>;
  readonly sets: Store<SetObject>;
  readonly caches: Store<NodeCache>;
  readonly shelf: NodeShelf;
  readonly choice: FileChoice;
  /** For models that are shared by label. */
  readonly labelsOf?: NamespaceLabels | undefined;
}

export interface Demands {
  /** Of every model that there is. */
  all(): readonly Demand[];
  /** Computes a model's demand anew and answers the nodes that may have to hold something else now. */
  changed(model: string): string[];
  /** Forgets everything: the kinds of nodes have changed, and with them what deployments can run on. */
  clear(): void;
  /** Whether a model of the namespace lists the digest. */
  isKnown(namespace: string, digest: string): boolean;
  /** Whether a model, by `namespace/name`, lists it. */
  lists(model: string, digest: string): boolean;
  /** Models, as `namespace/name`, that ReplicaSets of the namespace use the digest of. */
  usedOf(namespace: string, digest: string): readonly string[];
  /** Models of other namespaces that this one has deployments or ReplicaSets of. */
  borrowedBy(namespace: string): ReadonlySet<string>;
}

/** Names of the indexes; their functions are one for the whole process, as stores want it. */
const BY_MODEL = 'nodecache.model';
const BY_DIGEST = 'nodecache.digest';
const BY_LISTED = 'nodecache.listed';
const BY_BORROWER = 'nodecache.borrower';

function digestOfSet(set: SetObject): string | undefined {
  const use = revisionUse(set);
  return use === undefined ? undefined : `${use.namespace} ${use.digest}`;
}

function digestsOfModel(model: Model): string[] {
  const { namespace } = model.metadata;
  const lists = (model.status?.revisions ?? []).flatMap((revision) => [revision, ...(revision.variants ?? [])]);
  return lists.map(({ digest }) => `${namespace} ${digest}`);
}

function modelsListed({ spec }: NodeCache): string[] {
  return [...new Set((spec?.wanted ?? []).flatMap(({ models }) => models))];
}

export function makeDemands(options: DemandsOptions): Demands {
  const { models, deployments, sets, caches, shelf, choice, labelsOf } = options;
  deployments.addIndex(BY_MODEL, modelKeyOf);
  deployments.addIndex(BY_BORROWER, borrowerOf);
  sets.addIndex(BY_MODEL, modelKeyOfSet);
  sets.addIndex(BY_BORROWER, borrowerOfSet);
  sets.addIndex(BY_DIGEST, digestOfSet);
  models.addIndex(BY_DIGEST, digestsOfModel);
  caches.addIndex(BY_LISTED, modelsListed);
  const known = new Map<string, Demand>();
  /** As nodes were last woken for it: a node that looks on its own may work a demand out before the others are told. */
  const told = new Map<string, Demand>();

  const compute = (key: string): Demand | undefined => {
    const model = models.get(key);
    if (model === undefined) {
      known.delete(key);
      return undefined;
    }
    const uses = sets.byIndex(BY_MODEL, key).flatMap((set) => revisionUse(set) ?? useAgain(set, deployments) ?? []);
    const demand = demandOf({ model, deployments: deployments.byIndex(BY_MODEL, key), uses, choice, labelsOf });
    known.set(key, demand);
    return demand;
  };
  return {
    all: () =>
      models.list().flatMap((model) => {
        const key = keyOf(model);
        return known.get(key) ?? compute(key) ?? [];
      }),
    changed(key) {
      const before = told.get(key);
      const after = compute(key);
      if (after === undefined) told.delete(key);
      else told.set(key, after);
      // Without a before, nobody knows what nodes were last woken for: what they list is looked at, even when nothing is wanted now.
      if (before !== undefined && before.signature === after?.signature) return [];
      // What is listed may have other ways now, or be wanted by nobody any more.
      const names = new Set(caches.byIndex(BY_LISTED, key).map(({ metadata }) => metadata.name));
      for (const node of shelf.list()) {
        if (!names.has(node.name) && reach(after, node) !== reach(before, node)) names.add(node.name);
      }
      return [...names];
    },
    clear() {
      known.clear();
      told.clear();
    },
    isKnown: (namespace, digest) => models.byIndex(BY_DIGEST, `${namespace} ${digest}`).length > 0,
    lists: (model, digest) => (known.get(model) ?? compute(model))?.files.has(digest) ?? false,
    usedOf: (namespace, digest) =>
      sets.byIndex(BY_DIGEST, `${namespace} ${digest}`).flatMap((set) => modelKeyOfSet(set) ?? []),
    borrowedBy(namespace) {
      const keys = deployments.byIndex(BY_BORROWER, namespace).map((deployment) => modelKeyOf(deployment));
      return new Set([...keys, ...sets.byIndex(BY_BORROWER, namespace).flatMap((set) => modelKeyOfSet(set) ?? [])]);
    },
  };
}

/** What a ReplicaSet of size 0 will use again, because its deployment goes back to its revision. */
function useAgain(set: SetObject, deployments: Store<Deployment>): RevisionUse | undefined {
  const { labels: own = {}, namespace } = set.metadata ?? {};
  const deployment = deployments.get(makeKey(namespace, own[labels.deployment] ?? ''));
  if (deployment === undefined || !revisionsAsked(deployment).has(own[labels.revision] ?? '')) return undefined;
  return useOfSet(set);
}

/** What a demand may bring to a node that holds nothing of it yet. */
function reach(demand: Demand | undefined, node: NodeStock): string {
  if (demand === undefined || demand.suspended) return '';
  const digests = [...demand.ahead, ...(demand.policy === 'None' ? [] : demand.inUse)].flatMap(([digest, places]) =>
    places.some((place) => standingOn(place, node) === 'yes') ? [digest] : [],
  );
  return digests.join();
}
