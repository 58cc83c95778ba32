import type { SLMDeploymentSpec, SLMModelStatus } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { deployment, model, node, nodeWith } from '../deployment/testing/objects.ts';
import { type Fit, fitOf } from './fit.ts';
import type { NodeStock } from './node-hardware.ts';
import { defaultOrder, readProfiles } from './profiles.ts';
import { tiersOf } from './tiers.ts';

const GPU = 'nvidia.com/gpu';
const NPU = 'npu.intel.com/accel';
const MiB = 2 ** 20;
const GiB = 1024 * MiB;

interface World {
  readonly on: string;
  readonly spec?: Partial<SLMDeploymentSpec>;
  readonly status?: Partial<SLMModelStatus>;
  readonly nodes: readonly NodeStock[];
  readonly profiles?: object;
  readonly waitForFit?: boolean;
  readonly pending?: number;
  readonly wanted?: number;
}

/** The fit of the first tier that a name stands for. */
function fit({ on, spec = {}, status, nodes, profiles = {}, waitForFit = true, pending = 0, wanted }: World): Fit {
  const chat = deployment({ hardware: { preferred: on, ...spec.hardware }, ...spec });
  const smollm2 = model(status);
  const [revision] = smollm2.status?.revisions ?? [];
  const { tiers } = tiersOf({
    deployment: { ...chat, spec: { ...chat.spec, hardware: { preferred: on, fallback: [], ...spec.hardware } } },
    model: smollm2,
    revision: revision as NonNullable<typeof revision>,
    nodes,
    profiles: readProfiles(JSON.stringify({ 'intel-npu': { image: 'cpu' }, ...profiles }), 'PROFILES'),
    order: defaultOrder,
    images: { cpu: 'c', cuda: 'c', vulkan: 'c' },
  });
  const [tier] = tiers;
  if (tier === undefined) throw new Error(`${on} stands for no tier`);
  return fitOf({ tier, deployment: chat, nodes, waitForFit, pending, wanted });
}

const blocked = (world: World) => {
  const { room, blocked: why } = fit(world);
  return [room, why?.reason, why?.message];
};

/** A node with processors and memory, of which some are free. */
function machine(
  name: string,
  free: { memory?: number; cpu?: number; pods?: number },
  total: { memory?: number; cpu?: number } = {},
): NodeStock {
  const allocatable = { memory: total.memory ?? 8 * GiB, cpu: total.cpu ?? 8000, pods: 110 };
  return node(name, { allocatable, capacity: allocatable, free: { ...allocatable, ...free } });
}

const plus = (stock: NodeStock, change: Partial<NodeStock>): NodeStock => ({ ...stock, ...change });
const taint = (key: string, value?: string) => ({ taints: [{ key, value, effect: 'NoSchedule' }] });
const gpus = (name: string, amount: number, free = amount) => nodeWith(name, GPU, amount, free);
/** 1.1 GiB of weights. */
const large: Partial<SLMModelStatus> = {
  revisions: [
    { ...model().status?.revisions?.[0], size: 1181 * MiB } as NonNullable<SLMModelStatus['revisions']>[number],
  ],
  metadata: { format: 'GGUF', contextLength: 32_768, layers: 28 },
  estimate: { weights: 1181 * MiB, kvCachePer1kTokens: 112 * MiB },
};

