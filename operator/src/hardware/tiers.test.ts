import type { ModelVariant, SLMDeploymentSpec, SLMModelStatus } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { deployment, digest, model, node, nodeWith, size } from '../deployment/testing/objects.ts';
import type { NodeStock } from './node-hardware.ts';
import { defaultOrder, readProfiles } from './profiles.ts';
import { type Tier, tierName, tiersOf } from './tiers.ts';

const GPU = 'nvidia.com/gpu';
const NPU = 'npu.intel.com/accel';

interface World {
  readonly spec?: Partial<SLMDeploymentSpec>;
  readonly nodes?: readonly NodeStock[];
  readonly profiles?: object;
  readonly images?: readonly string[];
  readonly order?: readonly string[];
  readonly variants?: readonly Partial<ModelVariant>[];
  readonly status?: Partial<SLMModelStatus>;
}

function look({ spec, nodes = [], profiles = {}, images = ['cpu', 'cuda', 'vulkan', 'openvino'], ...rest }: World) {
  const smollm2 = model(rest.status);
  const [revision] = smollm2.status?.revisions ?? [];
  if (revision === undefined) throw new Error('the model has no revision');
  return tiersOf({
    deployment: deployment(spec),
    model: smollm2,
    revision: { ...revision, variants: (rest.variants ?? []) as ModelVariant[] },
    nodes,
    profiles: readProfiles(JSON.stringify(profiles), 'PROFILES'),
    order: rest.order ?? defaultOrder,
    images: Object.fromEntries(images.map((variant) => [variant, `slm.dev/server:1-${variant}`])),
  });
}

const names = (world: World) => look(world).tiers.map(({ name }) => name);
const hardware = (preferred: string, ...fallback: string[]) => ({ hardware: { preferred, fallback } });
const onnx: Partial<SLMModelStatus> = { metadata: { format: 'ONNX' } };

describe('without spec.hardware', () => {
  it.each<[string, World, string[]]>([
    ['only processors, where nodes have nothing else', { nodes: [node()] }, ['cpu']],
    ['GPUs before processors', { nodes: [node(), nodeWith('n2', GPU, 1)] }, ['nvidia', 'cpu']],
    [
      'NPUs first, for a model that they compute',
      {
        nodes: [nodeWith('n1', NPU, 1), nodeWith('n2', GPU, 1)],
        status: onnx,
        profiles: { nvidia: { formats: ['ONNX'] } },
      },
      ['intel-npu', 'nvidia', 'cpu'],
    ],
    ['no NPU for a model without a file for it', { nodes: [nodeWith('n1', NPU, 1)] }, ['cpu']],
    ['in the operator’s own order', { nodes: [nodeWith('n1', GPU, 1)], order: ['cpu', 'gpu'] }, ['cpu', 'nvidia']],
    ['no device whose image the operator lacks', { nodes: [nodeWith('n1', GPU, 1)], images: ['cpu'] }, ['cpu']],
    [
      'a device that is lost for the moment stays in line',
      { nodes: [{ ...nodeWith('n1', GPU, 0), capacity: { [GPU]: 2 } }] },
      ['nvidia', 'cpu'],
    ],
    [
      'none behind a taint that nobody tolerates',
      { nodes: [{ ...nodeWith('n1', GPU, 1), taints: [{ key: 'team', value: 'a', effect: 'NoSchedule' }] }] },
      ['cpu'],
    ],
    [
      'one behind the taint of its own kind',
      { nodes: [{ ...nodeWith('n1', GPU, 1), taints: [{ key: GPU, value: 'present', effect: 'NoSchedule' }] }] },
      ['nvidia', 'cpu'],
    ],
    [
      'none outside the node selector',
      { nodes: [nodeWith('n1', GPU, 1)], spec: { podTemplate: { spec: { nodeSelector: { a: 'b' } } } } },
      ['cpu'],
    ],
    [
      'something to wait for, where the order has nothing that is there',
      { nodes: [node()], order: ['gpu'] },
      ['nvidia'],
    ],
    [
      'no claim that nobody has asked for',
      { nodes: [node()], profiles: { nvidia: { claim: { deviceClasses: ['gpu.nvidia.com'] } } } },
      ['cpu'],
    ],
    [
      'a claim where a label says that there are devices',
      {
        nodes: [node('n1', { labels: { 'nvidia.com/gpu.present': 'true' } })],
        profiles: { nvidia: { claim: { deviceClasses: ['gpu.nvidia.com'] } } },
      },
      ['nvidia', 'cpu'],
    ],
  ])('%s', (_, world, expected) => {
    expect(names(world)).toEqual(expected);
    expect(look(world)).toMatchObject({ auto: true, problems: [] });
  });
});

