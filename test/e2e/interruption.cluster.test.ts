/** What dies in the middle of a pull or a quickstart comes back and goes on where it was. */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SYSTEM_NAMESPACE } from '../demo/install.ts';
import { cluster, lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { holds, type TestNamespace, until } from './harness.ts';

let hub: TestHub;
let space: TestNamespace;
let sha256: string;
beforeAll(async () => {
  hub = await openHub();
  space = await lab.namespace('interruption');
  ({ sha256 } = await hub.addModel('lm.gguf'));
  // Pods of a test before may still be draining, and bytes that a node has are not pulled.
  await until(
    'the nodes hold no model of a test before',
    () => lab.nodeCaches(),
    (caches) => caches.every((cache) => !cache.status?.entries?.length),
  );
});
afterEach(() => hub.server.setBytesPerSecond(undefined));
afterAll(async () => {
  await space[Symbol.asyncDispose]();
  await hub[Symbol.asyncDispose]();
});

interface Pod {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly nodeName: string };
}

const entryOn = async (node: string, model: string) => {
  const digest = (await lab.model(space.name, model))?.status?.latestRevision?.digest;
  const cache = (await lab.nodeCaches()).find((one) => one.metadata.name === node);
  return cache?.status?.entries?.find((entry) => entry.digest === digest);
};
const isUnderWay = (entry: Awaited<ReturnType<typeof entryOn>>) =>
  entry?.state === 'Downloading' && entry.bytesDone > 10e6 && entry.bytesDone < 80e6;
const resumes = () => hub.server.requests.filter((request) => /^bytes=[1-9]\d{6,}-/.test(request.range ?? ''));

describe('in the middle of a pull', () => {
  it('an agent that is killed resumes by range, and starts nothing again', async () => {
    const [node = ''] = nodes;
    hub.server.setBytesPerSecond(8e6);
    await lab.apply(
      makeModel(space.name, 'agent', hub, 'lm.gguf', sha256, {
        policy: 'Nodes',
        nodeSelector: { 'kubernetes.io/hostname': node },
      }),
    );
    await until('the pull is under way', () => entryOn(node, 'agent'), isUnderWay, { everyMs: 100 });
    const [pod] = await lab.list<Pod>(
      'pods',
      '-n',
      SYSTEM_NAMESPACE,
      '-l',
      'app.kubernetes.io/component=agent',
      '--field-selector',
      `spec.nodeName=${node}`,
    );
    const before = resumes().length;
    await lab.kubectl('-n', SYSTEM_NAMESPACE, 'delete', 'pod', pod!.metadata.name, '--grace-period=0', '--force');
    hub.server.setBytesPerSecond(undefined);
    await until(
      'the node holds it',
      () => entryOn(node, 'agent'),
      (entry) => entry?.state === 'Ready',
    );
    expect(resumes().length).toBeGreaterThan(before);
    await lab.remove('slmm', 'agent', space.name);
  });

  it('a model that is deleted stops the pull and leaves nothing', async () => {
    const [node = ''] = nodes;
    await until(
      'the node is empty of it',
      () => lab.nodeCaches(),
      (caches) => caches.every((cache) => !cache.status?.entries?.length),
    );
    hub.server.setBytesPerSecond(8e6);
    await lab.apply(
      makeModel(space.name, 'deleted', hub, 'lm.gguf', sha256, {
        policy: 'Nodes',
        nodeSelector: { 'kubernetes.io/hostname': node },
      }),
    );
    await until('the pull is under way', () => entryOn(node, 'deleted'), isUnderWay, { everyMs: 100 });
    await lab.kubectl('-n', space.name, 'delete', 'slmm/deleted', '--timeout=30s');
    await until(
      'no node speaks of it',
      () => lab.nodeCaches(),
      (caches) => caches.every((cache) => !cache.status?.entries?.length),
    );
    const { stdout } = await (await cluster()).node(node).exec(['sh', '-c', 'find /var/lib/slm -type f -size +1M']);
    expect(stdout.trim()).toBe('');
  });

  it('a node that loses power holds the model after it is back', async () => {
    const node = nodes.at(-1)!;
    hub.server.setBytesPerSecond(8e6);
    await lab.apply(
      makeModel(space.name, 'power', hub, 'lm.gguf', sha256, {
        policy: 'Nodes',
        nodeSelector: { 'kubernetes.io/hostname': node },
      }),
    );
    await until('the pull is under way', () => entryOn(node, 'power'), isUnderWay, { everyMs: 100 });
    const control = (await cluster()).node(node);
    await control.kill();
    hub.server.setBytesPerSecond(undefined);
    await control.start();
    await until(
      'the node holds it',
      () => entryOn(node, 'power'),
      (entry) => entry?.state === 'Ready',
      { timeoutMs: 180_000 },
    );
    await lab.remove('slmm', 'power', space.name);
  });
});

describe('an operator that is killed at random moments', () => {
  it('brings a quickstart to its end all the same, and makes nothing twice', async () => {
    hub.server.setBytesPerSecond(24e6);
    await lab.apply(
      makeModel(space.name, 'killed', hub, 'lm.gguf', sha256),
      makeDeployment(space.name, 'killed', 'killed'),
    );
    const rounds = 4;
    for (let round = 0; round < rounds; round++) {
      // The moment is the point of the test, so this wait is not for anything.
      await sleep(randomInt(200, 4000));
      const pods = await lab.list<Pod>('pods', '-n', SYSTEM_NAMESPACE, '-l', 'app.kubernetes.io/component=operator');
      await lab.kubectl(
        '-n',
        SYSTEM_NAMESPACE,
        'delete',
        'pod',
        ...pods.map((pod) => pod.metadata.name),
        '--grace-period=0',
        '--force',
      );
    }
    await until(
      'the deployment is Ready',
      () => lab.deployment(space.name, 'killed'),
      (one) => holds(one, 'Ready'),
      { timeoutMs: 240_000 },
    );
    const sets = await lab.list<{ spec: { replicas: number } }>(
      'replicasets',
      '-n',
      space.name,
      '-l',
      'slm.dev/deployment=killed',
    );
    expect(sets.map((set) => set.spec.replicas)).toEqual([1]);
    const secrets = await lab.list('secrets', '-n', space.name);
    expect(secrets).toHaveLength(1);
  });
});
