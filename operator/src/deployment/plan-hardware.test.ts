import { describe, expect, it } from 'vitest';
import type { Observed } from './observed.ts';
import { GPU, NPU, plan, type Spec, said, sizes, wanted, withNpu } from './testing/hardware-plans.ts';
import { ago, node, nodeWith, replicaSet } from './testing/objects.ts';

describe('first pods', () => {
  const gpu: Spec = { hardware: { preferred: 'gpu' } };
  it('go to the preferred hardware where it is free, with its device, image and settings', () => {
    const result = plan(gpu, { nodes: [nodeWith('n1', GPU, 1), node('n2')] });
    expect(said(result)).toEqual({
      sizes: ['nvidia 1'],
      summary: 'gpu',
      message: '1 pod on gpu',
      degraded: 'False OnPreferredHardware',
      blocked: ['WaitingForPods'],
    });
    expect(result.apply.at(-1)).toMatchObject({
      metadata: { name: `chat-${wanted(gpu).revision}-nvidia` },
      spec: {
        template: {
          spec: {
            tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists' }],
            containers: [
              {
                image: 'server-cuda:1',
                resources: { limits: { [GPU]: '1' }, requests: { [GPU]: '1' } },
                env: expect.arrayContaining([{ name: 'SLM_DEVICE', value: 'gpu' }]) as unknown,
              },
            ],
          },
        },
      },
    });
    expect(result.events.map(({ reason, note }) => `${reason}: ${note}`)).toEqual([
      `RevisionCreated: made ReplicaSet chat-${wanted(gpu).revision}-nvidia for revision ${wanted(gpu).revision} of model smollm2, image server-cuda:1, with 1 pod: 2 pods may exist (replicas 1, surge 1)`,
    ]);
    expect(result.expected?.places).toMatchObject([
      { tier: 'nvidia', replicas: 1, requests: { [GPU]: 1 }, nodes: ['n1'] },
      { tier: 'cpu', replicas: 0 },
    ]);
  });

  it('are divided: two GPUs are free, and five pods wanted at once', () => {
    const spec: Spec = { replicas: 5, hardware: { preferred: 'gpu', fallbackAfter: '0s' } };
    const result = plan(spec, { nodes: [nodeWith('n1', GPU, 2), node('n2')] });
    expect(said(result)).toMatchInlineSnapshot(`
      {
        "blocked": [
          "WaitingForPods",
        ],
        "degraded": "True FellBack",
        "message": "2 pods on gpu, 3 on cpu: needs 1 nvidia.com/gpu; of 2 nodes 1 has none, 1 has it in use",
        "sizes": [
          "nvidia 2",
          "cpu 3",
        ],
        "summary": "2 gpu, 3 cpu (fallback)",
      }
    `);
    expect(result.apply.filter(({ kind }) => kind === 'ReplicaSet')).toHaveLength(2);
  });

  it('wait for a device, for as long as fallbackAfter says, and say so', () => {
    const spec: Spec = { hardware: { preferred: 'npu', fallbackAfter: '90s' } };
    const result = plan(spec, { model: withNpu, nodes: [nodeWith('n1', GPU, 2), node('n2')] });
    expect(said(result)).toMatchInlineSnapshot(`
      {
        "blocked": [
          "WaitingForDevice",
          "WaitingForPods",
        ],
        "degraded": "True WaitingForDevice",
        "message": "1 pod waits: needs 1 npu.intel.com/accel; 0 of 2 nodes have one; falls back to cpu after 90 s, at 12:01:30Z",
        "sizes": [],
        "summary": "waiting for npu",
      }
    `);
    expect(result.status?.blockedBy?.map(({ message }) => message)).toMatchInlineSnapshot(`
      [
        "needs 1 npu.intel.com/accel; 0 of 2 nodes have one; falls back to cpu after 90 s, at 12:01:30Z",
        "pods wait for a place: 0 of 1 pods serve",
      ]
    `);
    expect(result.status?.rollout?.phase).toBe('WaitingForDevice');
    expect(result.placeAgain).toBe(90_000);
    expect(result.expected?.interest.wants).toContain(NPU);
  });

  it('fall back once they have waited', () => {
    const spec: Spec = { hardware: { preferred: 'npu', fallbackAfter: '90s' } };
    const first = plan(spec, { model: withNpu }).status;
    const waited = (first?.hardware?.tiers ?? []).map((tier) =>
      tier.waitingSince === undefined ? tier : { ...tier, waitingSince: ago(90) },
    );
    const hardware = first?.hardware && { ...first.hardware, tiers: waited };
    const result = plan(spec, { model: withNpu }, { ...first, ...(hardware === undefined ? {} : { hardware }) });
    expect(said(result)).toMatchInlineSnapshot(`
      {
        "blocked": [
          "WaitingForPods",
        ],
        "degraded": "True FellBack",
        "message": "1 pod on cpu: needs 1 npu.intel.com/accel; 0 of 2 nodes have one",
        "sizes": [
          "cpu 1",
        ],
        "summary": "cpu (fallback)",
      }
    `);
    expect(result.events.filter(({ reason }) => reason === 'FellBack')).toEqual([
      { type: 'Warning', reason: 'FellBack', note: result.status?.hardware?.message },
    ]);
  });

  it('wait for ever with policy Never', () => {
    const spec: Spec = { replicas: 2, hardware: { preferred: 'gpu', policy: 'Never' } };
    const result = plan(spec, { nodes: [nodeWith('n1', GPU, 1), node('n2')] });
    expect(said(result)).toMatchInlineSnapshot(`
      {
        "blocked": [
          "WaitingForDevice",
          "WaitingForPods",
        ],
        "degraded": "True WaitingForDevice",
        "message": "1 pod on gpu, 1 waits: needs 1 nvidia.com/gpu; of 2 nodes 1 has none, 1 has it in use; 1 of 2 pods waits, because hardware.policy is Never",
        "sizes": [
          "nvidia 1",
        ],
        "summary": "1 gpu, 1 waiting",
      }
    `);
    expect(result.placeAgain).toBeUndefined();
  });

  it('of a deployment that names no hardware take what is free at once, and are never degraded', () => {
    const spec: Spec = { replicas: 3 };
    const result = plan(spec, { nodes: [nodeWith('n1', GPU, 2, 1), node('n2')] });
    expect(said(result)).toEqual({
      sizes: ['nvidia 1', 'cpu 2'],
      summary: '1 gpu, 2 cpu',
      message: '1 pod on gpu, 2 on cpu',
      degraded: undefined,
      blocked: ['WaitingForPods'],
    });
  });
});

