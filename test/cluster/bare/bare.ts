/**
 * Owns the bare provider: etcd, API server, controller manager and scheduler as processes of the machine, nodes as sets of
 * namespaces. Brings it up, finds it again, takes it down. See README.md for the picture.
 */
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type ApiReader, makeApiReader } from '../api-reader.ts';
import { makeClients } from '../clients.ts';
import type { Cluster, ClusterNode, UpOptions } from '../cluster.ts';
import { runCommand } from '../command.ts';
import {
  apiServerArguments,
  type ControlPlaneFiles,
  type ControlPlaneSettings,
  controllerManagerArguments,
  etcdArguments,
  prepareControlPlane,
  schedulerArguments,
} from '../control-plane.ts';
import { endAllProcesses, endedReason, endProcesses, findProcesses, startDaemon, waitUntil } from '../daemons.ts';
import { UserError } from '../errors.ts';
import { ensureKwokNodes } from '../kwok.ts';
import type { Progress } from '../progress.ts';
import { ensureTools, type ToolPaths } from '../tools.ts';
import { type Changes, openChanges, prepareKernelSettings } from './changes.ts';
import { corednsObjects } from './coredns.ts';
import { importImages, makeSystemImages, noteArchives, notedArchives } from './images.ts';
import { findInstance, type Instance, MAX_NODES, openInstance, placeNode } from './instance.ts';
import { withLock } from './lock.ts';
import { makeNetwork } from './network.ts';
import { type NodeMachine, openNode } from './node.ts';
import { nodeFiles } from './node-files.ts';
import { startedLeaseCheck } from './readiness.ts';
import { prepareMachine } from './requirements.ts';
import { type ClusterRecord, readRecord, removeState, writeRecord } from './state.ts';

const TOOLS = [
  ...(['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kube-proxy'] as const),
  ...(['kubectl', 'helm', 'containerd', 'ctr', 'cni', 'runc', 'coredns', 'pause'] as const),
] as const;
type Tools = ToolPaths<(typeof TOOLS)[number]>;

/** A busy two-core machine needs 15 s for what takes 3 on an idle one; beyond this something is broken. */
const READY_TIMEOUT_MS = 120_000;

/** Everything that acts on one instance. */
interface Context {
  readonly instance: Instance;
  readonly tools: Tools;
  readonly settings: ControlPlaneSettings;
  readonly files: ControlPlaneFiles;
  readonly api: ApiReader;
  readonly changes: Changes;
  readonly progress: Progress;
}

/** Brings the cluster up, or completes the one that runs. */
export async function upBareCluster(options: UpOptions): Promise<Cluster> {
  const { progress } = options;
  await prepareMachine(progress);
  const tools = await ensureTools(TOOLS, progress);
  const instance = openInstance();
  for (const folder of ['log', 'nodes', 'bin']) await mkdir(path.join(instance.folder, folder), { recursive: true });
  return withLock(instance.folder, async () => {
    const known = isRunning(instance) ? await readRecord(instance) : undefined;
    const record: ClusterRecord = {
      nodes: Math.max(known?.nodes ?? 0, options.nodes ?? known?.nodes ?? 3),
      // Fake nodes renew their leases every 10 s and more.
      nodeGraceSeconds: options.nodeGraceSeconds ?? (options.kwok ? 40 : (known?.nodeGraceSeconds ?? 8)),
    };
    if (record.nodes < 1 || record.nodes > MAX_NODES)
      throw new UserError(`A bare cluster has 1 to ${MAX_NODES} nodes: ask for that many, and use --kwok for more.`);
    if (!known) await removeState(instance);
    await writeRecord(instance, record);
    const context = await makeContext(instance, tools, record, progress);
    const step = progress.step(`cluster "${instance.name}" of ${record.nodes} nodes`);
    const { changes } = context;
    await prepareKernelSettings(instance.folder, changes);
    await makeNetwork(instance, changes);
    await linkClients(instance, tools);

    const restartManager = known !== undefined && known.nodeGraceSeconds !== record.nodeGraceSeconds;
    step.update('control plane and nodes');
    await noteArchives(instance, await makeSystemImages(instance, tools));
    await Promise.all([
      startControlPlane(context, restartManager),
      ...places(instance, record).map((node) => startNode(context, node)),
    ]);
    step.update('waiting for the nodes to be Ready');
    for (const node of places(instance, record)) await waitUntilReady(context, node);
    step.update('cluster DNS');
    await startDns(context);
    step.done(`Ready, its DNS answers; state in ${instance.folder}`);
    const cluster = makeCluster(context, record);
    if (options.kwok) await ensureKwokNodes({ ...cluster, folder: instance.folder, count: options.kwok, progress });
    return cluster;
  });
}

