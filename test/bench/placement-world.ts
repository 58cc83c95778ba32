/**
 * Owns the cluster of the benchmark `placement`: a control plane of its own with scheduler and audit log, nodes that kwok plays, and
 * the chart's objects without its workloads. Each side of a run gets a fresh one, so that none starts where another stopped.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '@slm-operator/operator/kube/client';
import { accessFrom, loadKubeConfig } from '@slm-operator/operator/kube/config';
import { makeKubeClient } from '@slm-operator/operator/kube/http-client';
import { parseAllDocuments } from 'yaml';
import { repoRoot } from '../cache.ts';
import { makeClients } from '../cluster/clients.ts';
import { runCommand } from '../cluster/command.ts';
import type { Progress } from '../cluster/progress.ts';
import { ensureTools } from '../cluster/tools.ts';
import { startControlPlane, type TestControlPlane } from '../envtest/control-plane.ts';
import { installCrds } from '../envtest/crds.ts';
import { type FileServer, startFileServer } from '../fixtures/file-server.ts';
import { type AuditLog, openAudit, prepareAudit } from './audit-log.ts';
import { makeFiles, makeNodes } from './placement-objects.ts';

const SYSTEM = 'slm-system';
/** As which the operator writes, with the rights that the chart gives it. */
export const OPERATOR_USER = `system:serviceaccount:${SYSTEM}:slm-operator`;
/** The one that the operator is compared with: a ServiceAccount too, so that the server treats both alike. */
export const PEER_USER = `system:serviceaccount:${SYSTEM}:bare-client`;
const ACCOUNT_GROUPS = ['system:serviceaccounts', `system:serviceaccounts:${SYSTEM}`, 'system:authenticated'];
const READY_TIMEOUT_MS = 180_000;

export interface PlacementWorld extends AsyncDisposable {
  /** Folder for logs; kept until the world ends. */
  readonly folder: string;
  /** Of users who write deployments, and of whoever looks. */
  readonly admin: KubeClient;
  readonly audit: AuditLog;
  /** A client under another name, with a kubeconfig of its own. */
  addUser(name: string): Promise<{ readonly kubeconfig: string; readonly client: KubeClient }>;
  /** What the chart tells the operator. */
  readonly operatorEnv: Readonly<Record<string, string>>;
  /** Flags for Node that give it the heap that it has in a container of the chart. */
  readonly heapFlags: readonly string[];
}

/** Brings a world up; resolves when its nodes are Ready. */
export async function startWorld(options: {
  readonly nodes: number;
  readonly namespaces: readonly string[];
  readonly progress: Progress;
}): Promise<PlacementWorld> {
  const { progress } = options;
  const step = progress.step(`a control plane with ${options.nodes} fake nodes`);
  const tools = await ensureTools(['kubectl', 'helm'], progress);
  const folder = await mkdtemp(path.join(tmpdir(), 'slm-placement-'));
  const closing: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true, maxRetries: 5 })];
  const end = async () => {
    for (const close of closing.toReversed()) await close();
  };
  try {
    const audit = await prepareAudit(folder);
    const plane = await startControlPlane({
      controllerManager: true,
      scheduler: true,
      kwok: true,
      progress,
      // The usual range has room for 254 Services.
      apiServerFlags: { ...audit.flags, 'service-cluster-ip-range': '10.199.0.0/16' },
    });
    closing.push(() => plane.stop());
    const files = await serveFiles(path.join(folder, 'files'));
    closing.push(() => files.close());
    await installCrds(plane.kubeconfig);
    const kubectl = makeClients({ kubeconfig: plane.kubeconfig, tools }).kubectl;
    const create = (items: readonly object[]) =>
      kubectl(['apply', '--server-side', '-f', '-'], {
        input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items }),
      });
    const namespace = (name: string) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    await create([SYSTEM, ...options.namespaces].map(namespace));
    const chart = await renderChart(tools.helm, files);
    await create([...chart.objects, ...peerRights]);
    // The scheduler must know them all before the first pod, or its first choices would differ from run to run.
    await kubectl(['create', '-f', '-'], {
      input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items: makeNodes(options.nodes) }),
    });
    const admin = clientOf(plane.kubeconfig, 'bench');
    closing.push(() => admin.close());
    await waitForNodes(admin, options.nodes);
    await waitForAccounts(admin, options.namespaces);
    const log = await openAudit(audit.file);
    closing.push(async () => log[Symbol.asyncDispose]());
    step.done();
    return {
      folder: plane.folder,
      admin,
      audit: log,
      operatorEnv: chart.env,
      heapFlags: heapFlags(chart.memory),
      async addUser(name) {
        const kubeconfig = await addUser(plane, name);
        const client = clientOf(kubeconfig, name.split(':').at(-1) ?? name);
        closing.push(() => client.close());
        return { kubeconfig, client };
      },
      [Symbol.asyncDispose]: end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

function addUser(plane: TestControlPlane, name: string): Promise<string> {
  return plane.addUser(name, name.startsWith('system:serviceaccount:') ? ACCOUNT_GROUPS : ['system:masters']);
}

function clientOf(kubeconfig: string, name: string): KubeClient {
  return makeKubeClient({ access: accessFrom(loadKubeConfig({ file: kubeconfig })), userAgent: `${name}/bench` });
}

const peerRights = [
  {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name: 'bare-client' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ kind: 'User', name: PEER_USER, apiGroup: 'rbac.authorization.k8s.io' }],
  },
];

