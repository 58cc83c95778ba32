import { describe, expect, it } from 'vitest';
import { builtInProfiles, expandName, readOrder, readProfiles } from './profiles.ts';

const read = (profiles: object, images?: readonly string[]) =>
  readProfiles(JSON.stringify(profiles), 'PROFILES', images);

describe('profiles', () => {
  it('are built in, each with its class, resource, label and image', () => {
    const rows = [...builtInProfiles().values()].map(({ name, class: kind, resources, nodeLabels, image, formats }) =>
      [name, kind, resources[0], nodeLabels[0], image, formats.join(' ')].join(' | '),
    );
    expect(rows).toMatchInlineSnapshot(`
      [
        "nvidia | gpu | nvidia.com/gpu | nvidia.com/gpu.present | cuda | GGUF ONNX",
        "amd | gpu | amd.com/gpu | amd.com/gpu.family | vulkan | GGUF ONNX",
        "intel-gpu | gpu | gpu.intel.com/xe | intel.feature.node.kubernetes.io/gpu | vulkan | GGUF ONNX",
        "intel-npu | npu | npu.intel.com/accel | intel.feature.node.kubernetes.io/npu | openvino | ONNX",
        "qualcomm | npu | qualcomm.com/qaic | qualcomm.com/qaic |  | GGUF ONNX",
        "ascend | npu | huawei.com/Ascend310P | feature.node.kubernetes.io/pci-19e5.present |  | GGUF ONNX",
        "cpu | cpu |  |  | cpu | GGUF ONNX",
      ]
    `);
  });

  it('take the site’s fields in place of their own, and keep the rest', () => {
    const nvidia = read({ nvidia: { runtimeClassName: 'nvidia', tolerations: [] } }).get('nvidia');
    expect(nvidia).toMatchObject({ runtimeClassName: 'nvidia', tolerations: [], memoryLabel: 'nvidia.com/gpu.memory' });
  });

  it('are taken away by false or null, and added at the end', () => {
    const site = { nvidia: false, amd: null, 'my-npu': { class: 'npu', image: 'x/npu:1', resources: ['x.dev/npu'] } };
    expect([...read(site).keys()]).toEqual(['intel-gpu', 'intel-npu', 'qualcomm', 'ascend', 'cpu', 'my-npu']);
    expect(read(site).get('my-npu')).toMatchObject({ device: 'npu', formats: ['GGUF', 'ONNX'], tolerations: [] });
  });

  it('claim devices in place of the resources that are built in', () => {
    const claim = { deviceClasses: ['gpu.nvidia.com'] };
    expect(read({ nvidia: { claim } }).get('nvidia')).toMatchObject({ claim, resources: [] });
  });

  it('compute what their image computes, unless the site says', () => {
    expect(read({ amd: { image: 'cpu' } }).get('amd')?.formats).toEqual(['GGUF', 'ONNX']);
    expect(read({ amd: { image: 'cpu', formats: ['ONNX'] } }).get('amd')?.formats).toEqual(['ONNX']);
  });

  it.each<[string, object, string]>([
    [
      'a name with capitals',
      { Nvidia: {} },
      'PROFILES: Nvidia: write lower-case letters, digits and dashes, at most 32',
    ],
    ['the name of a class', { gpu: {} }, 'PROFILES: gpu: that is the name of a class; choose another for the profile'],
    ['cpu taken away', { cpu: null }, 'PROFILES: cpu: cannot be taken away; leave cpu out of hardware.order instead'],
    ['no class', { mine: { image: 'cpu' } }, 'PROFILES: mine: class is missing; write npu, gpu or cpu'],
    ['another class', { amd: { class: 'tpu' } }, 'PROFILES: amd.class is "tpu": write npu or gpu or cpu'],
    [
      'no image',
      { mine: { class: 'gpu' } },
      'PROFILES: mine: image is missing; write a variant such as cuda, or a whole image reference',
    ],
    [
      'nothing that says where',
      { mine: { class: 'gpu', image: 'cuda' } },
      'PROFILES: mine: nothing says which nodes have it; write resources, claim or nodeLabels',
    ],
    [
      'a resource without a domain',
      { amd: { resources: ['gpu'] } },
      'PROFILES: amd.resources[0] is "gpu": write DOMAIN/NAME, such as nvidia.com/gpu',
    ],
    [
      'two ways to the device',
      { amd: { resources: ['a.b/c'], claim: { templateName: 'x' } } },
      'PROFILES: amd: resources and claim are two ways to the same device; leave one of them out',
    ],
    [
      'a claim of both kinds',
      { amd: { claim: { templateName: 'x', deviceClasses: ['y'] } } },
      'PROFILES: amd.claim: write {templateName: NAME} or {deviceClasses: [NAME, …]}',
    ],
    [
      'a toleration with a typo',
      { amd: { tolerations: [{ Key: 'x' }] } },
      'PROFILES: amd.tolerations[0].Key: a toleration has key, operator, value, effect, tolerationSeconds',
    ],
    [
      'a field set to null',
      { amd: { image: null } },
      'PROFILES: amd.image is null: leave it out for the default, or write a value',
    ],
    [
      'a group by its name',
      { amd: { supplementalGroups: ['render'] } },
      'PROFILES: amd.supplementalGroups[0]: write the number of a group, as getent group render prints',
    ],
    ['a list where an object belongs', { amd: [] }, 'PROFILES: amd: write an object'],
  ])('refuse %s', (_, site, message) => {
    expect(() => read(site)).toThrow(new Error(message));
  });
});

describe('an order', () => {
  const profiles = builtInProfiles();
  it('is npu, gpu, cpu when nobody says', () => {
    expect(readOrder('', profiles, 'ORDER')).toEqual(['npu', 'gpu', 'cpu']);
  });
  it('may name classes and profiles, each once', () => {
    expect(readOrder(' amd, gpu,cpu,amd', profiles, 'ORDER')).toEqual(['amd', 'gpu', 'cpu']);
  });
  it('puts the profiles that it names before others of their class', () => {
    const names = (order: string[]) => expandName('gpu', profiles, order).map(({ name }) => name);
    expect(names(['gpu', 'cpu'])).toEqual(['nvidia', 'amd', 'intel-gpu']);
    expect(names(['intel-gpu', 'amd', 'cpu'])).toEqual(['intel-gpu', 'amd', 'nvidia']);
  });
  it('of a profile’s name is that profile; of an unknown one, none', () => {
    expect(expandName('amd', profiles, []).map(({ name }) => name)).toEqual(['amd']);
    expect(expandName('tpu', profiles, [])).toEqual([]);
  });
});
