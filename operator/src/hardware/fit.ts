/**
 * Whether pods of a tier would find a node now, before one is made: by the scheduler's own rules for labels, taints and amounts,
 * and by the device's memory. Owns the verdict on each node; the sentences are `fit-messages.ts`'s. Pure.
 */
import type { Reason, SLMDeployment, Toleration } from '@slm-operator/crds';
import { isSelected, untolerated } from '../deployment/node-match.ts';
import type { Amounts } from './amounts.ts';
import { blockedBy } from './fit-messages.ts';
import { deviceMemory, type NodeStock, presenceOf } from './node-hardware.ts';
import { requestsOfTier, type Tier, tolerationsOf } from './tiers.ts';

export interface Fit {
  /** Pods that could be placed now besides those that are there or meant to be; undefined: the scheduler alone knows. */
  readonly room: number | undefined;
  /** Why there is none, or less than wanted: a sentence that begins with "needs". */
  readonly blocked?: { readonly reason: Reason; readonly message: string } | undefined;
  /** Nodes that could hold such a pod if they were empty, ready and uncordoned: where the tier's files belong. */
  readonly eligible: readonly string[];
  /** Resources of which more would help, for {@link Inventory.interest}; empty when there is room. */
  readonly wants: readonly string[];
  /** Where there is room, if each node takes one pod; see {@link FitInput.taken}. */
  readonly open?: readonly string[] | undefined;
  /** Hash of what the nodes have of it, in 16 hex digits: another one means that another try may end otherwise. */
  readonly inventory: string;
}

export interface FitInput {
  readonly tier: Tier;
  readonly deployment: SLMDeployment;
  /** As seen by this deployment: what was promised to it is not taken off. */
  readonly nodes: readonly NodeStock[];
  /** False where a cluster autoscaler makes nodes for pods that wait: then only the scheduler knows. */
  readonly waitForFit: boolean;
  /** The deployment's own pods on this tier that are meant to be and have no node yet. */
  readonly pending: number;
  /** Each node takes one pod, and these have theirs. Absent: as many as fit. */
  readonly taken?: ReadonlySet<string> | undefined;
  /** Pods that are to be placed; with room for fewer, `blocked` says why. Default 1. */
  readonly wanted?: number | undefined;
}

/** More pods than any deployment has. */
const MOST_ROOM = 1_000_000;

/** Why a node cannot take a pod, what is hardest to change first; `fits` where it can. */
export type Verdict =
  | { readonly kind: 'selector' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'silent'; readonly because: string; readonly lost: boolean }
  | { readonly kind: 'fewDevices'; readonly amount: number }
  | { readonly kind: 'taint'; readonly taint: NodeStock['taints'][number] }
  | { readonly kind: 'deviceMemory'; readonly bytes: number }
  /** The empty node has too little of a resource. */
  | { readonly kind: 'small'; readonly resource: string }
  | { readonly kind: 'notReady' }
  | { readonly kind: 'cordoned' }
  /** Pods have it in use. */
  | { readonly kind: 'busy'; readonly resource: string }
  | { readonly kind: 'fits'; readonly slots: number };

export interface JudgedNode {
  readonly node: NodeStock;
  readonly verdict: Verdict;
}