describe('a deployment of the release before there were tiers', () => {
  const { revision, settingsHash } = wanted();
  const before = replicaSet(revision, { settingsHash, desired: 2 });
  const given: Partial<Observed> = { replicaSets: [before], nodes: [nodeWith('n1', GPU, 4), node('n2')] };
  it('keeps its ReplicaSet and its pods, also where nodes have devices', () => {
    expect(before.metadata?.labels).not.toHaveProperty('slm.dev/tier');
    const result = plan({ replicas: 2 }, given);
    expect([sizes(result), result.remove]).toEqual([[], []]);
    expect(result.status?.hardware).toMatchObject({ summary: 'cpu', degraded: false });
    expect(result.status?.conditions?.find(({ type }) => type === 'Ready')?.status).toBe('True');
  });
  it('gets new pods on devices that are free, and so does its next revision', () => {
    expect(sizes(plan({ replicas: 3 }, given))).toEqual(['nvidia 1']);
    const spec: Spec = { replicas: 2, engine: { contextLength: 1024 } };
    expect(sizes(plan(spec, given))).toEqual(['nvidia 1']);
  });
});

describe('what a spec cannot have is said in a sentence', () => {
  const unknown =
    "there is no hardware profile tpu: write npu, gpu, cpu or one of nvidia, amd, intel-gpu, intel-npu, qualcomm, ascend, cpu, or add it to the chart's hardware.profiles";
  const noFile =
    'model smollm2 has no file for npu: add an entry with accelerators: [npu] to spec.variants of SLMModel smollm2';
  const rows: [string, Spec, Partial<Observed>, object][] = [
    [
      'an unknown profile: pods fall back at once',
      { hardware: { preferred: 'tpu' } },
      {},
      {
        sizes: ['cpu 1'],
        summary: 'cpu (fallback)',
        message: `1 pod on cpu: ${unknown}`,
        degraded: 'True UnknownProfile',
        blocked: ['UnknownProfile', 'WaitingForPods'],
      },
    ],
    [
      'an unknown profile and nothing else: nothing runs',
      { hardware: { preferred: 'tpu', policy: 'Never' } },
      {},
      {
        sizes: [],
        summary: 'waiting for tpu',
        message: `1 pod waits: ${unknown}`,
        degraded: 'True UnknownProfile',
        blocked: ['UnknownProfile', 'WaitingForPods'],
      },
    ],
    [
      'a model without a file for the preferred hardware',
      { hardware: { preferred: 'npu' } },
      { nodes: [nodeWith('n1', NPU, 1)] },
      {
        sizes: ['cpu 1'],
        summary: 'cpu (fallback)',
        message: `1 pod on cpu: ${noFile}`,
        degraded: 'True NoVariant',
        blocked: ['NoVariant', 'WaitingForPods'],
      },
    ],
    [
      'a model without a file for a fallback',
      { hardware: { preferred: 'gpu', fallback: ['npu'] } },
      { nodes: [nodeWith('n1', GPU, 1)] },
      {
        sizes: ['nvidia 1'],
        summary: 'gpu',
        message: `1 pod on gpu; ${noFile}`,
        degraded: 'False OnPreferredHardware',
        blocked: ['NoVariant', 'WaitingForPods'],
      },
    ],
  ];
  it.each(rows)('%s', (_, spec, change, expected) => {
    expect(said(plan(spec, change))).toEqual(expected);
  });
});
