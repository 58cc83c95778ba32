/** What a Node object says that counts for placement, and whether it changed. Pure. */
import type { NodeDevice } from '@slm-operator/crds';
import type { NodeView } from '../deployment/node-match.ts';
import type { Node, ObjectOf } from '../kube/resource.ts';
import { amountsOf, sameAmounts } from './amounts.ts';
import type { NodeStock } from './node-hardware.ts';

type NodeObject = ObjectOf<typeof Node>;

/** What a Node object and its agent say. */
export type Facts = Omit<NodeStock, 'free' | 'facts'>;

/** What a node says of itself; `devices` is what its agent sees. */
export function factsOf(node: NodeObject, devices: readonly NodeDevice[]): Facts {
  return {
    ...placeOf(node),
    capacity: amountsOf(node.status?.capacity),
    allocatable: amountsOf(node.status?.allocatable),
    devices,
  };
}

function placeOf(node: NodeObject): NodeView {
  return {
    name: node.metadata?.name ?? '',
    labels: node.metadata?.labels ?? {},
    taints: (node.spec?.taints ?? []).map(({ key, value, effect }) => ({ key, value, effect })),
    ready: node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false,
    cordoned: node.spec?.unschedulable === true,
    deleted: node.metadata?.deletionTimestamp !== undefined,
  };
}

/** True when nothing changed that counts here; devices aside. */
export function sameFacts(a: Facts, b: Facts): boolean {
  return (
    a.ready === b.ready &&
    a.cordoned === b.cordoned &&
    a.deleted === b.deleted &&
    sameAmounts(a.allocatable, b.allocatable) &&
    sameAmounts(a.capacity, b.capacity) &&
    JSON.stringify(a.taints) === JSON.stringify(b.taints) &&
    sameLabels(a.labels, b.labels)
  );
}

function sameLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

/** True when pods may go where they could not, or the other way. */
export function isPlacementChange(before: NodeStock | undefined, after: NodeStock | undefined): boolean {
  if (before === undefined || after === undefined) return before !== after;
  return (
    before.ready !== after.ready ||
    before.cordoned !== after.cordoned ||
    before.deleted !== after.deleted ||
    before.labels !== after.labels ||
    before.taints !== after.taints ||
    before.devices !== after.devices
  );
}
