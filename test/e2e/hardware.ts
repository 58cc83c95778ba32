/**
 * Hardware of the cluster tests: nodes offer devices that are none (test/cluster/devices), so the profiles that name them are
 * served by the image for processors. What the operator, scheduler and kubelet do is the same as with real ones.
 */

/** Names of device classes of the DRA tests: of the first there is never a device. */
export const DRA_CLASSES = ['absent.devices.test', 'gpu.devices.test'] as const;

/** The chart's `hardware.profiles`. */
export const profiles = {
  // These find what they were promised: the server computes on processors and was told so.
  nvidia: { image: 'cpu', device: 'cpu' },
  'intel-gpu': { image: 'cpu', device: 'cpu' },
  'intel-npu': { image: 'cpu', device: 'cpu' },
  // This one is told to compute on a GPU, and there is none.
  amd: { image: 'cpu', device: 'gpu' },
  'dra-classes': { class: 'gpu', claim: { deviceClasses: DRA_CLASSES }, image: 'cpu', device: 'cpu' },
  'dra-template': { class: 'gpu', claim: { templateName: 'one-gpu' }, image: 'cpu', device: 'cpu' },
  // A real one by all that the server sees: Mesa's driver that computes on the processor.
  software: { class: 'gpu', resources: ['devices.test/software-gpu'], image: 'vulkan', device: 'vulkan' },
};

/** Resources that kubelets count. */
export const devices = {
  nvidia: 'nvidia.com/gpu',
  intelGpu: 'gpu.intel.com/xe',
  intelNpu: 'npu.intel.com/accel',
  amd: 'amd.com/gpu',
  software: 'devices.test/software-gpu',
} as const;