/** Whether and where there is room for a tier's pods. */
export function fitOf(input: FitInput): Fit {
  const { tier, deployment, nodes, waitForFit, pending, wanted = 1, taken } = input;
  const demand = demandOf(tier, deployment);
  // A pod of high priority makes room for itself; a driver alone knows its devices; an autoscaler makes nodes.
  const mayTell = tier.claim === undefined && deployment.spec.podTemplate?.spec?.priorityClassName === undefined;
  const eligible: string[] = [];
  const open: string[] = [];
  let slots = 0;
  let usable = false;
  let sum = 0;
  let mix = 0;
  for (const node of nodes) {
    if (node.deleted) continue;
    const { lasting, waiting, hash } = standing(node, demand);
    // Sums and not a digest over a list: in whatever order nodes come.
    sum = (sum + hash) >>> 0;
    mix = (mix ^ Math.imul(hash, 0x9e3779b1)) >>> 0;
    if (lasting !== undefined) continue;
    eligible.push(node.name);
    if (waiting !== undefined) continue;
    usable = true;
    if (taken === undefined) slots += slotsOn(node, demand);
    else if (!taken.has(node.name) && (!mayTell || slotsOn(node, demand) > 0)) open.push(node.name);
  }
  const inventory = sum.toString(16).padStart(8, '0') + mix.toString(16).padStart(8, '0');
  const room = Math.max(0, Math.min(taken === undefined ? slots : open.length, MOST_ROOM) - pending);
  if (taken === undefined && (!waitForFit || (!mayTell && usable))) {
    return { room: undefined, eligible, inventory, wants: [] };
  }
  const each = taken === undefined ? {} : { open };
  if (room >= Math.max(1, wanted)) return { room, eligible, inventory, wants: [], ...each };
  const judged = nodes
    .filter((node) => !node.deleted && taken?.has(node.name) !== true)
    .map((node) => ({ node, verdict: soonTaken(judge(node, demand), tier, room) }));
  const { requests } = demand;
  const blocked = blockedBy({ tier, deployment, requests, judged, room });
  return { room, wants: wantsOf(tier, judged), blocked, eligible, inventory, ...each };
}

/** Why a node is none of those that such pods are meant for: labels, taints, or no such device. */
const elsewhere: ReadonlySet<Verdict['kind']> = new Set(['selector', 'taint', 'absent']);

/**
 * Which nodes pods of any of these tiers are meant for, whatever is free on them: one that is too small, not ready or cordoned
 * is among them.
 */
export function nodesFor(
  tiers: readonly Tier[],
  deployment: SLMDeployment,
  nodes: readonly NodeStock[],
): readonly NodeStock[] {
  const demands = tiers.map((tier) => demandOf(tier, deployment));
  const isMeant = (node: NodeStock) =>
    demands.some((demand) => {
      const { lasting } = standing(node, demand);
      return lasting === undefined || !elsewhere.has(lasting.kind);
    });
  return nodes.filter((node) => !node.deleted && isMeant(node));
}

/** What a tier's pods need of a node, worked out once for all nodes. */
interface Demand {
  readonly tier: Tier;
  readonly requests: Amounts;
  readonly entries: readonly (readonly [resource: string, amount: number])[];
  readonly nodeSelector: Readonly<Record<string, string>> | undefined;
  readonly tolerations: readonly Toleration[];
  /** The same text, the same standing of every node. */
  readonly text: string;
}

function demandOf(tier: Tier, deployment: SLMDeployment): Demand {
  const { profile, resource, count, memory } = tier;
  const requests = requestsOfTier(tier);
  const nodeSelector = deployment.spec.podTemplate?.spec?.nodeSelector;
  const tolerations = tolerationsOf(profile, deployment);
  const { nodeLabels, memoryLabel, vendor } = profile;
  const text = JSON.stringify([
    [tier.class, resource, count, memory.device, nodeLabels, memoryLabel, vendor],
    [requests, nodeSelector, tolerations],
  ]);
  const entries = Object.entries(requests).filter(([, amount]) => amount > 0);
  return { tier, requests, entries, nodeSelector, tolerations, text };
}

/** How a node stands to a demand whatever is free on it. */
interface Standing {
  /** Why it never takes such a pod as it is. */
  readonly lasting: Verdict | undefined;
  /** Why it takes no pod at the moment. */
  readonly waiting: Verdict | undefined;
  /** Of what it has, for `inventory`. */
  readonly hash: number;
}

/** By the node's facts and the demand's text: of a thousand deployments most ask for the same. */
const standings = new WeakMap<object, Map<string, Standing>>();
/** Demands that are kept for a node; models are a few, and the rest is worked out again. */
const MOST_STANDINGS = 128;

function standing(node: NodeStock, demand: Demand): Standing {
  if (node.facts === undefined) return standingOf(node, demand);
  let kept = standings.get(node.facts);
  if (kept === undefined) {
    kept = new Map();
    standings.set(node.facts, kept);
  }
  let found = kept.get(demand.text);
  if (found === undefined) {
    if (kept.size >= MOST_STANDINGS) kept.clear();
    found = standingOf(node, demand);
    kept.set(demand.text, found);
  }
  return found;
}

