import { expect, test } from 'vitest';
import { type Offload, offloadIn, reportDevice } from './offload.ts';

function read(...lines: readonly string[]): Offload {
  const offload: Offload = { devices: [] };
  for (const line of lines) offloadIn(line, offload);
  return offload;
}

const gpu = (total: number, unifiedSize = 0) => ({
  gpu: 'vulkan' as const,
  bindings: {
    getGpuVramInfo: () => ({ total, used: 0, unifiedSize }),
    getGpuDeviceInfo: () => ({ deviceNames: ['all of them'] }),
  },
});

test('the devices that llama.cpp takes, and how many layers it gives them', () => {
  const offload = read(
    'llama_prepare_model_devices: using device Vulkan0 (llvmpipe (LLVM 15.0.6, 256 bits)) (unknown id) - 2048 MiB free',
    'load_tensors: offloading output layer to GPU',
    'load_tensors: offloading 29 repeating layers to GPU\nload_tensors: offloaded 31/31 layers to GPU',
  );
  expect(reportDevice(gpu(2 ** 31), offload)).toEqual({
    class: 'gpu',
    backend: 'Vulkan',
    name: 'llvmpipe (LLVM 15.0.6, 256 bits)',
    memoryBytes: 2 ** 31,
    layersOffloaded: 31,
    layers: 31,
  });
});

test('several of one kind are counted; memory that is the computer’s own is none of the device’s', () => {
  const device = (index: number, name: string) =>
    `x: using device CUDA${index} (${name}) (0000:0${index}:00.0) - 22000 MiB free`;
  const offload = read(device(0, 'NVIDIA L4'), device(1, 'NVIDIA L4'), device(2, 'NVIDIA T4'));
  expect(reportDevice(gpu(1000, 1000), offload)).toEqual({
    class: 'gpu',
    backend: 'Vulkan',
    name: '2 × NVIDIA L4, NVIDIA T4',
  });
});

test('without such lines the addon names the devices', () => {
  expect(reportDevice(gpu(0), read('something else'))).toMatchObject({ name: 'all of them' });
});
