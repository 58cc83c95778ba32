import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { SLMDeployment } from '../execution/kinds.ts';
import { defineResource, type KubeObject, Node, Pod } from '../kube/index.ts';
import { condition, conditions, type PodObject, slow, World } from './testing/world.ts';

const GPU = 'nvidia.com/gpu';
const ResourceQuota = defineResource<KubeObject & { readonly spec: object }>({
  group: '',
  version: 'v1',
  plural: 'resourcequotas',
  kind: 'ResourceQuota',
  namespaced: true,
});

let world: World;
beforeEach(async () => {
  world = await World.start(inject('kubeconfig'));
});
afterEach(() => world[Symbol.asyncDispose]());

/** Nodes with so many GPUs each, all of which have the model. */
async function nodesWith(...gpus: number[]): Promise<string[]> {
  const digest = await world.addModel('smollm2', 'one');
  const names: string[] = [];
  for (const amount of gpus) {
    const node = await world.addNode();
    if (amount > 0) await world.offer(node, GPU, amount);
    await world.reportNode(node, digest, 100);
    names.push(node);
  }
  return names;
}

const ready = conditions(condition('Ready', 'True'));
const model = { modelRef: { name: 'smollm2' } };

/** Sizes of ReplicaSets by tier, without those of size 0. */
async function sizes(deployment = 'chat'): Promise<Record<string, number>> {
  const sets = (await world.replicaSets()).filter(
    ({ metadata, spec }) => metadata?.labels?.['slm.dev/deployment'] === deployment && (spec?.replicas ?? 0) > 0,
  );
  return Object.fromEntries(
    sets.map(({ metadata, spec }) => [metadata?.labels?.['slm.dev/tier'] ?? '', spec?.replicas ?? 0]),
  );
}

const reasons = () => world.events.map(({ reason }) => reason);

it('five replicas, two GPUs: two there and three on processors, from one spec, and nothing is written afterwards', async () => {
  await nodesWith(2, 0);
  world.said.set('nvidia', {
    device: { class: 'gpu', backend: 'CUDA', name: 'NVIDIA L4', layersOffloaded: 31, layers: 31 },
    tokensPerSecond: 80,
  });
  await world.deploy('chat', { ...model, replicas: 5, hardware: { preferred: 'gpu', fallbackAfter: '1s' } });
  const { status } = await world.serveUntil('chat', {
    conditions: conditions(condition('Ready', 'True'), condition('HardwareDegraded', 'True', 'FellBack')),
    readyText: '5/5',
    hardware: { summary: '2 gpu, 3 cpu (fallback)', tiers: [{ name: 'nvidia', device: 'NVIDIA L4' }, { name: 'cpu' }] },
  });
  expect(await sizes()).toEqual({ nvidia: 2, cpu: 3 });
  expect(status?.hardware?.message).toContain('2 pods on gpu (NVIDIA L4, CUDA), 3 on cpu: needs');
  expect(reasons().filter((reason) => reason === 'FellBack')).toHaveLength(1);
  const images = (await world.pods()).map(({ spec }) => spec?.containers[0]?.image);
  expect(images.filter((image) => image === 'slm.dev/server-cuda:1')).toHaveLength(2);
  expect(images.filter((image) => image === 'slm.dev/server:1')).toHaveLength(3);
  expect(await world.quiet(3000)).toBe(0);

  // Pods say nothing to a process that has just started before it asks them.
  await world.stopOperators();
  const fresh = world.startFresh();
  await expect.poll(() => fresh.seen.has(`${world.namespace}/chat`), slow).toBe(true);
  await world.quiet(1500);
  expect(fresh.requests.filter(({ method }) => method !== 'GET')).toEqual([]);
});

