/** A new revision never comes before its bytes are there, and a rollout stands still when it is told to. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { condition, holds, type TestNamespace, until } from './harness.ts';

interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly labels: Record<string, string>;
    readonly deletionTimestamp?: string;
  };
}

let hub: TestHub;
let space: TestNamespace;
const deployment = () => lab.deployment(space.name, 'web');
/** Pods that are not on their way out. */
const pods = async () =>
  (await lab.list<Pod>('pods', '-n', space.name, '-l', 'slm.dev/deployment=web')).filter(
    (pod) => pod.metadata.deletionTimestamp === undefined,
  );

beforeAll(async () => {
  hub = await openHub();
  space = await lab.namespace('rollout');
  const model = await hub.addModel('one.gguf');
  await hub.addModel('two.gguf');
  await lab.apply(
    makeModel(space.name, 'lm', hub, 'one.gguf', model.sha256),
    makeDeployment(space.name, 'web', 'lm', { replicas: 2 }),
  );
  await until('two pods are ready', deployment, (one) => holds(one, 'Ready') && one?.status?.readyReplicas === 2);
});
afterAll(async () => {
  await space[Symbol.asyncDispose]();
  await hub[Symbol.asyncDispose]();
});

describe('changed settings', () => {
  it('stand still while paused, and go on after', async () => {
    const before = (await deployment())!.status!.updateRevision!;
    await lab.kubectl(
      '-n',
      space.name,
      'patch',
      'slmd/web',
      '--type=merge',
      '-p',
      '{"spec":{"paused":true,"engine":{"contextLength":704}}}',
    );
    const paused = await until(
      'it says Paused',
      deployment,
      (one) => one?.status?.rollout?.phase === 'Paused' && one.status.observedGeneration === one.metadata.generation,
    );
    expect(paused?.status?.readyReplicas).toBe(2);
    expect((await pods()).every((pod) => pod.metadata.labels['slm.dev/revision'] === before)).toBe(true);
    // Back to the old settings: nothing to roll.
    await lab.kubectl(
      '-n',
      space.name,
      'patch',
      'slmd/web',
      '--type=merge',
      '-p',
      '{"spec":{"paused":false,"engine":{"contextLength":512}}}',
    );
    await until('it is Ready', deployment, (one) => holds(one, 'Ready'));
    expect((await pods()).every((pod) => pod.metadata.labels['slm.dev/revision'] === before)).toBe(true);
  });
});

describe('a changed model', () => {
  it('is on every node before the first old pod goes', async () => {
    const before = (await deployment())!.status!.updateRevision!;
    const { sha256 } = await hub.addModel('three.gguf');
    // The same bytes under another path are another revision, since the list of files differs.
    hub.server.setBytesPerSecond(16e6);
    await lab.apply(makeModel(space.name, 'lm', hub, 'three.gguf', sha256));
    const seen: string[] = [];
    await until(
      'the new revision is complete',
      async () => {
        const [one, caches, all] = await Promise.all([deployment(), lab.nodeCaches(), pods()]);
        const model = await lab.model(space.name, 'lm');
        const digest = model?.status?.latestRevision?.digest;
        const holding = caches.filter((cache) =>
          cache.status?.entries?.some((entry) => entry.digest === digest && entry.state === 'Ready'),
        ).length;
        const fresh = all.filter((pod) => pod.metadata.labels['slm.dev/revision'] !== before).length;
        if (fresh > 0) seen.push(`${holding}/${nodes.length}`);
        return one;
      },
      (one) => holds(one, 'Ready') && one?.status?.updateRevision !== before && one?.status?.replicas === 2,
      { timeoutMs: 240_000 },
    );
    hub.server.setBytesPerSecond(undefined);
    expect(new Set(seen)).toEqual(new Set([`${nodes.length}/${nodes.length}`]));
  });

  it('that cannot be had leaves the old revision serving, and says so', async () => {
    const before = (await deployment())!.status!.updateRevision!;
    await lab.apply(makeModel(space.name, 'lm', hub, 'missing.gguf', 'f'.repeat(64)));
    await until(
      'the model says why',
      () => lab.model(space.name, 'lm'),
      (one) => condition(one, 'Resolved')?.reason === 'NotFound',
    );
    const one = await deployment();
    expect(condition(one, 'Available')?.status).toBe('True');
    expect((await pods()).every((pod) => pod.metadata.labels['slm.dev/revision'] === before)).toBe(true);
  });
});

describe('a model that is deleted while it is served', () => {
  it('goes at once, and the pods serve on', async () => {
    await lab.kubectl('-n', space.name, 'delete', 'slmm/lm', '--timeout=30s');
    const one = await until(
      'ModelReady says so',
      deployment,
      (it) => condition(it, 'ModelReady')?.reason === 'ModelNotFound',
    );
    expect(condition(one, 'Available')?.status).toBe('True');
    expect(one?.status?.readyReplicas).toBe(2);
    const key = await lab.apiKey(space.name, 'web');
    await using forward = await lab.forward(space.name, 'web');
    const response = await fetch(`${forward.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
    expect(response.status).toBe(200);
  });
});