describe('spec.hardware', () => {
  it.each<[string, World, string[]]>([
    [
      'falls back to cpu unless it says otherwise',
      { spec: { hardware: { preferred: 'gpu' } }, nodes: [nodeWith('n1', GPU, 1)] },
      ['nvidia', 'cpu'],
    ],
    [
      'names classes in its own order',
      { spec: hardware('cpu', 'gpu'), nodes: [nodeWith('n1', GPU, 1)] },
      ['cpu', 'nvidia'],
    ],
    [
      'with policy Never is what is preferred, and nothing else',
      { spec: { hardware: { preferred: 'gpu', policy: 'Never' } }, nodes: [node()] },
      ['nvidia'],
    ],
    [
      'names a profile',
      { spec: hardware('amd'), nodes: [nodeWith('n1', GPU, 1), nodeWith('n2', 'amd.com/gpu', 1)] },
      ['amd'],
    ],
    [
      'of a class means all profiles of it that nodes have',
      { spec: hardware('gpu'), nodes: [nodeWith('n1', 'amd.com/gpu', 1), nodeWith('n2', GPU, 1)] },
      ['nvidia', 'amd'],
    ],
    [
      'of a class that no node has stands for the first that could be used',
      { spec: hardware('npu', 'cpu'), nodes: [node()], profiles: { 'intel-npu': { image: 'cpu' } } },
      ['intel-npu', 'cpu'],
    ],
    [
      'of a class whose device hides behind a taint stands for that one',
      {
        spec: hardware('gpu'),
        nodes: [{ ...nodeWith('n1', 'amd.com/gpu', 1), taints: [{ key: 'team', effect: 'NoSchedule' }] }],
      },
      ['amd'],
    ],
    [
      'waits for a device that a label promises',
      { spec: hardware('gpu'), nodes: [node('n1', { labels: { 'amd.com/gpu.family': 'AI' } })] },
      ['amd'],
    ],
    [
      'takes MIG slices too, the smallest first',
      {
        spec: hardware('nvidia'),
        nodes: [
          nodeWith('n1', 'nvidia.com/mig-3g.40gb', 1),
          nodeWith('n2', 'nvidia.com/mig-1g.10gb', 4),
          nodeWith('n3', GPU, 1),
        ],
      },
      ['nvidia', 'nvidia-mig-1g-10gb', 'nvidia-mig-3g-40gb'],
    ],
    [
      'may name a better kind of processor',
      {
        spec: hardware('cpu-amx', 'cpu'),
        nodes: [node('n1', { labels: { amx: 'true' } })],
        profiles: { 'cpu-amx': { class: 'cpu', image: 'cpu', nodeLabels: ['amx'] } },
      },
      ['cpu-amx', 'cpu'],
    ],
    [
      'knows a profile of the site’s own',
      {
        spec: hardware('my-npu'),
        nodes: [nodeWith('n1', 'x.dev/npu', 1)],
        profiles: { 'my-npu': { class: 'npu', image: 'x/y:1', resources: ['x.dev/npu'] } },
      },
      ['my-npu'],
    ],
  ])('%s', (_, world, expected) => {
    expect(names(world)).toEqual(expected);
    expect(look(world)).toMatchObject({ auto: false, problems: [] });
  });

  it.each<[string, World, string, string]>([
    [
      'an unknown name',
      { spec: hardware('tpu') },
      'UnknownProfile',
      "there is no hardware profile tpu: write npu, gpu, cpu or one of nvidia, amd, intel-gpu, intel-npu, qualcomm, ascend, cpu, or add it to the chart's hardware.profiles",
    ],
    [
      'a class whose profiles are all taken away',
      { spec: hardware('gpu'), profiles: { nvidia: false, amd: false, 'intel-gpu': false } },
      'UnknownProfile',
      "the operator has no profile of class gpu: add one to the chart's hardware.profiles",
    ],
    [
      'a model without a file for it',
      { spec: hardware('intel-npu'), nodes: [nodeWith('n1', NPU, 1)] },
      'NoVariant',
      'model smollm2 has no file for npu: add an entry with accelerators: [npu] to spec.variants of SLMModel smollm2',
    ],
    [
      'an image that nobody configured',
      { spec: hardware('nvidia'), images: ['cpu', 'vulkan'] },
      'NoServerImage',
      "the operator has no server image cuda for nvidia (it has cpu, vulkan): add it to the chart's serverImage.variants, or set spec.image",
    ],
    [
      'a profile for which there is no image',
      { spec: hardware('qualcomm') },
      'NoServerImage',
      "no server image computes on qualcomm: name one in the chart's hardware.profiles.qualcomm.image, or in spec.image",
    ],
  ])('says what to do about %s', (_, world, reason, message) => {
    expect(look(world).problems).toEqual([{ name: world.spec?.hardware?.preferred, reason, message }]);
  });

  it('goes on with what can be used', () => {
    expect(names({ spec: hardware('tpu', 'qualcomm', 'cpu') })).toEqual(['cpu']);
  });

  it('takes an image of the deployment’s own for any hardware and any format', () => {
    const spec = { ...hardware('npu', 'cpu'), image: 'mine:1' };
    expect(names({ spec, nodes: [nodeWith('n1', 'qualcomm.com/qaic', 1)] })).toEqual(['qualcomm', 'cpu']);
  });
});

