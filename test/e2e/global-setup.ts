/**
 * Brings up what the cluster tests share: a cluster of three nodes with the product installed as the demo installs it, with a
 * stand-in for the model hub inside. Leaves the cluster up, so that the next run is quick; `npm run cluster -- down` ends it.
 */
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { upCluster } from '../cluster/cluster.ts';
import { makeProgress } from '../cluster/progress.ts';
import { ensureTools } from '../cluster/tools.ts';
import { installAll, prepareImages } from '../demo/install.ts';
import { profiles } from './hardware.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Path of kubectl. */
    kubectl: string;
    /** Address at which pods reach a server of the test process. */
    hostAddress: string;
    /** Names of the nodes. */
    nodes: string[];
    /** Whether nodes can be given devices: only those of a bare cluster are ours to that depth. */
    devices: boolean;
  }
}

export default async function setup(project: TestProject): Promise<void> {
  const progress = makeProgress();
  // Wanted by test/cluster; built here, where nothing has a time limit.
  await ensureTools(['probe', 'dra-driver'], progress);
  const [cluster, images] = await Promise.all([upCluster({ nodes: 3, progress }), prepareImages({ progress })]);
  await installAll(cluster, images, { values: { 'hardware.profiles': profiles }, progress });
  project.provide('kubeconfig', cluster.kubeconfig);
  project.provide('kubectl', path.join(cluster.binFolder, 'kubectl'));
  if (cluster.hostAddress === undefined) throw new Error('pods of this cluster reach no server on this machine');
  project.provide('hostAddress', cluster.hostAddress);
  project.provide('nodes', [...cluster.nodeNames]);
  project.provide('devices', cluster.provider === 'bare');
}
