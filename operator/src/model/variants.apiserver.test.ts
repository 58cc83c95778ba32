import type { SLMModelSpec } from '@slm-operator/crds';
import { makeGguf } from '@slm-operator/test/fixtures/gguf';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { entry, ModelsWorld, patient } from './testing/models-world.ts';

let world: ModelsWorld;
beforeEach(async () => {
  world = await ModelsWorld.start(inject('kubeconfig'));
});
afterEach(() => world[Symbol.asyncDispose]());

type VariantSpec = NonNullable<SLMModelSpec['variants']>[number];

const gguf = (kilobytes: number) => makeGguf({ dataBytes: kilobytes * 1000 });
const fp16: VariantSpec = { name: 'fp16', accelerators: ['nvidia'], uri: 'hf://acme/tiny-fp16' };

/** A repository with a model, one with a larger file of it, and a plain file; answers the plain file as a variant for NPUs. */
async function addFiles(): Promise<VariantSpec> {
  await world.addFile('hf/acme/tiny/tiny.gguf', gguf(1));
  await world.addFile('hf/acme/tiny-fp16/tiny-fp16.gguf', gguf(2));
  const hex = await world.addFile('files/q8.gguf', gguf(3));
  return { name: 'q8', accelerators: ['amd'], uri: `${world.server.url}/files/q8.gguf`, digest: `sha256:${hex}` };
}

const source = { uri: 'hf://acme/tiny', insecure: true };
const apply = (variants: readonly VariantSpec[], more: Partial<SLMModelSpec> = {}) =>
  world.applyModel('tiny', { source, variants: [...variants], ...more });
const revisionOf = async () => (await world.model('tiny')).status?.revisions?.[0];
const asked = (path: string) => world.server.requests.filter((request) => request.path.includes(path)).length;

it('a model is resolved with all of its variants, and its revision is named by all of them', async () => {
  const q8 = await addFiles();
  await apply([fp16, q8]);
  const { status } = await world.until('tiny', 'Ready=True Ready', 'Resolved=True Resolved');
  const [revision] = status?.revisions ?? [];
  expect(revision?.variants?.map(({ name, accelerators, size }) => [name, accelerators, size])).toEqual([
    ['fp16', ['nvidia'], gguf(2).byteLength],
    ['q8', ['amd'], gguf(3).byteLength],
  ]);
  expect(revision?.variants?.[0]).toMatchObject({
    sourceRevision: expect.stringMatching(/^[0-9a-f]{40}$/) as string,
    files: [{ path: 'tiny-fp16.gguf' }],
    metadata: { format: 'GGUF', architecture: 'llama' },
    estimate: { weights: gguf(2).byteLength },
  });
  expect(revision?.size).toBe(gguf(1).byteLength);
  expect(status?.latestRevision?.name).not.toBe(revision?.digest.slice(7, 17));
  expect(status?.conditions?.find(({ type }) => type === 'Resolved')?.message).toMatch(
    /^hf:\/\/acme\/tiny is revision [0-9a-f]{10}, commit [0-9a-f]{12}, 1\.\d kB; variants: fp16 for nvidia, 2\.\d kB; q8 for amd, 3\.\d kB$/,
  );
});

it.each<[string, Partial<VariantSpec>, string, RegExp]>([
  [
    'is not there',
    { uri: 'hf://acme/gone' },
    'NotFound',
    /^variant fp16: .*hf:\/\/acme\/gone|^variant fp16: .*Check the spelling of spec\.variants\[fp16\]\.uri/,
  ],
  [
    'has another digest',
    { digest: `sha256:${'0'.repeat(64)}` },
    'DigestMismatch',
    /^variant fp16: spec\.variants\[fp16\]\.digest is sha256:0{64}, but the file tiny-fp16\.gguf has sha256:/,
  ],
  [
    'has another format',
    { format: 'ONNX' },
    'SourceInvalid',
    /^variant fp16: hf:\/\/acme\/tiny-fp16 is GGUF, and the variant is to be ONNX: correct its uri or format$/,
  ],
])('a variant that %s is named, and nothing is served before it is corrected', async (_, change, reason, message) => {
  await addFiles();
  await apply([{ ...fp16, ...change }]);
  const { status } = await world.until('tiny', `Stalled=True ${reason}`, `Resolved=False ${reason}`);
  expect(status?.conditions?.[0]?.message).toMatch(message);
  expect(status?.latestRevision).toBeUndefined();
  const before = asked('/acme/tiny/');
  await apply([fp16]);
  await world.until('tiny', 'Ready=True Ready');
  // The source was resolved the first time, and stays what it was.
  expect(asked('/acme/tiny/')).toBe(before);
});

