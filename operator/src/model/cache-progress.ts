/** Folds what the nodes report about the files of one revision into counts, bytes and sentences. Pure. */
import {
  type CacheEntry,
  type ModelFailure,
  type Reason,
  reasons,
  type SLMModelStatus,
  type SLMNodeCache,
} from '@slm-operator/crds';
import type { NodeView } from '../deployment/node-match.ts';
import { formatBytes, formatDuration, listOf, shorten } from '../deployment/text.ts';

const MAX_FAILURES = 32;

type NodeState = 'ready' | 'pulling' | 'queued' | 'failed' | 'silent' | 'away';

/** A node, and which lists of files it is to hold: the model's own, a variant, or several of them. */
export interface PullTarget {
  readonly node: NodeView;
  /** At least one. */
  readonly pulls: readonly { readonly digest: string; readonly size: number }[];
}

/** One node that is to hold bytes of the revision. */
interface NodeProgress {
  readonly node: string;
  /** silent: its agent never reported; away: the Node is not ready, so that what it reported may be old. */
  readonly state: NodeState;
  /** Of what is furthest from being there. */
  readonly entry: CacheEntry | undefined;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly bytesPerSecond: number;
  /** Until all that is being pulled is there; undefined where a rate is not known. */
  readonly secondsLeft: number | undefined;
}

/** Where a revision stands on all nodes that are to hold something of it. */
export interface CacheProgress {
  readonly cache: NonNullable<SLMModelStatus['cache']>;
  readonly failures: readonly ModelFailure[];
  /** Whether every node holds it; true also when no node is to. */
  readonly complete: boolean;
  /** Whether every node that lacks it has failed for good. */
  readonly stuck: boolean;
  /** Why it is not complete. */
  readonly reason: Reason;
  /** How far it is, for people. */
  readonly message: string;
}

/** `targets` are the nodes that are to hold something of the revision, each once. */
export function foldCaches(
  targets: readonly PullTarget[],
  caches: Pick<ReadonlyMap<string, SLMNodeCache>, 'get'>,
): CacheProgress {
  const states = targets.map((target) => progressOn(target, caches.get(target.node.name)));
  const count = (...wanted: NodeState[]) => states.filter(({ state }) => wanted.includes(state)).length;
  const ready = count('ready');
  const complete = ready === states.length;
  const sum = (field: 'bytesTotal' | 'bytesDone' | 'bytesPerSecond') =>
    states.reduce((total, state) => total + state[field], 0);
  const bytesTotal = sum('bytesTotal');
  const bytesDone = sum('bytesDone');
  const bytesPerSecond = sum('bytesPerSecond');
  const pulling = states.filter(({ state }) => state === 'pulling');
  const left = pulling.map(({ secondsLeft: seconds }) => seconds);
  const known = left.filter((value) => value !== undefined);
  const secondsLeftAll = known.length > 0 && known.length === left.length ? Math.max(...known) : undefined;
  // 100 is said only when it is true: the last bytes may still be verified, and may turn out to be wrong.
  const percent = complete ? 100 : Math.min(99, Math.floor((bytesDone / Math.max(1, bytesTotal)) * 100));
  const failed = states.filter(({ state }) => state === 'failed');
  const cache = {
    desiredNodes: states.length,
    readyNodes: ready,
    downloadingNodes: pulling.length,
    failedNodes: failed.length,
    bytesDone,
    bytesTotal,
    percent: states.length === 0 ? 0 : percent,
    bytesPerSecond,
    ...(secondsLeftAll === undefined ? {} : { secondsLeft: secondsLeftAll }),
    nodes: `${ready}/${states.length}`,
    progress: states.length === 0 ? '' : columnText(percent, bytesPerSecond, secondsLeftAll),
  };
  const missing = states.filter(({ state }) => state !== 'ready');
  return {
    cache,
    failures: failed.slice(0, MAX_FAILURES).map(failureOf),
    complete,
    stuck: missing.length > 0 && missing.every(isFinal),
    reason: reasonOf(missing),
    message: sentence(cache, missing),
  };
}

/** The reason as a member of the closed union; what an agent of another release says may be none. */
export function knownReason(reason: string | undefined): Reason {
  return reason !== undefined && Object.hasOwn(reasons, reason) ? (reason as Reason) : 'PullFailed';
}

/** What stands in the way comes first: a node that pulls one file and has another is pulling. */
const ORDER: readonly NodeState[] = ['away', 'pulling', 'failed', 'silent', 'queued', 'ready'];

function progressOn({ node, pulls }: PullTarget, cache: SLMNodeCache | undefined): NodeProgress {
  const parts = pulls.map(({ digest, size }) => ({ ...stateOn(node, cache, digest), size }));
  const worst = parts.reduce((a, b) => (ORDER.indexOf(b.state) < ORDER.indexOf(a.state) ? b : a));
  const pulling = parts.filter(({ state }) => state === 'pulling');
  const left = pulling.map(({ entry, size }) => secondsLeft(entry, size));
  const known = left.filter((value) => value !== undefined);
  return {
    node: node.name,
    state: worst.state,
    entry: worst.entry,
    bytesDone: parts.reduce((total, part) => total + bytesOn(part), 0),
    bytesTotal: parts.reduce((total, { size }) => total + size, 0),
    bytesPerSecond: pulling.reduce((total, { entry }) => total + (entry?.bytesPerSecond ?? 0), 0),
    secondsLeft: known.length > 0 && known.length === left.length ? Math.max(...known) : undefined,
  };
}

