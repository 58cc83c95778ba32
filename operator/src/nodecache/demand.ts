/**
 * What one model's bytes are wanted for, whichever node it is about: its deployments' kinds of hardware, its prePull, and the
 * ReplicaSets that run on its revisions. Computed once a change, asked by every node. Pure.
 */
import {
  digestsOf,
  type ModelRevision,
  type ModelSource,
  type SLMDeployment,
  type SLMModel,
  type SLMNodeCache,
  type WantedModel,
} from '@slm-operator/crds';
import { modelKeyOf } from '../deployment/names.ts';
import { isEligible } from '../deployment/node-match.ts';
import { stableJson } from '../deployment/revision.ts';
import type { NodeStock } from '../hardware/node-hardware.ts';
import { keyOf } from '../kube/resource.ts';
import { modelAt, soughtRevision } from '../model/history.ts';
import { latestOf } from '../model/parts.ts';
import { type NamespaceLabels, sharingOf } from '../model/sharing.ts';
import { type Place, standingOn } from './places.ts';
import { modelOfUse, type RevisionUse } from './views.ts';

/** Which of a model's files which hardware computes. */
export interface FileChoice {
  /**
   * Where pods of a deployment may run, fallbacks among them, and what they mount there. `images` are variants of the server image
   * that it has besides the operator's.
   */
  readonly placesOf: (
    deployment: SLMDeployment,
    model: SLMModel,
    revision: ModelRevision,
    images: readonly string[],
  ) => readonly Place[];
  /** Digests for the hardware that a node has, used or not. */
  readonly filesFor: (revision: ModelRevision, model: SLMModel, node: NodeStock) => readonly string[];
  /** Whether nodes of a deployment that serves an older revision may pull the new one already. Default: yes. */
  readonly mayPull?: ((deployment: SLMDeployment) => boolean) | undefined;
}

/** What a node needs to pull one of the files lists of a revision. */
export interface DemandedFiles {
  readonly size: number;
  readonly files: WantedModel['files'];
  readonly sources: readonly ModelSource[];
}

export interface Demand {
  /** `namespace/name` of the model. */
  readonly model: string;
  readonly namespace: string;
  /** Whose pods may mount the bytes: its own, and those that its owner lets in and that have a deployment of it. Sorted. */
  readonly namespaces: readonly string[];
  readonly policy: 'OnDemand' | 'Nodes' | 'None';
  readonly suspended: boolean;
  /** By digest: all that the model's revisions list. */
  readonly files: ReadonlyMap<string, DemandedFiles>;
  /** By digest: where bytes of the latest revision are wanted ahead of use. */
  readonly ahead: ReadonlyMap<string, readonly Place[]>;
  /** By digest: where ReplicaSets may have pods. */
  readonly inUse: ReadonlyMap<string, readonly Place[]>;
  /** Whether a deployment serves the model. */
  readonly hasUsers: boolean;
  /** Equal for demands that every node answers in the same way. */
  readonly signature: string;
}

export interface DemandInput {
  readonly model: SLMModel;
  /** Those that do not use the model are passed over. */
  readonly deployments: readonly SLMDeployment[];
  /** Those of other models are passed over. */
  readonly uses: readonly RevisionUse[];
  readonly choice: FileChoice;
  /** For models that are shared by label. Default: no labels are known. */
  readonly labelsOf?: NamespaceLabels | undefined;
}

interface JudgedInput extends DemandInput {
  readonly isAllowed: (namespace: string) => boolean;
}

/** What is wanted of one model. What runs in a namespace that may not use it (any more) keeps what nodes hold, and wants nothing. */
export function demandOf(given: DemandInput): Demand {
  const { model } = given;
  const { namespace = '', name, uid } = model.metadata;
  const files = new Map<string, DemandedFiles>();
  for (const revision of model.status?.revisions ?? []) {
    for (const list of [revision, ...(revision.variants ?? [])]) {
      const { digest, size, sources } = list;
      if (!files.has(digest)) files.set(digest, { size, files: list.files, sources });
    }
  }
  const policy = model.spec.prePull?.policy ?? 'OnDemand';
  const isAllowed = allowedBy(model, given.labelsOf);
  const users = given.deployments.filter((one) => usesModel(one, model) && isAllowed(one.metadata.namespace));
  const key = `${namespace}/${name}`;
  const uses = given.uses.filter((use) => modelOfUse(use) === key);
  const input = { ...given, uses, isAllowed };
  const latest = latestOf(model.status);
  const ahead = byDigest(latest === undefined ? [] : placesAhead(input, policy, users, latest));
  const inUse = byDigest(placesInUse(input, policy, users));
  const borrowers = [...users.map(({ metadata }) => metadata.namespace ?? ''), ...uses.map((use) => use.namespace)];
  const namespaces = [...new Set([namespace, ...borrowers.filter(isAllowed)])].sort();
  const suspended = model.spec.suspend === true;
  const hasUsers = users.length > 0;
  const signature = stableJson([
    [uid, policy, suspended, hasUsers, namespaces],
    [...files].map(([digest, { sources }]) => [digest, sources]),
    [...ahead].map(([digest, places]) => [digest, places.map(({ key }) => key)]),
    [...inUse].map(([digest, places]) => [digest, places.map(({ key }) => key)]),
  ]);
  return { model: key, namespace, namespaces, policy, suspended, files, ahead, inUse, hasUsers, signature };
}