it('waits for ever with policy Never, says what for, and goes on when a device comes', async () => {
  const [node = ''] = await nodesWith(0, 0);
  await world.deploy('chat', { ...model, hardware: { preferred: 'gpu', policy: 'Never' } });
  await world.until('chat', {
    conditions: conditions(condition('HardwareDegraded', 'True', 'WaitingForDevice')),
    rollout: { phase: 'WaitingForDevice' },
    hardware: { summary: 'waiting for gpu' },
    statusText: expect.stringMatching(/^needs 1 nvidia.com\/gpu; 0 of \d+ nodes have one; waits/) as string,
  });
  expect(await world.pods()).toEqual([]);
  expect(await world.quiet(1000)).toBe(0);

  await world.offer(node, GPU, 1);
  await world.serveUntil('chat', { conditions: ready, hardware: { summary: 'gpu', degraded: false } });
  expect(await sizes()).toEqual({ nvidia: 1 });
});

it('two deployments never count on one device, and the second gets it when the first is gone', async () => {
  await nodesWith(1);
  const hardware = { preferred: 'gpu', policy: 'Never' } as const;
  await Promise.all(['one', 'two'].map((name) => world.deploy(name, { ...model, hardware })));
  const both = async () => {
    await world.serveAll();
    const summaries = await Promise.all(['one', 'two'].map(async (name) => (await world.deployment(name)).status));
    return new Set(summaries.map((status) => status?.hardware?.summary));
  };
  await expect.poll(both, slow).toEqual(new Set(['gpu', 'waiting for gpu']));
  const [first = '', second = ''] =
    (await world.deployment('one')).status?.hardware?.summary === 'gpu' ? ['one', 'two'] : ['two', 'one'];
  expect([await sizes(first), await sizes(second)]).toEqual([{ nvidia: 1 }, {}]);
  await world.client.delete(SLMDeployment, world.ref(first));
  for (const pod of await world.pods()) await world.client.delete(Pod, world.ref(pod.metadata?.name ?? ''));
  await world.serveUntil(second, { conditions: ready, hardware: { summary: 'gpu' } });
});

it('a pod whose engine finds no device goes elsewhere after fallbackAfter, and says why', async () => {
  const [node = ''] = await nodesWith(1, 0);
  await world.deploy('chat', { ...model, hardware: { preferred: 'gpu', fallbackAfter: '10s' } });
  await expect.poll(() => world.pods(), slow).toHaveLength(1);
  const [pod] = (await world.pods()) as [PodObject];
  await world.bind(pod, node);
  const message = 'DeviceNotFound: this pod was promised a gpu and the engine found none: no driver.';
  await world.podStatus(pod, {
    phase: 'Running',
    containerStatuses: [
      {
        name: 'server',
        image: '',
        imageID: '',
        ready: false,
        restartCount: 1,
        state: { waiting: { reason: 'CrashLoopBackOff' } },
        lastState: { terminated: { exitCode: 4, message } },
      },
    ],
  });
  await world.until('chat', {
    blockedBy: expect.arrayContaining([
      expect.objectContaining({
        reason: 'DeviceNotFound',
        message: expect.stringContaining('the engine found none: no driver') as string,
      }),
    ]) as unknown,
  });
  await expect.poll(() => sizes(), slow).toEqual({ cpu: 1 });
  const { status } = await world.serveUntil('chat', {
    conditions: conditions(condition('Ready', 'True'), condition('HardwareDegraded', 'True', 'FellBack')),
    hardware: { summary: 'cpu (fallback)' },
  });
  expect(status?.hardware?.message).toContain('no driver');
  expect(reasons()).toEqual(expect.arrayContaining(['DeviceNotFound', 'FellBack']));
});

