/** Owns the plugins that `npm run cluster -- devices` starts: processes that outlive the command and go with the cluster. */
import path from 'node:path';
import { findInstance } from '../bare/instance.ts';
import type { Cluster } from '../cluster.ts';
import { endedReason, endProcesses, findProcesses, startDaemon, waitUntil } from '../daemons.ts';
import { UserError } from '../errors.ts';

/** Which devices a node is to have from now on; a count of 0 takes them away. */
export interface DeviceRequest {
  readonly node: string;
  readonly resource: string;
  readonly count: number;
  /** Default: all. */
  readonly healthy?: number | undefined;
}

/**
 * Makes a node offer devices, in place of those of that name that it offered before.
 * @throws UserError when the provider of the cluster has no daemons on this machine
 */
export async function setDevices(cluster: Cluster, { node, resource, count, healthy = count }: DeviceRequest) {
  const instance = findInstance();
  if (cluster.provider !== 'bare' || !instance)
    throw new UserError(
      `Devices can be put on nodes of a bare cluster only, and this one is of "${cluster.provider}".`,
    );
  const owner = instance.folder;
  const name = `devices ${node} ${resource}`;
  const kubeletFolder = path.join(await cluster.node(node).rootFolder(), 'var/lib/kubelet');
  await endProcesses(findProcesses(owner, name), 'SIGTERM');
  if (count > 0) {
    const log = path.join(owner, 'log', `${name.replaceAll(/[ /]/g, '-')}.log`);
    const program = path.join(import.meta.dirname, 'main.ts');
    const command = [process.execPath, program, kubeletFolder, resource, String(count), String(healthy)];
    startDaemon({ owner, name, command, log });
    await waitUntil(async () => (await allocatable(cluster, node, resource)) === String(healthy), {
      what: `node ${node} to offer ${healthy} ${resource} (see ${log})`,
      timeoutMs: 60_000,
      failed: () => endedReason(owner, name, log),
    });
    return;
  }
  await waitUntil(async () => ['', '0'].includes(await allocatable(cluster, node, resource)), {
    what: `node ${node} to offer no ${resource}`,
    timeoutMs: 60_000,
  });
}

function allocatable(cluster: Cluster, node: string, resource: string): Promise<string> {
  const field = `jsonpath={.status.allocatable.${resource.replaceAll('.', '\\.')}}`;
  return cluster.kubectl(['get', 'node', node, '-o', field]);
}
