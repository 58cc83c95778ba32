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
  /** Whether a ReplicaSet of the namespace uses the digest. */
  readonly isUsed: (namespace: string, digest: string) => boolean;
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
  const bound = new Set(
    input.pods.filter((pod) => pod.node === node.name).map(({ namespace, digest }) => `${namespace} ${digest}`),
  );
  const facts = factsOf(cache);
  const wanted = new Map<string, Draft>();
  for (const demand of input.demands) {
    const { namespace, model } = demand;
    for (const digest of digestsOn(demand, node, facts, (candidate) => bound.has(`${namespace} ${candidate}`))) {
      const found = demand.files.get(digest);
      if (found !== undefined) add(wanted, { digest, ...found, models: [model], namespaces: [namespace] });
    }
  }
  for (const entry of cache?.spec?.wanted ?? []) {
    const kept = stillUsed(input, entry, bound);
    if (kept !== undefined) add(wanted, kept);
  }
  return [...wanted.values()]
    .sort((a, b) => (a.digest < b.digest ? -1 : 1))
    .slice(0, MAX_WANTED)
    .map(finish);
}

/**
 * An entry whose model is gone (deleted, or it no longer lists the revision) stays for the namespaces where something still runs on
 * it: deleting a model must not take the weights away from under a serving pod. Its files are known from the entry alone.
 */
function stillUsed(
  { isKnown, isUsed }: WantedInput,
  entry: WantedModel,
  bound: ReadonlySet<string>,
): WantedModel | undefined {
  const { digest } = entry;
  const namespaces = entry.namespaces.filter(
    (namespace) => !isKnown(namespace, digest) && (isUsed(namespace, digest) || bound.has(`${namespace} ${digest}`)),
  );
  if (namespaces.length === 0) return undefined;
  const models = entry.models.filter((model) => namespaces.includes(model.slice(0, model.indexOf('/'))));
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

function finish({ digest, size, files, sources, models, namespaces }: Draft): WantedModel {
  return {
    digest,
    size,
    files,
    sources: [...sources]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .slice(0, MAX_SOURCES)
      .map(([, source]) => source),
    models: [...models].sort().slice(0, MAX_MODELS),
    namespaces: [...namespaces].sort().slice(0, MAX_NAMESPACES),
  };
}
