/**
 * Whether pods of a tier would find a node now, before one is made: by the scheduler's own rules for labels, taints and amounts,
 * and by the device's memory. Owns the verdict on each node; the sentences are `fit-messages.ts`'s. Pure.
 */
import { createHash } from 'node:crypto';
import type { Reason, SLMDeployment } from '@slm-operator/crds';
import { isSelected, untolerated } from '../deployment/node-match.ts';
import type { Amounts } from './amounts.ts';
import { blockedBy } from './fit-messages.ts';
import { deviceMemory, type NodeStock, presenceOf } from './node-hardware.ts';
import { requestsOfTier, type Tier, tolerationsOf } from './tiers.ts';

export interface Fit {
  /** Pods that could be placed now besides those that are there or meant to be; undefined: the scheduler alone knows. */
  readonly room: number | undefined;
  /** Why there is none: a sentence that begins with "needs". */
  readonly blocked?: { readonly reason: Reason; readonly message: string } | undefined;
  /** Nodes that could hold such a pod if they were empty, ready and uncordoned: where the tier's files belong. */
  readonly eligible: readonly string[];
  /** Resources of which more would help, for {@link Inventory.interest}; empty when there is room. */
  readonly wants: readonly string[];
  /** Hash of what the nodes have of it, in 12 hex digits: another one means that another try may end otherwise. */
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
  const { tier, deployment, nodes, waitForFit, pending } = input;
  const requests = requestsOfTier(tier);
  const judged: JudgedNode[] = [];
  const eligible: string[] = [];
  let slots = 0;
  for (const node of nodes) {
    if (node.deleted) continue;
    const verdict = judge(node, tier, deployment, requests);
    judged.push({ node, verdict });
    if (isLasting(verdict)) continue;
    eligible.push(node.name);
    if (verdict.kind === 'fits') slots += verdict.slots;
  }
  const room = Math.max(0, Math.min(slots, MOST_ROOM) - pending);
  const inventory = inventoryOf(tier, judged);
  // A pod of high priority makes room for itself; a driver alone knows its devices; an autoscaler makes nodes.
  const unknown =
    !waitForFit ||
    ((tier.claim !== undefined || deployment.spec.podTemplate?.spec?.priorityClassName !== undefined) &&
      judged.some(({ verdict }) => verdict.kind === 'fits' || verdict.kind === 'busy'));
  if (unknown) return { room: undefined, eligible, inventory, wants: [] };
  if (room > 0) return { room, eligible, inventory, wants: [] };
  const wants = wantsOf(tier, judged);
  return { room, wants, blocked: blockedBy({ tier, deployment, requests, judged }), eligible, inventory };
}

function wantsOf({ resource }: Tier, judged: readonly JudgedNode[]): string[] {
  const short = judged.flatMap(({ verdict }) => (verdict.kind === 'busy' ? verdict.resource : []));
  return [...new Set([...(resource === undefined ? ['cpu', 'memory'] : [resource]), ...short])];
}

/** True when neither time nor other pods' end helps. */
function isLasting({ kind }: Verdict): boolean {
  return kind !== 'fits' && kind !== 'busy' && kind !== 'notReady' && kind !== 'cordoned';
}

function judge(node: NodeStock, tier: Tier, deployment: SLMDeployment, requests: Amounts): Verdict {
  const { profile, resource, count } = tier;
  const settings = deployment.spec.podTemplate?.spec;
  if (!isSelected(node, settings?.nodeSelector)) return { kind: 'selector' };
  if (resource !== undefined || profile.nodeLabels.length > 0) {
    const presence = presenceOf(profile, resource, node);
    if (presence.state === 'absent') return { kind: 'absent' };
    if (presence.state === 'silent') {
      return { kind: 'silent', because: presence.because, lost: (node.capacity[resource ?? ''] ?? 0) > 0 };
    }
    if (presence.amount < count) return { kind: 'fewDevices', amount: presence.amount };
  }
  const taint = untolerated(node, tolerationsOf(profile, deployment));
  if (taint !== undefined) return { kind: 'taint', taint };
  if (tier.class !== 'cpu') {
    const bytes = deviceMemory(profile, resource, node);
    if (bytes !== undefined && bytes * Math.max(1, count) < tier.memory.device) return { kind: 'deviceMemory', bytes };
  }
  for (const [name, amount] of Object.entries(requests)) {
    if (amount > amountIn(node, node.allocatable, name)) return { kind: 'small', resource: name };
  }
  if (!node.ready) return { kind: 'notReady' };
  if (node.cordoned) return { kind: 'cordoned' };
  return slotsOn(node, tier, requests);
}

/** How many pods fit into what is free; the device is named before all else that is short. */
function slotsOn(node: NodeStock, { resource }: Tier, requests: Amounts): Verdict {
  let slots = Number.MAX_SAFE_INTEGER;
  let scarcest = '';
  for (const [name, amount] of Object.entries(requests)) {
    if (amount === 0) continue;
    const fitting = Math.max(0, Math.floor(amountIn(node, node.free, name) / amount));
    if (fitting < slots || (fitting === slots && name === resource)) {
      slots = fitting;
      scarcest = name;
    }
  }
  return slots > 0 ? { kind: 'fits', slots } : { kind: 'busy', resource: scarcest };
}

/** What every node has, so that one which does not say so has simply not reported yet. */
const everywhere: ReadonlySet<string> = new Set(['cpu', 'memory', 'pods', 'ephemeral-storage']);

function amountIn(node: NodeStock, amounts: Amounts, name: string): number {
  if (everywhere.has(name) && node.allocatable[name] === undefined) return Number.MAX_SAFE_INTEGER;
  return amounts[name] ?? 0;
}

/** What would make another try end otherwise: nodes that have the device, and how much of it. */
function inventoryOf(tier: Tier, judged: readonly JudgedNode[]): string {
  const { resource } = tier;
  const lines = judged
    .filter(({ verdict }) => verdict.kind !== 'selector' && verdict.kind !== 'absent')
    .map(({ node, verdict }) =>
      [
        node.name,
        resource === undefined ? '' : (node.allocatable[resource] ?? 0),
        isLasting(verdict) ? verdict.kind : '',
      ].join(' '),
    )
    .sort();
  return createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 12);
}