it('a quota on devices: what it refuses goes on processors', async () => {
  await nodesWith(2);
  await world.client.create(ResourceQuota, {
    metadata: world.ref('gpus'),
    spec: { hard: { [`requests.${GPU}`]: '1' } },
  });
  const quota = async () =>
    ((await world.client.get(ResourceQuota, world.ref('gpus'))) as { status?: { hard?: object } }).status?.hard;
  await expect.poll(quota, slow).toBeDefined();
  await world.deploy('chat', { ...model, replicas: 2, hardware: { preferred: 'gpu', fallbackAfter: '10s' } });
  await world.until('chat', {
    blockedBy: expect.arrayContaining([
      expect.objectContaining({
        reason: 'QuotaExceeded',
        message: expect.stringContaining(`ResourceQuota gpus allows requests.${GPU}=1`) as string,
      }),
    ]) as unknown,
  });
  await world.serveUntil('chat', { conditions: ready, hardware: { summary: '1 gpu, 1 cpu (fallback)' } });
});

it('a tainted device is none for this deployment, and status names the taint', async () => {
  const [node = ''] = await nodesWith(1, 0);
  const spec = { taints: [{ key: 'team', value: 'ml', effect: 'NoSchedule' }] };
  await world.client.patch(Node, { name: node }, 'merge', { spec });
  await world.deploy('chat', { ...model, hardware: { preferred: 'gpu', fallbackAfter: '1h' } });
  await world.until('chat', { statusText: expect.stringContaining('team=ml') as string });
  expect(await sizes()).toEqual({});
  await world.change('chat', { podTemplate: { spec: { tolerations: [{ key: 'team', operator: 'Exists' }] } } });
  await world.serveUntil('chat', { conditions: ready, hardware: { summary: 'gpu' } });
});

it('a device that is lost: what serves goes on, what comes after it waits and says so', async () => {
  const [node = ''] = await nodesWith(1, 0);
  await world.deploy('chat', { ...model, hardware: { preferred: 'gpu', fallbackAfter: '1h' } });
  await world.serveUntil('chat', { conditions: ready });
  await world.offer(node, GPU, 0);
  await world.until('chat', {
    conditions: ready,
    hardware: { message: expect.stringContaining(`node ${node} offers no ${GPU} any more`) as string },
  });
  expect(reasons()).toContain('DeviceLost');
  expect(await sizes()).toEqual({ nvidia: 1 });

  const [pod] = await world.pods();
  await world.client.delete(Pod, world.ref(pod?.metadata?.name ?? ''), { gracePeriodSeconds: 0 });
  await world.serveUntil('chat', {
    conditions: conditions(condition('Ready', 'False'), condition('HardwareDegraded', 'True', 'WaitingForDevice')),
    rollout: { phase: 'WaitingForDevice' },
  });
  await world.offer(node, GPU, 1);
  await world.serveUntil('chat', { conditions: ready, hardware: { summary: 'gpu', degraded: false } });
});

it('comes back to a device that is free again, with the idle pod of two, and never with fewer that serve', async () => {
  const [node = ''] = await nodesWith(0, 0);
  world.said.set('cpu', { running: 1 });
  await world.deploy('chat', {
    ...model,
    replicas: 2,
    hardware: { preferred: 'gpu', fallbackAfter: '1s', promoteBack: 'WhenIdle' },
  });
  await world.serveUntil('chat', { conditions: ready, hardware: { summary: 'cpu (fallback)' } });
  const [busy, idle] = (await world.pods()) as [PodObject, PodObject];
  world.said.set(idle.status?.podIP ?? '', { running: 0, idleSeconds: 30 });
  await world.offer(node, GPU, 1);
  const served: number[] = [];
  const look = async () => {
    await world.serveAll();
    served.push((await world.deployment('chat')).status?.availableReplicas ?? 0);
    return sizes();
  };
  await expect.poll(look, { timeout: 60_000, interval: 200 }).toEqual({ nvidia: 1, cpu: 1 });
  await world.serveUntil('chat', { conditions: ready, hardware: { summary: '1 gpu, 1 cpu (fallback)' } });
  expect(Math.min(...served)).toBe(2);
  const left = (await world.pods()).map(({ metadata }) => metadata?.name);
  expect(left).toContain(busy.metadata?.name);
  expect(left).not.toContain(idle.metadata?.name);
  expect(reasons()).toContain('PromotedBack');
});
