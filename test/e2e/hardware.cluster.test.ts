/**
 * Pods on the best device that is free, and a sentence for whatever keeps them from it. Nodes differ, and devices come and go
 * with their plugins, as kubelets see them.
 */
import type { SLMDeployment } from '@slm-operator/crds';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { Cluster } from '../cluster/cluster.ts';
import { dressNode, NFD_LABELS, type OfferedDevices, offerDevices, undressNodes } from '../cluster/devices/devices.ts';
import { cluster, lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { devices } from './hardware.ts';
import { condition, holds, type TestNamespace, until } from './harness.ts';
import { startLoad } from './load.ts';

interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly labels: Record<string, string>;
    readonly deletionTimestamp?: string;
  };
  readonly spec: { readonly nodeName?: string };
}

let running: Cluster;
let hub: TestHub;
let space: TestNamespace;
const owned: AsyncDisposable[] = [];
const [first = '', second = '', third = ''] = nodes;

beforeAll(async () => {
  if (!inject('devices')) return;
  running = await cluster();
  const labels = { ...NFD_LABELS.nvidia(), ...NFD_LABELS.intelNpu() };
  await undressNodes(running, [...Object.keys(labels), devices.nvidia, 'maintenance']);
  hub = await openHub();
  space = await lab.namespace('hardware');
  const { sha256 } = await hub.addModel('lm.gguf');
  await lab.apply(makeModel(space.name, 'lm', hub, 'lm.gguf', sha256, { policy: 'Nodes' }));
  await until(
    'the model is on every node',
    () => lab.model(space.name, 'lm'),
    (one) => holds(one, 'Ready'),
  );
});
afterAll(async () => {
  if (!inject('devices')) return;
  await space[Symbol.asyncDispose]();
  await hub[Symbol.asyncDispose]();
  for (const one of owned.toReversed()) await one[Symbol.asyncDispose]();
});

/** Puts something on a node until the file ends. */
async function own<T extends AsyncDisposable>(thing: Promise<T>): Promise<T> {
  const made = await thing;
  owned.push(made);
  return made;
}

const deploy = (name: string, spec: object, namespace = space.name) =>
  lab.apply(makeDeployment(namespace, name, 'lm', spec));
const read = (name: string, namespace = space.name) => lab.deployment(namespace, name);

/** Waits for what a deployment says. */
const says = (
  what: string,
  name: string,
  isDone: (one: SLMDeployment | undefined) => boolean,
  namespace = space.name,
) => until(what, () => read(name, namespace), isDone, { timeoutMs: 40_000 });

/** Why it is blocked, every sentence. */
const blocks = (one: SLMDeployment | undefined) =>
  one?.status?.blockedBy?.map(({ message }) => message).join('\n') ?? '';
const tier = (one: SLMDeployment | undefined, name: string) =>
  one?.status?.hardware?.tiers?.find((candidate) => candidate.name === name);
/** The line that `kubectl get` prints. */
const line = (name: string) => lab.kubectl('-n', space.name, 'get', 'slmd', name, '--no-headers');
const podsOf = async (name: string, namespace = space.name) =>
  (await lab.list<Pod>('pods', '-n', namespace, '-l', `slm.dev/deployment=${name}`)).filter(
    (pod) => pod.metadata.deletionTimestamp === undefined,
  );
const tiersOf = async (name: string) =>
  Object.entries(Object.groupBy(await podsOf(name), (pod) => pod.metadata.labels['slm.dev/tier'] ?? '')).map(
    ([key, pods]) => `${pods?.length} ${key}`,
  );
const events = async (name: string, reason: string) =>
  (
    await lab.list<{ reason: string; message?: string; note?: string }>(
      'events',
      '-n',
      space.name,
      '--field-selector',
      `involvedObject.name=${name},reason=${reason}`,
    )
  ).map(({ message, note }) => message ?? note ?? '');

