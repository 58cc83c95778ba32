import { spawnSync } from 'node:child_process';
import { mkdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import { hexOf } from '@slm-operator/crds';
import { describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { type PullEntry, Puller } from '../puller.ts';
import { connect, publishRequest } from '../testing/csi-client.ts';
import { type FakeMounter, makeFakeMounter } from '../testing/fake-mounter.ts';
import { bytesOf, makeModel, temporaryFolder } from '../testing/models.ts';
import { type Bench, sourceOf, startBench } from '../testing/puller-bench.ts';
import { Driver, type DriverOptions, socketPaths } from './driver.ts';

// Real servers, disks and processes: on a busy machine they take their time.
vi.setConfig({ testTimeout: 30_000 });

const model = makeModel({ 'model.gguf': bytesOf(2_000_000) });
const { digest } = model.wanted;
const isReady = (entry: PullEntry | undefined) => entry?.state === 'Ready';

interface Node extends AsyncDisposable {
  readonly bench: Bench;
  readonly driver: Driver;
  readonly mounter: FakeMounter;
  readonly kubeletDir: string;
  call(method: string, request?: object): Promise<object>;
}

async function startNode(options: Partial<DriverOptions> = {}, bytesPerSecond?: number): Promise<Node> {
  const bench = await startBench(model, { clock: systemClock }, bytesPerSecond === undefined ? {} : { bytesPerSecond });
  const kubeletDir = path.join(bench.root, '../kubelet');
  const mounter = makeFakeMounter();
  const driver = new Driver({
    nodeName: 'n1',
    kubeletDir,
    store: bench.store,
    puller: bench.puller,
    mounter,
    log: silentLogger,
    clock: systemClock,
    version: '1.2.3',
    waitMs: 0,
    ...options,
  });
  await driver.start();
  const client = connect(kubeletDir, 'Node');
  return {
    bench,
    driver,
    mounter,
    kubeletDir,
    call: (method, request) => client.call(method, request),
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]();
      await driver.stop();
      await bench[Symbol.asyncDispose]();
    },
  };
}

const wantedFrom = (node: Node) => ({ ...model.wanted, sources: [sourceOf(node.bench.server)] });
const targetOf = (node: Node) => publishRequest(node.kubeletDir, digest).targetPath;

describe('the sockets', () => {
  it('answer as a CSI driver and as a plugin that wants to be registered', async () => {
    await using node = await startNode();
    using identity = connect(node.kubeletDir, 'Identity');
    using registration = connect(node.kubeletDir, 'Registration');
    expect(await identity.call('GetPluginInfo')).toMatchObject({ name: 'models.slm.dev', vendorVersion: '1.2.3' });
    expect(await identity.call('Probe')).toEqual({ ready: { value: true } });
    expect(await node.call('NodeGetInfo')).toEqual({ nodeId: 'n1' });
    expect(await node.call('NodeGetCapabilities')).toEqual({});
    expect(await registration.call('GetInfo')).toEqual({
      type: 'CSIPlugin',
      name: 'models.slm.dev',
      endpoint: socketPaths(node.kubeletDir).csi,
      supportedVersions: ['1.0.0'],
    });
    expect(node.driver.registered).toBe(false);
    await registration.call('NotifyRegistrationStatus', { pluginRegistered: true });
    expect(node.driver.registered).toBe(true);
  });

  it('replace those that a killed agent left', async () => {
    await using folder = await temporaryFolder();
    const paths = socketPaths(folder.path);
    for (const socket of Object.values(paths)) {
      await mkdir(path.dirname(socket), { recursive: true });
      await writeFile(socket, '');
    }
    await using node = await startNode({ kubeletDir: folder.path });
    using identity = connect(folder.path, 'Identity');
    expect(await identity.call('GetPluginInfo')).toMatchObject({ name: 'models.slm.dev' });
    expect(node.driver.registered).toBe(false);
  });

  it('come back when somebody removed them, so that the kubelet registers the driver again', async () => {
    await using node = await startNode({ checkIntervalMs: 20 });
    const { registration } = socketPaths(node.kubeletDir);
    await rm(path.dirname(registration), { recursive: true });
    await expect.poll(async () => (await stat(registration).catch(() => undefined))?.isSocket()).toBe(true);
    using again = connect(node.kubeletDir, 'Registration');
    expect(await again.call('GetInfo')).toMatchObject({ type: 'CSIPlugin' });
  });

  it('offer the driver again after the kubelet refused it', async () => {
    await using node = await startNode();
    const { registration } = socketPaths(node.kubeletDir);
    const before = (await stat(registration)).ctimeMs;
    using client = connect(node.kubeletDir, 'Registration');
    await client.call('NotifyRegistrationStatus', { pluginRegistered: false, error: 'CSINode is not there yet' });
    await expect
      .poll(async () => (await stat(registration).catch(() => undefined))?.ctimeMs ?? before)
      .not.toBe(before);
  });
});

