import path from 'node:path';
import { hexOf, type SLMNodeCacheSpec, type WantedModel } from '@slm-operator/crds';
import { startControlPlane } from '@slm-operator/test/envtest/control-plane';
import { installCrds } from '@slm-operator/test/envtest/crds';
import { type FileServer, startFileServer } from '@slm-operator/test/fixtures/file-server';
import { describe, expect, inject, it } from 'vitest';
import { accessFrom, loadKubeConfig } from '../kube/config.ts';
import { makeKubeClient } from '../kube/http-client.ts';
import { silentLogger } from '../runtime/log.ts';
import { makeRuntimeMetrics } from '../runtime/metrics.ts';
import { runAgent } from './agent.ts';
import { SLMNodeCache } from './resource.ts';
import { connect, publishRequest } from './testing/csi-client.ts';
import { type FakeMounter, makeFakeMounter } from './testing/fake-mounter.ts';
import { bytesOf, filesBelow, makeModel, publishFiles, temporaryFolder } from './testing/models.ts';

const model = makeModel({ 'model.gguf': bytesOf(8_000_000) });
const { digest } = model.wanted;
const slow = { timeout: 20_000, interval: 50 };
let nodes = 0;

/** A node with an agent, and the operator's hand that writes its spec. */
async function startNode(kubeconfig: string, bytesPerSecond?: number) {
  const name = `agent-node-${++nodes}`;
  const folder = await temporaryFolder();
  await publishFiles(path.join(folder.path, 'served'), model);
  const server: FileServer = await startFileServer({
    root: path.join(folder.path, 'served'),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
  });
  const operator = makeKubeClient({
    access: accessFrom(loadKubeConfig({ file: kubeconfig })),
    userAgent: 'operator-hand/1',
  });
  await operator.create(SLMNodeCache, { apiVersion: 'slm.dev/v1alpha1', kind: 'SLMNodeCache', metadata: { name } });
  const wanted: WantedModel = { ...model.wanted, sources: [{ url: `${server.url}/files/{path}` }] };
  const config = {
    nodeName: name,
    storeRoot: path.join(folder.path, 'store'),
    kubeletDir: path.join(folder.path, 'kubelet'),
    deviceDir: '/dev',
    broker: undefined,
    metricsPort: 0,
    logLevel: 'silent',
  };
  const mounter: FakeMounter = makeFakeMounter();
  let writes = 0;
  /** Runs an agent until it is stopped. */
  const startAgent = () => {
    const stop = new AbortController();
    const metrics = makeRuntimeMetrics();
    const client = makeKubeClient({
      access: accessFrom(loadKubeConfig({ file: kubeconfig })),
      userAgent: 'slm-agent/test',
      onRequest(record) {
        if (record.method !== 'GET') writes++;
        metrics.onRequest(record);
      },
    });
    const done = runAgent({ config, client, log: silentLogger, version: '1.2.3', metrics, mounter }, stop.signal);
    return {
      async stop() {
        stop.abort(new Error('stop'));
        await done;
        await client.close();
      },
    };
  };
  const setSpec = (spec: SLMNodeCacheSpec) =>
    operator.patch(SLMNodeCache, { name }, 'merge', { spec: { limits: { minFreePercent: 0 }, ...spec } });
  return {
    name,
    server,
    mounter,
    config,
    wanted,
    startAgent,
    setSpec,
    want: (...models: WantedModel[]) => setSpec({ wanted: models }),
    get writes() {
      return writes;
    },
    object: () => operator.get(SLMNodeCache, { name }),
    status: async () => (await operator.get(SLMNodeCache, { name })).status,
    async [Symbol.asyncDispose]() {
      await operator.delete(SLMNodeCache, { name }).catch(() => undefined);
      await operator.close();
      await server.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describe('the status of a node', () => {
  it('follows the pull, says when all is here, and is then written no more', async () => {
    await using node = await startNode(inject('kubeconfig'), 1_500_000);
    const agent = node.startAgent();
    await expect
      .poll(async () => (await node.status())?.conditions?.[0]?.message, slow)
      .toBe('no model is wanted on this node');
    const begun = performance.now();
    await node.want(node.wanted);
    await expect
      .poll(async () => (await node.status())?.conditions?.[0]?.message, slow)
      .toMatch(/^smollm2: \d+% of 8 MB, [\d.]+ [kM]B\/s, \d+ s left$/);
    await expect.poll(async () => (await node.status())?.summary, slow).toBe('1/1');
    const { status, metadata } = await node.object();
    expect(status).toMatchObject({
      observedGeneration: metadata.generation,
      agentVersion: '1.2.3',
      summary: '1/1',
      usedBytes: 8_000_000,
      devices: expect.arrayContaining([expect.objectContaining({ id: 'cpu', class: 'cpu', usable: true })]) as unknown,
      entries: [{ digest, state: 'Ready', bytesDone: 8_000_000, bytesTotal: 8_000_000 }],
      conditions: [{ type: 'Ready', status: 'True', message: 'the model is here, 8 MB' }],
    });
    // The first report, the beginning, the verification, the end; and progress every two seconds.
    expect(node.writes).toBeLessThanOrEqual(6 + (performance.now() - begun) / 2000);
    const before = node.writes;
    await agent.stop();
    const again = node.startAgent();
    using registration = connect(node.config.kubeletDir, 'Registration');
    await expect
      .poll(() => registration.call('GetInfo').catch(() => undefined), slow)
      .toMatchObject({ type: 'CSIPlugin' });
    await new Promise((resolve) => setTimeout(resolve, 3000));
    expect(node.writes).toBe(before);
    expect((await node.object()).metadata.resourceVersion).toBe(metadata.resourceVersion);
    await again.stop();
  });

  it('tells of a wrong digest, of which nothing stays, and recovers with the spec', async () => {
    await using node = await startNode(inject('kubeconfig'));
    node.server.setFault('/files/model.gguf', { corruptFrom: 5_000_000 });
    const agent = node.startAgent();
    await node.want(node.wanted);
    await expect.poll(async () => (await node.status())?.entries?.[0]?.error?.reason, slow).toBe('DigestMismatch');
    expect(await filesBelow(node.config.storeRoot)).toEqual([]);
    const { conditions } = (await node.status()) ?? {};
    expect(conditions?.map(({ type, status, reason }) => [type, status, reason])).toEqual([
      ['Ready', 'False', 'DigestMismatch'],
      ['Stalled', 'True', 'DigestMismatch'],
    ]);
    node.server.setFault('/files/model.gguf', undefined);
    await node.want({ ...node.wanted, sources: [{ url: `${node.server.url}/files/{path}?again` }] });
    await expect.poll(async () => (await node.status())?.summary, slow).toBe('1/1');
    expect((await node.status())?.conditions?.map(({ type }) => type)).toEqual(['Ready']);
    await agent.stop();
  });

  it('loses what is no longer wanted, the disk too', async () => {
    await using node = await startNode(inject('kubeconfig'));
    const agent = node.startAgent();
    await node.want(node.wanted);
    await expect.poll(async () => (await node.status())?.summary, slow).toBe('1/1');
    await node.want();
    await expect.poll(async () => (await node.status())?.summary, slow).toBe('0/0');
    expect((await node.status())?.entries).toBeUndefined();
    expect(await filesBelow(node.config.storeRoot)).toEqual([]);
    expect((await node.status())?.usedBytes).toBe(0);
    await agent.stop();
  });
});

describe('an API server that goes away', () => {
  it('stops neither pulls nor mounts, and is told afterwards', async () => {
    await using own = await startControlPlane();
    await installCrds(own.kubeconfig);
    await using node = await startNode(own.kubeconfig, 4_000_000);
    const agent = node.startAgent();
    await node.want(node.wanted);
    await expect.poll(async () => (await node.status())?.entries?.[0]?.state, slow).toBe('Downloading');
    await own.kill();
    using kubelet = connect(node.config.kubeletDir, 'Node');
    await kubelet.call('NodePublishVolume', publishRequest(node.config.kubeletDir, digest));
    expect(node.mounter.mounts[0]?.root).toContain(hexOf(digest));
    // Started anew while there is still no API server: the disk knows enough.
    await agent.stop();
    const again = node.startAgent();
    using afterwards = connect(node.config.kubeletDir, 'Node');
    const { targetPath } = publishRequest(node.config.kubeletDir, digest);
    await expect
      .poll(() => afterwards.call('NodeUnpublishVolume', { volumeId: 'v', targetPath }).catch(String), slow)
      .toEqual({});
    await afterwards.call('NodePublishVolume', publishRequest(node.config.kubeletDir, digest));
    await own.start();
    await expect.poll(async () => (await node.status())?.summary, { ...slow, timeout: 45_000 }).toBe('1/1');
    await again.stop();
  }, 120_000);
});
