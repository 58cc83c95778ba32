/**
 * Owns the network between the machine and the nodes: one bridge, one cable for each node, routes. Writes no firewall rule and
 * opens no way out: nodes have no default route, so nothing in a pod reaches anything outside.
 */
import { runCommand, tryCommand } from '../command.ts';
import { waitUntil } from '../daemons.ts';
import { UserError } from '../errors.ts';
import type { Changes } from './changes.ts';
import { type Instance, MAX_NODES, type NodePlace, placeNode } from './instance.ts';

/** Makes the bridge with its address and routes, or completes what a killed command left of it. */
export async function makeNetwork(instance: Instance, changes: Changes): Promise<void> {
  const { bridge, hostAddress, podRange, serviceRange } = instance;
  if (!(await linkExists(bridge))) {
    await refuseTakenRanges(instance);
    changes.record({ kind: 'link', name: bridge });
    await runCommand(['ip', 'link', 'add', bridge, 'address', macAddress(hostAddress), 'type', 'bridge']);
  } else if (!changes.hasLink(bridge)) {
    throw new UserError(
      `A network link "${bridge}" exists and is not ours: delete it with "ip link delete ${bridge}" if nothing needs it, or choose another place with SLM_CLUSTER=NAME.`,
    );
  }
  await runCommand(['ip', 'address', 'replace', `${hostAddress}/24`, 'dev', bridge]);
  await runCommand(['ip', 'link', 'set', bridge, 'up']);
  for (const place of allPlaces(instance))
    await runCommand(['ip', 'route', 'replace', place.podRange, 'via', place.address, 'dev', bridge]);
  // Nothing for these ranges may leave the machine by its own default route.
  for (const range of [podRange, serviceRange]) {
    const route = ['unreachable', range, 'metric', '9999'];
    changes.record({ kind: 'route', route });
    await runCommand(['ip', 'route', 'replace', ...route]);
  }
}

/** Lays the cable to a node whose first process is `pid`; there its end is called eth0. */
export async function plugNode(instance: Instance, place: NodePlace, pid: number, changes: Changes): Promise<void> {
  changes.record({ kind: 'link', name: place.link });
  const peer = ['name', 'eth0', 'address', macAddress(place.address), 'netns', String(pid)];
  await runCommand(['ip', 'link', 'add', place.link, 'type', 'veth', 'peer', ...peer]);
  await runCommand(['ip', 'link', 'set', place.link, 'master', instance.bridge, 'up']);
}

/** Takes the cable out: what the node had open stays open on the other side, as when its power fails. */
export async function unplugNode(place: NodePlace): Promise<void> {
  await tryCommand(['ip', 'link', 'set', place.link, 'down']);
}

/** Waits until the kernel has taken the cable of a dead node away, so that a new one can be laid. */
export async function removeCable(place: NodePlace): Promise<void> {
  await tryCommand(['ip', 'link', 'delete', place.link]);
  await waitUntil(async () => !(await linkExists(place.link)), {
    what: `the link ${place.link} to go`,
    timeoutMs: 10_000,
  });
}

/** The routes that a node needs to the pods of all others. Static, so that a node that joins later changes none. */
export function nodeRoutes(instance: Instance, place: NodePlace): string[] {
  return allPlaces(instance)
    .filter((other) => other.index !== place.index)
    .map((other) => `${other.podRange} via ${other.address}`);
}

/**
 * The hardware address that goes with an IPv4 address, always the same: who has heard of a node before it went off and came
 * back would otherwise talk to its old address for up to a minute, and a bridge changes its own with its ports.
 */
export function macAddress(address: string): string {
  // The first byte says "locally administered, for one station".
  return [0x02, 0x73, ...address.split('.').map(Number)].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** Whether two IPv4 ranges in CIDR notation share an address. */
export function rangesOverlap(a: string, b: string): boolean {
  const [first, second] = [parseRange(a), parseRange(b)];
  const bits = Math.min(first.bits, second.bits);
  return bits === 0 || first.address >>> (32 - bits) === second.address >>> (32 - bits);
}

function parseRange(range: string): { address: number; bits: number } {
  const [address = '', bits = '32'] = range.split('/');
  return {
    address: address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0),
    bits: Number(bits),
  };
}

function allPlaces(instance: Instance): NodePlace[] {
  return Array.from({ length: MAX_NODES }, (_, index) => placeNode(instance, index + 1));
}

async function refuseTakenRanges(instance: Instance): Promise<void> {
  const routes = JSON.parse(await runCommand(['ip', '-json', '-4', 'route', 'show'])) as {
    dst: string;
    dev?: string;
    type?: string;
  }[];
  for (const { dst, dev, type } of routes) {
    // An unreachable route is our own, from a run that was killed.
    if (dst === 'default' || type === 'unreachable') continue;
    const ours = [instance.nodeRange, instance.podRange, instance.serviceRange].find((range) =>
      rangesOverlap(range, dst),
    );
    if (ours)
      throw new UserError(
        `This machine already routes ${dst} (${dev ?? 'no device'}), which the cluster needs as ${ours}: choose another place with SLM_CLUSTER=NAME.`,
      );
  }
}

async function linkExists(name: string): Promise<boolean> {
  return (await tryCommand(['ip', 'link', 'show', name])).code === 0;
}