/** Whether a deployment serves this model, by reference or because the model was made for it. */
export function usesModel(deployment: SLMDeployment, model: SLMModel): boolean {
  return modelKeyOf(deployment) === keyOf(model) && deployment.metadata.deletionTimestamp === undefined;
}

/** Whether a namespace may use the model; each is asked about once. */
export function allowedBy(model: SLMModel, labelsOf: NamespaceLabels = () => undefined) {
  const known = new Map<string, boolean>();
  return (namespace = ''): boolean => {
    let isAllowed = known.get(namespace);
    if (isAllowed === undefined) {
      isAllowed = sharingOf(model, namespace, labelsOf) === 'allowed';
      known.set(namespace, isAllowed);
    }
    return isAllowed;
  };
}

function placesAhead(
  { model, uses, choice }: JudgedInput,
  policy: Demand['policy'],
  users: readonly SLMDeployment[],
  latest: ModelRevision,
): readonly Place[] {
  if (policy === 'None') return [];
  const usesOf = byUser(uses);
  const used = users.flatMap((deployment) => {
    const revision = soughtRevision(deployment, model);
    if (revision === undefined) return [];
    const own = usesOf.get(keyOf(deployment)) ?? [];
    if (isOlder(own, revision) && choice.mayPull?.(deployment) === false) return [];
    const images = own.flatMap((use) => use.images ?? []);
    return choice.placesOf(deployment, modelAt(model, revision), revision, images);
  });
  if (policy === 'OnDemand') return used;
  const { nodeSelector, tolerations } = model.spec.prePull ?? {};
  const { namespace, name } = model.metadata;
  const chosen = stableJson(['nodes', nodeSelector, tolerations]);
  const unused = digestsOf(latest).map(
    (digest): Place => ({
      digest,
      key: `${chosen} ${namespace}/${name} ${latest.name} ${digest}`,
      standing: (node) => {
        if (choice.filesFor(latest, model, node).includes(digest)) return 'yes';
        return isForDevice(latest, digest) ? 'lost' : 'no';
      },
    }),
  );
  // What deployments use besides: a fallback to processors on a node with a device, say.
  const places = [...unused, ...used.map((place) => ({ ...place, key: `${chosen} ${place.key}` }))];
  return places.map((place) => ({
    ...place,
    standing: (node) => (isEligible(node, nodeSelector, tolerations) ? place.standing(node) : 'no'),
  }));
}

/** By `namespace/name` of the deployment. */
function byUser(uses: readonly RevisionUse[]): ReadonlyMap<string, readonly RevisionUse[]> {
  const found = new Map<string, RevisionUse[]>();
  for (const use of uses) {
    const user = `${use.namespace}/${use.deployment}`;
    const known = found.get(user);
    if (known === undefined) found.set(user, [use]);
    else known.push(use);
  }
  return found;
}

/** Whether a deployment that uses these serves something, and nothing of this revision. */
function isOlder(own: readonly RevisionUse[], revision: ModelRevision): boolean {
  if (own.length === 0) return false;
  const digests = digestsOf(revision);
  return !own.some(({ digest }) => digests.includes(digest));
}

/** Whether a file is for devices alone, which come and go with their plugins; processors stay. */
function isForDevice({ digest: own, variants = [] }: ModelRevision, digest: string): boolean {
  const lists = variants.filter((variant) => variant.digest === digest);
  return digest !== own && lists.every(({ accelerators }) => !accelerators.includes('cpu'));
}

function placesInUse(
  { model, uses, isAllowed }: JudgedInput,
  policy: Demand['policy'],
  users: readonly SLMDeployment[],
): Place[] {
  const sought = new Set(users.flatMap((deployment) => soughtRevision(deployment, model) ?? []));
  const coming = new Set([...sought].flatMap(digestsOf));
  return uses.map((use) => {
    // Where pods of what is sought may come is what `ahead` says; what they have is not taken away.
    const keepsOnly = (policy === 'OnDemand' && coming.has(use.digest)) || !isAllowed(use.namespace);
    const { digest, nodeSelector, tolerations, requests, claims } = use;
    return {
      digest,
      key: stableJson(['use', nodeSelector, tolerations, requests, claims, keepsOnly]),
      standing: (node) => {
        if (!isEligible(node, nodeSelector, tolerations)) return 'no';
        // Which node has a claimed device only its driver knows.
        return keepsOnly || claims || !hasRoom(node, requests) ? 'lost' : 'yes';
      },
    };
  });
}