/** The running bare cluster of this instance, or undefined. */
export async function openBareCluster(progress: Progress): Promise<Cluster | undefined> {
  const instance = findInstance();
  const record = instance && isRunning(instance) ? await readRecord(instance) : undefined;
  if (!instance || !record) return undefined;
  const tools = await ensureTools(TOOLS, progress);
  return makeCluster(await makeContext(instance, tools, record, progress), record);
}

/** Takes down what is there of this instance, however much that is. */
export async function downBareCluster(options: { readonly purge?: boolean } = {}): Promise<void> {
  const instance = findInstance();
  if (!instance) return;
  await withLock(instance.folder, async () => {
    await endAllProcesses(instance.folder);
    await openChanges(instance.folder).undo();
    await removeState(instance);
  });
  if (options.purge) await rm(instance.folder, { recursive: true, force: true });
}

/** Whether anything of the chosen instance runs as a bare cluster. */
export function isBareClusterRunning(): boolean {
  const instance = findInstance();
  return instance !== undefined && isRunning(instance);
}

function isRunning(instance: Instance): boolean {
  return process.platform === 'linux' && findProcesses(instance.folder).length > 0;
}

async function makeContext(
  instance: Instance,
  tools: Tools,
  record: ClusterRecord,
  progress: Progress,
): Promise<Context> {
  const settings: ControlPlaneSettings = {
    folder: instance.folder,
    name: `slm-${instance.name}`,
    address: instance.hostAddress,
    apiPort: instance.apiPort,
    etcdPort: instance.etcdPort,
    etcdPeerPort: instance.etcdPeerPort,
    serviceRange: instance.serviceRange,
    serviceAddress: instance.serviceAddress,
    nodeGraceSeconds: record.nodeGraceSeconds,
  };
  const files = await prepareControlPlane(settings);
  const api = await makeApiReader(files.kubeconfig);
  return { instance, tools, settings, files, api, changes: openChanges(instance.folder), progress };
}

function places(instance: Instance, { nodes }: ClusterRecord): NodeMachine[] {
  return Array.from({ length: nodes }, (_, index) => openNode(instance, placeNode(instance, index + 1)));
}

function logOf({ instance }: Context, name: string): string {
  return path.join(instance.folder, 'log', `${name}.log`);
}

/** Starts a daemon of the control plane unless it runs. */
function ensureDaemon(context: Context, name: keyof Tools, args: readonly string[]): void {
  const owner = context.instance.folder;
  if (findProcesses(owner, name).length > 0) return;
  startDaemon({ owner, name, command: [context.tools[name], ...args], log: logOf(context, name) });
}

async function startApiServer(context: Context): Promise<void> {
  const owner = context.instance.folder;
  ensureDaemon(context, 'etcd', etcdArguments(context.settings));
  ensureDaemon(context, 'kube-apiserver', apiServerArguments(context.settings));
  await waitUntil(() => context.api.isReady(), {
    what: `the API server (see ${logOf(context, 'kube-apiserver')})`,
    timeoutMs: READY_TIMEOUT_MS,
    failed: () =>
      endedReason(owner, 'etcd', logOf(context, 'etcd')) ??
      endedReason(owner, 'kube-apiserver', logOf(context, 'kube-apiserver')),
  });
}

async function startControlPlane(context: Context, restartManager: boolean): Promise<void> {
  await startApiServer(context);
  const manager = 'kube-controller-manager';
  if (restartManager) await endProcesses(findProcesses(context.instance.folder, manager), 'SIGTERM');
  ensureDaemon(context, manager, controllerManagerArguments(context.settings));
  ensureDaemon(context, 'kube-scheduler', schedulerArguments(context.settings));
}

