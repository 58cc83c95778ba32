/**
 * Owns devices on the nodes of a local cluster for tests: offered by a plugin of this process and awaited until the API server
 * shows them, as well as labels and taints that are taken back. Knows nothing of the product.
 */
import path from 'node:path';
import type { Cluster } from '../cluster.ts';
import { type DevicePlugin, type DevicePluginOptions, startDevicePlugin } from './device-plugin.ts';

/** Which devices a node is to offer. */
export interface DeviceOffer extends Pick<DevicePluginOptions, 'resource' | 'count' | 'healthy' | 'allocate'> {
  readonly node: string;
}

/** Devices that a node offers; disposing of them ends the plugin. */
export interface OfferedDevices extends AsyncDisposable {
  /** Makes only the first `count` healthy; resolves when the node offers that many. */
  setHealthy(count: number): Promise<void>;
  /** Ends the plugin as a crash would; resolves when the node offers none. */
  stop(): Promise<void>;
  /** Starts it again with the same devices; resolves when the node offers them. */
  start(): Promise<void>;
}

/** Kubelets report every 2 s; the rest is for a busy machine. */
const TIMEOUT = '--timeout=60s';

/** Offers devices on a node; resolves when the API server shows them as allocatable. */
export async function offerDevices(cluster: Cluster, offer: DeviceOffer): Promise<OfferedDevices> {
  const { node, resource, count } = offer;
  let healthy = offer.healthy ?? count;
  let plugin: DevicePlugin | undefined;
  const awaitAllocatable = async (expected: number) => {
    const field = `jsonpath={.status.allocatable.${resource.replaceAll('.', '\\.')}}`;
    await cluster.kubectl(['wait', `node/${node}`, `--for=${field}=${expected}`, TIMEOUT]);
  };
  const stop = async () => {
    if (!plugin) return;
    await plugin.stop();
    plugin = undefined;
    await awaitAllocatable(0);
  };
  const start = async () => {
    const root = await cluster.node(node).rootFolder();
    plugin = await startDevicePlugin({ ...offer, healthy, kubeletFolder: path.join(root, 'var/lib/kubelet') });
    await awaitAllocatable(healthy);
  };
  await start();
  return {
    start,
    stop,
    async setHealthy(next) {
      healthy = next;
      plugin?.setHealthy(next);
      if (plugin) await awaitAllocatable(next);
    },
    [Symbol.asyncDispose]: stop,
  };
}

/** What a node is to look like beside what it is. */
export interface NodeDress {
  readonly node: string;
  /** Such as those of node feature discovery. */
  readonly labels?: Readonly<Record<string, string>>;
  /** As `kubectl taint` writes them: `key=value:Effect`. */
  readonly taints?: readonly string[];
}

/** Puts labels and taints on a node; disposing takes them off again. */
export async function dressNode(
  cluster: Cluster,
  { node, labels = {}, taints = [] }: NodeDress,
): Promise<AsyncDisposable> {
  const names = Object.keys(labels);
  const label = (...words: string[]) => cluster.kubectl(['label', 'node', node, '--overwrite', ...words]);
  const taint = (...words: string[]) => cluster.kubectl(['taint', 'node', node, '--overwrite', ...words]);
  if (names.length > 0) await label(...names.map((name) => `${name}=${labels[name]}`));
  if (taints.length > 0) await taint(...taints);
  return {
    async [Symbol.asyncDispose]() {
      if (names.length > 0) await label(...names.map((name) => `${name}-`));
      if (taints.length > 0) await taint(...taints.map((one) => `${one.replace(/=[^:]*/, '')}-`));
    },
  };
}

/** Takes labels and taints of these keys off all nodes: what a run left that was killed. */
export async function undressNodes(cluster: Cluster, keys: readonly string[]): Promise<void> {
  const taken = keys.map((key) => `${key}-`);
  await cluster.kubectl(['label', 'nodes', '--all', ...taken], { allowFailure: true });
  for (const one of taken) await cluster.kubectl(['taint', 'nodes', '--all', one], { allowFailure: true });
}

/** Labels by which node feature discovery and the vendors' own say what a node has. */
export const NFD_LABELS = {
  nvidia: (product = 'NVIDIA-H200', memoryMiB = 143_771) => ({
    'feature.node.kubernetes.io/pci-10de.present': 'true',
    'nvidia.com/gpu.present': 'true',
    'nvidia.com/gpu.product': product,
    'nvidia.com/gpu.memory': String(memoryMiB),
  }),
  amd: () => ({ 'feature.node.kubernetes.io/pci-1002.present': 'true', 'amd.com/gpu.vram': '24G' }),
  intelGpu: () => ({ 'intel.feature.node.kubernetes.io/gpu': 'true' }),
  intelNpu: () => ({ 'intel.feature.node.kubernetes.io/npu': 'true' }),
  /** CPU flags, such as `AVX512F` and `AMXINT8`. */
  cpu: (...flags: readonly string[]) =>
    Object.fromEntries(flags.map((flag) => [`feature.node.kubernetes.io/cpu-cpuid.${flag}`, 'true'])),
} as const;
