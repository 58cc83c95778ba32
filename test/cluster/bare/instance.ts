/**
 * Owns the names, addresses and folders of one bare cluster, so that several can stand side by side on a machine
 * (SLM_CLUSTER=NAME chooses one). Derives them; creates nothing but the file that holds the slot.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { cacheDir } from '../../cache.ts';
import { UserError } from '../errors.ts';

/** Nodes that one cluster can have: a pod range of 4096 addresses in pieces of 256, the first left out. */
export const MAX_NODES = 15;
/** Clusters that fit beside each other. */
const MAX_SLOTS = 16;

/** One node's place. */
export interface NodePlace {
  /** `n1`, `n2`, … */
  readonly name: string;
  /** 1 to {@link MAX_NODES}. */
  readonly index: number;
  /** Address of the node itself. */
  readonly address: string;
  /** CIDR of the node's pods. */
  readonly podRange: string;
  /** Name of the machine's end of its cable. */
  readonly link: string;
  /** The node's own part of the state folder. */
  readonly folder: string;
}

/** One cluster's place on the machine. */
export interface Instance {
  readonly name: string;
  /** Everything that this cluster keeps on disk. */
  readonly folder: string;
  readonly bridge: string;
  /** Address of the machine on the bridge; the API server listens there. */
  readonly hostAddress: string;
  readonly nodeRange: string;
  readonly podRange: string;
  readonly serviceRange: string;
  readonly serviceAddress: string;
  readonly dnsAddress: string;
  readonly apiPort: number;
  readonly etcdPort: number;
  readonly etcdPeerPort: number;
  /** Name of its control group under each hierarchy. */
  readonly cgroup: string;
}

/** Folder that holds all instances. */
export const instancesFolder: string = path.join(cacheDir, 'cluster');

/** The name that SLM_CLUSTER chooses, or `default`. */
export function chosenName(): string {
  const name = process.env['SLM_CLUSTER'] || 'default';
  if (!/^[a-z0-9-]{1,20}$/.test(name))
    throw new UserError(`SLM_CLUSTER is "${name}": write 1 to 20 lower-case letters, digits and dashes.`);
  return name;
}

/** The instance of that name; the first call for a name takes a slot that no other instance has. */
export function openInstance(name: string = chosenName()): Instance {
  const folder = path.join(instancesFolder, name);
  const file = path.join(folder, 'slot');
  let slot = readSlot(file);
  if (slot === undefined) {
    const taken = new Set(instanceNames().map((other) => readSlot(path.join(instancesFolder, other, 'slot'))));
    slot = Array.from({ length: MAX_SLOTS }, (_, index) => index).find((index) => !taken.has(index));
    if (slot === undefined)
      throw new UserError(
        `${MAX_SLOTS} clusters have a place here: remove one with "SLM_CLUSTER=NAME … down --purge".`,
      );
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(file, String(slot));
  }
  return makeInstance(name, folder, slot);
}

/** The instance of that name if it ever had a place; takes none. */
export function findInstance(name: string = chosenName()): Instance | undefined {
  const folder = path.join(instancesFolder, name);
  const slot = readSlot(path.join(folder, 'slot'));
  return slot === undefined ? undefined : makeInstance(name, folder, slot);
}

/** Names of all instances that have a folder. */
export function instanceNames(): string[] {
  try {
    return readdirSync(instancesFolder);
  } catch {
    return [];
  }
}

/** Derives an instance from its slot (0 to 15). */
export function makeInstance(name: string, folder: string, slot: number): Instance {
  return {
    name,
    folder,
    bridge: `slm${slot}`,
    // Ranges that neither Docker (172.17), Podman (10.88), kind (10.244, 10.96), k3s (10.42, 10.43) nor home routers use.
    nodeRange: `10.197.${slot}.0/24`,
    hostAddress: `10.197.${slot}.1`,
    podRange: `10.198.${slot * 16}.0/20`,
    serviceRange: `10.199.${slot * 16}.0/20`,
    serviceAddress: `10.199.${slot * 16}.1`,
    dnsAddress: `10.199.${slot * 16}.10`,
    apiPort: 16443,
    etcdPort: 23790 + slot * 2,
    etcdPeerPort: 23791 + slot * 2,
    cgroup: `slm-operator-${name}`,
  };
}

/** The place of the node with that index. */
export function placeNode(instance: Instance, index: number): NodePlace {
  const name = `n${index}`;
  const [, , slot] = instance.nodeRange.split('.').map(Number);
  return {
    name,
    index,
    address: `10.197.${slot}.${10 + index}`,
    podRange: `10.198.${(slot ?? 0) * 16 + index}.0/24`,
    link: `${instance.bridge}${name}`,
    folder: path.join(instance.folder, 'nodes', name),
  };
}

function readSlot(file: string): number | undefined {
  try {
    return Number(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}
