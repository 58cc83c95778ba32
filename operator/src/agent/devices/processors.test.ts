import { describe, expect, it } from 'vitest';
import { processors } from './processors.ts';

const x86 =
  (name: string, flags: string, vendor = 'GenuineIntel') =>
  (_: unknown, index: number) =>
    `processor\t: ${index}\nvendor_id\t: ${vendor}\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: ${name}\nflags\t\t: ${flags}\nbugs\t\t: spectre_v1\n`;
const arm = (implementer: string, part: string, features: string) => (_: unknown, index: number) =>
  `processor\t: ${index}\nBogoMIPS\t: 243.75\nFeatures\t: ${features}\nCPU implementer\t: ${implementer}\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: ${part}\nCPU revision\t: 1\n`;
const cores = (count: number, make: (_: unknown, index: number) => string) => Array.from({ length: count }, make);

describe('processors', () => {
  it.each<[string, string[], object]>([
    [
      'Sapphire Rapids: AVX-512 and AMX in the words of NFD',
      cores(
        4,
        x86(
          'Intel(R) Xeon(R) Platinum 8480+',
          'fpu sse4_2 fma avx f16c avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx_vnni avx512_bf16 avx512vbmi avx512_vnni amx_bf16 avx512_fp16 amx_tile amx_int8',
        ),
      ),
      {
        id: 'cpu',
        class: 'cpu',
        vendor: 'intel',
        name: 'Intel(R) Xeon(R) Platinum 8480+',
        usable: true,
        flags: [
          'AMXBF16',
          'AMXINT8',
          'AMXTILE',
          'AVX',
          'AVX2',
          'AVX512BF16',
          'AVX512BW',
          'AVX512CD',
          'AVX512DQ',
          'AVX512F',
          'AVX512FP16',
          'AVX512VBMI',
          'AVX512VL',
          'AVX512VNNI',
          'AVXVNNI',
          'F16C',
          'FMA3',
        ],
        cores: 4,
      },
    ],
    [
      'an old Opteron, with nothing to gain from',
      cores(2, x86('AMD  Opteron(tm)   Processor 2218', 'fpu sse sse2 lm', 'AuthenticAMD')),
      { id: 'cpu', class: 'cpu', vendor: 'amd', name: 'AMD Opteron(tm) Processor 2218', usable: true, cores: 2 },
    ],
    [
      'Graviton 3, which tells numbers instead of a name',
      cores(
        2,
        arm('0x41', '0xd40', 'fp asimd aes asimdhp cpuid asimdrdm asimddp sve asimdfhm svei8mm svebf16 i8mm bf16'),
      ),
      {
        id: 'cpu',
        class: 'cpu',
        vendor: 'arm',
        name: 'Neoverse V1',
        usable: true,
        flags: ['ASIMD', 'ASIMDDP', 'ASIMDFHM', 'ASIMDHP', 'BF16', 'I8MM', 'SVE', 'SVEBF16', 'SVEI8MM'],
        cores: 2,
      },
    ],
    [
      'an arm64 of a kind that is not known here',
      cores(1, arm('0x6d', '0xd49', 'fp asimd')),
      { id: 'cpu', class: 'cpu', usable: true, flags: ['ASIMD'], cores: 1 },
    ],
    [
      'unlike cores: only what all of them have',
      [...cores(2, x86('Hybrid', 'avx avx2 avx_vnni avx512f')), ...cores(2, x86('Hybrid', 'avx avx2 avx_vnni'))],
      {
        id: 'cpu',
        class: 'cpu',
        vendor: 'intel',
        name: 'Hybrid',
        usable: true,
        flags: ['AVX', 'AVX2', 'AVXVNNI'],
        cores: 4,
      },
    ],
  ])('%s', (_, blocks, expected) => {
    expect(processors(`${blocks.join('\n')}\n`)).toEqual(expected);
  });

  it('none in a text that names none', () => {
    expect(processors('')).toBeUndefined();
  });
});