/** Whether an empty node could hold such a pod. A node that does not say what it has counts as large, but not as having devices. */
function hasRoom({ allocatable }: NodeStock, requests: RevisionUse['requests']): boolean {
  return Object.entries(requests).every(([name, amount]) => {
    const own = allocatable[name];
    return own === undefined ? !name.includes('/') || amount === 0 : own >= amount;
  });
}

/** Each kind of place once, in an order that does not depend on who asks first. */
function byDigest(places: readonly Place[]): ReadonlyMap<string, readonly Place[]> {
  const sorted = places.toSorted((a, b) => (a.key < b.key ? -1 : 1));
  const found = new Map<string, Map<string, Place>>();
  for (const place of sorted) {
    const known = found.get(place.digest) ?? new Map<string, Place>();
    if (!known.has(place.key)) known.set(place.key, place);
    found.set(place.digest, known);
  }
  const entries = [...found].sort(([a], [b]) => (a < b ? -1 : 1));
  return new Map(entries.map(([digest, known]) => [digest, [...known.values()]]));
}

/** What a node's object says of a digest, looked up rather than searched for. */
export interface CacheFacts {
  /** By digest: models that the node is to hold it for. */
  readonly listed: ReadonlyMap<string, ReadonlySet<string>>;
  /** Digests that are there, whole and verified. */
  readonly held: ReadonlySet<string>;
}

const nothing: CacheFacts = { listed: new Map(), held: new Set() };
const factsOfCaches = new WeakMap<SLMNodeCache, CacheFacts>();

/** The facts of a node's object; remembered, since all models ask. */
export function factsOf(cache: SLMNodeCache | undefined): CacheFacts {
  if (cache === undefined) return nothing;
  let facts = factsOfCaches.get(cache);
  if (facts === undefined) {
    const entries = cache.status?.entries ?? [];
    facts = {
      listed: new Map((cache.spec?.wanted ?? []).map(({ digest, models }) => [digest, new Set(models)])),
      held: new Set(
        entries.filter(({ state }) => state === 'Ready' || state === 'Evicting').map(({ digest }) => digest),
      ),
    };
    factsOfCaches.set(cache, facts);
  }
  return facts;
}

/** Digests of the model that the node is to hold ahead of use: of the latest revision, by what its prePull says. */
export function digestsAhead(demand: Demand, node: NodeStock, facts: CacheFacts): string[] {
  if (demand.suspended || node.deleted) return [];
  return [...demand.ahead].flatMap(([digest, places]) =>
    isUsable(places, digest, demand, node, facts) ? [digest] : [],
  );
}

/** All digests of the model that the node is to hold. `isBound` tells whether a pod of the namespace on the node mounts one. */
export function digestsOn(
  demand: Demand,
  node: NodeStock,
  facts: CacheFacts,
  isBound: (digest: string) => boolean,
): string[] {
  const wanted: string[] = [];
  for (const digest of demand.files.keys()) {
    if (demand.suspended ? facts.held.has(digest) : isWanted(digest, demand, node, facts, isBound)) wanted.push(digest);
  }
  return wanted;
}

function isWanted(
  digest: string,
  demand: Demand,
  node: NodeStock,
  facts: CacheFacts,
  isBound: (digest: string) => boolean,
): boolean {
  const { policy, ahead, inUse, model } = demand;
  if (isBound(digest)) return true;
  if (policy === 'None') return inUse.has(digest) && isListed(facts, model, digest);
  return (
    isUsable(ahead.get(digest) ?? [], digest, demand, node, facts) ||
    isUsable(inUse.get(digest) ?? [], digest, demand, node, facts)
  );
}

/** A cordoned node, and one whose device is lost, get nothing new and lose nothing. */
function isUsable(
  places: readonly Place[],
  digest: string,
  { model }: Demand,
  node: NodeStock,
  facts: CacheFacts,
): boolean {
  let lost = false;
  for (const place of places) {
    const standing = standingOn(place, node);
    if (standing === 'yes') return !node.cordoned || isListed(facts, model, digest) || facts.held.has(digest);
    lost ||= standing === 'lost';
  }
  return lost && facts.held.has(digest) && isListed(facts, model, digest);
}

/** Whether the node is to hold it already, for this very model. */
export function isListed({ listed }: CacheFacts, model: string, digest: string): boolean {
  return listed.get(digest)?.has(model) ?? false;
}
