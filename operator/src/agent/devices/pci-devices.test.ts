import { describe, expect, it } from 'vitest';
import { type HardwareTree, makeFakeNode, ordinaryServer, pciTree } from '../testing/hardware-trees.ts';
import { pciDevices } from './pci-devices.ts';

/** The devices of a server with these things in it. */
async function devicesOf(...trees: HardwareTree[]) {
  await using node = await makeFakeNode(Object.assign({}, ordinaryServer, ...trees) as HardwareTree);
  return await pciDevices(node.host);
}

const h200 = { address: '0000:18:00.0', class: '0x030200', ids: '10de:2335' };
const radeon = {
  address: '0000:03:00.0',
  class: '0x030000',
  ids: '1002:744c',
  driver: 'amdgpu',
  files: { mem_info_vram_total: '25753026560\n', 'drm/card1/dev': '226:1', 'drm/renderD128/dev': '226:128' },
};
const intelNpu = { address: '0000:00:0b.0', class: '0x120000', ids: '8086:7d1d' };

describe('a device that a container could use', () => {
  it.each<[string, HardwareTree[], object]>([
    [
      'NVIDIA, whose driver tells the name',
      [
        pciTree({ ...h200, driver: 'nvidia' }),
        {
          'proc/driver/nvidia/gpus/0000:18:00.0/information':
            'Model: \t\t NVIDIA H200\nIRQ:   \t\t 345\nGPU UUID: \t GPU-1f\nDevice Minor: \t 0\n',
          'dev/nvidia0': '',
          'dev/nvidiactl': '',
        },
      ],
      { id: '0000:18:00.0', class: 'gpu', vendor: 'nvidia', name: 'NVIDIA H200', driver: 'nvidia', usable: true },
    ],
    [
      'NVIDIA, whose device files lie in the container of the driver',
      [
        pciTree({ ...h200, driver: 'nvidia' }),
        { 'proc/driver/nvidia/gpus/0000:18:00.0/information': 'Model: \t\t Unknown\n' },
      ],
      { id: '0000:18:00.0', class: 'gpu', vendor: 'nvidia', name: 'NVIDIA H200', driver: 'nvidia', usable: true },
    ],
    [
      'AMD, with the memory that amdgpu tells',
      [pciTree(radeon), { 'dev/dri/renderD128': '', 'dev/kfd': '' }],
      {
        id: '0000:03:00.0',
        class: 'gpu',
        vendor: 'amd',
        name: 'AMD Radeon RX 7900 XT/XTX',
        driver: 'amdgpu',
        memoryBytes: 25_753_026_560,
        usable: true,
      },
    ],
    [
      'AMD Instinct, which is an accelerator by its class and knows its name',
      [
        pciTree({
          address: '0000:05:00.0',
          class: '0x120000',
          ids: '1002:74a1',
          driver: 'amdgpu',
          files: {
            product_name: 'AMD Instinct MI300X OAM\n',
            mem_info_vram_total: '205822885888\n',
            'drm/renderD129/dev': '',
          },
        }),
        { 'dev/dri/renderD129': '' },
      ],
      {
        id: '0000:05:00.0',
        class: 'gpu',
        vendor: 'amd',
        name: 'AMD Instinct MI300X OAM',
        driver: 'amdgpu',
        memoryBytes: 205_822_885_888,
        usable: true,
      },
    ],
    [
      'Intel Arc with i915',
      [
        pciTree({
          address: '0000:03:00.0',
          class: '0x030000',
          ids: '8086:56a0',
          driver: 'i915',
          files: { 'drm/card1/lmem_total_bytes': '0x3fb000000\n', 'drm/renderD128/dev': '' },
        }),
        { 'dev/dri/renderD128': '' },
      ],
      {
        id: '0000:03:00.0',
        class: 'gpu',
        vendor: 'intel',
        name: 'Intel Arc A770',
        driver: 'i915',
        memoryBytes: 17_095_983_104,
        usable: true,
      },
    ],
    [
      'Intel Max with xe, whose memory is counted tile by tile',
      [
        pciTree({
          address: '0000:3a:00.0',
          class: '0x038000',
          ids: '8086:0bd5',
          driver: 'xe',
          files: {
            'tile0/physical_vram_size_bytes': '0x1000000000\n',
            'tile1/physical_vram_size_bytes': '0x1000000000\n',
            'drm/renderD128/dev': '',
          },
        }),
        { 'dev/dri/renderD128': '' },
      ],
      {
        id: '0000:3a:00.0',
        class: 'gpu',
        vendor: 'intel',
        name: 'Intel Data Center GPU Max 1550',
        driver: 'xe',
        memoryBytes: 137_438_953_472,
        usable: true,
      },
    ],
    [
      'Intel NPU',
      [
        pciTree({ ...intelNpu, driver: 'intel_vpu', files: { 'accel/accel0/dev': '261:0' } }),
        { 'dev/accel/accel0': '' },
      ],
      {
        id: '0000:00:0b.0',
        class: 'npu',
        vendor: 'intel',
        name: 'Intel NPU (Meteor Lake)',
        driver: 'intel_vpu',
        usable: true,
      },
    ],
    [
      'Intel NPU of a generation that the table does not know',
      [
        pciTree({ ...intelNpu, ids: '8086:ffff', driver: 'intel_vpu', files: { 'accel/accel0/dev': '' } }),
        { 'dev/accel/accel0': '' },
      ],
      { id: '0000:00:0b.0', class: 'npu', vendor: 'intel', name: '8086:ffff', driver: 'intel_vpu', usable: true },
    ],
    [
      'AMD Ryzen AI, which calls itself a signal processor',
      [
        pciTree({
          address: '0000:c5:00.1',
          class: '0x118000',
          ids: '1022:17f0',
          driver: 'amdxdna',
          files: { 'accel/accel0/dev': '' },
        }),
        { 'dev/accel/accel0': '' },
      ],
      {
        id: '0000:c5:00.1',
        class: 'npu',
        vendor: 'amd',
        name: 'AMD Ryzen AI (XDNA 2)',
        driver: 'amdxdna',
        usable: true,
      },
    ],
    [
      'Qualcomm Cloud AI 100',
      [
        pciTree({
          address: '0000:41:00.0',
          class: '0x120000',
          ids: '17cb:a100',
          driver: 'qaic',
          files: { 'accel/accel0/dev': '' },
        }),
        { 'dev/accel/accel0': '' },
      ],
      {
        id: '0000:41:00.0',
        class: 'npu',
        vendor: 'qualcomm',
        name: 'Qualcomm Cloud AI 100',
        driver: 'qaic',
        usable: true,
      },
    ],
    [
      'a maker that is not known here, whose driver says that it computes',
      [
        pciTree({
          address: '0000:41:00.0',
          class: '0x120000',
          ids: '1eff:1220',
          driver: 'rebellions',
          files: { 'accel/accel3/dev': '' },
        }),
        { 'dev/accel/accel3': '' },
      ],
      { id: '0000:41:00.0', class: 'npu', vendor: '1eff', name: '1eff:1220', driver: 'rebellions', usable: true },
    ],
  ])('%s', async (_, trees, expected) => {
    expect(await devicesOf(...trees)).toEqual([expected]);
  });

  it('Ascend cards, of which only as many can be used as there are files', async () => {
    const cards = ['0000:81:00.0', '0000:c1:00.0'].map((address) =>
      pciTree({ address, class: '0x120000', ids: '19e5:d802', driver: 'devdrv_device_driver' }),
    );
    const found = await devicesOf(...cards, { 'dev/davinci0': '', 'dev/davinci_manager': '' });
    expect(found.map(({ id, vendor, name, usable, message }) => [id, vendor, name, usable, message])).toEqual([
      ['0000:81:00.0', 'huawei', 'Huawei Ascend 910B', true, undefined],
      ['0000:c1:00.0', 'huawei', 'Huawei Ascend 910B', false, 'no device file /dev/davinci1'],
    ]);
  });
});

