/**
 * How our processes reach the API server: as the ServiceAccount of its pod, or by a kubeconfig on a developer's machine.
 * Kept apart from `config.ts`, whose library would take 20 MB of memory on every node for files that are read here
 * in a few lines. Reads them anew each time, because the kubelet replaces them.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { ClusterAccess } from './config.ts';

/** Where the kubelet puts token and authority. */
const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** The pod's own access, unless KUBECONFIG is set or there is no pod around. */
export async function loadAccess(
  env: Readonly<Record<string, string | undefined>>,
  accountDir = ACCOUNT,
): Promise<ClusterAccess> {
  const host = env['KUBERNETES_SERVICE_HOST'];
  if (!host || env['KUBECONFIG']) {
    const { accessFrom, loadKubeConfig } = await import('./config.ts');
    return accessFrom(loadKubeConfig());
  }
  const port = env['KUBERNETES_SERVICE_PORT'] || '443';
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    async credentials() {
      const token = await readAccountFile(accountDir, 'token');
      const ca = await readAccountFile(accountDir, 'ca.crt');
      return { headers: { authorization: `Bearer ${token}` }, tls: { ca } };
    },
  };
}

async function readAccountFile(folder: string, name: string): Promise<string> {
  const file = path.join(folder, name);
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    throw new Error(`${file} cannot be read: the pod needs automountServiceAccountToken: true`, { cause: error });
  }
}
