/**
 * Owns the kind provider: the same cluster as containers of a Docker engine, made by the kind tool. Touches only the
 * containers of its own cluster name.
 */
import { existsSync } from 'node:fs';
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import path from 'node:path';
import { parseImageList } from './bare/images.ts';
import { findInstance, type Instance, openInstance } from './bare/instance.ts';
import type { NodeService } from './bare/node.ts';
import { type ArchivedImage, readImages } from './bare/oci-archive.ts';
import { makeClients } from './clients.ts';
import type { Cluster, ClusterNode, UpOptions } from './cluster.ts';
import { runCommand, tryCommand } from './command.ts';
import { waitUntil } from './daemons.ts';
import { lastLines, UserError } from './errors.ts';
import { ensureKwokNodes } from './kwok.ts';
import type { Progress } from './progress.ts';
import { ensureTools, type ToolPaths } from './tools.ts';

const TOOLS = ['kind', 'kubectl', 'helm'] as const;
type Tools = ToolPaths<(typeof TOOLS)[number]>;

const READY_TIMEOUT_MS = 180_000;
const MANIFEST = '/etc/kubernetes/manifests/kube-apiserver.yaml';
const HELD_MANIFEST = '/etc/kubernetes/kube-apiserver.held.yaml';

/** Whether a Docker engine answers this user. */
export async function dockerAnswers(): Promise<boolean> {
  // A socket without an engine behind it may keep silent.
  const signal = AbortSignal.timeout(5000);
  const { code } = await tryCommand(['docker', 'info'], { signal }).catch(() => ({ code: 1 }));
  return code === 0;
}

/** The configuration of a kind cluster: one control plane, and `nodes` workers (one node alone is both). */
export function kindConfig(nodes: number, nodeGraceSeconds: number): object {
  const argument = (component: string, name: string, value: string) => ({
    op: 'add',
    path: `/${component}/extraArgs/-`,
    value: { name, value },
  });
  return {
    kind: 'Cluster',
    apiVersion: 'kind.x-k8s.io/v1alpha4',
    networking: { kubeProxyMode: 'nftables' },
    nodes: [{ role: 'control-plane' }, ...Array.from({ length: nodes === 1 ? 0 : nodes }, () => ({ role: 'worker' }))],
    // The same short times as a bare cluster has.
    kubeadmConfigPatches: [
      JSON.stringify({
        kind: 'KubeletConfiguration',
        failCgroupV1: false,
        nodeStatusUpdateFrequency: '2s',
        nodeLeaseDurationSeconds: 8,
      }),
    ],
    kubeadmConfigPatchesJSON6902: [
      {
        group: 'kubeadm.k8s.io',
        version: 'v1beta4',
        kind: 'ClusterConfiguration',
        patch: JSON.stringify([
          argument('apiServer', 'default-not-ready-toleration-seconds', '5'),
          argument('apiServer', 'default-unreachable-toleration-seconds', '5'),
          argument('controllerManager', 'node-monitor-period', '1s'),
          argument('controllerManager', 'node-monitor-grace-period', `${nodeGraceSeconds}s`),
        ]),
      },
    ],
  };
}

/**
 * Those nodes that lack an image of an archive, by digest; `known` gives each node's images. An archive that does not say
 * what it holds is lacking everywhere.
 */
export function lackingNodes(
  images: readonly ArchivedImage[],
  known: ReadonlyMap<string, ReadonlyMap<string, string>>,
): string[] {
  return [...known]
    .filter(([, there]) => images.length === 0 || images.some(({ name, digest }) => there.get(name) !== digest))
    .map(([node]) => node);
}

/** Brings the kind cluster up, or joins the one that runs. */
export async function upKindCluster(options: UpOptions): Promise<Cluster> {
  const { progress } = options;
  if (!(await dockerAnswers()))
    throw new UserError('No Docker engine answers "docker info": start it, or use --provider bare as root.');
  const tools = await ensureTools(TOOLS, progress);
  const instance = openInstance();
  await mkdir(path.join(instance.folder, 'log'), { recursive: true });
  const name = clusterName(instance);
  const known = (await runCommand([tools.kind, 'get', 'clusters'])).split('\n').includes(name);
  if (!known) {
    const nodes = options.nodes ?? 3;
    const step = progress.step(`kind cluster "${name}" of ${nodes} nodes`);
    const config = kindConfig(nodes, options.nodeGraceSeconds ?? (options.kwok ? 40 : 8));
    const image = process.env['SLM_KIND_IMAGE'];
    const create = ['--name', name, '--config', '-', '--wait', '180s', '--kubeconfig', kubeconfigOf(instance)];
    const result = await tryCommand(
      [tools.kind, 'create', 'cluster', ...create, ...(image ? ['--image', image] : [])],
      { input: JSON.stringify(config), onErrorLine: (line) => step.update(line.trim()) },
    );
    if (result.code !== 0) throw new UserError(`kind could not make the cluster:\n${lastLines(result.stderr, 20)}`);
    step.done('Ready');
  } else {
    await runCommand([tools.kind, 'export', 'kubeconfig', '--name', name, '--kubeconfig', kubeconfigOf(instance)]);
  }
  await writeFile(recordOf(instance), JSON.stringify({ provider: 'kind' }));
  const cluster = await makeCluster(instance, tools, progress);
  await cluster.kubectl(['-n', 'kube-system', 'rollout', 'status', 'deployment/coredns', '--timeout=180s']);
  if (options.kwok) await ensureKwokNodes({ ...cluster, folder: instance.folder, count: options.kwok, progress });
  return cluster;
}