describe('there is room', () => {
  it.each<[string, World, number | undefined]>([
    ['for as many pods as devices are free', { on: 'gpu', nodes: [gpus('n1', 4, 3), gpus('n2', 2)] }, 5],
    [
      'for fewer, where each takes two, and one is left on each node',
      { on: 'gpu', spec: { hardware: { preferred: 'gpu', count: 2 } }, nodes: [gpus('n1', 3), gpus('n2', 3)] },
      2,
    ],
    [
      'for fewer, where memory is scarcer than devices',
      {
        on: 'gpu',
        nodes: [
          plus(gpus('n1', 4), { allocatable: { [GPU]: 4, memory: 2 * GiB }, free: { [GPU]: 4, memory: 2 * GiB } }),
        ],
      },
      2,
    ],
    [
      'less what the deployment’s own pods will take that have no node yet',
      { on: 'gpu', nodes: [gpus('n1', 4)], pending: 3 },
      1,
    ],
    [
      'on tainted nodes that the profile tolerates',
      { on: 'gpu', nodes: [plus(gpus('n1', 1), taint(GPU, 'present'))] },
      1,
    ],
    [
      'on tainted nodes that the deployment tolerates',
      {
        on: 'gpu',
        spec: { podTemplate: { spec: { tolerations: [{ operator: 'Exists' }] } } },
        nodes: [plus(gpus('n1', 1), taint('team', 'a'))],
      },
      1,
    ],
    [
      'and the scheduler alone knows how much, for pods that may push others aside',
      { on: 'gpu', spec: { podTemplate: { spec: { priorityClassName: 'high' } } }, nodes: [gpus('n1', 1, 0)] },
      undefined,
    ],
    [
      'and the driver alone knows how much, for claims',
      {
        on: 'gpu',
        nodes: [node()],
        profiles: {
          nvidia: { claim: { deviceClasses: ['gpu.nvidia.com'] }, nodeLabels: [] },
          amd: false,
          'intel-gpu': false,
        },
      },
      undefined,
    ],
    [
      'and the autoscaler alone knows how much, where there is one',
      { on: 'gpu', nodes: [], waitForFit: false },
      undefined,
    ],
  ])('%s', (_, world, room) => {
    expect(fit(world)).toMatchObject({ room, wants: [] });
    expect(fit(world)).not.toHaveProperty('blocked');
  });
});