describe('a device that a container could not use says what is missing', () => {
  it.each<[string, HardwareTree[], string]>([
    ['NVIDIA without a driver', [pciTree(h200)], "no driver is bound: install NVIDIA's driver"],
    [
      'NVIDIA with the driver for pictures',
      [pciTree({ ...h200, driver: 'nouveau', files: { 'drm/renderD128/dev': '' } }), { 'dev/dri/renderD128': '' }],
      "nouveau is bound to it, which cannot run CUDA: install NVIDIA's driver",
    ],
    [
      'NVIDIA that fell off its bus',
      [pciTree({ ...h200, driver: 'nvidia' })],
      'the driver has not started it: /proc/driver/nvidia/gpus does not list it, see the kernel log',
    ],
    [
      'kept for virtual machines',
      [pciTree({ ...h200, driver: 'vfio-pci' })],
      'vfio-pci is bound to it, which keeps it for virtual machines',
    ],
    ['AMD without its file', [pciTree(radeon)], 'no device file /dev/dri/renderD128'],
    [
      'AMD whose driver failed',
      [pciTree({ ...radeon, files: {} })],
      'amdgpu made no device file for it: see the kernel log',
    ],
    ['Intel NPU without a driver', [pciTree(intelNpu)], 'no driver is bound: load intel_vpu'],
    [
      'Intel GPU without a driver',
      [pciTree({ ...radeon, ids: '8086:e20b', files: {}, driver: '' })].map(withoutDriver),
      'no driver is bound: load xe or i915',
    ],
  ])('%s', async (_, trees, message) => {
    const found = await devicesOf(...trees);
    expect(found.map((device) => [device.usable, device.message])).toEqual([[false, message]]);
  });
});

