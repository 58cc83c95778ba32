/**
 * Whether a revision may have pods yet: when its bytes are on every node that counts. Pure.
 *
 * A node counts when the pods may run there, it is ready and not cordoned, its agent has reported, and it has not failed for
 * good. So one broken node holds up nobody, and one that is only slow is waited for.
 */
import type { CacheEntry, Reason, SLMDeployment, SLMModel, SLMNodeCache } from '@slm-operator/crds';
import { isEligible, type NodeView } from './node-match.ts';
import { formatBytes, formatDuration, listOf } from './text.ts';

export interface GateInput {
  readonly deployment: SLMDeployment;
  readonly model: SLMModel;
  /** The bytes that the pods serve. */
  readonly bytes: { readonly digest: string; readonly size: number };
  readonly nodes: readonly NodeView[];
  /** Names of those where such pods may run at all. Default: as labels and taints say. */
  readonly eligible?: readonly string[] | undefined;
  readonly caches: CachesByNode;
}

/** Each node's cache by the node's name: a map, or the store itself. */
export type CachesByNode = Pick<ReadonlyMap<string, SLMNodeCache>, 'get'>;

export type Gate =
  | { readonly open: true }
  | {
      readonly open: false;
      readonly reason: Extract<Reason, 'WaitingForBytes' | 'NoMatchingNodes' | 'AgentNotReady' | 'PullFailed'>;
      /** A sentence with the progress in it. */
      readonly why: string;
    };

/** Why pods could let nobody in. */
export type AccessReason = 'APIKeySecretNotFound' | 'TLSSecretNotFound' | 'BrokerNotReady';

export function isAccessReason(reason: Reason): reason is AccessReason {
  return reason === 'APIKeySecretNotFound' || reason === 'TLSSecretNotFound' || reason === 'BrokerNotReady';
}

/** A gate, or what clients' access lacks. */
export type DeploymentGate =
  | Gate
  | { readonly open: false; readonly reason: Extract<Reason, AccessReason>; readonly why: string };

const open: Gate = { open: true };

/** Open, or closed and why. */
export function gateOf(input: GateInput): Gate {
  const { deployment, model, bytes, nodes, caches } = input;
  const prePull = model.spec.prePull;
  // Nobody pulls ahead: the volume of each pod waits for its bytes.
  if (prePull?.policy === 'None') return open;

  const settings = deployment.spec.podTemplate?.spec;
  const known = input.eligible && new Set(input.eligible);
  let eligible = nodes.filter(
    (node) => known?.has(node.name) ?? isEligible(node, settings?.nodeSelector, settings?.tolerations),
  );
  if (eligible.length === 0) return closed('NoMatchingNodes', noMatch(settings?.nodeSelector, nodes.length));
  if (prePull?.policy === 'Nodes') {
    eligible = eligible.filter((node) => isEligible(node, prePull.nodeSelector, prePull.tolerations));
    // The pods run elsewhere than where the model is pulled ahead, which the model's author chose.
    if (eligible.length === 0) return open;
  }

  const usable = eligible.filter((node) => node.ready && !node.cordoned);
  if (usable.length === 0) {
    const names = listOf(eligible.map((node) => node.name));
    return closed('NoMatchingNodes', `no node for the pods is ready and uncordoned: ${names}`);
  }
  const reported = usable.filter((node) => caches.get(node.name)?.status?.observedGeneration !== undefined);
  if (reported.length === 0) {
    const names = listOf(usable.map((node) => node.name));
    return closed(
      'AgentNotReady',
      `the node agent has not reported on ${names}; see the slm-operator-agent pods there`,
    );
  }

  if (reported.every((node) => entryOf(caches.get(node.name), bytes.digest)?.state === 'Ready')) return open;
  const states = reported.map((node) => stateOn(node.name, caches.get(node.name), bytes.digest));
  const counting = states.filter((state) => !state.failedForGood);
  const name = model.metadata.name;
  if (counting.length === 0) {
    const [first] = states;
    return closed('PullFailed', `model ${name}: node ${first?.node}: ${first?.error ?? 'the pull failed'}`);
  }
  if (counting.every((state) => state.ready)) return open;
  const held = model.spec.suspend === true ? '; spec.suspend of the model is true, so nothing is pulled' : '';
  return closed('WaitingForBytes', progress(name, bytes.size, counting) + held);
}

