/**
 * Why no node takes a pod of a tier, in one sentence that begins with "needs", counts nodes by what each lacks, and ends with what
 * to change. Pure; the verdicts are `fit.ts`'s.
 */
import type { Reason, SLMDeployment } from '@slm-operator/crds';
import { listOf } from '../deployment/text.ts';
import type { Amounts } from './amounts.ts';
import type { JudgedNode, Verdict } from './fit.ts';
import type { NodeStock } from './node-hardware.ts';
import { formatMemory, memoryRemedy } from './remedies.ts';
import type { Tier } from './tiers.ts';

export interface BlockedInput {
  readonly tier: Tier;
  readonly deployment: SLMDeployment;
  readonly requests: Amounts;
  readonly judged: readonly JudgedNode[];
  /** Pods that there is room for. */
  readonly room: number;
}

/** What the nearest nodes lack decides the reason and the advice: from the farthest to the nearest. */
const distance: readonly Verdict['kind'][] = [
  'selector',
  'absent',
  'silent',
  'fewDevices',
  'taint',
  'deviceMemory',
  'small',
  'notReady',
  'cordoned',
  'busy',
  'fits',
];

/** Nodes that lack the same. */
interface Group {
  readonly verdict: Verdict;
  readonly nodes: readonly NodeStock[];
  /** The verdict that says most: of the node with the most memory, and so on. */
  readonly best: Verdict;
}

/** Reason and sentence. */
export function blockedBy(input: BlockedInput): { reason: Reason; message: string } {
  const { tier, judged } = input;
  const groups = groupsOf(judged);
  const nearest = groups.at(-1);
  if (nearest === undefined)
    return { reason: 'NoMatchingNodes', message: `needs ${wanted(input)}; the cluster has no node` };
  const remedy = remedyOf(nearest, input);
  return {
    reason: reasonOf(nearest.best, tier),
    message: `needs ${wanted(input, nearest)}; ${whereOf(groups, nearest, input)}${remedy === undefined ? '' : `: ${remedy}`}`,
  };
}

function reasonOf(verdict: Verdict, { resource, claim }: Tier): Reason {
  const device = resource !== undefined || claim !== undefined;
  switch (verdict.kind) {
    case 'deviceMemory':
      return 'InsufficientDeviceMemory';
    case 'small':
    case 'busy':
      if (verdict.resource === resource) return 'WaitingForDevice';
      return verdict.resource === 'memory' ? 'InsufficientMemory' : 'Unschedulable';
    case 'silent':
      return verdict.lost ? 'DeviceLost' : 'WaitingForDevice';
    case 'taint':
    case 'selector':
      return 'NoMatchingNodes';
    case 'fits':
      return device ? 'WaitingForDevice' : 'Unschedulable';
    default:
      return device ? 'WaitingForDevice' : 'NoMatchingNodes';
  }
}

/** By what they lack, the farthest first. */
function groupsOf(judged: readonly JudgedNode[]): Group[] {
  const groups = new Map<string, JudgedNode[]>();
  for (const item of judged) {
    const key = keyOf(item.verdict);
    const known = groups.get(key);
    if (known === undefined) groups.set(key, [item]);
    else known.push(item);
  }
  return [...groups.values()]
    .map((items) => {
      const [first] = items as [JudgedNode];
      return { verdict: first.verdict, nodes: items.map(({ node }) => node), best: best(items) };
    })
    .toSorted((a, b) => distance.indexOf(a.verdict.kind) - distance.indexOf(b.verdict.kind));
}

function keyOf(verdict: Verdict): string {
  switch (verdict.kind) {
    case 'taint':
      return `taint ${textOf(verdict.taint)}`;
    case 'small':
    case 'busy':
      return `${verdict.kind} ${verdict.resource}`;
    case 'silent':
      return `silent ${verdict.lost}`;
    default:
      return verdict.kind;
  }
}

function best(items: readonly JudgedNode[]): Verdict {
  const [first] = items as [JudgedNode];
  return items.reduce(
    (most, { verdict }) =>
      verdict.kind === 'deviceMemory' && most.kind === 'deviceMemory' && verdict.bytes > most.bytes ? verdict : most,
    first.verdict,
  );
}

