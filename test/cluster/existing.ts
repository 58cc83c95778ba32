/** Owns a cluster that was there before us, by the name of its context: clients work, and nothing else is ours to change. */
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { cacheDir } from '../cache.ts';
import { makeClients } from './clients.ts';
import type { Cluster } from './cluster.ts';
import { tryCommand } from './command.ts';
import { lastLines, UserError } from './errors.ts';
import type { Progress } from './progress.ts';
import { ensureTools } from './tools.ts';

/**
 * Opens the cluster of a context in the user's own kubeconfig.
 * @throws UserError when there is no such context or its API server does not answer
 */
export async function existingCluster(context: string, progress: Progress): Promise<Cluster> {
  const tools = await ensureTools(['kubectl', 'helm'], progress);
  // One file with this context alone, so that nothing done later can end up in another cluster.
  const view = ['config', 'view', '--minify', '--flatten', '--context', context, '--output', 'json'];
  const { code, stdout, stderr } = await tryCommand([tools.kubectl, ...view]);
  if (code !== 0)
    throw new UserError(
      `There is no context "${context}" to use; "kubectl config get-contexts" lists them:\n${stderr}`,
    );
  const folder = path.join(cacheDir, 'contexts', context.replaceAll(/[^\w.-]/g, '-'));
  const binFolder = path.join(folder, 'bin');
  await mkdir(binFolder, { recursive: true, mode: 0o700 });
  const kubeconfig = path.join(folder, 'kubeconfig');
  await writeFile(kubeconfig, JSON.stringify({ ...(JSON.parse(stdout) as object), 'current-context': context }), {
    mode: 0o600,
  });
  for (const name of ['kubectl', 'helm'] as const) {
    await rm(path.join(binFolder, name), { force: true });
    await symlink(tools[name], path.join(binFolder, name));
  }
  const clients = makeClients({ kubeconfig, tools });
  const names = await tryCommand(
    [tools.kubectl, '--request-timeout=10s', 'get', 'nodes', '-o', 'jsonpath={.items[*].metadata.name}'],
    { env: { ...process.env, KUBECONFIG: kubeconfig } },
  );
  if (names.code !== 0)
    throw new UserError(`The cluster of context "${context}" does not answer:\n${lastLines(names.stderr, 3)}`);
  const refuse = (what: string) => () => {
    throw new UserError(`${what} is not possible in the existing cluster of context "${context}".`);
  };
  return {
    provider: 'existing',
    kubeconfig,
    binFolder,
    hostAddress: undefined,
    nodeNames: names.stdout.split(' ').filter(Boolean),
    ...clients,
    loadImages: async () =>
      refuse(
        'Loading image archives (push the images to a registry that it pulls from, and name them in the values)',
      )(),
    node: refuse('Power over nodes'),
    apiServer: { stop: async () => refuse('Stopping the API server')(), start: async () => undefined },
    down: async () => refuse('Taking it down')(),
  };
}