async function startNode(context: Context, node: NodeMachine): Promise<void> {
  const { instance, tools, files } = context;
  if (node.pid() === undefined) {
    const authorityFile = path.join(files.pki, 'ca.crt');
    await node.configure(nodeFiles({ instance, place: node.place, authorityFile, cni: tools.cni, runc: tools.runc }));
    const { name, folder } = node.place;
    await files.writeKubeconfig(path.join(folder, 'kubelet.kubeconfig'), `system:node:${name}`, ['system:nodes']);
    await files.writeKubeconfig(path.join(folder, 'kube-proxy.kubeconfig'), 'system:kube-proxy');
    await writeFile(path.join(folder, 'started'), new Date().toISOString());
  }
  const programs = [tools.kubelet, tools.containerd, tools.runc].map((file) => path.dirname(file)).join(':');
  await node.powerOn(programs, context.changes);
  await importImages(node, await notedArchives(instance), tools.ctr);
}

async function waitUntilReady(context: Context, node: NodeMachine): Promise<void> {
  const since = await readFile(path.join(node.place.folder, 'started'), 'utf8');
  await waitUntil(startedLeaseCheck(context.api, node.place.name, since), {
    what: `node ${node.place.name} to be Ready (see ${path.join(node.place.folder, 'log/kubelet.log')})`,
    timeoutMs: READY_TIMEOUT_MS,
    failed: () => (node.pid() === undefined ? `node ${node.place.name} has ended` : undefined),
  });
}

async function startDns(context: Context): Promise<void> {
  const { instance, tools, files } = context;
  const input = JSON.stringify(corednsObjects(instance));
  await runCommand([tools.kubectl, '--kubeconfig', files.kubeconfig, 'apply', '-f', '-'], { input });
  const pid = openNode(instance, placeNode(instance, 1)).pid();
  const question = [instance.dnsAddress, 'kubernetes.default.svc.cluster.local', '60'];
  const script = path.join(import.meta.dirname, 'wait-dns.ts');
  await runCommand(['nsenter', '--target', String(pid), '--net', '--', process.execPath, script, ...question]);
}

/** A folder with the clients alone, for the PATH of a shell. */
async function linkClients(instance: Instance, tools: Tools): Promise<void> {
  for (const name of ['kubectl', 'helm'] as const) {
    const link = path.join(instance.folder, 'bin', name);
    await rm(link, { force: true });
    await symlink(tools[name], link);
  }
}

function makeCluster(context: Context, record: ClusterRecord): Cluster {
  const { instance, tools, files, progress } = context;
  const nodes = places(instance, record);
  const find = (name: string) => {
    const node = nodes.find(({ place }) => place.name === name);
    if (!node)
      throw new UserError(
        `There is no node "${name}": choose one of ${nodes.map(({ place }) => place.name).join(', ')}.`,
      );
    return node;
  };
  return {
    provider: 'bare',
    kubeconfig: files.kubeconfig,
    binFolder: path.join(instance.folder, 'bin'),
    hostAddress: instance.hostAddress,
    nodeNames: nodes.map(({ place }) => place.name),
    ...makeClients({ kubeconfig: files.kubeconfig, tools }),
    async loadImages(archives) {
      const step = progress.step(`loading ${archives.length} image archives`);
      await noteArchives(instance, archives);
      const counts = await Promise.all(
        nodes.filter((node) => node.pid() !== undefined).map((node) => importImages(node, archives, tools.ctr)),
      );
      step.done(`${counts.reduce((sum, count) => sum + count, 0)} imports on ${counts.length} nodes`);
    },
    node(name): ClusterNode {
      const node = find(name);
      return {
        name,
        kill: () => node.powerOff(),
        async start() {
          await startNode(context, node);
          await waitUntilReady(context, node);
        },
        hold: (service) => node.hold(service),
        release: (service) => node.release(service),
        exec: (command, input) => node.exec(command, input),
        rootFolder: async () => node.rootFolder(),
      };
    },
    apiServer: {
      async stop() {
        // The two that lead by a lease end without it, and come back with nothing remembered: one that lives on, as
        // they do here without an election, takes nodes for lost by what it last heard of them.
        for (const name of ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'])
          await endAllProcesses(instance.folder, name);
      },
      start: () => startControlPlane(context, false),
    },
    down: (options) => downBareCluster(options),
  };
}

/** Lines about the processes of this instance, for `status`. */
export function bareProcesses(): string[] {
  const instance = findInstance();
  return instance ? findProcesses(instance.folder).map(({ name, pid }) => `${name.padEnd(28)} ${pid}`) : [];
}
