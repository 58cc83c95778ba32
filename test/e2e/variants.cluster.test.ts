/**
 * One model in two formats: a GGUF for processors and ONNX for NPUs. Each node holds the files of its own hardware and no other, pods of
 * both answer under one name, and a variant that changes rolls out as the model does.
 */
import { copyFile, link, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { type Cluster } from '../cluster/cluster.ts';
import { dressNode, offerDevices } from '../cluster/devices/devices.ts';
import { smollm2 } from '../fixtures/models.ts';
import { smollm2Onnx } from '../fixtures/onnx/smollm2.ts';
import { cluster, lab, nodes, openHub, type TestHub } from './context.ts';
import { devices } from './hardware.ts';
import { holds, type TestNamespace, until } from './harness.ts';

let running: Cluster;
let hub: TestHub;
let space: TestNamespace;
const owned: AsyncDisposable[] = [];
const [npuNode = '', ...plainNodes] = nodes;

beforeAll(async () => {
  if (!inject('devices')) return;
  running = await cluster();
  hub = await openHub();
  space = await lab.namespace('variants');
  const gguf = await smollm2();
  const file = path.join(hub.root, 'hf/acme/lm/lm.gguf');
  await mkdir(path.dirname(file), { recursive: true });
  await link(gguf.path, file).catch(() => copyFile(gguf.path, file));
  await hub.addRepository('lm-onnx', await smollm2Onnx('genai'));
  // No other pods than those that ask for the NPU come to its node.
  const taints = [`${devices.intelNpu}=present:NoSchedule`];
  owned.push(await dressNode(running, { node: npuNode, labels: {}, taints }));
  owned.push(await offerDevices(running, { node: npuNode, resource: devices.intelNpu, count: 1 }));
});
afterAll(async () => {
  if (!inject('devices')) return;
  await space?.[Symbol.asyncDispose]();
  await hub?.[Symbol.asyncDispose]();
  for (const one of owned.toReversed()) await one[Symbol.asyncDispose]();
});

const applyModel = (variants: readonly object[]) =>
  lab.apply({
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { namespace: space.name, name: 'lm' },
    spec: { source: { uri: 'hf://acme/lm', endpoint: hub.url, insecure: true }, variants },
  });
const onnx = { name: 'onnx', accelerators: ['npu'], uri: 'hf://acme/lm-onnx', format: 'ONNX' };

/** What each node is to hold and holds of these bytes, by node. */
async function heldOf(names: ReadonlyMap<string, string>): Promise<Record<string, string[]>> {
  const caches = await lab.nodeCaches();
  const held = caches.map(({ metadata, spec, status }): [string, string[]] => {
    const wanted = spec?.wanted?.map(({ digest }) => digest) ?? [];
    const there = (status?.entries ?? []).map(({ digest, state }) => `${digest} ${state}`);
    return [
      metadata.name,
      [...names].flatMap(([name, digest]) => {
        if (there.includes(`${digest} Ready`)) return [name];
        return wanted.includes(digest) || there.some((entry) => entry.startsWith(digest)) ? [`${name}?`] : [];
      }),
    ];
  });
  return Object.fromEntries(held);
}

it.runIf(inject('devices'))(
  'each node holds the files of its own hardware, and pods on both answer',
  async () => {
    await applyModel([onnx]);
    await lab.apply({
      apiVersion: 'slm.dev/v1alpha1',
      kind: 'SLMDeployment',
      metadata: { namespace: space.name, name: 'lm' },
      spec: {
        modelRef: { name: 'lm' },
        replicas: 2,
        hardware: { preferred: 'npu', fallback: ['cpu'], fallbackAfter: '3s' },
        engine: { contextLength: 512, parallelRequests: 1, threads: 1 },
        auth: { type: 'None' },
      },
    });
    const ready = await until(
      'both pods are ready',
      () => lab.deployment(space.name, 'lm'),
      (one) => holds(one, 'Ready') && one?.status?.readyReplicas === 2,
      { timeoutMs: 240_000 },
    );
    const [revision] = (await lab.model(space.name, 'lm'))?.status?.revisions ?? [];
    const names = new Map([
      ['gguf', revision?.digest ?? ''],
      ['onnx', revision?.variants?.[0]?.digest ?? ''],
    ]);
    expect(await heldOf(names)).toEqual({
      [npuNode]: ['onnx'],
      ...Object.fromEntries(plainNodes.map((node) => [node, ['gguf']])),
    });
    const tiers = ready?.status?.hardware?.tiers?.map(({ name, variant, readyReplicas }) => [
      name,
      variant ?? '-',
      readyReplicas,
    ]);
    expect(tiers).toEqual([
      ['intel-npu', 'onnx', 1],
      ['cpu', '-', 1],
    ]);
    const model = await lab.model(space.name, 'lm');
    expect(model?.status?.cache).toMatchObject({ nodes: '3/3', percent: 100 });
    expect(revision?.variants?.[0]?.metadata?.format).toBe('ONNX');

    // Both formats of the same weights give the same greedy answer.
    const pods = await lab.list<{ metadata: { name: string; labels: Record<string, string> } }>(
      'pods',
      '-n',
      space.name,
      '-l',
      'slm.dev/deployment=lm',
    );
    const ask = `
      const body = JSON.stringify({ model: 'lm', temperature: 0, max_tokens: 24,
        messages: [{ role: 'user', content: 'Name the capital of France.' }] });
      const answer = await fetch('http://127.0.0.1:8080/v1/chat/completions',
        { method: 'POST', headers: { 'content-type': 'application/json' }, body });
      console.log((await answer.json()).choices[0].message.content);`;
    for (const { metadata } of pods) {
      const said = await lab.kubectl(
        '-n',
        space.name,
        'exec',
        metadata.name,
        '--',
        'node',
        '--input-type=module',
        '-e',
        ask,
      );
      expect(said.trim(), metadata.labels['slm.dev/tier'] ?? '').toContain('Paris');
    }
  },
  300_000,
);

it.runIf(inject('devices'))(
  'a variant that goes is a new revision, and its bytes leave the nodes',
  async () => {
    const before = await lab.model(space.name, 'lm');
    const [old] = before?.status?.revisions ?? [];
    await applyModel([]);
    await until(
      'the deployment serves the model’s own file alone',
      () => lab.deployment(space.name, 'lm'),
      (one) =>
        holds(one, 'Ready') &&
        one?.status?.rollout?.phase === 'Idle' &&
        // The server of these tests computes the model's own file on the NPU's node, too.
        one.status.hardware?.tiers?.every(({ variant }) => variant === undefined) === true,
      { timeoutMs: 120_000 },
    );
    const names = new Map([['onnx', old?.variants?.[0]?.digest ?? '']]);
    await until(
      'no node holds the variant',
      () => heldOf(names),
      (held) => Object.values(held).every((one) => one.length === 0),
      { timeoutMs: 60_000 },
    );
    const after = await lab.model(space.name, 'lm');
    expect(after?.status?.latestRevision?.name).not.toBe(old?.name);
    expect(after?.status?.latestRevision?.digest).toBe(old?.digest);
  },
  200_000,
);