function closed(reason: Exclude<Gate, { open: true }>['reason'], why: string): Gate {
  return { open: false, reason, why };
}

/** Why no node has the labels, or tolerated taints. */
export function noMatch(nodeSelector: Readonly<Record<string, string>> | undefined, nodes: number): string {
  if (nodes === 0) return 'the cluster has no node';
  const labels = Object.entries(nodeSelector ?? {}).map(([key, value]) => `${key}=${value}`);
  return labels.length === 0
    ? 'every node has a taint that podTemplate.spec.tolerations does not tolerate'
    : `no node has the labels of podTemplate.spec.nodeSelector (${labels.join(', ')}) and tolerated taints; label a node or change the selector`;
}

interface NodeState {
  readonly node: string;
  readonly ready: boolean;
  readonly failedForGood: boolean;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly bytesPerSecond: number;
  readonly error: string | undefined;
}

function stateOn(node: string, cache: SLMNodeCache | undefined, digest: string): NodeState {
  const entry = entryOf(cache, digest);
  return {
    node,
    ready: entry?.state === 'Ready',
    failedForGood: entry?.state === 'Failed' && entry.error !== undefined && isForGood(entry.error),
    bytesDone: entry?.bytesDone ?? 0,
    bytesTotal: entry?.bytesTotal ?? 0,
    bytesPerSecond: entry?.bytesPerSecond ?? 0,
    error: entry?.error?.message,
  };
}

/** Objects of stores never change, and each is asked for the digests of many deployments. */
const entriesByDigest = new WeakMap<SLMNodeCache, ReadonlyMap<string, CacheEntry>>();

function entryOf(cache: SLMNodeCache | undefined, digest: string): CacheEntry | undefined {
  if (cache === undefined) return undefined;
  let entries = entriesByDigest.get(cache);
  if (entries === undefined) {
    entries = new Map(cache.status?.entries?.map((entry) => [entry.digest, entry]));
    entriesByDigest.set(cache, entries);
  }
  return entries.get(digest);
}

/** Failures that the node's next try will hardly mend: something else has to change. */
const LASTING: ReadonlySet<string> = new Set<Reason>([
  'DigestMismatch',
  'InsufficientDisk',
  'NotFound',
  'SecretNotFound',
  'SourceInvalid',
  'TLSUntrusted',
  'Unauthorized',
]);
/** Tries in a row after which any other failure counts as lasting too: about ten seconds of backoff. */
const MANY_ATTEMPTS = 4;

function isForGood(error: { reason: string; attempts: number; nextRetry?: string }): boolean {
  return error.nextRetry === undefined || LASTING.has(error.reason) || error.attempts >= MANY_ATTEMPTS;
}

/** For example `model smollm2: 62% of 98 MB on 3 nodes, 12 s left`. */
function progress(name: string, size: number, states: readonly NodeState[]): string {
  const total = states.reduce((bytes, state) => bytes + (state.bytesTotal || size), 0);
  const got = states.reduce((bytes, state) => bytes + Math.min(state.bytesDone, state.bytesTotal || size), 0);
  // 100 is said only when it is true: the last file may still be being verified.
  const percent = total === 0 ? 0 : Math.min(99, Math.floor((got / total) * 100));
  const where = states.length === 1 ? `node ${states[0]?.node}` : `${states.length} nodes`;
  const waiting = states.filter((state) => !state.ready);
  const seconds = waiting.map((state) => secondsLeft(state, size));
  const known = seconds.filter((value) => value !== undefined);
  const left = known.length === waiting.length ? `, ${formatDuration(Math.max(...known))} left` : '';
  const failed = waiting.find((state) => state.error !== undefined);
  const trouble = failed === undefined ? '' : `; node ${failed.node}: ${failed.error}`;
  return `model ${name}: ${percent}% of ${formatBytes(size || (states[0]?.bytesTotal ?? 0))} on ${where}${left}${trouble}`;
}

function secondsLeft(state: NodeState, size: number): number | undefined {
  if (state.bytesPerSecond <= 0) return undefined;
  return Math.ceil(((state.bytesTotal || size) - state.bytesDone) / state.bytesPerSecond);
}
