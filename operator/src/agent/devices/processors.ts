/**
 * The node's processors as one device: how many, what they are called, and the instruction sets that inference gains from,
 * in the words of NFD's labels. Pure: the text of /proc/cpuinfo is an argument.
 */
import type { NodeDevice } from '@slm-operator/crds';

/** The kernel's words for x86 → NFD's for the label feature.node.kubernetes.io/cpu-cpuid.NAME. */
const X86: Readonly<Record<string, string>> = {
  avx: 'AVX',
  avx2: 'AVX2',
  fma: 'FMA3',
  f16c: 'F16C',
  avx512f: 'AVX512F',
  avx512bw: 'AVX512BW',
  avx512cd: 'AVX512CD',
  avx512dq: 'AVX512DQ',
  avx512vl: 'AVX512VL',
  avx512vbmi: 'AVX512VBMI',
  avx512_vnni: 'AVX512VNNI',
  avx512_bf16: 'AVX512BF16',
  avx512_fp16: 'AVX512FP16',
  avx_vnni: 'AVXVNNI',
  avx_vnni_int8: 'AVXVNNIINT8',
  amx_tile: 'AMXTILE',
  amx_int8: 'AMXINT8',
  amx_bf16: 'AMXBF16',
  amx_fp16: 'AMXFP16',
};

/** The kernel's words for arm64; NFD has the same in capitals. */
const ARM = new Set('asimd asimdhp asimddp asimdfhm i8mm bf16 sve sve2 svei8mm svebf16 sme sme2'.split(' '));

const VENDORS: Readonly<Record<string, string>> = {
  GenuineIntel: 'intel',
  AuthenticAMD: 'amd',
  HygonGenuine: 'hygon',
  '0x41': 'arm',
  '0x46': 'fujitsu',
  '0x48': 'huawei',
  '0x4e': 'nvidia',
  '0x51': 'qualcomm',
  '0x61': 'apple',
  '0xc0': 'ampere',
};

/** arm64 processors do not tell their name, only implementer and part. */
const ARM_PARTS: Readonly<Record<string, string>> = {
  '0x41/0xd08': 'Cortex-A72',
  '0x41/0xd0b': 'Cortex-A76',
  '0x41/0xd0c': 'Neoverse N1',
  '0x41/0xd40': 'Neoverse V1',
  '0x41/0xd42': 'Cortex-A78AE',
  '0x41/0xd49': 'Neoverse N2',
  '0x41/0xd4f': 'Neoverse V2',
  '0x41/0xd84': 'Neoverse V3',
  '0x41/0xd8e': 'Neoverse N3',
  '0x48/0xd01': 'Kunpeng 920',
  '0xc0/0xac3': 'Ampere-1',
  '0xc0/0xac4': 'Ampere-1A',
};

/** The device `cpu`; undefined when the text names no processor. */
export function processors(cpuinfo: string): NodeDevice | undefined {
  const blocks = cpuinfo.split(/\n\s*\n/).filter((block) => /^processor\s*:/m.test(block));
  const first = blocks[0];
  if (first === undefined) return undefined;
  const vendorId = field(first, 'vendor_id') ?? field(first, 'CPU implementer');
  const vendor = vendorId === undefined ? undefined : VENDORS[vendorId];
  const name = nameOf(first);
  const flags = commonFlags(blocks);
  return {
    id: 'cpu',
    class: 'cpu',
    ...(vendor === undefined ? {} : { vendor }),
    ...(name === undefined ? {} : { name: name.slice(0, 256) }),
    usable: true,
    ...(flags.length === 0 ? {} : { flags }),
    cores: blocks.length,
  };
}

function nameOf(block: string): string | undefined {
  const told = field(block, 'model name');
  if (told !== undefined) return told.replace(/\s+/g, ' ');
  const part = `${field(block, 'CPU implementer')}/${field(block, 'CPU part')}`;
  return ARM_PARTS[part];
}

/** What every processor has: a thread may run on any of them. Processors of one kind are read once. */
function commonFlags(blocks: readonly string[]): string[] {
  const kinds = new Set(blocks.map((block) => field(block, 'flags') ?? field(block, 'Features') ?? ''));
  let common: ReadonlySet<string> | undefined;
  for (const kind of kinds) {
    const flags: ReadonlySet<string> = new Set(
      kind.split(/\s+/).flatMap((word) => X86[word] ?? (ARM.has(word) ? [word.toUpperCase()] : [])),
    );
    common = common === undefined ? flags : new Set([...common].filter((flag) => flags.has(flag)));
  }
  return [...(common ?? [])].toSorted();
}

function field(block: string, name: string): string | undefined {
  return new RegExp(`^${name}\\s*:[ \\t]*(\\S.*)$`, 'm').exec(block)?.[1]?.trim();
}
