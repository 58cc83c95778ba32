/**
 * Names of devices by their PCI ids, for those that often compute models and do not tell their name themselves. Owns the table
 * alone; what is not in it is shown by its ids.
 */

const names: Readonly<Record<string, string>> = {
  // NVIDIA; its driver tells the name, so this is for nodes without it.
  '10de:1db1': 'NVIDIA Tesla V100-SXM2-16GB',
  '10de:1db4': 'NVIDIA Tesla V100-PCIE-16GB',
  '10de:1db5': 'NVIDIA Tesla V100-SXM2-32GB',
  '10de:1db6': 'NVIDIA Tesla V100-PCIE-32GB',
  '10de:1eb8': 'NVIDIA Tesla T4',
  '10de:20b0': 'NVIDIA A100-SXM4-40GB',
  '10de:20b2': 'NVIDIA A100-SXM4-80GB',
  '10de:20b5': 'NVIDIA A100 80GB PCIe',
  '10de:20b7': 'NVIDIA A30',
  '10de:20f1': 'NVIDIA A100-PCIE-40GB',
  '10de:2204': 'NVIDIA GeForce RTX 3090',
  '10de:2235': 'NVIDIA A40',
  '10de:2236': 'NVIDIA A10',
  '10de:2237': 'NVIDIA A10G',
  '10de:2330': 'NVIDIA H100 80GB HBM3',
  '10de:2331': 'NVIDIA H100 PCIe',
  '10de:2335': 'NVIDIA H200',
  '10de:2342': 'NVIDIA GH200 480GB',
  '10de:25b6': 'NVIDIA A2',
  '10de:2684': 'NVIDIA GeForce RTX 4090',
  '10de:26b5': 'NVIDIA L40',
  '10de:26b9': 'NVIDIA L40S',
  '10de:27b8': 'NVIDIA L4',
  '10de:2901': 'NVIDIA B200',
  '10de:2b85': 'NVIDIA GeForce RTX 5090',
  // AMD
  '1002:73bf': 'AMD Radeon RX 6800/6900 XT',
  '1002:738c': 'AMD Instinct MI100',
  '1002:7408': 'AMD Instinct MI250X',
  '1002:740c': 'AMD Instinct MI250',
  '1002:740f': 'AMD Instinct MI210',
  '1002:744c': 'AMD Radeon RX 7900 XT/XTX',
  '1002:7448': 'AMD Radeon PRO W7900',
  '1002:74a0': 'AMD Instinct MI300A',
  '1002:74a1': 'AMD Instinct MI300X',
  '1002:74a5': 'AMD Instinct MI325X',
  '1002:1586': 'AMD Radeon 8060S Graphics',
  '1002:15bf': 'AMD Radeon 780M Graphics',
  '1022:1502': 'AMD Ryzen AI (XDNA)',
  '1022:17f0': 'AMD Ryzen AI (XDNA 2)',
  // Intel
  '8086:0bd5': 'Intel Data Center GPU Max 1550',
  '8086:0bda': 'Intel Data Center GPU Max 1100',
  '8086:56a0': 'Intel Arc A770',
  '8086:56a1': 'Intel Arc A750',
  '8086:56c0': 'Intel Data Center GPU Flex 170',
  '8086:56c1': 'Intel Data Center GPU Flex 140',
  '8086:64a0': 'Intel Arc Graphics (Lunar Lake)',
  '8086:7d55': 'Intel Arc Graphics (Meteor Lake)',
  '8086:e20b': 'Intel Arc B580',
  '8086:e20c': 'Intel Arc B570',
  '8086:7d1d': 'Intel NPU (Meteor Lake)',
  '8086:ad1d': 'Intel NPU (Arrow Lake)',
  '8086:643e': 'Intel NPU (Lunar Lake)',
  '8086:b03e': 'Intel NPU (Panther Lake)',
  // Others
  '1da3:1020': 'Intel Gaudi 2',
  '1da3:1060': 'Intel Gaudi 3',
  '17cb:a080': 'Qualcomm Cloud AI 80',
  '17cb:a100': 'Qualcomm Cloud AI 100',
  '19e5:d100': 'Huawei Ascend 310',
  '19e5:d500': 'Huawei Ascend 310P',
  '19e5:d801': 'Huawei Ascend 910',
  '19e5:d802': 'Huawei Ascend 910B',
};

/** Name of the device with these ids (four hex digits each), or the ids as VENDOR:DEVICE. */
export function pciName(vendor: string, device: string): string {
  const ids = `${vendor}:${device}`;
  return names[ids] ?? ids;
}

/** NPUs that are only to be told from other things of their maker by these ids: FPGAs have the same class. */
export const npuIds: ReadonlySet<string> = new Set([
  '1022:1502',
  '1022:17f0',
  '8086:7d1d',
  '8086:ad1d',
  '8086:643e',
  '8086:b03e',
  '17cb:a080',
  '17cb:a100',
]);