describe.runIf(inject('devices'))('one node with two GPUs beside two without', () => {
  let gpus: OfferedDevices;
  beforeAll(async () => {
    await own(
      dressNode(running, { node: first, labels: NFD_LABELS.nvidia(), taints: ['nvidia.com/gpu=present:NoSchedule'] }),
    );
    gpus = await own(offerDevices(running, { node: first, resource: devices.nvidia, count: 2 }));
  });

  it('five replicas: two go to the GPUs at once, three wait as long as they were told and go to processors', async () => {
    await deploy('split', {
      replicas: 5,
      hardware: { preferred: 'gpu', fallback: ['cpu'], fallbackAfter: '5s', promoteBack: 'WhenIdle' },
    });
    const waiting = await says('it says what it waits for', 'split', (one) => blocks(one).includes('back to cpu'));
    expect(blocks(waiting)).toMatch(
      /needs 1 nvidia\.com\/gpu; .*; 3 of 5 pods wait and fall back to cpu after 5 s, at \d\d:\d\d:\d\dZ/,
    );
    const settled = await says(
      'all five are ready',
      'split',
      (one) => holds(one, 'Ready') && one?.status?.readyReplicas === 5,
    );
    expect((await tiersOf('split')).sort()).toEqual(['2 nvidia', '3 cpu']);
    for (const pod of await podsOf('split'))
      expect(pod.spec.nodeName === first).toBe(pod.metadata.labels['slm.dev/tier'] === 'nvidia');
    expect(settled?.status?.hardware).toMatchObject({ degraded: true, summary: '2 gpu, 3 cpu (fallback)' });
    expect(condition(settled, 'HardwareDegraded')).toMatchObject({ status: 'True', reason: 'FellBack' });
    expect(await line('split')).toMatch(/5\/5 +2 gpu, 3 cpu \(fallback\)/);
    await expect
      .poll(() => events('split', 'FellBack'), { timeout: 10_000 })
      .toEqual([expect.stringMatching(/needs 1 nvidia\.com\/gpu/)]);
  });

  it('a plugin that ends takes nothing from pods that serve; a pod that goes comes back on a processor', async () => {
    await gpus.stop();
    const lost = await says('it says what is lost', 'split', (one) =>
      (one?.status?.hardware?.message ?? '').includes('any more'),
    );
    expect(lost?.status?.hardware?.message).toContain(`node ${first} offers no nvidia.com/gpu any more`);
    expect(lost?.status?.readyReplicas).toBe(5);
    const [victim] = (await podsOf('split')).filter((pod) => pod.metadata.labels['slm.dev/tier'] === 'nvidia');
    await lab.kubectl('-n', space.name, 'delete', 'pod', victim?.metadata.name ?? '', '--wait=false');
    await says(
      'four are on processors',
      'split',
      (one) => tier(one, 'cpu')?.readyReplicas === 4 && holds(one, 'Ready'),
    );
    expect((await tiersOf('split')).sort()).toEqual(['1 nvidia', '4 cpu']);
  });

  it('devices that come back are taken while every request is answered', async () => {
    const load = await startLoad(lab, {
      namespace: space.name,
      deployment: 'split',
      image: await lab.serverImage(),
    });
    await gpus.start();
    await says(
      'two are on GPUs again',
      'split',
      (one) => tier(one, 'nvidia')?.readyReplicas === 2 && tier(one, 'cpu')?.readyReplicas === 3,
    );
    const result = await load.stop();
    expect(result.failures).toEqual([]);
    expect(result.sent).toBeGreaterThan(5);
    await expect.poll(() => events('split', 'PromotedBack'), { timeout: 10_000 }).not.toEqual([]);
    await lab.remove('slmd', 'split', space.name);
  });
});

describe.runIf(inject('devices'))('policy Never', () => {
  it('waits, says for what, and starts when the last obstacle is gone', async () => {
    await deploy('patient', { hardware: { preferred: 'npu', policy: 'Never' } });
    const none = await says('no node has one', 'patient', (one) => blocks(one).includes('0 of 3'));
    expect(blocks(none)).toMatch(
      /needs 1 npu\.intel\.com\/accel; 0 of 3 nodes have one; waits, .*hardware\.policy is Never/,
    );
    expect(none?.status?.hardware?.summary).toBe('waiting for npu');
    expect(condition(none, 'HardwareDegraded')?.status).toBe('True');
    expect(await podsOf('patient')).toEqual([]);

    await own(dressNode(running, { node: second, labels: NFD_LABELS.intelNpu() }));
    const silent = await says('a node has one by its labels', 'patient', (one) => blocks(one).includes(second));
    expect(blocks(silent)).toMatch(
      new RegExp(
        `node ${second} has an intel device \\(.*\\), but its kubelet offers no npu.intel.com/accel.*device plugin`,
      ),
    );

    const closed = await dressNode(running, { node: second, taints: ['maintenance=yes:NoSchedule'] });
    await own(offerDevices(running, { node: second, resource: devices.intelNpu, count: 1 }));
    const tainted = await says('it is tainted', 'patient', (one) => blocks(one).includes('taint'));
    expect(blocks(tainted)).toMatch(/maintenance=yes:NoSchedule.*podTemplate\.spec\.tolerations/);
    await closed[Symbol.asyncDispose]();

    const ready = await says('it runs', 'patient', (one) => holds(one, 'Ready'));
    expect(ready?.status?.hardware).toMatchObject({
      class: 'npu',
      profile: 'intel-npu',
      degraded: false,
      summary: 'npu',
    });
    expect(condition(ready, 'HardwareDegraded')).toMatchObject({ status: 'False', reason: 'OnPreferredHardware' });
    await lab.remove('slmd', 'patient', space.name);
  });
});