/** What a pod needs: the device, and whatever else is short. */
function wanted({ tier, requests }: BlockedInput, nearest?: Group): string {
  const { resource, claim, count, profile } = tier;
  const parts: string[] = [];
  if (resource !== undefined) parts.push(`${count} ${resource}`);
  else if (claim !== undefined) {
    parts.push(
      'templateName' in claim
        ? `a device of claim template ${claim.templateName}`
        : `a device of class ${claim.deviceClasses.join(' or ')}`,
    );
  } else if (profile.nodeLabels.length > 0) parts.push(`a node with label ${profile.nodeLabels.join(' or ')}`);
  const verdict = nearest?.best;
  if (verdict?.kind === 'deviceMemory') {
    return `${parts.join('')} with ${formatMemory(tier.memory.device)}${count > 1 ? ' together' : ''}`;
  }
  const short = verdict?.kind === 'small' || verdict?.kind === 'busy' ? verdict.resource : undefined;
  if (short !== undefined && short !== resource) parts.push(amountText(short, requests[short] ?? 0));
  return parts.length === 0 ? 'a node' : parts.join(' and ');
}

function amountText(resource: string, amount: number): string {
  if (resource === 'memory' || resource === 'ephemeral-storage') return `${formatMemory(amount)} of ${resource}`;
  if (resource === 'cpu') return `${cpus(amount)} ${amount === 1000 ? 'CPU' : 'CPUs'}`;
  if (resource === 'pods') return 'a place for a pod';
  return `${amount} ${resource}`;
}

function cpus(milli: number): string {
  return String(Math.max(0, Math.floor(milli / 100) / 10));
}

/** How it stands on the nodes. */
function whereOf(groups: readonly Group[], nearest: Group, input: BlockedInput): string {
  const total = input.judged.length;
  const { resource } = input.tier;
  if (nearest.verdict.kind === 'absent' && groups.every(({ verdict }) => verdict.kind === 'absent')) {
    return total === 1 ? `the only node, ${nearest.nodes[0]?.name}, has none` : `0 of ${total} nodes have one`;
  }
  const told = groups.filter(({ verdict }) => verdict.kind !== 'absent' && verdict.kind !== 'selector');
  const [only] = told;
  if (only !== undefined && told.length === 1 && only.verdict.kind === 'silent' && only.nodes.length === 1) {
    const [node] = only.nodes;
    const { because, lost } = only.verdict;
    const device = `${article(input.tier.profile.vendor)} device`;
    return lost
      ? `node ${node?.name} has lost its own: its kubelet offers no ${resource} any more`
      : `node ${node?.name} has ${device} (${because}), but its kubelet offers no ${resource}`;
  }
  if (groups.length === 1 && (nearest.verdict.kind === 'busy' || nearest.verdict.kind === 'small')) {
    const short = nearest.verdict.resource;
    if (short === 'memory' || short === 'cpu') return largestText(nearest, short, total);
  }
  const parts = groups.map((group) => partOf(group, input));
  return total === 1
    ? `the only node, ${nearest.nodes[0]?.name}, ${parts[0]?.replace(/^1 /, '').replace(/ \([^()]*\)$/, '')}`
    : `of ${total} nodes ${parts.join(', ')}`;
}

/** `node n1 has 2.2 GiB free`, `the largest node has 4 GiB, of which 1 GiB is free`. */
function largestText(group: Group, resource: string, total: number): string {
  const text = (amount: number) =>
    resource === 'memory' ? formatMemory(amount) : `${cpus(amount)} ${amount === 1000 ? 'CPU' : 'CPUs'}`;
  const name = group.nodes[0]?.name;
  const free = text(most(group, 'free', resource));
  if (group.verdict.kind === 'busy')
    return total === 1 ? `node ${name} has ${free} free` : `the largest free node has ${free}`;
  const all = text(most(group, 'allocatable', resource));
  return `${total === 1 ? `node ${name}` : 'the largest node'} has ${all}${all === free ? '' : `, of which ${free} ${resource === 'memory' ? 'is' : 'are'} free`}`;
}

function article(vendor: string | undefined): string {
  if (vendor === undefined) return 'a';
  return `${/^(a|e|i|o|u|nvidia)/.test(vendor) ? 'an' : 'a'} ${vendor}`;
}

/** The most of a resource on a node of the group. */
function most({ nodes }: Group, of: 'free' | 'allocatable', resource: string): number {
  return Math.max(...nodes.map((node) => node[of][resource] ?? 0));
}