describe('no device: it says', () => {
  it.each<[string, World, string, string]>([
    [
      'that no node has one',
      { on: 'npu', nodes: [node('n1'), node('n2'), node('n3'), node('n4'), node('n5')] },
      'WaitingForDevice',
      `needs 1 ${NPU}; 0 of 5 nodes have one`,
    ],
    [
      'that the only node has none',
      { on: 'gpu', nodes: [node('n1')] },
      'WaitingForDevice',
      `needs 1 ${GPU}; the only node, n1, has none`,
    ],
    [
      'that the cluster is empty',
      { on: 'gpu', nodes: [] },
      'NoMatchingNodes',
      `needs 1 ${GPU}; the cluster has no node`,
    ],
    [
      'how many have none and how many have theirs in use',
      { on: 'gpu', nodes: [node('n1'), node('n2'), node('n3'), gpus('n4', 1, 0), gpus('n5', 2, 0)] },
      'WaitingForDevice',
      `needs 1 ${GPU}; of 5 nodes 3 have none, 2 have theirs in use`,
    ],
    [
      'that the only one is in use',
      { on: 'gpu', nodes: [gpus('n1', 1, 0)] },
      'WaitingForDevice',
      `needs 1 ${GPU}; the only node, n1, has it in use`,
    ],
    [
      'that all are in use',
      { on: 'gpu', nodes: [gpus('n1', 1, 0), gpus('n2', 1, 0)] },
      'WaitingForDevice',
      `needs 1 ${GPU}; of 2 nodes 2 have theirs in use`,
    ],
    [
      'that they are promised',
      { on: 'gpu', nodes: [gpus('n1', 1)], pending: 1 },
      'WaitingForDevice',
      `needs 1 ${GPU}; the only node, n1, has it promised to pods that start`,
    ],
    [
      'that a plugin has ended',
      { on: 'gpu', nodes: [plus(gpus('n1', 0), { capacity: { [GPU]: 2 } }), node('n2')] },
      'DeviceLost',
      `needs 1 ${GPU}; node n1 has lost its own: its kubelet offers no ${GPU} any more: is its device plugin running?`,
    ],
    [
      'that no plugin offers what a label promises',
      { on: 'gpu', nodes: [node('n1', { labels: { 'nvidia.com/gpu.present': 'true' } }), node('n2')] },
      'WaitingForDevice',
      `needs 1 ${GPU}; node n1 has an nvidia device (label nvidia.com/gpu.present), but its kubelet offers no ${GPU}: is its device plugin running?`,
    ],
    [
      'that no plugin offers what the node’s agent sees',
      {
        on: 'intel-npu',
        nodes: [
          node('n1', {
            devices: [{ id: '0000:00:0b.0', class: 'npu', vendor: 'intel', name: 'Intel NPU 8086:7d1d', usable: true }],
          }),
        ],
      },
      'WaitingForDevice',
      `needs 1 ${NPU}; node n1 has an intel device (Intel NPU 8086:7d1d), but its kubelet offers no ${NPU}: is its device plugin running?`,
    ],
    [
      'which taint is in the way, and what to write',
      { on: 'gpu', nodes: [plus(gpus('n1', 1), taint('team', 'ml')), node('n2')] },
      'NoMatchingNodes',
      `needs 1 ${GPU}; of 2 nodes 1 has none, 1 has taint team=ml:NoSchedule (n1): add {key: team, value: ml, effect: NoSchedule} to podTemplate.spec.tolerations`,
    ],
    [
      'nothing to write for a taint of the node’s health',
      { on: 'gpu', nodes: [plus(gpus('n1', 1), taint('node.kubernetes.io/disk-pressure'))] },
      'NoMatchingNodes',
      `needs 1 ${GPU}; the only node, n1, has taint node.kubernetes.io/disk-pressure:NoSchedule`,
    ],
    [
      'that the node is cordoned',
      { on: 'gpu', nodes: [plus(gpus('n1', 1), { cordoned: true }), node('n2')] },
      'WaitingForDevice',
      `needs 1 ${GPU}; of 2 nodes 1 has none, 1 is cordoned (n1): kubectl uncordon n1`,
    ],
    [
      'that the node is not ready',
      { on: 'gpu', nodes: [plus(gpus('n1', 1), { ready: false }), node('n2')] },
      'WaitingForDevice',
      `needs 1 ${GPU}; of 2 nodes 1 has none, 1 is not ready (n1)`,
    ],
    [
      'that the selector excludes them',
      {
        on: 'gpu',
        spec: { podTemplate: { spec: { nodeSelector: { zone: 'a' } } } },
        nodes: [gpus('n1', 1), gpus('n2', 1)],
      },
      'NoMatchingNodes',
      `needs 1 ${GPU}; of 2 nodes 2 lack the labels of podTemplate.spec.nodeSelector (zone=a): label a node or change the selector`,
    ],
    [
      'that no node has as many',
      { on: 'gpu', spec: { hardware: { preferred: 'gpu', count: 4 } }, nodes: [gpus('n1', 2), gpus('n2', 1)] },
      'WaitingForDevice',
      `needs 4 ${GPU}; of 2 nodes 2 have fewer than 4: lower hardware.count to 2`,
    ],
    [
      'several things at once, the nearest last',
      {
        on: 'gpu',
        nodes: [
          node('n1'),
          plus(gpus('n2', 1), taint('team', 'ml')),
          plus(gpus('n3', 1), { ready: false }),
          gpus('n4', 1, 0),
        ],
      },
      'WaitingForDevice',
      `needs 1 ${GPU}; of 4 nodes 1 has none, 1 has taint team=ml:NoSchedule (n2), 1 is not ready (n3), 1 has it in use`,
    ],
    [
      'which label a node lacks, for a profile that goes by labels',
      {
        on: 'mine',
        profiles: { mine: { class: 'gpu', image: 'cuda', nodeLabels: ['x.dev/gpu'] } },
        nodes: [plus(node('n1', { labels: { 'x.dev/gpu': 'true' } }), { cordoned: true })],
      },
      'NoMatchingNodes',
      'needs a node with label x.dev/gpu; the only node, n1, is cordoned: kubectl uncordon n1',
    ],
  ])('%s', (_, world, reason, message) => {
    expect(blocked(world)).toEqual([0, reason, message]);
  });
});

describe('fewer devices than pods: it says', () => {
  it.each<[string, World, number, string]>([
    [
      'how many there is room for',
      { on: 'gpu', wanted: 5, nodes: [node('n1'), gpus('n2', 2, 0), gpus('n3', 4, 1), gpus('n4', 1)] },
      2,
      `needs 1 ${GPU}; of 4 nodes 1 has none, 3 have theirs in use`,
    ],
    [
      'the same of one node',
      { on: 'gpu', wanted: 2, nodes: [gpus('n1', 2, 1)] },
      1,
      `needs 1 ${GPU}; the only node, n1, has it in use`,
    ],
  ])('%s', (_, world, room, message) => {
    expect(blocked(world)).toEqual([room, 'WaitingForDevice', message]);
  });
});

