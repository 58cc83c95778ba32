/**
 * What one node must hold, computed from the models, the deployments and what runs. Pure: the same input always gives the
 * same list, in the same order, so that an unchanged cluster costs no write.
 */
import {
  type ModelRevision,
  type ModelSource,
  type SLMDeployment,
  type SLMModel,
  type SLMNodeCache,
  type WantedModel,
} from '@slm-operator/crds';
import { modelNameOf } from '../deployment/names.ts';
import { isEligible, type NodeView } from '../deployment/node-match.ts';
import type { BoundPod, RevisionUse } from './views.ts';

export interface WantedInput {
  readonly node: NodeView;
  /** The node's object as it is now; undefined before the first. */
  readonly cache: SLMNodeCache | undefined;
  readonly models: readonly SLMModel[];
  readonly deployments: readonly SLMDeployment[];
  readonly uses: readonly RevisionUse[];
  /** Pods of any node; those of other nodes are passed over. */
  readonly pods: readonly BoundPod[];
}

/** Bounds of the schema. */
const MAX_WANTED = 512;
const MAX_MODELS = 64;
const MAX_NAMESPACES = 256;
const MAX_SOURCES = 16;

/** The list for `spec.wanted`, sorted by digest. */
export function wantedFor(input: WantedInput): WantedModel[] {
  if (input.node.deleted) return [];
  const wanted = new Map<string, WantedModel>();
  const known = new Set<string>();
  for (const model of input.models) {
    for (const revision of model.status?.revisions ?? []) {
      known.add(`${model.metadata.namespace} ${revision.digest}`);
      if (isWanted(input, model, revision)) add(wanted, model, revision);
    }
  }
  for (const entry of input.cache?.spec?.wanted ?? []) {
    const kept = stillUsed(input, entry, known);
    if (kept !== undefined) wanted.set(entry.digest, merge(wanted.get(entry.digest), kept));
  }
  return [...wanted.values()].sort((a, b) => (a.digest < b.digest ? -1 : 1)).slice(0, MAX_WANTED);
}

/** Whether `node` is to hold the latest revision of `model` ahead of use: what its prePull says. */
export function isTarget(
  input: Pick<WantedInput, 'node' | 'cache' | 'deployments'>,
  model: SLMModel,
  digest: string,
): boolean {
  const { node, cache } = input;
  const prePull = model.spec.prePull;
  switch (prePull?.policy ?? 'OnDemand') {
    case 'None':
      return false;
    case 'Nodes':
      return isUsable(node, cache, model, digest, prePull?.nodeSelector, prePull?.tolerations);
    default:
      return input.deployments.some((deployment) => {
        if (!usesModel(deployment, model)) return false;
        const settings = deployment.spec.podTemplate?.spec;
        return isUsable(node, cache, model, digest, settings?.nodeSelector, settings?.tolerations);
      });
  }
}

/** Whether a deployment serves this model, by reference or because the model was made for it. */
export function usesModel(deployment: SLMDeployment, model: SLMModel): boolean {
  return (
    deployment.metadata.namespace === model.metadata.namespace &&
    modelNameOf(deployment) === model.metadata.name &&
    deployment.metadata.deletionTimestamp === undefined
  );
}

function isWanted(input: WantedInput, model: SLMModel, revision: ModelRevision): boolean {
  const { digest } = revision;
  if (model.spec.suspend === true) return holds(input.cache, digest);
  if (digest === model.status?.latestRevision?.digest && isTarget(input, model, digest)) return true;
  if (isBoundHere(input, digest, [model.metadata.namespace ?? ''])) return true;
  if (model.spec.prePull?.policy === 'None')
    return isListed(input.cache, model, digest) && uses(input, model, digest).length > 0;
  return uses(input, model, digest).some((use) =>
    isUsable(input.node, input.cache, model, digest, use.nodeSelector, use.tolerations),
  );
}

