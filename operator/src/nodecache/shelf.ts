/**
 * Nodes as placement sees them, each made once for as long as nothing that counts changes: heartbeats change a Node every few seconds.
 * Owns that memory; reads stores and writes nothing.
 */
import { createHash } from 'node:crypto';
import type { SLMNodeCache } from '@slm-operator/crds';
import { stableJson } from '../deployment/revision.ts';
import type { NodeStock } from '../hardware/node-hardware.ts';
import type { Node, ObjectOf } from '../kube/resource.ts';
import type { Store } from '../runtime/store.ts';
import { emptyNode } from './views.ts';

/** Nodes of a kind are alike in everything but their names. */
export interface KindsOfNodes {
  /** Changes whenever there is another kind. */
  readonly version: string;
  /** One node of each kind; all of them where the selector asks for a label that tells nodes of a kind apart. */
  readonly for: (nodeSelector: Readonly<Record<string, string>> | undefined) => readonly NodeStock[];
}

export interface NodeShelf {
  /** Undefined when there is no such node. */
  get(name: string): NodeStock | undefined;
  list(): readonly NodeStock[];
  /** Of the nodes that are there now. */
  kinds(): KindsOfNodes;
}

type NodeObject = ObjectOf<typeof Node>;
type Devices = NonNullable<SLMNodeCache['status']>['devices'];

interface Entry {
  readonly object: NodeObject;
  readonly devices: Devices;
  readonly text: string;
  readonly stock: NodeStock;
}

export function makeNodeShelf(
  nodes: Pick<Store<NodeObject>, 'get' | 'list'>,
  caches: Pick<Store<SLMNodeCache>, 'get'>,
): NodeShelf {
  const entries = new Map<string, Entry>();
  let listed: readonly NodeStock[] = [];
  let kinds: KindsOfNodes | undefined;

  const stockOf = (object: NodeObject): NodeStock => {
    const name = object.metadata?.name ?? '';
    const devices = caches.get(name)?.status?.devices;
    const known = entries.get(name);
    if (known?.object === object && known.devices === devices) return known.stock;
    const stock = emptyNode(object, devices);
    const text = stableJson(stock);
    const same = known?.text === text ? known.stock : stock;
    entries.set(name, { object, devices, text, stock: same });
    return same;
  };
  const list = () => {
    const now = nodes.list().map(stockOf);
    if (now.length === listed.length && now.every((stock, index) => stock === listed[index])) return listed;
    const names = new Set(now.map(({ name }) => name));
    for (const name of entries.keys()) if (!names.has(name)) entries.delete(name);
    listed = now;
    kinds = undefined;
    return listed;
  };
  return {
    get(name) {
      const object = nodes.get(name);
      return object === undefined ? undefined : stockOf(object);
    },
    list,
    kinds() {
      const now = list();
      kinds ??= kindsOf(now);
      return kinds;
    },
  };
}

/** Pure. */
export function kindsOf(nodes: readonly NodeStock[]): KindsOfNodes {
  const kinds = new Map<string, NodeStock>();
  const ownLabels = new Set<string>();
  for (const node of nodes) {
    const { kind, own } = kindOf(node);
    for (const key of own) ownLabels.add(key);
    if (!kinds.has(kind)) kinds.set(kind, node);
  }
  const hash = createHash('sha256');
  for (const kind of [...kinds.keys()].sort()) hash.update(kind).update('\n');
  const one = [...kinds.values()];
  return {
    version: hash.digest('hex'),
    for: (nodeSelector) => (Object.keys(nodeSelector ?? {}).some((key) => ownLabels.has(key)) ? nodes : one),
  };
}

interface KindOfNode {
  readonly kind: string;
  /** Labels that tell it from all others. */
  readonly own: readonly string[];
}

const kindsKnown = new WeakMap<NodeStock, KindOfNode>();

function kindOf(node: NodeStock): KindOfNode {
  let known = kindsKnown.get(node);
  if (known === undefined) {
    // A label with the node's own name tells it from all others; of a short name a part of a value says nothing.
    const labels = Object.entries(node.labels);
    const isOwn = (value: string) => value === node.name || (node.name.length >= 6 && value.includes(node.name));
    const own = labels.filter(([, value]) => isOwn(value)).map(([key]) => key);
    const common = Object.fromEntries(labels.filter(([key]) => !own.includes(key)));
    const { taints, deleted, allocatable, capacity, devices } = node;
    const kind = stableJson([
      common,
      taints,
      deleted,
      devicesIn(allocatable),
      devicesIn(capacity),
      devices.map((device) => [device.class, device.vendor, device.memoryBytes]),
    ]);
    known = { kind, own };
    kindsKnown.set(node, known);
  }
  return known;
}

/** Extended resources, and whether there are any. How many there are is no difference in kind. */
function devicesIn(amounts: NodeStock['capacity']): [string, boolean][] {
  return Object.entries(amounts)
    .filter(([name]) => name.includes('/'))
    .map(([name, amount]): [string, boolean] => [name, amount > 0])
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
