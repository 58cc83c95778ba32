/**
 * To which nodes a tier's pods are drawn or held, beyond what their requests say: those with the device by label, with enough
 * memory on it, and among processors those that compute models faster. Pure.
 */
import { deviceMemory, hasLabel, type NodeStock } from './node-hardware.ts';
import type { Tier } from './tiers.ts';

interface Expression {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'Gt';
  readonly values?: readonly string[];
}

interface Term {
  readonly matchExpressions: readonly Expression[];
}

/** `spec.affinity.nodeAffinity` of a pod. */
export interface NodeAffinity {
  readonly requiredDuringSchedulingIgnoredDuringExecution?: { readonly nodeSelectorTerms: readonly Term[] };
  readonly preferredDuringSchedulingIgnoredDuringExecution?: readonly {
    readonly weight: number;
    readonly preference: Term;
  }[];
}

const MiB = 2 ** 20;
const HOSTNAME = 'kubernetes.io/hostname';
const CPUID = 'feature.node.kubernetes.io/cpu-cpuid.';
/** Names of nodes in a pod template; more would make every ReplicaSet large. */
const MOST_NAMES = 100;

/**
 * Instruction sets that speed up inference, in NFD's words. A node's weights add up, and come out in the order AMX, AVX-512 with
 * VNNI, AVX-512, AVX-VNNI, AVX2; of ARM's I8MM, SVE, dot products.
 */
const instructionSets = [
  { flag: 'AMXINT8', weight: 30 },
  { flag: 'AVX512VNNI', weight: 20 },
  { flag: 'AVX512F', weight: 25 },
  { flag: 'AVXVNNI', weight: 10 },
  { flag: 'AVX2', weight: 15 },
  { flag: 'I8MM', weight: 30 },
  { flag: 'SVE', weight: 20 },
  { flag: 'ASIMDDP', weight: 15 },
].map(({ flag, weight }) => ({ flag, label: CPUID + flag, weight }));

/**
 * @param eligible names of the nodes that could hold such pods
 * @param nodes all nodes
 * @param others where each node has one pod: names of those that better hardware has. Pods go there last
 */
export function nodeAffinity(
  tier: Tier,
  eligible: readonly string[],
  nodes: readonly NodeStock[],
  others?: readonly string[],
): NodeAffinity | undefined {
  const names = new Set(eligible);
  const required = requiredTerms(tier, names, nodes);
  const preferred =
    others !== undefined
      ? avoiding(nodes.filter(({ name }) => others.includes(name)))
      : tier.class === 'cpu'
        ? preferredTerms(nodes.filter((node) => names.has(node.name)))
        : [];
  if (required.length === 0 && preferred.length === 0) return undefined;
  return {
    ...(required.length === 0
      ? {}
      : { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: required } }),
    ...(preferred.length === 0 ? {} : { preferredDuringSchedulingIgnoredDuringExecution: preferred }),
  };
}

/** Terms of which a node must meet one; none when any node will do. */
function requiredTerms(tier: Tier, eligible: ReadonlySet<string>, nodes: readonly NodeStock[]): Term[] {
  const { profile, resource } = tier;
  const memory = memoryExpressions(tier, eligible, nodes);
  // What asks for a resource can go nowhere else.
  if (resource !== undefined || profile.nodeLabels.length === 0) {
    return memory.length === 0 ? [] : [{ matchExpressions: memory }];
  }
  return profile.nodeLabels.map((label) => {
    const equals = label.indexOf('=');
    const key = equals < 0 ? label : label.slice(0, equals);
    const values: Expression[] =
      equals < 0
        ? [
            { key, operator: 'Exists' },
            { key, operator: 'NotIn', values: ['false'] },
          ]
        : [{ key, operator: 'In', values: [label.slice(equals + 1)] }];
    return { matchExpressions: [...values, ...memory] };
  });
}

/** Keeps pods from nodes whose devices are too small: the resource's name is the same there. */
function memoryExpressions(tier: Tier, eligible: ReadonlySet<string>, nodes: readonly NodeStock[]): Expression[] {
  if (tier.class === 'cpu') return [];
  const { profile, resource, memory } = tier;
  const each = memory.device / Math.max(1, tier.count);
  const there = nodes.filter((node) =>
    resource === undefined
      ? profile.nodeLabels.some((label) => hasLabel(node, label))
      : (node.allocatable[resource] ?? 0) > 0,
  );
  const small = there.filter((node) => (deviceMemory(profile, resource, node) ?? each) < each);
  if (small.length === 0) return [];
  const { memoryLabel } = profile;
  const inMiB = (node: NodeStock) => {
    const value = memoryLabel === undefined ? undefined : node.labels[memoryLabel];
    return value !== undefined && /^\d+$/.test(value) && Number(value) * MiB === deviceMemory(profile, resource, node);
  };
  // By the label where all have it in MiB: that holds for nodes that come later, too.
  if (memoryLabel !== undefined && there.every(inMiB)) {
    return [{ key: memoryLabel, operator: 'Gt', values: [String(Math.ceil(each / MiB) - 1)] }];
  }
  const hosts = small.filter((node) => !eligible.has(node.name)).map(hostOf);
  return hosts.length === 0 ? [] : [{ key: HOSTNAME, operator: 'NotIn', values: hosts.sort().slice(0, MOST_NAMES) }];
}

/** Only a preference: where the better hardware turns out not to work, pods of the worse one take its nodes. */
function avoiding(nodes: readonly NodeStock[]): { weight: number; preference: Term }[] {
  const values = nodes.map(hostOf).sort().slice(0, MOST_NAMES);
  if (values.length === 0) return [];
  return [{ weight: 100, preference: { matchExpressions: [{ key: HOSTNAME, operator: 'NotIn', values }] } }];
}

/** The faster processors first, where nodes differ. By NFD's labels where all have them, else by name, as their agents see them. */
function preferredTerms(nodes: readonly NodeStock[]): { weight: number; preference: Term }[] {
  const seen = nodes.map((node) => ({ node, processor: processorOf(node) }));
  const labelled = seen.every(({ processor }) => processor.labelled);
  return instructionSets.flatMap(({ label, weight }, index) => {
    const having = seen.filter(({ processor }) => processor.has[index] === true);
    if (having.length === 0 || having.length === nodes.length) return [];
    const expression: Expression = labelled
      ? { key: label, operator: 'In', values: ['true'] }
      : {
          key: HOSTNAME,
          operator: 'In',
          values: having
            .map(({ node }) => hostOf(node))
            .sort()
            .slice(0, MOST_NAMES),
        };
    return [{ weight, preference: { matchExpressions: [expression] } }];
  });
}

interface Processor {
  /** NFD says what it has. */
  readonly labelled: boolean;
  /** By place in `instructionSets`. */
  readonly has: readonly boolean[];
}

const processors = new WeakMap<object, Processor>();

function processorOf(node: NodeStock): Processor {
  const kept = node.facts === undefined ? undefined : processors.get(node.facts);
  if (kept !== undefined) return kept;
  const flags = new Set(node.devices.flatMap((device) => (device.class === 'cpu' ? (device.flags ?? []) : [])));
  const processor = {
    labelled: Object.keys(node.labels).some((label) => label.startsWith(CPUID)),
    // NFD says true or says nothing.
    has: instructionSets.map(({ flag, label }) => node.labels[label] === 'true' || flags.has(flag)),
  };
  if (node.facts !== undefined) processors.set(node.facts, processor);
  return processor;
}

function hostOf(node: NodeStock): string {
  return node.labels[HOSTNAME] ?? node.name;
}