describe('a volume', () => {
  it('is mounted once the model is here, twice asked or not, and goes again', async () => {
    await using node = await startNode();
    await node.bench.want(wantedFrom(node));
    await node.bench.until(digest, isReady);
    const request = publishRequest(node.kubeletDir, digest);
    await node.call('NodePublishVolume', request);
    await node.call('NodePublishVolume', request);
    expect(node.mounter.done).toEqual([`mount ${request.targetPath}`]);
    expect(node.mounter.mounts[0]?.root).toMatch(new RegExp(`/models/${hexOf(digest)}$`));
    await node.call('NodeUnpublishVolume', { volumeId: 'csi-1234', targetPath: request.targetPath });
    await node.call('NodeUnpublishVolume', { volumeId: 'csi-1234', targetPath: request.targetPath });
    expect(node.mounter.mounts).toEqual([]);
    await expect(stat(request.targetPath)).rejects.toThrow('ENOENT');
  });

  it('that a pod has stays its own when its namespace may not have the model any more, and no other pod gets one', async () => {
    await using node = await startNode();
    await node.bench.want(wantedFrom(node));
    await node.bench.until(digest, isReady);
    const request = publishRequest(node.kubeletDir, digest);
    await node.call('NodePublishVolume', request);
    await node.bench.want({ ...wantedFrom(node), namespaces: ['owner'] });
    await node.call('NodePublishVolume', request);
    const another = { ...request, targetPath: request.targetPath.replace('/pods/', '/pods/another-') };
    await expect(node.call('NodePublishVolume', another)).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    expect(node.mounter.done).toEqual([`mount ${request.targetPath}`]);
  });

  it('left half-made by a kill, without ro, is made anew', async () => {
    await using node = await startNode();
    await node.bench.want(wantedFrom(node));
    await node.bench.until(digest, isReady);
    const target = targetOf(node);
    node.mounter.mounts.push({ root: node.bench.store.modelPath(digest), target, options: ['rw', 'relatime'] });
    await node.call('NodePublishVolume', publishRequest(node.kubeletDir, digest));
    expect(node.mounter.done).toEqual([`umount ${target}`, `mount ${target}`]);
  });

  it('whose model was taken off the disk can still be unmounted, and mounted anew', async () => {
    await using node = await startNode();
    await node.bench.want(wantedFrom(node));
    await node.bench.until(digest, isReady);
    const target = targetOf(node);
    const gone = { root: `${node.bench.store.modelPath(digest)}//deleted`, target, options: ['ro'] };
    node.mounter.mounts.push(gone);
    await node.call('NodePublishVolume', publishRequest(node.kubeletDir, digest));
    expect(node.mounter.done).toEqual([`umount ${target}`, `mount ${target}`]);
    node.mounter.mounts.splice(0, 1, gone);
    await node.call('NodeUnpublishVolume', { volumeId: 'csi-1234', targetPath: target });
    expect(node.mounter.mounts).toEqual([]);
  });

  it('waits for the last bytes instead of failing at once', async () => {
    await using node = await startNode({ waitMs: 10_000 }, 4_000_000);
    const mounted = node.call('NodePublishVolume', publishRequest(node.kubeletDir, digest));
    await node.bench.want(wantedFrom(node));
    await mounted;
    expect(node.mounter.mounts).toHaveLength(1);
  });

  it('can be mounted before the API server was reached: the disk knows who may', async () => {
    await using node = await startNode();
    await node.bench.want(wantedFrom(node));
    await node.bench.until(digest, isReady);
    const { store } = node.bench;
    const kubeletDir = path.join(node.bench.root, '../kubelet-after-restart');
    const driver = new Driver({
      nodeName: 'n1',
      kubeletDir,
      store,
      puller: new Puller({ store, clock: systemClock, log: silentLogger }),
      mounter: node.mounter,
      log: silentLogger,
      clock: systemClock,
      version: '1.2.3',
    });
    await driver.start();
    using client = connect(kubeletDir, 'Node');
    await client.call('NodePublishVolume', publishRequest(kubeletDir, digest));
    const other = publishRequest(kubeletDir, digest, { 'csi.storage.k8s.io/pod.namespace': 'other' });
    const foreign = { ...other, targetPath: other.targetPath.replace('/pods/', '/pods/another-') };
    await expect(client.call('NodePublishVolume', foreign)).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    await driver.stop();
  });

  it('of a model that lost a file is refused, and the model pulled again', async () => {
    await using node = await startNode();
    await node.bench.want(wantedFrom(node));
    await node.bench.until(digest, isReady);
    await rm(path.join(node.bench.store.modelPath(digest), 'model.gguf'));
    await expect(node.call('NodePublishVolume', publishRequest(node.kubeletDir, digest))).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: 'model demo/smollm2: files of it are missing on this node; it is pulled again',
    });
    await node.bench.until(digest, isReady);
    await node.call('NodePublishVolume', publishRequest(node.kubeletDir, digest));
  });

  it('reports why it could not be mounted', async () => {
    await using node = await startNode();
    await node.bench.want(wantedFrom(node));
    await node.bench.until(digest, isReady);
    node.mounter.failure = new Error('mount -o bind: permission denied');
    await expect(node.call('NodePublishVolume', publishRequest(node.kubeletDir, digest))).rejects.toMatchObject({
      code: status.INTERNAL,
      details: 'mount -o bind: permission denied',
    });
  });
});