/** The running kind cluster of this instance, or undefined. */
export async function openKindCluster(progress: Progress): Promise<Cluster | undefined> {
  const instance = findInstance();
  if (!instance || !existsSync(recordOf(instance))) return undefined;
  return makeCluster(instance, await ensureTools(TOOLS, progress), progress);
}

function clusterName(instance: Instance): string {
  return `slm-${instance.name}`;
}

function kubeconfigOf(instance: Instance): string {
  return path.join(instance.folder, 'kind.kubeconfig');
}

function recordOf(instance: Instance): string {
  return path.join(instance.folder, 'kind.json');
}

async function makeCluster(instance: Instance, tools: Tools, progress: Progress): Promise<Cluster> {
  const kubeconfig = kubeconfigOf(instance);
  const name = clusterName(instance);
  const controlPlane = `${name}-control-plane`;
  const clients = makeClients({ kubeconfig, tools });
  const binFolder = path.join(instance.folder, 'bin');
  await mkdir(binFolder, { recursive: true });
  for (const client of ['kubectl', 'helm'] as const) {
    await rm(path.join(binFolder, client), { force: true });
    await symlink(tools[client], path.join(binFolder, client));
  }
  const all = (await runCommand([tools.kind, 'get', 'nodes', '--name', name])).split('\n').filter(Boolean);
  const workers = all.filter((node) => node !== controlPlane).sort();
  const nodeNames = workers.length > 0 ? workers : all;
  const gateways = await runCommand([
    'docker',
    'network',
    'inspect',
    'kind',
    '--format',
    '{{range .IPAM.Config}}{{.Gateway}} {{end}}',
  ]);
  const hostAddress = gateways.split(/\s+/).find((address) => isIPv4(address));
  const inContainer = (node: string, command: readonly string[], input?: string) =>
    tryCommand(
      ['docker', 'exec', ...(input === undefined ? [] : ['--interactive']), node, ...command],
      input === undefined ? {} : { input },
    );
  const inContainerOrThrow = async (node: string, command: readonly string[]) => {
    const { code, stderr } = await inContainer(node, command);
    if (code !== 0) throw new Error(`${command.join(' ')} failed on ${node}:\n${lastLines(stderr)}`);
  };
  const switchService = async (node: string, verb: 'stop' | 'start', service: NodeService) => {
    if (service === 'kube-proxy')
      throw new UserError('kube-proxy of a kind cluster is a pod: it cannot be held; use --provider bare.');
    await inContainerOrThrow(node, ['systemctl', verb, service]);
  };
  const isReady = async () =>
    (await clients.kubectl(['get', '--raw=/readyz', '--request-timeout=2s'], { allowFailure: true })) === 'ok';

  return {
    provider: 'kind',
    kubeconfig,
    binFolder,
    nodeNames,
    hostAddress,
    ...clients,
    async loadImages(archives) {
      const list = ['ctr', '--namespace', 'k8s.io', 'images', 'list'];
      const known = new Map(
        await Promise.all(
          all.map(async (node) => [node, parseImageList((await inContainer(node, list)).stdout)] as const),
        ),
      );
      for (const archive of archives) {
        if (!existsSync(archive)) throw new UserError(`There is no image archive ${archive}.`);
        const lacking = lackingNodes(await readImages(archive), known);
        if (lacking.length === 0) continue;
        const step = progress.step(`kind load ${path.basename(archive)}`);
        await runCommand([tools.kind, 'load', 'image-archive', archive, '--name', name, '--nodes', lacking.join(',')]);
        step.done();
      }
    },
    node(node): ClusterNode {
      if (!nodeNames.includes(node))
        throw new UserError(`There is no node "${node}": choose one of ${nodeNames.join(', ')}.`);
      return {
        name: node,
        kill: async () => void (await runCommand(['docker', 'kill', node])),
        async start() {
          const since = Date.now();
          await runCommand(['docker', 'start', node]);
          await waitUntil(
            async () => {
              const lease = ['-n', 'kube-node-lease', 'get', 'lease', node, '-o', 'jsonpath={.spec.renewTime}'];
              const renewed = await clients.kubectl(lease, { allowFailure: true });
              const ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}';
              const state = await clients.kubectl(['get', 'node', node, '-o', ready], { allowFailure: true });
              return state === 'True' && Date.parse(renewed) > since;
            },
            { what: `node ${node} to be Ready`, timeoutMs: READY_TIMEOUT_MS },
          );
        },
        hold: (service) => switchService(node, 'stop', service),
        release: (service) => switchService(node, 'start', service),
        exec: (command, input) => inContainer(node, command, input),
        async rootFolder() {
          const pid = (await runCommand(['docker', 'inspect', '--format', '{{.State.Pid}}', node])).trim();
          return path.join('/proc', pid, 'root');
        },
      };
    },
    apiServer: {
      // The kubelet of the control plane runs it from a file: without the file it ends it, and does not start it again.
      async stop() {
        await inContainerOrThrow(controlPlane, ['mv', MANIFEST, HELD_MANIFEST]);
        await inContainer(controlPlane, ['pkill', '-KILL', 'kube-apiserver']);
        await waitUntil(async () => !(await isReady()), { what: 'the API server to end', timeoutMs: READY_TIMEOUT_MS });
      },
      async start() {
        await inContainerOrThrow(controlPlane, ['mv', HELD_MANIFEST, MANIFEST]);
        await waitUntil(isReady, { what: 'the API server', timeoutMs: READY_TIMEOUT_MS });
      },
    },
    async down() {
      await runCommand([tools.kind, 'delete', 'cluster', '--name', name, '--kubeconfig', kubeconfig]);
      for (const file of [recordOf(instance), kubeconfig]) await rm(file, { force: true });
    },
  };
}
