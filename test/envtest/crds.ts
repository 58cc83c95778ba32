/** Installs the project's CustomResourceDefinitions on a test API server. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubeConfig } from '@kubernetes/client-node';
import { GROUP, VERSION } from '@slm-operator/crds/contract';
import { Agent, request } from 'undici';
import { parse } from 'yaml';
import { repoRoot } from '../cache.ts';

/** A bare HTTP client with all rights, for tests that speak to the API server as a stranger would. */
export interface RawApi extends AsyncDisposable {
  call(
    method: 'POST' | 'GET' | 'PUT' | 'PATCH' | 'DELETE',
    url: string,
    body?: unknown,
    type?: string,
  ): Promise<{ status: number; body: Record<string, unknown> }>;
}

/** Opens a {@link RawApi} with the client certificate of a kubeconfig. */
export async function rawApi(kubeconfig: string): Promise<RawApi> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const cluster = config.getCurrentCluster();
  const user = config.getCurrentUser();
  if (!cluster || !user) throw new Error(`${kubeconfig} has no current context`);
  const bytes = async (file?: string, data?: string) =>
    file ? await readFile(file) : data ? Buffer.from(data, 'base64') : undefined;
  const [ca, cert, key] = await Promise.all([
    bytes(cluster.caFile, cluster.caData),
    bytes(user.certFile, user.certData),
    bytes(user.keyFile, user.keyData),
  ]);
  const agent = new Agent({ connect: { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) } });
  return {
    async call(method, url, body, type = 'application/json') {
      const response = await request(`${cluster.server}${url}`, {
        method,
        dispatcher: agent,
        headers: { 'content-type': type },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: response.statusCode, body: (await response.body.json()) as Record<string, unknown> };
    },
    [Symbol.asyncDispose]: () => agent.close(),
  };
}

/** Applies crds/generated and waits until the API server serves the kinds. */
export async function installCrds(kubeconfig: string): Promise<void> {
  await using api = await rawApi(kubeconfig);
  const folder = path.join(repoRoot, 'crds/generated');
  const plurals: string[] = [];
  for (const file of await readdir(folder)) {
    const crd = parse(await readFile(path.join(folder, file), 'utf8')) as {
      metadata: { name: string };
      spec: { names: { plural: string } };
    };
    const url = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${crd.metadata.name}?fieldManager=test&force=true`;
    const { status, body } = await api.call('PATCH', url, crd, 'application/apply-patch+yaml');
    if (status >= 300) throw new Error(`${file} was refused: ${String(body['message'])}`);
    plurals.push(crd.spec.names.plural);
  }
  const deadline = Date.now() + 30_000;
  for (const plural of plurals) {
    while ((await api.call('GET', `/apis/${GROUP}/${VERSION}/${plural}`)).status !== 200) {
      if (Date.now() > deadline) throw new Error(`the API server does not serve ${plural} after 30 s`);
      await sleep(50);
    }
  }
}