describe('a pod is told', () => {
  it('how far the pull is', async () => {
    await using node = await startNode({}, 1_000_000);
    await node.bench.want(wantedFrom(node));
    await node.bench.until(digest, (entry) => entry?.bytesPerSecond !== undefined);
    await expect(node.call('NodePublishVolume', publishRequest(node.kubeletDir, digest))).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringMatching(/^model demo\/smollm2: pulling, \d+% of 2 MB, .*\/s, \d+ s left$/) as string,
    });
  });

  it('why the pull failed', async () => {
    await using node = await startNode();
    node.bench.server.setFault('/files/model.gguf', { status: 404 });
    await node.bench.want(wantedFrom(node));
    await node.bench.until(digest, (entry) => entry?.state === 'Failed');
    await expect(node.call('NodePublishVolume', publishRequest(node.kubeletDir, digest))).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining('model demo/smollm2: NotFound: http://127.0.0.1') as string,
    });
  });

  it('that the operator did not ask this node for it', async () => {
    await using node = await startNode();
    await node.bench.want();
    await expect(node.call('NodePublishVolume', publishRequest(node.kubeletDir, digest))).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining('the operator has not asked this node to hold it yet') as string,
    });
  });

  it('that its namespace may not have it, and nothing of the progress', async () => {
    await using node = await startNode({}, 1_000_000);
    await node.bench.want(wantedFrom(node));
    const request = publishRequest(node.kubeletDir, digest, { 'csi.storage.k8s.io/pod.namespace': 'other' });
    await expect(node.call('NodePublishVolume', request)).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
      details:
        'pods of namespace other may not mount model demo/smollm2: no SLMModel in that namespace has this revision, and none elsewhere that has it is shared with that namespace. Create one there, or have the owner let the namespace in with spec.allowedNamespaces',
    });
    expect(node.mounter.done).toEqual([]);
  });
});