describe('too little of something: it says', () => {
  const small = { on: 'cpu', status: large } as const;
  it.each<[string, World, string, string]>([
    [
      'how much memory there is, and with which context it would do',
      {
        ...small,
        spec: { engine: { contextLength: 16_384, promptCache: { maxSize: 0 } } },
        nodes: [machine('n1', { memory: 4 * GiB }), machine('n2', { memory: 3 * GiB })],
      },
      'InsufficientMemory',
      'needs 8.6 GiB of memory; the largest node has 8 GiB, of which 4 GiB is free: lower engine.contextLength to 5632',
    ],
    [
      'that fewer requests at a time would do, where contexts would get too short',
      { ...small, spec: { engine: { promptCache: { maxSize: 0 } } }, nodes: [machine('n1', { memory: 2300 * MiB })] },
      'InsufficientMemory',
      'needs 3.3 GiB of memory; node n1 has 2.2 GiB free: lower engine.parallelRequests to 1',
    ],
    [
      'that remembered prompts could go',
      { ...small, nodes: [machine('n1', { memory: 3500 * MiB })] },
      'InsufficientMemory',
      'needs 3.8 GiB of memory; node n1 has 3.4 GiB free: lower engine.promptCache.maxSize to 80Mi',
    ],
    [
      'that nothing helps but a smaller file',
      { ...small, nodes: [machine('n1', { memory: GiB })] },
      'InsufficientMemory',
      'needs 3.8 GiB of memory; node n1 has 1 GiB free: use a smaller quantization, or a node with more memory',
    ],
    [
      'that the node would be too small if it were empty',
      { ...small, nodes: [machine('n1', { memory: GiB }, { memory: 2 * GiB })] },
      'InsufficientMemory',
      'needs 3.8 GiB of memory; node n1 has 2 GiB, of which 1 GiB is free: lower engine.parallelRequests to 1 and engine.contextLength to 1536',
    ],
    [
      'that what was asked for is more than needed',
      { ...small, spec: { resources: { requests: { memory: '6Gi' } } }, nodes: [machine('n1', { memory: 4 * GiB })] },
      'InsufficientMemory',
      'needs 6 GiB of memory; node n1 has 4 GiB free: lower resources.requests.memory to 4096Mi',
    ],
    [
      'how many processors are free',
      {
        on: 'cpu',
        spec: { resources: { requests: { cpu: '4' } } },
        nodes: [machine('n1', { cpu: 1500 }), machine('n2', { cpu: 200 })],
      },
      'Unschedulable',
      'needs 4 CPUs; the largest free node has 1.5 CPUs: lower resources.requests.cpu to 1500m',
    ],
    [
      'that a node runs as many pods as it may',
      { on: 'cpu', nodes: [machine('n1', { pods: 0 })] },
      'Unschedulable',
      'needs a place for a pod; the only node, n1, runs as many pods as it may',
    ],
    [
      'that a device is free but memory is not',
      {
        on: 'gpu',
        nodes: [
          node('n1'),
          plus(machine('n2', { memory: 100 * MiB }), {
            allocatable: { ...machine('n2', {}).allocatable, [GPU]: 1 },
            free: { memory: 100 * MiB, cpu: 8000, pods: 9, [GPU]: 1 },
          }),
        ],
      },
      'InsufficientMemory',
      `needs 1 ${GPU} and 720 MiB of memory; of 2 nodes 1 has none, 1 has 100 MiB free: use a smaller quantization, or a node with more memory`,
    ],
    [
      'that the device’s memory is too small',
      {
        on: 'gpu',
        status: large,
        nodes: [
          plus(gpus('n1', 1), { labels: { 'nvidia.com/gpu.memory': '3000' } }),
          plus(gpus('n2', 1), { labels: { 'nvidia.com/gpu.memory': '2000' } }),
        ],
      },
      'InsufficientDeviceMemory',
      `needs 1 ${GPU} with 3.5 GiB; of 2 nodes 2 have 2.9 GiB at most: lower engine.contextLength to 2560`,
    ],
    [
      'that a part of the layers would fit',
      { on: 'gpu', status: large, nodes: [plus(gpus('n1', 1), { labels: { 'nvidia.com/gpu.memory': '1600' } })] },
      'InsufficientDeviceMemory',
      `needs 1 ${GPU} with 3.5 GiB; the only node, n1, has 1.6 GiB: set engine.gpuLayers to 10`,
    ],
  ])('%s', (_, world, reason, message) => {
    expect(blocked(world)).toEqual([0, reason, message]);
  });

  it('and whoever follows the advice has room', () => {
    const nodes = [machine('n1', { memory: 4 * GiB })];
    for (const contextLength of [32_768, 16_384, 8192, 4096]) {
      const spec: Partial<SLMDeploymentSpec> = { engine: { contextLength } };
      let world: World = { on: 'cpu', status: large, nodes, spec };
      for (let step = 0; step < 3; step++) {
        const advice = fit(world).blocked?.message ?? '';
        const [, field, value] = /lower engine\.([a-zA-Z.]+) to (\d+(?:Mi)?)/.exec(advice) ?? [];
        if (field === undefined) break;
        const engine =
          field === 'promptCache.maxSize' ? { promptCache: { maxSize: value as string } } : { [field]: Number(value) };
        world = { ...world, spec: { engine: { ...world.spec?.engine, ...engine } } };
      }
      expect(fit(world).room).toBeGreaterThan(0);
    }
  });
});

