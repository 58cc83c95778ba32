/** The repository of docs/gitops is one that a cluster takes, and the commands of its guide do what it says. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { GROUP } from '@slm-operator/crds';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { makeClients } from '../cluster/clients.ts';
import { tryCommand } from '../cluster/command.ts';
import { silentProgress } from '../cluster/progress.ts';
import { ensureTools } from '../cluster/tools.ts';
import { gitopsDocs, healthCheckExprs, healthLua, kindsInGit } from './engines.ts';

interface Item {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec?: { readonly healthCheckExprs?: readonly unknown[]; readonly path?: string };
}

const namespace = `gitops-${randomUUID().slice(0, 8)}`;
let kubectl: ReturnType<typeof makeClients>['kubectl'];
let binary: string;
beforeAll(async () => {
  const tools = await ensureTools(['kubectl', 'helm'], silentProgress);
  binary = path.dirname(tools.kubectl);
  kubectl = makeClients({ kubeconfig: inject('kubeconfig'), tools }).kubectl;
  await kubectl(['create', 'namespace', namespace]);
});
afterAll(() => kubectl(['delete', 'namespace', namespace, '--wait=false']));

const read = (file: string) => readFile(path.join(gitopsDocs, file), 'utf8');
const itemsOf = (yaml: string) => parseAllDocuments(yaml).map((document) => document.toJS() as Item);

it.each(['platform', 'models', 'teams/search/staging', 'teams/search/production'])(
  'the API server takes what kustomize makes of %s',
  async (folder) => {
    const items = itemsOf(await kubectl(['kustomize', path.join(gitopsDocs, 'repository', folder)]));
    const ours = items.filter(({ apiVersion }) => apiVersion.startsWith(`${GROUP}/`));
    expect(ours.length).toBeGreaterThan(0);
    // In a namespace that is there; nothing of it stays.
    const here = items.map((item) =>
      item.metadata.namespace === undefined ? item : { ...item, metadata: { ...item.metadata, namespace } },
    );
    const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: here });
    const said = await kubectl(['apply', '--server-side', '--dry-run=server', '--validate=strict', '-f', '-'], {
      input: list,
    });
    expect(said.trim().split('\n')).toHaveLength(items.length);
  },
);

it('what clusters follow are folders that there are, with the expressions of the guide', async () => {
  const known = (await healthCheckExprs()) as unknown[];
  const flux = itemsOf(await read('repository/clusters/flux/kustomizations.yaml'));
  expect(flux.flatMap(({ spec }) => spec?.healthCheckExprs ?? [])).toHaveLength(1);
  for (const { spec } of flux) {
    await read(`repository/${spec?.path}/kustomization.yaml`);
    for (const entry of spec?.healthCheckExprs ?? []) expect(known).toContainEqual(entry);
  }
});

it('the command of the guide puts health.lua beside what argocd-cm holds', async () => {
  await kubectl(['create', 'configmap', 'argocd-cm', '-n', namespace, '--from-literal=url=https://argocd.example.com']);
  const command = (await read('README.md'))
    .split('\n')
    .filter((line) => line.startsWith('    '))
    .join('\n')
    .match(/kubectl create configmap[\s\S]*?-f -/)?.[0];
  const env = { ...process.env, KUBECONFIG: inject('kubeconfig'), PATH: `${binary}:${process.env['PATH']}` };
  const shell = ['sh', '-c', (command ?? '').replace('-n argocd', `-n ${namespace}`)];
  expect(await tryCommand(shell, { cwd: gitopsDocs, env })).toMatchObject({ code: 0 });
  const { data } = JSON.parse(await kubectl(['get', 'configmap', 'argocd-cm', '-n', namespace, '-o', 'json'])) as {
    data: Record<string, string>;
  };
  const script = await healthLua();
  const ours = kindsInGit.map((kind) => [`resource.customizations.health.${GROUP}_${kind}`, script]);
  expect(data).toEqual({ url: 'https://argocd.example.com', ...Object.fromEntries(ours) });
});
