/**
 * GPUs and NPUs on the PCI bus: which functions of it models can be computed on, what they are called, and whether a container
 * could use them. Owns that judgement; says nothing of what a device plugin offers.
 */
import type { HardwareClass, NodeDevice } from '@slm-operator/crds';
import type { HostFiles } from './host-files.ts';
import { npuIds, pciName } from './pci-names.ts';

const BUS = 'sys/bus/pci/devices';
const DISPLAY = '03';
const ACCELERATOR = '12';

/** One function as sysfs shows it; ids without 0x. */
interface PciFunction {
  readonly address: string;
  /** First two digits of the class code. */
  readonly base: string;
  readonly vendor: string;
  readonly device: string;
  readonly driver: string | undefined;
  /** Names of the files that its drivers registered, as below /dev: `dri/renderD128`, `accel/accel0`. */
  readonly files: readonly string[];
}

const vendors: Readonly<Record<string, string>> = {
  '10de': 'nvidia',
  '1002': 'amd',
  '1022': 'amd',
  '8086': 'intel',
  '1da3': 'intel',
  '17cb': 'qualcomm',
  '19e5': 'huawei',
};

/** Makers of chips whose every function of class 12 computes models. */
const NPU_VENDORS = new Set(['17cb', '19e5', '1da3']);

/** Screens of virtual machines and of servers' management controllers, whatever driver they have. */
const SCREENS = new Set([
  '1234',
  '1af4',
  '1b36',
  '1a03',
  '102b',
  '1013',
  '15ad',
  '1414',
  '80ee',
  '5853',
  '1d0f',
  // Makers of GPUs that make such screens too: Huawei's iBMC, ATI's ES1000.
  '19e5:1711',
  '1002:515e',
  '1002:5969',
]);

/** All GPUs and NPUs, by address. */
export async function pciDevices(host: HostFiles): Promise<NodeDevice[]> {
  const found: NodeDevice[] = [];
  // Their files are numbered in the order of the bus, and nothing in sysfs ties the two together.
  let davinci = 0;
  for (const address of await host.list(BUS)) {
    const one = await readFunction(host, address);
    if (one === undefined) continue;
    const kind = classOf(one);
    if (kind === undefined) continue;
    const state = await stateOf(host, one, one.vendor === '19e5' ? davinci++ : 0);
    // A virtual function that nobody set up is not one more device.
    if (!state.usable && (await host.exists(`${BUS}/${address}/physfn`))) continue;
    const memoryBytes = await memoryOf(host, one);
    found.push({
      id: address,
      class: kind,
      vendor: vendors[one.vendor] ?? one.vendor,
      name: (await nameOf(host, one)).slice(0, 256),
      ...(one.driver === undefined ? {} : { driver: one.driver.slice(0, 64) }),
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      ...state,
    });
  }
  return found;
}

async function readFunction(host: HostFiles, address: string): Promise<PciFunction | undefined> {
  const at = `${BUS}/${address}`;
  const [code, vendor, device] = await Promise.all(
    ['class', 'vendor', 'device'].map(async (name) => (await host.read(`${at}/${name}`))?.replace(/^0x/, '')),
  );
  // A device may go while it is read.
  if (code === undefined || vendor === undefined || device === undefined) return undefined;
  const base = code.slice(0, 2);
  if (base !== DISPLAY && base !== ACCELERATOR && !npuIds.has(`${vendor}:${device}`)) return undefined;
  const [driver, drm, accel] = await Promise.all([
    host.linkName(`${at}/driver`),
    host.list(`${at}/drm`),
    host.list(`${at}/accel`),
  ]);
  const files = [
    ...drm.filter((name) => name.startsWith('renderD')).map((name) => `dri/${name}`),
    ...accel.filter((name) => name.startsWith('accel')).map((name) => `accel/${name}`),
  ];
  return { address, base, vendor, device, driver, files };
}

function classOf({ base, vendor, device, driver, files }: PciFunction): HardwareClass | undefined {
  if (npuIds.has(`${vendor}:${device}`) || driver === 'intel_vpu') return 'npu';
  if (base === DISPLAY) {
    if (SCREENS.has(vendor) || SCREENS.has(`${vendor}:${device}`)) return undefined;
    // Of makers that are not known here, what has no render file only shows pictures.
    return vendor in vendors || files.length > 0 ? 'gpu' : undefined;
  }
  // AMD's Instinct cards; some say that they are displays, some that they are accelerators.
  if (vendor === '1002' || vendor === '10de') return 'gpu';
  // The others of this class are FPGAs and network processors, unless their driver says that they compute.
  return NPU_VENDORS.has(vendor) || files.some((name) => name.startsWith('accel/')) ? 'npu' : undefined;
}