function uses(input: WantedInput, model: SLMModel, digest: string): RevisionUse[] {
  return input.uses.filter(
    (use) => use.digest === digest && use.namespace === model.metadata.namespace && use.model === model.metadata.name,
  );
}

/** A cordoned node gets nothing new, and loses nothing. */
function isUsable(
  node: NodeView,
  cache: SLMNodeCache | undefined,
  model: SLMModel,
  digest: string,
  ...placement: [Parameters<typeof isEligible>[1], Parameters<typeof isEligible>[2]]
): boolean {
  if (!isEligible(node, ...placement)) return false;
  return !node.cordoned || isListed(cache, model, digest) || holds(cache, digest);
}

/** Whether the node is to hold it already, for this very model. */
function isListed(cache: SLMNodeCache | undefined, { metadata }: SLMModel, digest: string): boolean {
  const key = `${metadata.namespace}/${metadata.name}`;
  return cache?.spec?.wanted?.some((entry) => entry.digest === digest && entry.models.includes(key)) ?? false;
}

function holds(cache: SLMNodeCache | undefined, digest: string): boolean {
  return (
    cache?.status?.entries?.some(
      (entry) => entry.digest === digest && (entry.state === 'Ready' || entry.state === 'Evicting'),
    ) ?? false
  );
}

function isBoundHere(input: WantedInput, digest: string, namespaces: readonly string[]): boolean {
  return input.pods.some(
    (pod) => pod.node === input.node.name && pod.digest === digest && namespaces.includes(pod.namespace),
  );
}

/**
 * An entry whose model is gone (deleted, or it no longer lists the revision) stays for the namespaces where something still runs on
 * it: deleting a model must not take the weights away from under a serving pod. Its files are known from the entry alone.
 */
function stillUsed(input: WantedInput, entry: WantedModel, known: ReadonlySet<string>): WantedModel | undefined {
  const namespaces = entry.namespaces.filter(
    (namespace) =>
      !known.has(`${namespace} ${entry.digest}`) &&
      (input.uses.some((use) => use.digest === entry.digest && use.namespace === namespace) ||
        isBoundHere(input, entry.digest, [namespace])),
  );
  if (namespaces.length === 0) return undefined;
  const models = entry.models.filter((model) => namespaces.includes(model.slice(0, model.indexOf('/'))));
  return { ...entry, namespaces, models };
}

function add(wanted: Map<string, WantedModel>, { metadata }: SLMModel, revision: ModelRevision): void {
  const { digest, size, files, sources } = revision;
  const namespace = metadata.namespace ?? '';
  const entry = { digest, size, files, sources, models: [`${namespace}/${metadata.name}`], namespaces: [namespace] };
  wanted.set(digest, merge(wanted.get(digest), entry));
}

/** One entry for the same bytes, whoever wants them. */
function merge(before: WantedModel | undefined, entry: WantedModel): WantedModel {
  return {
    ...(before ?? entry),
    sources: mergeSources(before?.sources ?? [], entry.sources),
    models: sortedUnion(before?.models, entry.models).slice(0, MAX_MODELS),
    namespaces: sortedUnion(before?.namespaces, entry.namespaces).slice(0, MAX_NAMESPACES),
  };
}

/** Sources that need no grant first: they work without the operator. */
function mergeSources(known: readonly ModelSource[], more: readonly ModelSource[]): ModelSource[] {
  const all = new Map([...known, ...more].map((source) => [`${source.needsGrant ?? false} ${source.url}`, source]));
  const order = (source: ModelSource) => `${source.needsGrant === true ? 1 : 0} ${source.url}`;
  return [...all.values()].sort((a, b) => (order(a) < order(b) ? -1 : 1)).slice(0, MAX_SOURCES);
}

function sortedUnion(values: readonly string[] = [], more: readonly string[]): string[] {
  return [...new Set([...values, ...more])].sort();
}