function standingOf(node: NodeStock, demand: Demand): Standing {
  const lasting = lastingVerdict(node, demand);
  const waiting: Verdict | undefined = !node.ready
    ? { kind: 'notReady' }
    : node.cordoned
      ? { kind: 'cordoned' }
      : undefined;
  const { resource } = demand.tier;
  const none = lasting?.kind === 'selector' || lasting?.kind === 'absent';
  const amount = resource === undefined ? '' : (node.allocatable[resource] ?? 0);
  const hash = none ? 0 : hashOf(`${node.name} ${amount} ${lasting?.kind ?? ''}`);
  return { lasting, waiting, hash };
}

function judge(node: NodeStock, demand: Demand): Verdict {
  const { lasting, waiting } = standing(node, demand);
  if (lasting !== undefined) return lasting;
  if (waiting !== undefined) return waiting;
  const slots = slotsOn(node, demand);
  return slots > 0 ? { kind: 'fits', slots } : { kind: 'busy', resource: scarcestOn(node, demand) };
}

function wantsOf({ resource }: Tier, judged: readonly JudgedNode[]): string[] {
  const short = judged.flatMap(({ verdict }) => (verdict.kind === 'busy' ? verdict.resource : []));
  return [...new Set([...(resource === undefined ? ['cpu', 'memory'] : [resource]), ...short])];
}

function lastingVerdict(node: NodeStock, { tier, entries, nodeSelector, tolerations }: Demand): Verdict | undefined {
  const { profile, resource, count } = tier;
  if (!isSelected(node, nodeSelector)) return { kind: 'selector' };
  if (resource !== undefined || profile.nodeLabels.length > 0) {
    const presence = presenceOf(profile, resource, node);
    if (presence.state === 'absent') return { kind: 'absent' };
    if (presence.state === 'silent') {
      return { kind: 'silent', because: presence.because, lost: (node.capacity[resource ?? ''] ?? 0) > 0 };
    }
    if (presence.amount < count) return { kind: 'fewDevices', amount: presence.amount };
  }
  const taint = untolerated(node, tolerations);
  if (taint !== undefined) return { kind: 'taint', taint };
  if (tier.class !== 'cpu') {
    const bytes = deviceMemory(profile, resource, node);
    if (bytes !== undefined && bytes * Math.max(1, count) < tier.memory.device) return { kind: 'deviceMemory', bytes };
  }
  const small = entries.find(([name, amount]) => amount > amountIn(node, node.allocatable, name));
  return small === undefined ? undefined : { kind: 'small', resource: small[0] };
}

/** The deployment takes what there is room for, at once: the sentence tells what is so then, and stays the same. */
function soonTaken(verdict: Verdict, { resource }: Tier, room: number): Verdict {
  return verdict.kind === 'fits' && room > 0 && resource !== undefined ? { kind: 'busy', resource } : verdict;
}

/** How many pods fit into what is free. */
function slotsOn(node: NodeStock, { entries }: Demand): number {
  let slots = MOST_ROOM;
  for (const [name, amount] of entries) {
    const fitting = Math.floor(amountIn(node, node.free, name) / amount);
    if (fitting < slots) slots = fitting;
  }
  return Math.max(0, slots);
}

/** What is short; the device is named before all else. */
function scarcestOn(node: NodeStock, { tier: { resource }, entries }: Demand): string {
  const short = entries.filter(([name, amount]) => amountIn(node, node.free, name) < amount).map(([name]) => name);
  return short.find((name) => name === resource) ?? short[0] ?? '';
}

/** What every node has, so that one which does not say so has simply not reported yet. */
const everywhere: ReadonlySet<string> = new Set(['cpu', 'memory', 'pods', 'ephemeral-storage']);

function amountIn(node: NodeStock, amounts: Amounts, name: string): number {
  if (everywhere.has(name) && node.allocatable[name] === undefined) return Number.MAX_SAFE_INTEGER;
  return amounts[name] ?? 0;
}

/** FNV-1a. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193) >>> 0;
  return hash;
}
