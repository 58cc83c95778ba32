import { copyFile, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { annotations, labels, MANAGED_BY } from '@slm-operator/crds';
import { startFileServer } from '@slm-operator/test/fixtures/file-server';
import { smollm2 } from '@slm-operator/test/fixtures/models';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { SLMDeployment, SLMModel } from '../execution/kinds.ts';
import { Node, ReplicaSet, Secret } from '../kube/resource.ts';
import { entry, ModelsWorld, patient } from './testing/models-world.ts';

let world: ModelsWorld;
beforeEach(async () => {
  world = await ModelsWorld.start(inject('kubeconfig'));
});
afterEach(() => world[Symbol.asyncDispose]());

const https = (file: string, hex: string) => ({
  source: { uri: `${world.server.url}/files/${file}`, insecure: true },
  integrity: { digest: `sha256:${hex}` },
});

it('a repository becomes a revision, is wanted on the nodes of a deployment, and is Ready when they hold it', async () => {
  await world.addFile('hf/acme/tiny/tiny.gguf');
  const nodes = [await world.addNode(), await world.addNode()];
  await world.applyModel('tiny', { source: { uri: 'hf://acme/tiny' } });
  const resolved = await world.until('tiny', 'Ready=True Ready', 'Resolved=True Resolved', 'Cached=False NotWanted');
  expect(resolved.status?.metadata).toMatchObject({ format: 'GGUF', architecture: 'llama', layers: 2 });
  expect(resolved.status?.latestRevision?.sourceRevision).toMatch(/^[0-9a-f]{40}$/);

  await world.applyDeployment('chat', 'tiny');
  const digest = await world.wantedOn(nodes[0] ?? '');
  const { size = 0 } = resolved.status?.latestRevision ?? {};
  const cache = await world.cache(nodes[1] ?? '');
  expect(cache?.metadata.ownerReferences).toEqual([
    expect.objectContaining({ kind: 'Node', name: nodes[1], controller: true }),
  ]);
  expect(cache?.spec).toEqual({
    limits: { minFreePercent: 10 },
    wanted: [
      {
        digest,
        size,
        files: resolved.status?.revisions?.[0]?.files,
        sources: resolved.status?.revisions?.[0]?.sources,
        models: [`${world.namespace}/tiny`],
        namespaces: [world.namespace],
      },
    ],
  });

  const pulling = { state: 'Downloading', bytesDone: Math.ceil(size / 2), bytesPerSecond: 100 } as const;
  for (const node of nodes) await world.report(node, entry(digest, size, pulling));
  await world.until('tiny', 'Ready=False Downloading', 'Reconciling=True Downloading');
  await expect.poll(async () => (await world.model('tiny')).status?.cache?.percent, patient).toBe(50);
  for (const node of nodes) await world.report(node, entry(digest, size));
  const done = await world.until('tiny', 'Ready=True Ready', 'Verified=True Verified', 'Cached=True Cached');
  expect(done.status?.cache).toMatchObject({ nodes: '2/2', progress: '100%', percent: 100 });
  expect(done.status?.observedGeneration).toBe(done.metadata.generation);
  // Events are told after the status is written.
  await expect.poll(() => world.events.at(-1)?.reason).toBe('PullComplete');
  const told = world.events.map(({ reason, note }) => `${reason} ${/\d+%/.exec(note)?.[0] ?? ''}`.trim());
  // Quarters that pass between two looks are not told; none is told twice.
  expect([told.at(0), told.at(-1)]).toEqual(['RevisionResolved', 'PullComplete']);
  expect(told).toContain('PullProgress 50%');
  expect(new Set(told).size).toBe(told.length);
});

it('writes nothing while nothing changes, and nothing after a restart', async () => {
  await world.addFile('hf/acme/tiny/tiny.gguf');
  const node = await world.addNode();
  await world.applyModel('tiny', { source: { uri: 'hf://acme/tiny' } });
  await world.applyDeployment('chat', 'tiny');
  const digest = await world.wantedOn(node);
  const { size = 0 } = (await world.model('tiny')).status?.latestRevision ?? {};
  await world.report(node, entry(digest, size));
  const ready = await world.until('tiny', 'Ready=True Ready');
  await world.stopOperator();
  const requests = world.server.requests.length;
  world.writes.length = 0;
  await world.startOperator();
  // A new node is the sign that the controllers went through everything.
  const later = await world.addNode({ late: 'yes' });
  await expect.poll(async () => (await world.cache(later))?.spec !== undefined, patient).toBe(true);
  await world.until('tiny', 'Ready=False AgentNotReady');
  await world.report(later, entry(digest, size));
  await world.until('tiny', 'Ready=True Ready');
  expect(world.server.requests.length).toBe(requests);
  expect(world.writes.filter((write) => !write.includes('/status'))).toEqual(['apply slmnodecaches.slm.dev']);
  expect((await world.model('tiny')).status?.revisions).toEqual(ready.status?.revisions);
});

it('the real SmolLM2 is read over HTTP as it is', async () => {
  const model = await smollm2();
  const file = path.join(world.root, 'files/smollm2.gguf');
  await mkdir(path.dirname(file), { recursive: true });
  await copyFile(model.path, file);
  await world.applyModel('smollm2', https('smollm2.gguf', model.sha256));
  const { status } = await world.until('smollm2', 'Resolved=True Resolved');
  expect(status?.latestRevision).toMatchObject({ size: 98_362_432 });
  expect(status?.metadata).toEqual({
    format: 'GGUF',
    architecture: 'llama',
    parameters: 134_515_008,
    parametersText: '135M',
    quantization: 'Q4_1',
    contextLength: 8192,
    layers: 30,
    license: 'apache-2.0',
    hasChatTemplate: true,
  });
  // 30 layers, 3 key-value heads of 64 + 64 numbers, 2 bytes each: 23 040 bytes a token.
  expect(status?.estimate).toEqual({ weights: 98_362_432, kvCachePer1kTokens: 23_592_960 });
  expect(world.server.bytesSent).toBeLessThan(30_000_000);
});

it.each([
  ['404', 'missing.gguf', 'NotFound', 'Stalled'],
  ['a file that is no model', 'page.gguf', 'NotAModel', 'Stalled'],
  ['a truncated file', 'short.gguf', 'Truncated', 'Stalled'],
  ['an error of the server', 'broken.gguf', 'SourceUnavailable', 'Reconciling'],
])('%s ends in a clear condition', async (_, file, reason, state) => {
  await world.addFile('files/page.gguf', Buffer.from('<html>'));
  await world.addFile('files/short.gguf', Buffer.from('GGUF\x03\0\0\0'));
  await world.addFile('files/broken.gguf');
  world.server.setFault('/files/broken.gguf', { status: 500 });
  await world.applyModel('bad', https(file, '0'.repeat(64)));
  await world.until('bad', `Ready=False ${reason}`, `${state}=True ${reason}`, `Resolved=False ${reason}`);
  // Events are told after the status is written.
  await expect.poll(() => world.events).toContainEqual(expect.objectContaining({ type: 'Warning', reason }));
});

it('a refused connection is tried again, and succeeds once the server is there', async () => {
  const hex = await world.addFile('files/late.gguf');
  const early = await startFileServer({ root: world.root });
  await early.close();
  const uri = `${early.url}/files/late.gguf`;
  await world.applyModel('late', { source: { uri, insecure: true }, integrity: { digest: `sha256:${hex}` } });
  const { status } = await world.until('late', 'Reconciling=True ConnectionFailed');
  expect(status?.conditions?.[0]?.message).toContain(`${uri}: the connection is refused (ECONNREFUSED)`);
  const late = await startFileServer({ root: world.root, port: early.port });
  try {
    await world.until('late', 'Ready=True Ready');
  } finally {
    await late.close();
  }
});

it('a Secret that is missing is named, then wrong, then right', async () => {
  const hex = await world.addFile('files/private.gguf');
  world.server.setToken('right');
  const { source, integrity } = https('private.gguf', hex);
  await world.applyModel('private', { source, integrity });
  const refused = await world.until('private', 'Stalled=True Unauthorized');
  expect(refused.status?.conditions?.[0]?.message).toContain('it wants a credential');

  await world.applyModel('private', { source: { ...source, secretRef: { name: 'token' } }, integrity });
  const missing = await world.until('private', 'Stalled=True SecretNotFound');
  expect(missing.status?.conditions?.[0]?.message).toBe(
    `source.secretRef names the Secret token, which is not in namespace ${world.namespace}: create it there`,
  );

  const data = { token: Buffer.from('right').toString('base64') };
  await world.client.create(Secret, { metadata: world.ref('token'), data });
  const { status } = await world.until('private', 'Ready=True Ready');
  expect(status?.revisions?.[0]?.sources[0]?.needsGrant).toBe(true);
  expect(JSON.stringify(status)).not.toContain('right');
}, 60_000);

it('wrong bytes on every node make the model Stalled and not Verified', async () => {
  const hex = await world.addFile('files/tiny.gguf');
  const node = await world.addNode();
  await world.applyModel('tiny', https('tiny.gguf', hex));
  await world.applyDeployment('chat', 'tiny');
  const digest = await world.wantedOn(node);
  const error = { reason: 'DigestMismatch', message: 'got other bytes', attempts: 1 };
  await world.report(node, entry(digest, 1, { state: 'Failed', bytesDone: 0, error }));
  const { status } = await world.until('tiny', 'Stalled=True DigestMismatch', 'Verified=False DigestMismatch');
  expect(status?.failures).toEqual([{ node, reason: 'DigestMismatch', message: 'got other bytes', attempts: 1 }]);
});

it('a new source is a new revision; the old one stays wanted while a ReplicaSet runs on it', async () => {
  await world.addFile('hf/acme/tiny/tiny.gguf');
  await world.addFile('hf/acme/other/other.gguf', Buffer.concat([await goodModel(), Buffer.alloc(32)]));
  const node = await world.addNode();
  await world.applyModel('tiny', { source: { uri: 'hf://acme/tiny' } });
  await world.applyDeployment('chat', 'tiny');
  const first = await world.wantedOn(node);
  await makeReplicaSet('chat-1', first);
  await expect.poll(async () => (await world.model('tiny')).status?.revisions?.[0]?.usedBy, patient).toEqual(['chat']);

  await world.applyModel('tiny', { source: { uri: 'hf://acme/other' } });
  const wanted = async () => (await world.cache(node))?.spec?.wanted?.length ?? 0;
  await expect.poll(wanted, patient).toBe(2);
  expect((await world.model('tiny')).status?.revisions?.map(({ digest }) => digest)).toContain(first);

  // A deleted model leaves what runs on it alone.
  await world.client.delete(SLMModel, world.ref('tiny'));
  await expect
    .poll(async () => (await world.cache(node))?.spec?.wanted?.map(({ digest }) => digest), patient)
    .toEqual([first]);
  await world.client.delete(SLMDeployment, world.ref('chat'));
  await world.client.delete(ReplicaSet, world.ref('chat-1'));
  await expect.poll(wanted, patient).toBe(0);
});

it('an object of a node goes with it, and a node that comes back gets a new one', async () => {
  const node = await world.addNode();
  await expect.poll(() => world.cache(node), patient).toBeDefined();
  const before = (await world.cache(node))?.metadata.uid;
  await world.client.delete(Node, { name: node });
  await world.client.create(Node, { metadata: { name: node } });
  await expect.poll(async () => (await world.cache(node))?.metadata.uid ?? before, patient).not.toBe(before);
}, 60_000);

it('a suspended model is neither asked for nor pulled, until it is no longer', async () => {
  await world.addFile('hf/acme/tiny/tiny.gguf');
  const node = await world.addNode();
  await world.applyDeployment('chat', 'tiny');
  await world.applyModel('tiny', { source: { uri: 'hf://acme/tiny' }, suspend: true });
  await world.until('tiny', 'Stalled=True Suspended');
  expect(world.server.requests).toEqual([]);
  await world.applyModel('tiny', { source: { uri: 'hf://acme/tiny' } });
  expect(await world.wantedOn(node)).toMatch(/^sha256:/);
});

async function goodModel(): Promise<Uint8Array> {
  const { makeGguf } = await import('@slm-operator/test/fixtures/gguf');
  return makeGguf({ dataBytes: 2000 });
}

/** As the deployment controller would make it. */
async function makeReplicaSet(name: string, digest: string): Promise<void> {
  const own = { app: name };
  await world.client.create(ReplicaSet, {
    metadata: {
      ...world.ref(name),
      labels: { [labels.managedBy]: MANAGED_BY, [labels.model]: 'tiny', [labels.deployment]: 'chat' },
      annotations: { [annotations.modelDigest]: digest },
    },
    spec: {
      replicas: 1,
      selector: { matchLabels: own },
      template: {
        metadata: { labels: own },
        spec: { containers: [{ name: 'server', image: 'none' }], nodeSelector: { world: world.namespace } },
      },
    },
  });
}
