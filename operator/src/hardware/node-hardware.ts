/**
 * What a node has of a kind of hardware: by what its kubelet offers, by its labels, and by what its agent sees. Owns the
 * view of a node that placement works on, and the ranking of processors. Pure.
 */
import type { NodeDevice } from '@slm-operator/crds';
import type { NodeView } from '../deployment/node-match.ts';
import type { Amounts } from './amounts.ts';
import { amountOf } from './amounts.ts';
import type { HardwareProfile, Profiles } from './profiles.ts';

/** A node with what it has and what of it is free. */
export interface NodeStock extends NodeView {
  readonly capacity: Amounts;
  readonly allocatable: Amounts;
  /** Allocatable without what pods on it take, and without what was promised to pods that have no node yet. May be negative. */
  readonly free: Amounts;
  /** As the node's agent reports. */
  readonly devices: readonly NodeDevice[];
  /** The same object as long as nothing but `free` changes: what was worked out of the rest is kept with it. */
  readonly facts?: object | undefined;
}

const MiB = 2 ** 20;

/** True when a label of `KEY` (any value but false) or `KEY=VALUE` is on the node. */
export function hasLabel(node: Pick<NodeStock, 'labels'>, label: string): boolean {
  const equals = label.indexOf('=');
  const value = node.labels[equals < 0 ? label : label.slice(0, equals)];
  return equals < 0 ? value !== undefined && value !== 'false' : value === label.slice(equals + 1);
}

/** Resources of the profile that a node knows, offered or not: a plugin that ended leaves its name with amount 0. */
export function resourcesOn(profile: HardwareProfile, node: NodeStock): string[] {
  const known = new Set([...Object.keys(node.allocatable), ...Object.keys(node.capacity)]);
  return profile.resources.flatMap((pattern) => {
    if (!pattern.includes('*')) return known.has(pattern) ? [pattern] : [];
    const matches = globOf(pattern);
    return [...known].filter((name) => matches.test(name)).sort();
  });
}

/** What a node has of a profile. */
export interface Present {
  readonly profile: HardwareProfile;
  /** Of the profile that the node knows. */
  readonly resources: readonly string[];
  /** Label or agent say that it has some. */
  readonly told: boolean;
}

const presentByFacts = new WeakMap<object, { readonly profiles: Profiles; readonly present: readonly Present[] }>();

/** The profiles that a node has anything of; for most nodes none. */
export function presentOn(node: NodeStock, profiles: Profiles): readonly Present[] {
  const kept = node.facts === undefined ? undefined : presentByFacts.get(node.facts);
  if (kept?.profiles === profiles) return kept.present;
  const present = [...profiles.values()].flatMap((profile) => {
    const resources = resourcesOn(profile, node);
    const told = profile.nodeLabels.some((label) => hasLabel(node, label)) || devicesOf(profile, node).length > 0;
    return resources.length > 0 || told ? { profile, resources, told } : [];
  });
  if (node.facts !== undefined) presentByFacts.set(node.facts, { profiles, present });
  return present;
}

const globs = new Map<string, RegExp>();

function globOf(pattern: string): RegExp {
  let glob = globs.get(pattern);
  if (glob === undefined) {
    const source = pattern.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[^/]*');
    glob = new RegExp(`^${source}$`);
    globs.set(pattern, glob);
  }
  return glob;
}

/** How a node stands to a kind of device. */
export type Presence =
  /** Its kubelet offers some. */
  | { readonly state: 'offered'; readonly amount: number }
  /** Label or agent say that there is one, and the kubelet offers none. `because` names them. */
  | { readonly state: 'silent'; readonly because: string }
  | { readonly state: 'absent' };

/**
 * Whether the node has devices of a profile.
 * @param resource what the kubelet would offer; undefined where a claim or a label alone decides
 */
export function presenceOf(profile: HardwareProfile, resource: string | undefined, node: NodeStock): Presence {
  const amount = resource === undefined ? 0 : (node.allocatable[resource] ?? 0);
  if (amount > 0) return { state: 'offered', amount };
  const label = profile.nodeLabels.find((candidate) => hasLabel(node, candidate));
  if (resource === undefined) {
    if (profile.nodeLabels.length === 0 || label !== undefined)
      return { state: 'offered', amount: Number.POSITIVE_INFINITY };
    return { state: 'absent' };
  }
  if (label !== undefined) return { state: 'silent', because: `label ${label}` };
  if ((node.capacity[resource] ?? 0) > 0) return { state: 'silent', because: `${resource} in its capacity` };
  const device = devicesOf(profile, node)[0];
  if (device === undefined) return { state: 'absent' };
  return { state: 'silent', because: device.name ?? device.id };
}

/** What the node's agent sees of a profile's devices. */
export function devicesOf(profile: HardwareProfile, node: NodeStock): readonly NodeDevice[] {
  if (profile.vendor === undefined) return [];
  return node.devices.filter(
    (device) => device.class === profile.class && device.vendor?.toLowerCase() === profile.vendor,
  );
}

/**
 * Memory of one device of the profile on this node, in bytes; undefined when nobody says. The label goes first; else the smallest
 * that the agent sees. Of a MIG slice its own name tells.
 */
export function deviceMemory(
  profile: HardwareProfile,
  resource: string | undefined,
  node: NodeStock,
): number | undefined {
  const slice = /\/mig-.*?(\d+)gb/.exec(resource ?? '')?.[1];
  if (slice !== undefined) return Number(slice) * 1024 * MiB;
  const label = profile.memoryLabel === undefined ? undefined : node.labels[profile.memoryLabel];
  if (label !== undefined) {
    const bytes = /^\d+$/.test(label)
      ? asPlainNumber(Number(label))
      : amountOf('memory', label.replace(/B$/, '').replace(/^(\d+)G$/, '$1Gi'));
    if (bytes > 0) return bytes;
  }
  const sizes = devicesOf(profile, node).flatMap((device) => device.memoryBytes ?? []);
  return sizes.length === 0 ? undefined : Math.min(...sizes);
}

/** Plugins write MiB; Intel's writes bytes. No device has a terabyte in MiB, and none less than a megabyte in bytes. */
function asPlainNumber(value: number): number {
  return value < MiB * 16 ? value * MiB : value;
}