type State = Pick<NodeDevice, 'usable' | 'message'>;
const unusable = (message: string): State => ({ usable: false, message });

async function stateOf(host: HostFiles, one: PciFunction, index: number): Promise<State> {
  const { driver, vendor, address } = one;
  if (driver === undefined) return unusable(`no driver is bound: ${driverHint(one)}`);
  if (driver === 'vfio-pci' || driver === 'pci-stub') {
    return unusable(`${driver} is bound to it, which keeps it for virtual machines`);
  }
  if (vendor === '10de') {
    if (driver !== 'nvidia')
      return unusable(`${driver} is bound to it, which cannot run CUDA: install NVIDIA's driver`);
    // Its files may lie in the driver's own container; the container toolkit makes those of a pod from what stands here.
    const known = await host.exists(`proc/driver/nvidia/gpus/${address}/information`);
    return known || (await hasFile(host, /^nvidia\d+$/))
      ? { usable: true }
      : unusable('the driver has not started it: /proc/driver/nvidia/gpus does not list it, see the kernel log');
  }
  const files = vendor === '19e5' ? [`davinci${index}`] : one.files;
  if (files.length === 0) return unusable(`${driver} made no device file for it: see the kernel log`);
  const there = await Promise.all(files.map((name) => host.exists(`dev/${name}`)));
  return there.includes(true) ? { usable: true } : unusable(`no device file /dev/${files[0]}`);
}

function driverHint({ vendor, base, device }: PciFunction): string {
  const npu = npuIds.has(`${vendor}:${device}`) || base === ACCELERATOR;
  if (vendor === '10de') return "install NVIDIA's driver";
  if (vendor === '1002') return 'load amdgpu';
  if (vendor === '1022') return 'load amdxdna';
  if (vendor === '1da3') return 'load habanalabs';
  if (vendor === '8086') return npu ? 'load intel_vpu' : 'load xe or i915';
  if (vendor === '17cb') return 'load qaic';
  if (vendor === '19e5') return 'install the Ascend driver';
  return "load its maker's driver";
}

async function hasFile(host: HostFiles, pattern: RegExp): Promise<boolean> {
  return (await host.list('dev')).some((name) => pattern.test(name));
}

async function nameOf(host: HostFiles, { address, vendor, device }: PciFunction): Promise<string> {
  if (vendor === '10de') {
    const told = await host.read(`proc/driver/nvidia/gpus/${address}/information`);
    const model = /^Model:\s*(\S.*)$/m.exec(told ?? '')?.[1]?.trim();
    if (model && model !== 'Unknown') return model;
  }
  // amdgpu reads the name of server boards from the board.
  const product = vendor === '1002' ? await host.read(`${BUS}/${address}/product_name`) : undefined;
  return product || pciName(vendor, device);
}

/** Memory of the device's own, where its driver tells: amdgpu, i915 and xe do, NVIDIA's does not. */
async function memoryOf(host: HostFiles, { address, driver }: PciFunction): Promise<number | undefined> {
  const at = `${BUS}/${address}`;
  if (driver === 'amdgpu') return bytes(await host.read(`${at}/mem_info_vram_total`));
  if (driver === 'i915') {
    const card = (await host.list(`${at}/drm`)).find((name) => /^card\d+$/.test(name));
    return card === undefined ? undefined : bytes(await host.read(`${at}/drm/${card}/lmem_total_bytes`));
  }
  if (driver === 'xe') {
    const tiles = (await host.list(at)).filter((name) => /^tile\d+$/.test(name));
    const sizes = await Promise.all(
      tiles.map(async (tile) => bytes(await host.read(`${at}/${tile}/physical_vram_size_bytes`)) ?? 0),
    );
    return sizes.reduce((sum, size) => sum + size, 0) || undefined;
  }
  return undefined;
}

/** A number as sysfs writes it, decimal or with 0x; undefined for none and for zero. */
function bytes(value: string | undefined): number | undefined {
  const parsed = Number(value);
  return Number.isSafeInteger(parsed) && parsed > 0 ? parsed : undefined;
}