describe('a request', () => {
  const bad: readonly [string, (node: Node) => object, string][] = [
    ['without volume_id', (node) => ({ ...publishRequest(node.kubeletDir, digest), volumeId: '' }), 'must be set'],
    [
      'for a target outside the kubelet',
      (node) => ({ ...publishRequest(node.kubeletDir, digest), targetPath: '/etc' }),
      'must be below',
    ],
    [
      'for a target that climbs out',
      (node) => ({ ...publishRequest(node.kubeletDir, digest), targetPath: `${node.kubeletDir}/pods/../../x` }),
      'must be below',
    ],
    [
      'for a block device',
      (node) => ({ ...publishRequest(node.kubeletDir, digest), volumeCapability: { block: {} } }),
      'block device',
    ],
    [
      'for a writable volume',
      (node) => ({ ...publishRequest(node.kubeletDir, digest), readonly: false }),
      'volumes[].csi.readOnly',
    ],
    [
      'of a PersistentVolume',
      (node) => publishRequest(node.kubeletDir, digest, { 'csi.storage.k8s.io/ephemeral': 'false' }),
      'inline volumes',
    ],
    [
      'without the pod',
      (node) => publishRequest(node.kubeletDir, digest, { 'csi.storage.k8s.io/pod.namespace': '' }),
      'podInfoOnMount',
    ],
    [
      'with a digest that is a path',
      (node) => publishRequest(node.kubeletDir, '../../etc'),
      'status.latestRevision.digest',
    ],
    ['without a digest', (node) => publishRequest(node.kubeletDir, ''), 'status.latestRevision.digest'],
  ];
  it.each(bad)('%s is refused with what to write', async (_, request, says) => {
    await using node = await startNode();
    await expect(node.call('NodePublishVolume', request(node))).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringContaining(says) as string,
    });
    expect(node.mounter.done).toEqual([]);
  });
});

const privateMounts = spawnSync('unshare', ['--mount', '--propagation', 'private', 'true']).status === 0;

describe.skipIf(!privateMounts)('real mounts (needs the right to make a mount namespace)', () => {
  /** Runs the agent's part in a namespace of its own that shares the kubelet's folder with another, the host's. */
  const run = (env: NodeJS.ProcessEnv = {}) =>
    spawnSync(
      'unshare',
      [
        '--mount',
        '--propagation',
        'private',
        process.execPath,
        path.join(import.meta.dirname, '../testing/mount-process.ts'),
      ],
      { encoding: 'utf8', env: { ...process.env, ...env } },
    );
  const flags = ['ro', 'nosuid', 'nodev', 'noexec'];
  const expected = {
    inAgent: { content: 'weights', write: 'EROFS', execute: 'EACCES', flags, hex: 'ab'.repeat(32) },
    onHost: { content: 'weights', write: 'EROFS', execute: 'EACCES', flags, hex: 'ab'.repeat(32) },
    store: 'still writable',
    viewOnHost: false,
    afterUnmount: 0,
  };

  it('are read-only on the host too, without programs and devices, and leave nothing behind', () => {
    const { stdout, stderr } = run();
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual(expected);
  });

  it.skipIf(spawnSync('busybox', ['mount', '--help']).status === null)('are the same with busybox', async () => {
    await using folder = await temporaryFolder();
    const busybox = spawnSync('which', ['busybox'], { encoding: 'utf8' }).stdout.trim();
    for (const name of ['mount', 'umount']) await symlink(busybox, path.join(folder.path, name));
    const { stdout, stderr } = run({ PATH: `${folder.path}:${process.env['PATH']}` });
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual(expected);
  });
});