/** `3 have none`. */
function partOf(group: Group, { tier, deployment, room }: BlockedInput): string {
  const { verdict, nodes } = group;
  const count = nodes.length;
  const one = count === 1;
  const have = `${count} ${one ? 'has' : 'have'}`;
  const are = `${count} ${one ? 'is' : 'are'}`;
  const names = `(${listOf(nodes.map(({ name }) => name))})`;
  switch (verdict.kind) {
    case 'selector': {
      const labels = Object.entries(deployment.spec.podTemplate?.spec?.nodeSelector ?? {}).map(
        ([key, value]) => `${key}=${value}`,
      );
      return `${count} ${one ? 'lacks' : 'lack'} the labels of podTemplate.spec.nodeSelector (${labels.join(', ')})`;
    }
    case 'absent':
      return `${have} none`;
    case 'silent':
      return verdict.lost
        ? `${have} lost ${one ? 'its' : 'their'} own ${names}`
        : `${have} one that no device plugin offers ${names}`;
    case 'fewDevices':
      return `${have} fewer than ${tier.count}`;
    case 'taint':
      return `${have} taint ${textOf(verdict.taint)} ${names}`;
    case 'deviceMemory':
      return `${have} ${group.best.kind === 'deviceMemory' ? formatMemory(group.best.bytes * Math.max(1, tier.count)) : 'less'}${one ? '' : ' at most'}`;
    case 'small':
      return `${have} ${shortText(verdict.resource, most(group, 'allocatable', verdict.resource))} in all${one ? '' : ' at most'}`;
    case 'notReady':
      return `${are} not ready ${names}`;
    case 'cordoned':
      return `${are} cordoned ${names}`;
    case 'busy':
      if (verdict.resource === tier.resource) return `${have} ${one ? 'it' : 'theirs'} in use`;
      if (verdict.resource === 'pods')
        return `${count} ${one ? 'runs' : 'run'} as many pods as ${one ? 'it' : 'they'} may`;
      return `${have} ${shortText(verdict.resource, most(group, 'free', verdict.resource))} free${one ? '' : ' at most'}`;
    default:
      if (room > 0) return `${have} room for ${room} ${room === 1 ? 'pod' : 'pods'}`;
      return `${have} ${one ? 'it' : 'theirs'} promised to pods that start`;
  }
}

function shortText(resource: string, amount: number): string {
  if (resource === 'memory') return formatMemory(amount);
  if (resource === 'cpu') return `${cpus(amount)} CPUs`;
  return `${Math.max(0, amount)} ${resource}`;
}

function textOf({ key, value, effect }: NodeStock['taints'][number]): string {
  return value === undefined || value === '' ? `${key}:${effect}` : `${key}=${value}:${effect}`;
}

/** What to do about the nearest nodes. */
function remedyOf({ verdict, best, nodes }: Group, { tier, deployment, requests }: BlockedInput): string | undefined {
  const group = { verdict, best, nodes };
  switch (verdict.kind) {
    case 'taint': {
      const { key, value, effect } = verdict.taint;
      // Kubernetes' own come and go with the node's health.
      if (key.startsWith('node.kubernetes.io/')) return undefined;
      const matched = value === undefined || value === '' ? 'operator: Exists' : `value: ${value}`;
      return `add {key: ${key}, ${matched}, effect: ${effect}} to podTemplate.spec.tolerations`;
    }
    case 'selector':
      return 'label a node or change the selector';
    case 'silent':
      return `is ${nodes.length === 1 ? 'its' : 'their'} device plugin running?`;
    case 'fewDevices':
      return `lower hardware.count to ${Math.max(...nodes.map((node) => node.allocatable[tier.resource ?? ''] ?? 0))}`;
    case 'cordoned':
      return `kubectl uncordon ${nodes[0]?.name}`;
    case 'deviceMemory':
      return best.kind === 'deviceMemory'
        ? (memoryRemedy(tier, deployment, 'device', best.bytes * Math.max(1, tier.count)) ??
            'use a smaller quantization, or a larger device')
        : undefined;
    case 'small':
    case 'busy':
      return resourceRemedy(group, verdict.resource, tier, deployment, requests);
    default:
      return undefined;
  }
}

function resourceRemedy(
  group: Group,
  resource: string,
  tier: Tier,
  deployment: SLMDeployment,
  requests: Amounts,
): string | undefined {
  if (resource === tier.resource || resource === 'pods') return undefined;
  const free = most(group, 'free', resource);
  if (resource === 'memory') {
    // What helps now goes before what helps once others are gone.
    const limits = [free, ...(group.verdict.kind === 'small' ? [most(group, 'allocatable', resource)] : [])];
    for (const limit of limits) {
      const remedy = memoryRemedy(tier, deployment, 'total', limit);
      if (remedy !== undefined) return remedy;
    }
    return 'use a smaller quantization, or a node with more memory';
  }
  // A tenth of a processor is little, but pods take what is free besides.
  if (resource === 'cpu' && free >= 100 && free < (requests['cpu'] ?? 0)) {
    return `lower resources.requests.cpu to ${Math.floor(free / 100) * 100}m`;
  }
  return undefined;
}