describe.runIf(inject('devices'))('a device that a pod cannot have', () => {
  beforeAll(async () => {
    await own(offerDevices(running, { node: third, resource: devices.intelGpu, count: 2 }));
  });
  const limitedTo = async (prefix: string, hard: object) => {
    const limited = await own(lab.namespace(prefix));
    const { sha256 } = await hub.addModel(`${prefix}.gguf`);
    await lab.apply(
      { apiVersion: 'v1', kind: 'ResourceQuota', metadata: { namespace: limited.name, name: 'limit' }, spec: { hard } },
      makeModel(limited.name, 'lm', hub, `${prefix}.gguf`, sha256),
    );
    return limited.name;
  };
  const hardware = { preferred: 'intel-gpu', fallbackAfter: '4s' };

  it('by a quota on the device: it says so and falls back', async () => {
    const namespace = await limitedTo('quota-device', { [`requests.${devices.intelGpu}`]: '0' });
    await deploy('limited', { hardware }, namespace);
    const one = await says('it fell back', 'limited', (it) => holds(it, 'Ready'), namespace);
    expect(one?.status?.hardware).toMatchObject({ class: 'cpu', degraded: true, summary: 'cpu (fallback)' });
    expect(one?.status?.hardware?.message).toMatch(/quota/i);
  });

  it('by a quota on something else: it says so and stays, because nothing would be better elsewhere', async () => {
    const namespace = await limitedTo('quota-pods', { pods: '0' });
    await deploy('limited', { hardware }, namespace);
    const one = await says('it names the quota', 'limited', (it) => /quota/i.test(blocks(it)), namespace);
    expect(one?.status?.blockedBy?.[0]?.reason).toBe('QuotaExceeded');
    expect(tier(one, 'intel-gpu')).toMatchObject({ replicas: 1, readyReplicas: 0 });
    expect(tier(one, 'cpu')?.replicas).toBe(0);
  });

  it('because its image is not there: it says so and stays', async () => {
    await deploy('imageless', { hardware, image: 'slm.dev/no-such-image:1' });
    const one = await says('it names the image', 'imageless', (it) => blocks(it).includes('no-such-image'));
    expect(tier(one, 'intel-gpu')).toMatchObject({ replicas: 1, readyReplicas: 0 });
    expect(tier(one, 'cpu')?.replicas).toBe(0);
    await lab.remove('slmd', 'imageless', space.name);
  });

  it('because its engine finds none: the server ends with the reason, and the pod goes to a processor', async () => {
    await using _gpu = await offerDevices(running, { node: third, resource: devices.amd, count: 1 });
    await deploy('promised', { hardware: { preferred: 'amd', fallbackAfter: '4s' } });
    const told = await says('it says what the engine did not find', 'promised', (one) =>
      (one?.status?.blockedBy ?? []).some(({ reason }) => reason === 'DeviceNotFound'),
    );
    expect(blocks(told)).toMatch(/promised a gpu.* the engine found none/);
    const one = await says('it fell back', 'promised', (it) => holds(it, 'Ready'));
    expect(one?.status?.hardware).toMatchObject({ class: 'cpu', degraded: true, summary: 'cpu (fallback)' });
    expect(tier(one, 'amd')?.message).toMatch(
      /pods could not run there: .* the engine found none.*; tried again .*when the nodes' devices change/,
    );
    await lab.remove('slmd', 'promised', space.name);
  });
});

describe.runIf(inject('devices'))('without spec.hardware', () => {
  it('the best that is free is taken without waiting, and nothing is degraded', async () => {
    // Devices are free when their pods are gone altogether.
    await until(
      'no pod is left',
      () => lab.list<Pod>('pods', '-n', space.name, '-l', 'slm.dev/deployment'),
      (pods) => pods.length === 0,
    );
    await deploy('anything', { replicas: 3 });
    const one = await says('all are ready', 'anything', (it) => holds(it, 'Ready') && it?.status?.readyReplicas === 3);
    expect(await tiersOf('anything')).toEqual(expect.arrayContaining([expect.stringMatching(/nvidia|intel/)]));
    expect(one?.status?.hardware?.degraded).toBe(false);
    expect(condition(one, 'HardwareDegraded')).toBeUndefined();
    await lab.remove('slmd', 'anything', space.name);
  });
});

it.runIf(inject('devices'))(
  'a tier that is slower than the minimum is not ready, and says how fast it is',
  async () => {
    await deploy('hasty', { hardware: { preferred: 'cpu', policy: 'Never', minTokensPerSecond: 900_000 } });
    const one = await says('it is too slow', 'hasty', (it) => blocks(it).includes('tokens'));
    expect(one?.status?.blockedBy?.[0]?.reason).toBe('TooSlow');
    expect(one?.status?.readyReplicas ?? 0).toBe(0);
    await lab.remove('slmd', 'hasty', space.name);
  },
);
