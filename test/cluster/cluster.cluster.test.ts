// A cluster of its own beside the one that the other tests share, because nodes are killed here and the API server is stopped.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeProgramImage } from './bare/oci-archive.ts';
import { type Cluster, type ClusterNode, openCluster, upCluster } from './cluster.ts';
import { makeProgress, silentProgress } from './progress.ts';
import { selfcheck } from './selfcheck.ts';
import { ensureTools } from './tools.ts';

const IMAGE = 'slm-operator.local/probe:1';
const progress = makeProgress();
const sharedName = process.env['SLM_CLUSTER'];
let cluster: Cluster;
let folder: string;

beforeAll(async () => {
  process.env['SLM_CLUSTER'] = 'cluster-tests';
  cluster = await upCluster({ nodes: 2, progress });
  const { probe } = await ensureTools(['probe'], progress);
  folder = await mkdtemp(path.join(tmpdir(), 'slm-probe-'));
  const archive = path.join(folder, 'probe.tar');
  const content = await readFile(probe);
  await writeFile(archive, makeProgramImage({ name: IMAGE, program: 'probe', content, user: '0:0' }));
  await cluster.loadImages([archive]);
});

afterAll(async () => {
  await cluster?.down({ purge: true });
  await rm(folder, { recursive: true, force: true });
  if (sharedName === undefined) delete process.env['SLM_CLUSTER'];
  else process.env['SLM_CLUSTER'] = sharedName;
});

/** Makes a pod of the probe image and waits until it runs. */
async function startPod(name: string, args: readonly string[], spec: object = {}, container: object = {}) {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name } },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'probe', image: IMAGE, args, ...container }],
      ...spec,
    },
  };
  await cluster.kubectl(['apply', '-f', '-'], { input: JSON.stringify(pod) });
  await cluster.kubectl(['wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s']);
}

const inPod = (pod: string, ...command: string[]) => cluster.kubectl(['exec', pod, '--', '/probe', ...command]);
const readyState = (node: string) =>
  cluster.kubectl(['get', 'node', node, '-o', 'jsonpath={.status.conditions[?(@.type=="Ready")].status}']);
const lastNode = (): ClusterNode => cluster.node(cluster.nodeNames.at(-1) ?? '');

describe('a cluster that is up', () => {
  it('answers a second up at once with the same nodes and the same objects', async () => {
    const uid = () => cluster.kubectl(['get', 'namespace', 'default', '-o', 'jsonpath={.metadata.uid}']);
    const before = await uid();
    const again = await upCluster({ nodes: 2, progress: silentProgress });
    expect(again.nodeNames).toEqual(cluster.nodeNames);
    expect(await uid()).toBe(before);
    expect((await openCluster(silentProgress))?.kubeconfig).toBe(cluster.kubeconfig);
  });

  it('gives pods names for services, and reaches a service by its name from another node', async () => {
    const [first, second] = cluster.nodeNames;
    const on = (node: string | undefined) => ({ nodeSelector: { 'kubernetes.io/hostname': node } });
    await Promise.all([
      startPod('server', ['serve', ':8080', 'hello from the server'], on(first)),
      startPod('client', ['sleep'], on(second)),
    ]);
    await cluster.kubectl(['expose', 'pod', 'server', '--port=80', '--target-port=8080']);
    const address = await cluster.kubectl(['get', 'service', 'server', '-o', 'jsonpath={.spec.clusterIP}']);
    // A new name may be unknown for the 5 s that the DNS service remembers, a new service for the moment until the
    // nodes have heard of it.
    await expect
      .poll(() => inPod('client', 'lookup', 'server').catch(String), { timeout: 15_000 })
      .toBe(`${address}\n`);
    await expect
      .poll(() => inPod('client', 'get', 'http://server').catch(String), { timeout: 15_000 })
      .toBe('hello from the server\n');
  });

  it('lets nothing in a pod reach anything outside', async ({ skip }) => {
    if (cluster.provider !== 'bare') skip('a kind cluster has a way out');
    const outside = await inPod('client', 'get', 'http://192.0.2.1').catch(String);
    expect(outside).toContain('network is unreachable');
  });

  it('shows a mount that a pod makes under /var/lib/kubelet to the node and to other pods, as CSI drivers need', async () => {
    const [first] = cluster.nodeNames;
    const kubelet = '/var/lib/kubelet';
    await startPod(
      'mounter',
      ['mount', `${kubelet}/plugins/probe`],
      {
        nodeSelector: { 'kubernetes.io/hostname': first },
        volumes: [{ name: 'kubelet', hostPath: { path: kubelet } }],
      },
      {
        securityContext: { privileged: true },
        volumeMounts: [{ name: 'kubelet', mountPath: kubelet, mountPropagation: 'Bidirectional' }],
      },
    );
    const mounts = () => cluster.node(first ?? '').exec(['cat', '/proc/mounts']);
    await expect.poll(async () => (await mounts()).stdout).toContain(`probe ${kubelet}/plugins/probe tmpfs`);
    await expect(readFile('/proc/mounts', 'utf8')).resolves.not.toContain('plugins/probe');
  });
});

describe('power over nodes', () => {
  it('kills a node, which becomes NotReady, and starts it again', async () => {
    const node = lastNode();
    await node.kill();
    await expect.poll(() => readyState(node.name), { timeout: 60_000, interval: 500 }).toBe('Unknown');
    await node.start();
    expect(await readyState(node.name)).toBe('True');
  });

  it('holds a kubelet: the node becomes NotReady while its containers go on', async () => {
    const node = lastNode();
    await startPod('lasting', ['sleep', 'lasting'], { nodeSelector: { 'kubernetes.io/hostname': node.name } });
    const runs = async () => (await node.exec(['pgrep', '-fx', '/probe sleep lasting'])).stdout;
    const before = await runs();
    await node.hold('kubelet');
    await expect.poll(() => readyState(node.name), { timeout: 60_000, interval: 500 }).toBe('Unknown');
    expect(await runs()).toBe(before);
    await node.release('kubelet');
    await expect.poll(() => readyState(node.name), { timeout: 60_000, interval: 500 }).toBe('True');
  });

  it('names the nodes to choose from when there is no such node', () => {
    expect(() => cluster.node('n99')).toThrow(`choose one of ${cluster.nodeNames.join(', ')}`);
  });
});

describe('power over the API server', () => {
  it('refuses connections while it is stopped, and comes back with everything', async () => {
    await cluster.kubectl(['create', 'configmap', 'kept']);
    await cluster.apiServer.stop();
    const answer = cluster.kubectl(['get', 'configmap', 'kept', '--request-timeout=2s']);
    await expect(answer).rejects.toThrow(/refused|reset|EOF/);
    await cluster.apiServer.start();
    expect(await cluster.kubectl(['get', 'configmap', 'kept', '-o', 'name'])).toBe('configmap/kept\n');
  });
});

describe('down', () => {
  it('leaves nothing behind, also when up was killed half-way', async ({ skip }) => {
    if (cluster.provider !== 'bare') skip('kind deletes its own containers');
    expect(await selfcheck(progress)).toEqual([]);
  });
});