describe('the nodes for the files', () => {
  it('are those that could hold a pod, were they empty, ready and uncordoned', () => {
    const nodes = [
      gpus('free', 1),
      gpus('busy', 1, 0),
      plus(gpus('cordoned', 1), { cordoned: true }),
      plus(gpus('down', 1), { ready: false }),
      plus(gpus('tainted', 1), taint('team', 'ml')),
      plus(gpus('lost', 0), { capacity: { [GPU]: 1 } }),
      plus(gpus('small', 1), { labels: { 'nvidia.com/gpu.memory': '100' } }),
      node('none'),
    ];
    expect(fit({ on: 'gpu', nodes }).eligible).toEqual(['free', 'busy', 'cordoned', 'down']);
  });
});

describe('the inventory', () => {
  const of = (...nodes: NodeStock[]) => fit({ on: 'gpu', nodes }).inventory;
  const before = of(gpus('n1', 2), node('n2'));
  it.each<[string, string, boolean]>([
    ['pods come and go', of(gpus('n1', 2, 0), node('n2')), true],
    ['a node without such devices comes', of(gpus('n1', 2), node('n2'), node('n3')), true],
    ['a node is cordoned', of(plus(gpus('n1', 2), { cordoned: true }), node('n2')), true],
    ['a device is lost', of(plus(gpus('n1', 1), { capacity: { [GPU]: 2 } }), node('n2')), false],
    ['a node with such devices comes', of(gpus('n1', 2), gpus('n2', 1)), false],
    ['a taint comes', of(plus(gpus('n1', 2), taint('team')), node('n2')), false],
  ])('when %s: %s, the same: %s', (_, after, same) => {
    expect(after === before).toBe(same);
  });
});

describe('what would help', () => {
  it.each<[string, World, string[]]>([
    ['the device, where there is none', { on: 'gpu', nodes: [node()] }, [GPU]],
    [
      'memory too, where that is short',
      {
        on: 'gpu',
        nodes: [plus(gpus('n1', 1), { allocatable: { [GPU]: 1, memory: GiB }, free: { [GPU]: 1, memory: 0 } })],
      },
      [GPU, 'memory'],
    ],
    [
      'processors and memory, for what needs no device',
      { on: 'cpu', nodes: [machine('n1', { pods: 0 })] },
      ['cpu', 'memory', 'pods'],
    ],
  ])('is %s', (_, world, wants) => {
    expect(fit(world).wants).toEqual(wants);
  });
});
