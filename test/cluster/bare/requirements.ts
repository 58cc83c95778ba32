/** Owns what a machine must have to carry a bare cluster, and the sentences for what it lacks. */
import { readFile } from 'node:fs/promises';
import { tryCommand } from '../command.ts';
import { UserError } from '../errors.ts';
import { ensurePackages } from '../packages.ts';
import type { Progress } from '../progress.ts';
import { CONTROLLERS } from './cgroups.ts';
import { instancesFolder } from './instance.ts';

/** Programs that nodes use at run time; the rest is built. */
const PACKAGES = {
  bash: ['/bin/bash'],
  iproute2: ['/sbin/ip', '/usr/sbin/ip', '/bin/ip'],
  nftables: ['/usr/sbin/nft', '/sbin/nft'],
  procps: ['/sbin/sysctl', '/usr/sbin/sysctl'],
  'util-linux': ['/usr/bin/nsenter'],
  mount: ['/bin/mount', '/usr/bin/mount'],
};

/** Folders that a node has of its own, and that therefore cannot hold what nodes and machine share. */
const HIDDEN_IN_NODES = ['/run/', '/var/run/', '/var/lib/', '/var/log/'];

/**
 * Installs missing packages and loads missing kernel modules.
 * @throws UserError with one sentence that says what to do when the machine cannot carry a cluster
 */
export async function prepareMachine(progress: Progress): Promise<void> {
  const whyNot = await whyNoBareCluster();
  if (whyNot) throw new UserError(whyNot);
  await ensurePackages(PACKAGES, 'to run the cluster', progress);
  // Loading a module that is built in or already loaded does nothing; where it cannot be loaded the check below says so.
  for (const module of ['overlay', 'br_netfilter', 'veth', 'nf_tables']) await tryCommand(['modprobe', '-q', module]);
  const known = await readFile('/proc/filesystems', 'utf8');
  if (!/\toverlay$/m.test(known))
    throw new UserError('This kernel has no overlay file system: run "modprobe overlay", or use --provider kind.');
}

/** Why this machine cannot carry a bare cluster, as one sentence; undefined when it can, as far as can be seen unasked. */
export async function whyNoBareCluster(): Promise<string | undefined> {
  if (process.platform !== 'linux')
    return `A bare cluster needs Linux, and this is ${process.platform}: start Docker and use --provider kind.`;
  if (process.getuid?.() !== 0)
    return 'A bare cluster needs root for its network and mounts: run the command again with sudo, or start Docker and use --provider kind.';
  const hidden = HIDDEN_IN_NODES.find((folder) => `${instancesFolder}/`.startsWith(folder));
  if (hidden)
    return `The cache folder lies under ${hidden}, which every node has for itself: set SLM_CACHE_DIR to a folder elsewhere.`;
  const status = await readFile('/proc/self/status', 'utf8');
  const capabilities = BigInt(`0x${/^CapEff:\s+(\w+)$/m.exec(status)?.[1] ?? '0'}`);
  // Bits of linux/capability.h.
  const missing = Object.entries({ CAP_NET_ADMIN: 12n, CAP_SYS_ADMIN: 21n }).find(
    ([, bit]) => (capabilities & (1n << bit)) === 0n,
  );
  if (missing)
    return `A bare cluster needs the capability ${missing[0]}, which this root lacks: inside of a container, start that with --privileged.`;
  const controllers = await availableControllers();
  const lacking = CONTROLLERS.filter((name) => !controllers.includes(name));
  if (lacking.length > 0)
    return `The control group controllers ${lacking.join(', ')} are not there: mount them under /sys/fs/cgroup (kernel option cgroup_enable=${lacking[0]}).`;
  return undefined;
}

async function availableControllers(): Promise<string[]> {
  const unified = await readFile('/sys/fs/cgroup/cgroup.controllers', 'utf8').catch(() => undefined);
  if (unified !== undefined) return unified.trim().split(/\s+/);
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' '));
  return mounts.flatMap(([, , type, options]) => (type === 'cgroup' && options ? options.split(',') : []));
}
