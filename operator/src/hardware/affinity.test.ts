import { describe, expect, it } from 'vitest';
import { deployment, model, node, nodeWith } from '../deployment/testing/objects.ts';
import { nodeAffinity } from './affinity.ts';
import type { NodeStock } from './node-hardware.ts';
import { defaultOrder, readProfiles } from './profiles.ts';
import { tiersOf } from './tiers.ts';

const MiB = 2 ** 20;
const GPU = 'nvidia.com/gpu';

function affinityOf(name: string, nodes: readonly NodeStock[], profiles: object = {}, eligible = nodes) {
  const chat = deployment({ hardware: { preferred: name, fallback: [] } });
  const smollm2 = model();
  const [revision] = smollm2.status?.revisions ?? [];
  const { tiers } = tiersOf({
    deployment: chat,
    model: smollm2,
    revision: revision as NonNullable<typeof revision>,
    nodes,
    profiles: readProfiles(JSON.stringify(profiles), 'PROFILES'),
    order: defaultOrder,
    images: { cpu: 'c', cuda: 'c', vulkan: 'c' },
  });
  const tier = tiers[0];
  if (tier === undefined) throw new Error(`no tier ${name}`);
  const names = eligible.map((each) => each.name);
  return nodeAffinity(tier, names, nodes);
}

const nfd = (...flags: string[]) => ({
  labels: Object.fromEntries(flags.map((flag) => [`feature.node.kubernetes.io/cpu-cpuid.${flag}`, 'true'])),
});
const seen = (...flags: string[]) => ({ devices: [{ id: 'cpu', class: 'cpu', usable: true, flags } as const] });

describe('among processors', () => {
  it('nothing is preferred where all are alike', () => {
    expect(affinityOf('cpu', [node('n1', nfd('AVX2')), node('n2', nfd('AVX2'))])).toBeUndefined();
    expect(affinityOf('cpu', [node('n1'), node('n2')])).toBeUndefined();
  });

  it('what only some have is preferred by NFD’s label', () => {
    const nodes = [node('n1', nfd('AVX2', 'AVX512F', 'AMXINT8')), node('n2', nfd('AVX2'))];
    expect(affinityOf('cpu', nodes)).toEqual({
      preferredDuringSchedulingIgnoredDuringExecution: [
        term(30, 'feature.node.kubernetes.io/cpu-cpuid.AMXINT8', ['true']),
        term(25, 'feature.node.kubernetes.io/cpu-cpuid.AVX512F', ['true']),
      ],
    });
  });

  it('without NFD the nodes are preferred by name, as their agents see them', () => {
    const nodes = [node('n1', seen('AVX2', 'AVX512F')), node('n2', seen('AVX2'))];
    expect(affinityOf('cpu', nodes)).toEqual({
      preferredDuringSchedulingIgnoredDuringExecution: [term(25, 'kubernetes.io/hostname', ['n1'])],
    });
  });

  it.each([
    ['Sapphire Rapids', ['AMXINT8', 'AVX512VNNI', 'AVX512F', 'AVXVNNI', 'AVX2']],
    ['Ice Lake', ['AVX512VNNI', 'AVX512F', 'AVX2']],
    ['Skylake', ['AVX512F', 'AVX2']],
    ['Alder Lake', ['AVXVNNI', 'AVX2']],
    ['Haswell', ['AVX2']],
    ['Sandy Bridge', []],
  ])('%s comes before all that follow', (_, flags) => {
    const all = [
      ['AMXINT8', 'AVX512VNNI', 'AVX512F', 'AVXVNNI', 'AVX2'],
      ['AVX512VNNI', 'AVX512F', 'AVX2'],
      ['AVX512F', 'AVX2'],
      ['AVXVNNI', 'AVX2'],
      ['AVX2'],
      [],
    ];
    const worse = all.slice(all.findIndex((each) => each.join() === flags.join()) + 1);
    for (const other of worse) {
      const nodes = [node('better', seen(...flags)), node('worse', seen(...other))];
      const terms = affinityOf('cpu', nodes)?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
      const sum = (name: string) =>
        terms.reduce(
          (total, { weight, preference }) =>
            total + (preference.matchExpressions[0]?.values?.includes(name) === true ? weight : 0),
          0,
        );
      expect(sum('better')).toBeGreaterThan(sum('worse'));
    }
  });
});

describe('among devices', () => {
  const gpu = (name: string, memory: string) => ({
    ...nodeWith(name, GPU, 1),
    labels: { 'nvidia.com/gpu.memory': memory },
  });

  it('nothing is said where all are large enough', () => {
    expect(affinityOf('gpu', [gpu('n1', '24576'), gpu('n2', '16384')])).toBeUndefined();
  });

  it('those that are too small are kept out by their label', () => {
    const expressions = affinityOf('gpu', [gpu('n1', '24576'), gpu('n2', '512')], {}, [node('n1')])
      ?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms[0]?.matchExpressions;
    expect(expressions).toEqual([
      { key: 'nvidia.com/gpu.memory', operator: 'Gt', values: [expect.any(String) as string] },
    ]);
    expect(Number(expressions?.[0]?.values?.[0])).toBeGreaterThan(512);
  });

  it('or by their names, where not all say it in that way', () => {
    const small = nodeWith('n2', GPU, 1);
    const devices = [{ id: '1', class: 'gpu', vendor: 'nvidia', usable: true, memoryBytes: 512 * MiB } as const];
    expect(affinityOf('gpu', [nodeWith('n1', GPU, 1), { ...small, devices }], {}, [node('n1')])).toEqual({
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [
          { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'NotIn', values: ['n2'] }] },
        ],
      },
    });
  });

  it('a profile that goes by labels alone holds its pods to nodes with one of them', () => {
    const profiles = { mine: { class: 'gpu', image: 'cuda', nodeLabels: ['x.dev/gpu', 'pool=gpu'] } };
    expect(affinityOf('mine', [node('n1', { labels: { pool: 'gpu' } })], profiles)).toEqual({
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [
          {
            matchExpressions: [
              { key: 'x.dev/gpu', operator: 'Exists' },
              { key: 'x.dev/gpu', operator: 'NotIn', values: ['false'] },
            ],
          },
          { matchExpressions: [{ key: 'pool', operator: 'In', values: ['gpu'] }] },
        ],
      },
    });
  });
});

function term(weight: number, key: string, values: string[]) {
  return { weight, preference: { matchExpressions: [{ key, operator: 'In', values }] } };
}
