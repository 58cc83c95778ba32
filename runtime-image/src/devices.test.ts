import { describe, expect, test } from 'vitest';
import { AUTO, deviceNotFound, fellBack, missingLibraries, parseDevices, seesNothing } from './devices.ts';

describe('what SLM_DEVICE says', () => {
  const cases: [string, unknown][] = [
    ['auto', AUTO],
    ['cuda', { words: ['cuda'], auto: false }],
    ['npu,gpu,cpu', { words: ['npu', 'gpu', 'cpu'], auto: false }],
    [' NPU , Vulkan', { words: ['npu', 'vulkan'], auto: false }],
    ['cuda,auto', { words: ['cuda', 'gpu', 'cpu'], auto: false }],
    ['gpu,gpu', { words: ['gpu'], auto: false }],
    ['gpu,rocm', { unknown: 'rocm' }],
    ['gpu,', { unknown: '' }],
  ];
  test.each(cases)('%s', (value, order) => {
    expect(parseDevices(value)).toEqual(order);
  });
});

describe('a device that is not there', () => {
  const order = (value: string) => parseDevices(value) as typeof AUTO;

  test('is the node’s or the pod’s business where the image could use one', () => {
    const missed = [{ why: 'there is no CUDA driver (libcuda.so.1 cannot be opened)', lacking: 'device' }] as const;
    expect(deviceNotFound(order('cuda'), missed)).toMatchObject({
      reason: 'DeviceNotFound',
      exitCode: 4,
      message:
        'promised a gpu (SLM_DEVICE=cuda) and the engine found none, because there is no CUDA driver (libcuda.so.1 cannot be opened): ' +
        'does the device plugin run on this node, and has the pod the runtimeClassName that the driver needs?',
    });
  });

  test('is the image’s where that could not', () => {
    const missed = [{ why: 'this image computes on CPU alone', lacking: 'image' }] as const;
    expect(deviceNotFound(order('npu'), missed).message).toBe(
      'promised an npu (SLM_DEVICE=npu) and the engine found none, because this image computes on CPU alone: ' +
        'set spec.image to one that computes on an npu, or take other hardware.',
    );
  });

  test('is told from libraries that are not there', () => {
    const no = (name: string) =>
      `load_backend: failed to load /x.so: ${name}: cannot open shared object file: No such file`;
    expect([
      missingLibraries('CUDA', no('libcuda.so.1')),
      missingLibraries('Vulkan', no('libvulkan.so.1')),
      missingLibraries('CUDA', `${no('libcudart.so.13')}\n${no('libcudart.so.12')}`),
      missingLibraries('CUDA', 'ggml_cuda_init: no CUDA-capable device is detected'),
    ]).toEqual([
      { why: 'there is no CUDA driver (libcuda.so.1 cannot be opened)', lacking: 'device' },
      { why: 'there is no Vulkan driver (libvulkan.so.1 cannot be opened)', lacking: 'device' },
      { why: 'CUDA lacks libcudart.so.13 and libcudart.so.12', lacking: 'image' },
      undefined,
    ]);
  });

  test('is the pod’s where it may not open what it was given', () => {
    const missed = [seesNothing('Vulkan', 'no matter', [{ file: '/dev/dri/renderD128', group: 104 }])];
    expect(deviceNotFound(order('gpu'), missed).message).toBe(
      'promised a gpu (SLM_DEVICE=gpu) and the engine found none, because Vulkan sees no device, since ' +
        '/dev/dri/renderD128 is open to group 104 alone: name that group in supplementalGroups of the hardware profile.',
    );
    expect(seesNothing('Vulkan', '', []).why).toBe('Vulkan sees no device');
    expect(seesNothing('CUDA', 'the driver is too old', []).why).toBe('CUDA sees no device (the driver is too old)');
  });

  test('is said where the processor computes instead', () => {
    const missed = [
      { why: 'Vulkan sees no device', lacking: 'device' },
      { why: 'Vulkan sees no device', lacking: 'device' },
    ] as const;
    expect(fellBack(order('npu,vulkan,cpu'), missed)).toBe(
      'computes on the CPU, because an npu or a gpu (SLM_DEVICE=npu,vulkan,cpu) was not found: Vulkan sees no device.',
    );
  });
});
