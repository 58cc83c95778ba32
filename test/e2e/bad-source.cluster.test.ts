/** What a user reads when the source, the file or the spec is wrong, and what is left on the nodes (nothing). */
import { createHash } from 'node:crypto';
import { truncate } from 'node:fs/promises';
import path from 'node:path';
import { makeAuthority, makeServingCertificate } from '@slm-operator/operator/broker/certificates';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeGguf } from '../fixtures/gguf.ts';
import { cluster, lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { condition, holds, type TestNamespace, until } from './harness.ts';

const digestOf = (content: Uint8Array) => createHash('sha256').update(content).digest('hex');
const small = makeGguf({ tensors: [{ name: 'a', dimensions: [256, 256] }] });
const everywhere = { policy: 'Nodes' };

let hub: TestHub;
let space: TestNamespace;
beforeAll(async () => {
  hub = await openHub();
  space = await lab.namespace('bad-source');
  await hub.addFile('small.gguf', small);
  await hub.addFile('other.gguf', makeGguf({ tensors: [{ name: 'b', dimensions: [256, 255] }] }));
  await hub.addFile('page.gguf', Buffer.from('<html>please log in</html>'.repeat(100)));
  await hub.addFile('short.gguf', small.subarray(0, small.byteLength - 1000));
});
afterAll(async () => {
  await space[Symbol.asyncDispose]();
  await hub[Symbol.asyncDispose]();
});

const model = (name: string) => lab.model(space.name, name);

/** Names of files under the store of a node that hold any byte of models. */
async function bytesOn(node: string): Promise<string[]> {
  const { stdout } = await (await cluster())
    .node(node)
    .exec(['sh', '-c', 'find /var/lib/slm -type f -size +0 2>/dev/null || true']);
  return stdout.split('\n').filter((line) => /blobs|partial|\/models\//.test(line));
}

describe('a source that cannot be used ends in a condition that says why', () => {
  it.each<[sentence: string, name: string, file: string, reason: string, message: RegExp, digest?: string]>([
    ['nothing at that address', 'missing', 'nothing.gguf', 'NotFound', /404|nothing|not there|no file/i],
    ['a file that is no model', 'page', 'page.gguf', 'NotAModel', /GGUF/],
    ['a file that ends too early', 'short', 'short.gguf', 'Truncated', /short|end|needs/i],
  ])('%s', async (_sentence, name, file, reason, message) => {
    const content =
      file === 'page.gguf'
        ? Buffer.from('<html>please log in</html>'.repeat(100))
        : small.subarray(0, small.byteLength - 1000);
    await lab.apply(makeModel(space.name, name, hub, file, digestOf(content), everywhere));
    const failed = await until(
      'Resolved is False',
      () => model(name),
      (one) => condition(one, 'Resolved')?.status === 'False' || condition(one, 'Stalled')?.status === 'True',
    );
    expect(condition(failed, 'Ready')).toMatchObject({ status: 'False', reason });
    expect(condition(failed, 'Ready')?.message).toMatch(message);
  });

  it('a server that wants a credential', async () => {
    hub.server.setFault('/files/locked.gguf', { status: 401 });
    await lab.apply(makeModel(space.name, 'locked', hub, 'locked.gguf', digestOf(small), everywhere));
    const failed = await until(
      'Ready is False',
      () => model('locked'),
      (one) => condition(one, 'Resolved')?.status === 'False',
    );
    expect(condition(failed, 'Ready')).toMatchObject({
      reason: 'Unauthorized',
      message: expect.stringMatching(/secretRef/),
    });
  });

  it('a port where nobody listens', async () => {
    const closed = await openHub();
    const object = makeModel(space.name, 'refused', closed, 'small.gguf', digestOf(small), everywhere);
    await closed[Symbol.asyncDispose]();
    await lab.apply(object);
    const failed = await until(
      'Ready is False',
      () => model('refused'),
      (one) => condition(one, 'Resolved')?.status === 'False',
    );
    expect(condition(failed, 'Ready')).toMatchObject({
      reason: 'ConnectionFailed',
      message: expect.stringMatching(/refused/),
    });
  });

  it('a certificate that nobody trusts; with its CA named the model comes', async () => {
    const authority = await makeAuthority(Date.now());
    const tls = await makeServingCertificate(authority, [new URL(hub.url).hostname], Date.now());
    const secure = await openHub({ tls });
    try {
      await secure.addFile('small.gguf', small);
      const object = makeModel(space.name, 'private-ca', secure, 'small.gguf', digestOf(small), everywhere);
      await lab.apply(object);
      const failed = await until(
        'Ready is False',
        () => model('private-ca'),
        (one) => condition(one, 'Resolved')?.status === 'False',
      );
      expect(condition(failed, 'Ready')).toMatchObject({
        reason: 'TLSUntrusted',
        message: expect.stringMatching(/caBundleRef/),
      });

      await lab.apply({
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { namespace: space.name, name: 'ca' },
        data: { 'ca.crt': authority.cert },
      });
      Object.assign(object.spec.source, { caBundleRef: { kind: 'ConfigMap', name: 'ca' } });
      await lab.apply(object);
      await until(
        'the model is Ready',
        () => model('private-ca'),
        (one) => holds(one, 'Ready'),
      );
    } finally {
      await secure[Symbol.asyncDispose]();
    }
  });
});

describe('bytes that are not what was asked for', () => {
  it('are refused by every node, and nothing of them stays', async () => {
    // The header is right and the length too, so only the hash over everything can tell.
    // Bytes of its own: a blob that a node holds already would be taken from there.
    const content = makeGguf({ tensors: [{ name: 'c', dimensions: [256, 254] }] });
    const hex = digestOf(content);
    hub.server.setFault('/files/corrupt.gguf', { corruptFrom: content.byteLength - 512 });
    await hub.addFile('corrupt.gguf', content);
    await lab.apply(makeModel(space.name, 'corrupt', hub, 'corrupt.gguf', hex, everywhere));
    const failed = await until(
      'Verified is False',
      () => model('corrupt'),
      (one) => condition(one, 'Verified')?.status === 'False',
    );
    expect(condition(failed, 'Verified')?.reason).toBe('DigestMismatch');
    expect(condition(failed, 'Ready')?.status).toBe('False');
    for (const node of nodes) expect((await bytesOn(node)).filter((file) => file.includes(hex))).toEqual([]);
    hub.server.setFault('/files/corrupt.gguf', undefined);
    await lab.remove('slmm', 'corrupt', space.name);
  });

  it('come all the same from a server that ignores Range', async () => {
    hub.server.setFault('/files/small.gguf', { ignoreRange: true });
    await lab.apply(makeModel(space.name, 'no-range', hub, 'small.gguf', digestOf(small), everywhere));
    await until(
      'the model is Ready',
      () => model('no-range'),
      (one) => holds(one, 'Ready'),
    );
    hub.server.setFault('/files/small.gguf', undefined);
  });
});

describe('a spec that waits for something', () => {
  it('names a model that is not there, and heals when it comes', async () => {
    await lab.apply(makeDeployment(space.name, 'early', 'late', { replicas: 0 }));
    const waiting = await until(
      'ModelReady is False',
      () => lab.deployment(space.name, 'early'),
      (one) => condition(one, 'ModelReady')?.status === 'False',
    );
    expect(waiting?.status?.blockedBy).toEqual([
      expect.objectContaining({ reason: 'ModelNotFound', message: expect.stringMatching(/late/) }),
    ]);
    await lab.apply(makeModel(space.name, 'late', hub, 'small.gguf', digestOf(small), everywhere));
    await until(
      'the model is there',
      () => lab.deployment(space.name, 'early'),
      (one) => holds(one, 'ModelReady'),
    );
  });

  it('is larger than any disk', async () => {
    // The header is small and right, and behind it comes a hole of 15 TiB, the most that ext4 gives one file.
    await hub.addFile('huge.gguf', small);
    await truncate(path.join(hub.root, 'files/huge.gguf'), 15 * 2 ** 40);
    await lab.apply(makeModel(space.name, 'huge', hub, 'huge.gguf', '0'.repeat(64), everywhere));
    const failed = await until(
      'every node says why',
      () => model('huge'),
      (one) =>
        condition(one, 'Cached')?.reason === 'InsufficientDisk' && one?.status?.failures?.length === nodes.length,
    );
    expect(condition(failed, 'Cached')?.message).toMatch(/free|needs/);
    expect(failed?.status?.failures?.map((failure) => failure.node).sort()).toEqual([...nodes].sort());
  });
});
