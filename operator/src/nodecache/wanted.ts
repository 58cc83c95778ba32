/**
 * What one node must hold, put together from what is wanted of each model and what runs there. Pure: the same input always gives
 * the same list, in the same order, so that an unchanged cluster costs no write.
 */
import type { ModelSource, SLMNodeCache, WantedModel } from '@slm-operator/crds';
import type { NodeStock } from '../hardware/node-hardware.ts';
import { type Demand, digestsOn, factsOf } from './demand.ts';
import type { BoundPod } from './views.ts';

export interface WantedInput {
  readonly node: NodeStock;
  /** The node's object as it is now; undefined before the first. */
  readonly cache: SLMNodeCache | undefined;
  /** Of every model. */
  readonly demands: Iterable<Demand>;
  /** Whether a model of the namespace lists the digest. */
  readonly isKnown: (namespace: string, digest: string) => boolean;
  /** Whether this model lists it. */
  readonly lists: (model: string, digest: string) => boolean;
  /** Models, as `namespace/name`, that ReplicaSets of the namespace use the digest of. */
  readonly usedOf: (namespace: string, digest: string) => readonly string[];
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
  const { node, cache } = input;
  if (node.deleted) return [];
  const bound = boundTo(input);
  const facts = factsOf(cache);
  const wanted = new Map<string, Draft>();
  for (const demand of input.demands) {
    const { namespaces, model } = demand;
    const isBound = (digest: string) => namespaces.some((namespace) => bound.get(digest)?.has(namespace));
    for (const digest of digestsOn(demand, node, facts, isBound)) {
      const found = demand.files.get(digest);
      if (found !== undefined) add(wanted, { digest, ...found, models: [model], namespaces: [...namespaces] });
    }
  }
  for (const entry of cache?.spec?.wanted ?? []) {
    const kept = stillUsed(input, entry, bound);
    if (kept !== undefined) add(wanted, kept);
  }
  return [...wanted.values()]
    .sort((a, b) => (a.digest < b.digest ? -1 : 1))
    .slice(0, MAX_WANTED)
    .map((draft) => finish(draft, bound));
}

/** By digest and namespace: the models of the pods that mount it on the node, as their volumes call them. */
type Bound = ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>;

function boundTo({ node, pods }: WantedInput): Bound {
  const bound = new Map<string, Map<string, string[]>>();
  for (const pod of pods) {
    if (pod.node !== node.name) continue;
    const namespaces = bound.get(pod.digest) ?? new Map<string, string[]>();
    bound.set(pod.digest, namespaces.set(pod.namespace, [...(namespaces.get(pod.namespace) ?? []), pod.model]));
  }
  return bound;
}

/**
 * An entry whose model is gone (deleted, or it no longer lists the revision) stays for the namespaces where something still runs on
 * it: deleting a model must not take the weights away from under a serving pod. Its files are known from the entry alone. Where a
 * model that something runs on still lists it, that model's demand says who may have it, and not this.
 */
function stillUsed(input: WantedInput, entry: WantedModel, bound: Bound): WantedModel | undefined {
  const { digest } = entry;
  const used = new Set<string>();
  const namespaces = entry.namespaces.filter((namespace) => {
    if (input.isKnown(namespace, digest)) return false;
    const models = [...input.usedOf(namespace, digest), ...(bound.get(digest)?.get(namespace) ?? [])];
    if (models.length === 0 || models.some((model) => input.lists(model, digest))) return false;
    for (const model of models) used.add(model);
    return true;
  });
  if (namespaces.length === 0) return undefined;
  const models = entry.models.filter(
    (model) => used.has(model) || namespaces.includes(model.slice(0, model.indexOf('/'))),
  );
  return { ...entry, namespaces, models };
}

/** One entry for the same bytes, whoever wants them. */
interface Draft {
  readonly digest: string;
  readonly size: number;
  readonly files: WantedModel['files'];
  readonly sources: Map<string, ModelSource>;
  readonly models: Set<string>;
  readonly namespaces: Set<string>;
}

function add(wanted: Map<string, Draft>, entry: Omit<WantedModel, 'sources'> & { sources: readonly ModelSource[] }) {
  const { digest, size, files } = entry;
  let draft = wanted.get(digest);
  if (draft === undefined) {
    draft = { digest, size, files, sources: new Map(), models: new Set(), namespaces: new Set() };
    wanted.set(digest, draft);
  }
  // Sources that need no grant first: they work without the operator.
  for (const source of entry.sources) draft.sources.set(`${source.needsGrant === true ? 1 : 0} ${source.url}`, source);
  for (const model of entry.models) draft.models.add(model);
  for (const namespace of entry.namespaces) draft.namespaces.add(namespace);
}

function finish({ digest, size, files, sources, models, namespaces }: Draft, bound: Bound): WantedModel {
  // Of more than can be listed, those come first that have pods here.
  const here = bound.get(digest);
  const listed = [...namespaces].sort(
    (a, b) => Number(here?.has(b) ?? false) - Number(here?.has(a) ?? false) || (a < b ? -1 : 1),
  );
  return {
    digest,
    size,
    files,
    sources: [...sources]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .slice(0, MAX_SOURCES)
      .map(([, source]) => source),
    models: [...models].sort().slice(0, MAX_MODELS),
    namespaces: listed.slice(0, MAX_NAMESPACES).sort(),
  };
}