interface PartState {
  readonly state: NodeState;
  readonly entry: CacheEntry | undefined;
}

function stateOn(node: NodeView, cache: SLMNodeCache | undefined, digest: string): PartState {
  const entry = cache?.status?.entries?.find((candidate) => candidate.digest === digest);
  const state = ((): NodeState => {
    // Evicting: it is there, and wanted again; the agent will say Ready.
    if (entry?.state === 'Ready' || entry?.state === 'Evicting') return 'ready';
    if (!node.ready) return 'away';
    if (entry?.state === 'Failed') return 'failed';
    if (entry?.state === 'Downloading' || entry?.state === 'Verifying') return 'pulling';
    return cache?.status?.observedGeneration === undefined ? 'silent' : 'queued';
  })();
  return { state, entry };
}

function bytesOn({ state, entry, size }: PartState & { readonly size: number }): number {
  return state === 'ready' ? size : Math.min(entry?.bytesDone ?? 0, size);
}

function secondsLeft(entry: CacheEntry | undefined, size: number): number | undefined {
  const rate = entry?.bytesPerSecond ?? 0;
  return rate <= 0 ? undefined : Math.ceil(Math.max(0, size - (entry?.bytesDone ?? 0)) / rate);
}

/** Wrong bytes stay wrong, however often an agent looks whether the server has others by now. */
function isFinal({ state, entry }: NodeProgress): boolean {
  if (state !== 'failed' || entry?.error === undefined) return false;
  return entry.error.nextRetry === undefined || entry.error.reason === 'DigestMismatch';
}

function failureOf({ node, entry }: NodeProgress): ModelFailure {
  const error = entry?.error;
  return {
    node,
    reason: knownReason(error?.reason),
    message: shorten(error?.message ?? 'the pull failed, and the agent does not say why', 1024),
    attempts: error?.attempts ?? 0,
    ...(error?.nextRetry === undefined ? {} : { nextRetryTime: error.nextRetry }),
  };
}

function columnText(percent: number, bytesPerSecond: number, secondsLeftAll: number | undefined): string {
  const rate = bytesPerSecond > 0 ? ` ${formatBytes(bytesPerSecond)}/s` : '';
  const time = secondsLeftAll === undefined ? '' : ` ${formatDuration(secondsLeftAll).replaceAll(' ', '')}`;
  return `${percent}%${rate}${time}`;
}

/** The work that goes on comes before what is wrong: as long as something moves, that is the news. */
function reasonOf(missing: readonly NodeProgress[]): Reason {
  const first = (state: NodeState) => missing.find((candidate) => candidate.state === state);
  if (first('pulling') !== undefined) return 'Downloading';
  const failed = first('failed');
  if (failed !== undefined) return knownReason(failed.entry?.error?.reason);
  if (first('queued') !== undefined) return 'Queued';
  return missing.length > 0 ? 'AgentNotReady' : 'Cached';
}

function sentence(cache: NonNullable<SLMModelStatus['cache']>, missing: readonly NodeProgress[]): string {
  const { desiredNodes, readyNodes, bytesTotal, percent } = cache;
  const nodes = desiredNodes === 1 ? '1 node' : `${desiredNodes} nodes`;
  if (missing.length === 0) return desiredNodes === 1 ? '1 node holds it' : `${nodes} hold it`;
  const rate = cache.bytesPerSecond > 0 ? `, ${formatBytes(cache.bytesPerSecond)}/s` : '';
  const time = cache.secondsLeft === undefined ? '' : `, ${formatDuration(cache.secondsLeft)} left`;
  const amount = `${percent}% of ${formatBytes(bytesTotal)}`;
  const parts = [
    desiredNodes === 1
      ? `${amount} on 1 node${rate}${time}`
      : `${readyNodes} of ${nodes} ${readyNodes === 1 ? 'holds' : 'hold'} it; ${amount}${rate}${time}`,
  ];
  const named = (state: NodeState) => missing.filter((candidate) => candidate.state === state).map(({ node }) => node);
  const away = named('away');
  const silent = named('silent');
  if (away.length > 0) parts.push(`not ready: ${listOf(away)}`);
  if (silent.length > 0)
    parts.push(`no report from the node agent on ${listOf(silent)}; see the slm-operator-agent pods there`);
  const failed = missing.filter(({ state }) => state === 'failed');
  const [first] = failed;
  if (first !== undefined) {
    const more = failed.length === 1 ? '' : ` (and ${failed.length - 1} more, see status.failures)`;
    parts.push(`node ${first.node}: ${first.entry?.error?.message ?? 'the pull failed'}${more}`);
  }
  return shorten(parts.join('; '), 2000);
}