it('a changed variant is a new revision; what did not change is not resolved again, though it has moved', async () => {
  const q8 = await addFiles();
  await apply([fp16]);
  await world.until('tiny', 'Ready=True Ready');
  const first = await revisionOf();
  // A new commit on the same branch.
  await world.addFile('hf/acme/tiny/README.md', Buffer.from('# Tiny'));
  await apply([fp16, q8]);
  await expect.poll(async () => (await revisionOf())?.variants?.length, patient).toBe(2);
  const second = await revisionOf();
  expect(second?.name).not.toBe(first?.name);
  expect([second?.digest, second?.sourceRevision]).toEqual([first?.digest, first?.sourceRevision]);
  expect(second?.variants?.[0]).toEqual(first?.variants?.[0]);

  // For other hardware: the same bytes, and deployments have to move all the same.
  const requests = world.server.requests.length;
  await apply([{ ...fp16, accelerators: ['gpu'] }, q8]);
  await expect.poll(async () => (await revisionOf())?.variants?.[0]?.accelerators, patient).toEqual(['gpu']);
  expect((await revisionOf())?.name).not.toBe(second?.name);
  expect(world.server.requests.length).toBe(requests);

  await apply([]);
  await expect.poll(async () => (await revisionOf())?.name, patient).toBe(first?.digest.slice(7, 17));
});

it('each node is to hold the files of its own hardware, and progress counts what each is to hold', async () => {
  await addFiles();
  const plain = await world.addNode();
  const gpu = await world.addNode();
  await world.offer(gpu, { 'nvidia.com/gpu': '1' });
  await apply([fp16]);
  await world.until('tiny', 'Ready=True Ready');
  const revision = await revisionOf();
  const [own, half] = [revision?.digest ?? '', revision?.variants?.[0]?.digest ?? ''];

  await world.applyDeployment('chat', 'tiny', { hardware: { preferred: 'nvidia', policy: 'Never' } });
  await expect.poll(() => world.wantedDigests(gpu), patient).toEqual([half]);
  expect(await world.wantedDigests(plain)).toEqual([]);
  await world.applyDeployment('talk', 'tiny', { hardware: { preferred: 'cpu' } });
  await expect.poll(() => world.wantedDigests(gpu), patient).toEqual([own, half].sort());
  await expect.poll(() => world.wantedDigests(plain), patient).toEqual([own]);
  expect((await world.cache(gpu))?.spec?.wanted?.find(({ digest }) => digest === half)).toMatchObject({
    models: [`${world.namespace}/tiny`],
    namespaces: [world.namespace],
    files: [{ path: 'tiny-fp16.gguf' }],
  });

  const [small, large] = [gguf(1).byteLength, gguf(2).byteLength];
  await world.report(plain, entry(own, small));
  await world.report(gpu, entry(own, small), entry(half, large, { state: 'Downloading', bytesDone: 0 }));
  await expect
    .poll(async () => (await world.model('tiny')).status?.cache, patient)
    .toMatchObject({
      nodes: '1/2',
      bytesDone: small * 2,
      bytesTotal: small * 2 + large,
    });
  await world.report(gpu, entry(own, small), entry(half, large));
  await world.until('tiny', 'Ready=True Ready', 'Cached=True Cached');

  // A plugin that ends: the bytes stay for when it is back.
  await world.offer(gpu, { 'nvidia.com/gpu': '0' });
  await world.applyDeployment('talk', 'tiny', { hardware: { preferred: 'nvidia', policy: 'Never' } });
  await expect.poll(() => world.wantedDigests(plain), patient).toEqual([]);
  await expect.poll(() => world.wantedDigests(gpu), patient).toEqual([half]);
}, 60_000);

it('a private variant asks the operator for what it needs, one elsewhere gets no credential', async () => {
  const q8 = await addFiles();
  world.server.setToken('right');
  const { startFileServer } = await import('@slm-operator/test/fixtures/file-server');
  const { SLMModel } = await import('../execution/kinds.ts');
  const { Secret } = await import('../kube/resource.ts');
  const elsewhere = await startFileServer({ root: world.root });
  try {
    await world.client.create(Secret, {
      metadata: world.ref('token'),
      data: { token: Buffer.from('right').toString('base64') },
    });
    const open = { ...q8, name: 'open', accelerators: ['npu'], uri: q8.uri.replace(world.server.url, elsewhere.url) };
    await apply([fp16, q8, open], { source: { ...source, secretRef: { name: 'token' } } });
    await world.until('tiny', 'Ready=True Ready');
    const grants = (await revisionOf())?.variants?.map(({ name, sources }) => [name, sources[0]?.needsGrant ?? false]);
    expect(grants).toEqual([
      ['fp16', true],
      ['q8', true],
      ['open', false],
    ]);
    elsewhere.setToken('other');
    await world.client.delete(SLMModel, world.ref('tiny'));
    await apply([open], { source: { ...source, secretRef: { name: 'token' } } });
    const { status } = await world.until('tiny', 'Stalled=True Unauthorized');
    expect(status?.conditions?.[0]?.message).toMatch(
      /^variant open: .*The Secret of source\.secretRef is for the host of source\.uri and was not sent$/,
    );
  } finally {
    await elsewhere.close();
  }
}, 60_000);