async function serveFiles(root: string): Promise<FileServer> {
  for (const [name, content] of makeFiles()) {
    await mkdir(path.dirname(path.join(root, name)), { recursive: true });
    await writeFile(path.join(root, name), content);
  }
  return startFileServer({ root });
}

interface ContainerLike {
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly resources?: { readonly limits?: { readonly memory?: string } };
}

interface Rendered {
  readonly kind: string;
  readonly spec?: {
    readonly template?: {
      readonly spec?: {
        readonly containers?: readonly ContainerLike[];
      };
    };
  };
}

/** The chart's objects that are no workload, and what it tells the operator. */
async function renderChart(helm: string, files: FileServer) {
  const settings = `huggingFace.endpoint=${files.url},huggingFace.insecure=true,crds.enabled=false`;
  const chart = path.join(repoRoot, 'charts/slm-operator');
  const text = await runCommand([helm, 'template', 'slm-operator', chart, '--namespace', SYSTEM, '--set', settings]);
  const all = parseAllDocuments(text).flatMap((document) => (document.toJS() as Rendered | null) ?? []);
  const container = all.find(({ kind }) => kind === 'Deployment')?.spec?.template?.spec?.containers?.[0];
  const told = (container?.env ?? []).flatMap(({ name, value }) =>
    value === undefined ? [] : [[name, value] as const],
  );
  return {
    objects: all.filter(({ kind }) => !['Deployment', 'DaemonSet', 'PodDisruptionBudget'].includes(kind)),
    env: { ...Object.fromEntries(told), SLM_NAMESPACE: SYSTEM, SLM_IDENTITY: 'slm-operator-bench' },
    memory: container?.resources?.limits?.memory,
  };
}

/**
 * V8 takes half of a container's memory for old objects, and a 64th of that for each half of the young ones. Outside of a
 * container it would take what the whole machine has, and collect garbage later.
 * @param limit such as 512Mi
 */
export function heapFlags(limit: string | undefined): string[] {
  const mebibytes = Number(/^(\d+)Mi$/.exec(limit ?? '')?.[1]);
  if (!(mebibytes > 0)) throw new Error(`the chart's memory limit of the operator is ${limit}, which is not read here`);
  return [`--max-old-space-size=${mebibytes / 2}`, `--max-semi-space-size=${Math.max(1, mebibytes / 128)}`];
}

async function waitForNodes(client: KubeClient, count: number): Promise<void> {
  interface NodeLike {
    readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
    readonly spec?: { readonly taints?: readonly unknown[] };
  }
  await until(async () => {
    const { items } = await client.request<{ items: NodeLike[] }>({ method: 'GET', path: '/api/v1/nodes' });
    const ready = items.filter(
      ({ status, spec }) =>
        status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') &&
        (spec?.taints ?? []).length === 0,
    );
    return ready.length === count;
  }, `${count} nodes to be Ready`);
}

/** The ReplicaSet controller cannot make pods before, and then backs off for seconds. */
async function waitForAccounts(client: KubeClient, namespaces: readonly string[]): Promise<void> {
  const path = '/api/v1/serviceaccounts?fieldSelector=metadata.name%3Ddefault';
  await until(async () => {
    const { items } = await client.request<{ items: { metadata: { namespace: string } }[] }>({ method: 'GET', path });
    const known = new Set(items.map(({ metadata }) => metadata.namespace));
    return namespaces.every((name) => known.has(name));
  }, 'service accounts');
}

/** Looks ten times a second, or so often as said. Throws when it takes longer than three minutes, or than said. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = READY_TIMEOUT_MS,
  intervalMs = 100,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`gave up waiting for ${what} after ${timeoutMs / 1000} s`);
    await sleep(intervalMs);
  }
}