function withoutDriver(tree: HardwareTree): HardwareTree {
  return Object.fromEntries(Object.entries(tree).filter(([at]) => !at.endsWith('/driver')));
}

describe('what is no device', () => {
  const screen = (ids: string, driver: string) =>
    pciTree({ address: '0000:07:00.0', class: '0x030000', ids, driver, files: { 'drm/renderD128/dev': '' } });
  it.each<[string, HardwareTree]>([
    ['the screen of QEMU (bochs)', screen('1234:1111', 'bochs-drm')],
    ['the screen of QEMU (virtio), also with 3D', screen('1af4:1050', 'virtio-pci')],
    ['the screen of QEMU (QXL)', screen('1b36:0100', 'qxl')],
    ['the screen of QEMU (cirrus)', screen('1013:00b8', 'cirrus')],
    ['the screen of VMware', screen('15ad:0405', 'vmwgfx')],
    ['the screen of Hyper-V', screen('1414:5353', 'hyperv_drm')],
    ['the screen of a management controller (ASPEED)', screen('1a03:2000', 'ast')],
    ['the screen of a management controller (Matrox)', screen('102b:0536', 'mgag200')],
    ['the screen of a management controller (Huawei)', screen('19e5:1711', 'hibmc-drm')],
    ['the screen of a management controller (ATI)', screen('1002:515e', 'radeon')],
    [
      'the sound of a graphics card',
      pciTree({ address: '0000:18:00.1', class: '0x040300', ids: '10de:10f0', driver: 'snd_hda_intel' }),
    ],
    ['an FPGA', pciTree({ address: '0000:18:00.0', class: '0x120000', ids: '8086:09c4', driver: 'dfl-pci' })],
    [
      'an FPGA of another maker',
      pciTree({ address: '0000:18:00.0', class: '0x120000', ids: '10ee:5005', driver: 'xclmgmt' }),
    ],
    [
      'a virtual function that nobody set up',
      pciTree({ ...radeon, address: '0000:03:02.0', driver: 'vfio-pci', files: { physfn: '' } }),
    ],
  ])('%s', async (_, tree) => {
    expect(await devicesOf(tree)).toEqual([]);
  });

  it('a machine without a PCI bus has none', async () => {
    await using node = await makeFakeNode({});
    expect(await pciDevices(node.host)).toEqual([]);
  });
});