describe('the place in line', () => {
  it('is that of the name in the spec, the same for all that one name stands for', () => {
    const nodes = [nodeWith('n1', GPU, 1), nodeWith('n2', 'amd.com/gpu', 1)];
    const { tiers } = look({ spec: hardware('gpu', 'nvidia', 'cpu'), nodes });
    expect(tiers.map(({ name, rank }) => [name, rank])).toEqual([
      ['nvidia', 0],
      ['amd', 0],
      ['cpu', 2],
    ]);
  });
});

describe('the files', () => {
  const variants: Partial<ModelVariant>[] = [
    { name: 'fp16', accelerators: ['gpu'], digest: `sha256:${'f'.repeat(64)}`, size: 5 * size, files: [], sources: [] },
    { name: 'for-amd', accelerators: ['amd'], digest: `sha256:${'e'.repeat(64)}`, size, files: [], sources: [] },
  ];
  const bytesOn = (name: string, resource: string): Tier['bytes'] | undefined =>
    look({ spec: hardware(name), nodes: [nodeWith('n1', resource, 1)], variants }).tiers[0]?.bytes;

  it.each([
    ['those of a variant for the profile', 'amd', 'amd.com/gpu', 'for-amd'],
    ['else of one for its class', 'nvidia', GPU, 'fp16'],
    ['else the model’s own', 'cpu', GPU, undefined],
  ])('are %s', (_, name, resource, expected) => {
    expect(bytesOn(name, resource)?.variant).toBe(expected);
  });

  it('decide the memory', () => {
    const { tiers } = look({ spec: hardware('nvidia', 'cpu'), nodes: [nodeWith('n1', GPU, 1)], variants });
    expect(tiers[0]?.memory.weights).toBe(5 * size);
    expect(tiers[1]).toMatchObject({ bytes: { digest }, memory: { weights: size, device: 0 } });
    expect(tiers[0]?.memory.device).toBeGreaterThan(5 * size);
  });
});

describe('a pod', () => {
  it('asks for as many devices as the spec says, in requests and limits', () => {
    const { tiers } = look({ spec: { hardware: { preferred: 'gpu', count: 2 } }, nodes: [nodeWith('n1', GPU, 2)] });
    expect(tiers[0]?.resources).toMatchObject({ requests: { [GPU]: '2', cpu: '500m' }, limits: { [GPU]: '2' } });
    expect(tiers[1]?.resources.limits).not.toHaveProperty(GPU);
    expect(tiers.map(({ count, device }) => [count, device])).toEqual([
      [2, 'gpu'],
      [0, undefined],
    ]);
  });
});

describe('names', () => {
  it.each([
    ['nvidia', 'nvidia.com/gpu', 'nvidia'],
    ['nvidia', 'nvidia.com/mig-1g.10gb', 'nvidia-mig-1g-10gb'],
    ['nvidia', 'nvidia.com/mig-1g.10gb.me+gfx', 'nvidia-mig-1g-10gb-me-gfx'],
    ['nvidia', 'nvidia.com/a-very-long-name-of-a-resource-indeed', 'nvidia-a-very-long-name-of-a-resource-in'],
    ['nvidia', undefined, 'nvidia'],
  ])('of %s with %s: %s', (name, resource, expected) => {
    expect(tierName({ name, resources: ['nvidia.com/gpu'] }, resource)).toBe(expected);
  });
});
