/** Installs the product on a cluster as a user would: images on the nodes, then the chart by Helm. */
import path from 'node:path';
import { repoRoot } from '../cache.ts';
import { openInstance } from '../cluster/bare/instance.ts';
import type { Cluster } from '../cluster/cluster.ts';
import type { Progress } from '../cluster/progress.ts';
import { buildImages } from '../images/build.ts';

/** Namespace of the operator in tests and demo. */
export const SYSTEM_NAMESPACE = 'slm-system';
/** Helm release. */
export const RELEASE = 'slm-operator';

export interface InstallOptions {
  /** Base address for hf:// sources. */
  readonly hfEndpoint: string;
  readonly progress: Progress;
  /** Further `--set` arguments. */
  readonly set?: readonly string[];
}

/** Builds the images, brings them to the nodes, installs or upgrades the chart, and waits until its pods are ready. */
export async function installProduct(cluster: Cluster, options: InstallOptions): Promise<void> {
  const images = await buildImages(['operator', 'server'], options.progress);
  const load = options.progress.step('images to the nodes');
  await cluster.loadImages(images.map((image) => image.archive));
  load.done();
  const step = options.progress.step('chart slm-operator');
  await cluster.kubectl(['apply', '-f', '-'], {
    input: JSON.stringify({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: SYSTEM_NAMESPACE, labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } },
    }),
  });
  await cluster.helm([
    'upgrade',
    '--install',
    RELEASE,
    path.join(repoRoot, 'charts/slm-operator'),
    '--namespace',
    SYSTEM_NAMESPACE,
    '--set',
    `huggingFace.endpoint=${options.hfEndpoint},huggingFace.insecure=${options.hfEndpoint.startsWith('http://')}`,
    ...(options.set ?? []).flatMap((value) => ['--set', value]),
  ]);
  step.update('waiting for its pods');
  await cluster.kubectl(['-n', SYSTEM_NAMESPACE, 'rollout', 'status', 'deployment,daemonset', '--timeout=180s']);
  step.done();
}

/** Address at which pods of a local cluster reach a server on this machine. */
export function hostAddressOf(cluster: Cluster): string {
  if (cluster.provider === 'bare') return openInstance().hostAddress;
  throw new Error(`the tests' file server has no address that pods of a ${cluster.provider} cluster could reach`);
}
