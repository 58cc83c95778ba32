import type { SLMDeploymentStatus } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import type { Observed, PodObject } from './observed.ts';
import { planDeployment } from './plan.ts';
import { caches, condition, GPU, plan, type Spec, said, sizes, wanted } from './testing/hardware-plans.ts';
import { ago, config, deployment, node, nodeWith, now, observed, pod, replicaSetOf } from './testing/objects.ts';

describe('pods that serve', () => {
  const spec: Spec = { replicas: 2, hardware: { preferred: 'gpu' } };
  const serving = (name: string, tier: string, nodeName: string): PodObject => {
    const made = pod(
      name,
      { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
      wanted(spec).revision,
    );
    return {
      ...made,
      metadata: { ...made.metadata, labels: { ...made.metadata?.labels, 'slm.dev/tier': tier } },
      spec: { containers: [], ...made.spec, nodeName },
    };
  };
  const device = { class: 'gpu', backend: 'CUDA', name: 'NVIDIA L4', layersOffloaded: 33, layers: 33 } as const;
  const given: Partial<Observed> = {
    nodes: [nodeWith('n1', GPU, 2, 0), node('n2')],
    replicaSets: [replicaSetOf(wanted(spec), { tier: 'nvidia', desired: 2 })],
    pods: [serving('a', 'nvidia', 'n1'), serving('b', 'nvidia', 'n1')],
    reports: new Map([
      ['a-uid', { device, tokensPerSecond: 41.23, at: now }],
      ['b-uid', { device, tokensPerSecond: 38.66, at: now }],
    ]),
  };

  it('tell what they compute on, the slowest of them how fast', () => {
    const { status } = plan(spec, given);
    expect(status?.hardware).toMatchInlineSnapshot(`
      {
        "backend": "CUDA",
        "class": "gpu",
        "degraded": false,
        "device": "NVIDIA L4",
        "layers": 33,
        "layersOffloaded": 33,
        "message": "2 pods on gpu (NVIDIA L4, CUDA)",
        "profile": "nvidia",
        "summary": "gpu",
        "tiers": [
          {
            "backend": "CUDA",
            "class": "gpu",
            "device": "NVIDIA L4",
            "layers": 33,
            "layersOffloaded": 33,
            "name": "nvidia",
            "profile": "nvidia",
            "readyReplicas": 2,
            "replicas": 2,
            "tokensPerSecond": 38.7,
          },
          {
            "class": "cpu",
            "name": "cpu",
            "profile": "cpu",
            "readyReplicas": 0,
            "replicas": 0,
          },
        ],
        "tokensPerSecond": 38.7,
      }
    `);
    expect(condition(plan(spec, given), 'Ready')).toBe('True Ready');
  });

  it('leave the status as it was after a start of the operator, which has not asked them yet', () => {
    const { status } = plan(spec, given);
    const again = plan(spec, { ...given, reports: new Map() }, status);
    expect(again.status).toEqual(status);
    const half = new Map([['a-uid', { device, tokensPerSecond: 41.23, at: now }]]);
    expect(plan(spec, { ...given, reports: half }, status).status).toEqual(status);
    expect(again.events).toEqual([]);
  });

  it('go on where the plugin ended, and status and an event say that no other pod could come', () => {
    const { status } = plan(spec, given);
    const gone = { ...given, nodes: [nodeWith('n1', GPU, 0), node('n2')] };
    const result = plan(spec, gone, status);
    expect(sizes(result)).toEqual([]);
    expect(result.status?.hardware?.message).toMatchInlineSnapshot(
      `"2 pods on gpu (NVIDIA L4, CUDA); node n1 offers no nvidia.com/gpu any more; what serves there goes on as long as it runs"`,
    );
    expect(result.events).toMatchObject([{ reason: 'DeviceLost', type: 'Warning' }]);
    expect(plan(spec, gone, result.status).events).toEqual([]);
  });
});

describe('a pod whose engine finds no device', () => {
  const spec: Spec = { hardware: { preferred: 'gpu', fallbackAfter: '30s' } };
  const { revision } = wanted(spec);
  const failing = (): PodObject => {
    const made = pod(
      'chat-gpu',
      {
        phase: 'Running',
        containerStatuses: [
          {
            name: 'server',
            image: '',
            imageID: '',
            ready: false,
            restartCount: 2,
            state: { waiting: { reason: 'CrashLoopBackOff' } },
            lastState: { terminated: { exitCode: 4, message: 'DeviceNotFound: no driver.' } },
          },
        ],
      },
      revision,
    );
    return { ...made, metadata: { ...made.metadata, labels: { ...made.metadata?.labels, 'slm.dev/tier': 'nvidia' } } };
  };
  const nodes = (free: number) => [nodeWith('n1', GPU, 1, free), node('n2')];
  const at = (seconds: number, change: Partial<Observed>, status?: SLMDeploymentStatus) =>
    planDeployment(
      observed({
        deployment: deployment(spec, status),
        nodes: nodes(0),
        caches: caches('n1', 'n2'),
        replicaSets: [replicaSetOf(wanted(spec), { tier: 'nvidia', desired: 1, available: 0 })],
        pods: [failing()],
        ...change,
      }),
      { now: now + seconds * 1000, config },
    );

  it('goes elsewhere after fallbackAfter, says why as long as that is so, and is tried again with other devices', () => {
    const first = at(0, {});
    expect([sizes(first), first.status?.blockedBy?.[0]?.reason, first.placeAgain]).toEqual([
      [],
      'DeviceNotFound',
      30_000,
    ]);
    const gone = at(30, {}, first.status);
    expect(sizes(gone)).toEqual(['cpu 1', 'nvidia 0']);
    const after: Partial<Observed> = {
      nodes: nodes(1),
      pods: [],
      replicaSets: [
        replicaSetOf(wanted(spec), { tier: 'nvidia', desired: 0 }),
        replicaSetOf(wanted(spec), { desired: 1 }),
      ],
    };
    const settled = at(60, after, gone.status);
    expect(said(settled)).toMatchInlineSnapshot(`
      {
        "blocked": undefined,
        "degraded": "True FellBack",
        "message": "1 pod on cpu: pods could not run there: pod chat-gpu, node n1, restarted 2 times: no driver.; tried again when the nodes' devices change",
        "sizes": [],
        "summary": "cpu (fallback)",
      }
    `);
    expect(at(90, after, settled.status).status).toEqual(settled.status);
    expect(settled.status?.hardware?.tiers?.[0]).toMatchObject({ failedSince: ago(-30) });
    const more = { ...after, nodes: [nodeWith('n1', GPU, 2, 2), node('n2')] };
    expect(at(120, more, settled.status).status?.hardware?.tiers?.[0]?.failedSince).toBeUndefined();
  });
});

it('an image that the site does not have: a deployment that names no hardware is on processors a minute later', () => {
  const { revision } = wanted();
  const waiting = { reason: 'ImagePullBackOff', message: 'not found' };
  const stuck = pod(
    'chat-gpu',
    {
      containerStatuses: [
        { name: 'server', image: '', imageID: '', ready: false, restartCount: 0, state: { waiting } },
      ],
    },
    revision,
  );
  const pods = [
    { ...stuck, metadata: { ...stuck.metadata, labels: { ...stuck.metadata?.labels, 'slm.dev/tier': 'nvidia' } } },
  ];
  const at = (seconds: number, change: Partial<Observed>, status?: SLMDeploymentStatus) =>
    planDeployment(
      observed({
        deployment: deployment({}, status),
        nodes: [nodeWith('n1', GPU, 1, 0), node('n2')],
        caches: caches('n1', 'n2'),
        replicaSets: [replicaSetOf(wanted(), { tier: 'nvidia', desired: 1, available: 0 })],
        pods,
        ...change,
      }),
      { now: now + seconds * 1000, config },
    );
  const first = at(0, {});
  const later = at(60, {}, first.status);
  expect([sizes(first), sizes(later)]).toEqual([[], ['cpu 1', 'nvidia 0']]);
  const replicaSets = [
    replicaSetOf(wanted(), { tier: 'nvidia', desired: 0 }),
    replicaSetOf(wanted(), { desired: 1, number: 1 }),
  ];
  const settled = at(62, { nodes: [nodeWith('n1', GPU, 1), node('n2')], pods: [], replicaSets }, later.status);
  expect(said(settled)).toMatchInlineSnapshot(`
    {
      "blocked": undefined,
      "degraded": undefined,
      "message": "1 pod on cpu: pods could not run there: pod chat-gpu: node n1 cannot get image server:1: ImagePullBackOff: not found; tried again later, and when the nodes' devices change",
      "sizes": [],
      "summary": "cpu",
    }
  `);
  expect(later.events.map(({ reason }) => reason)).toContain('FellBack');
  expect(settled.events).toEqual([]);
  expect(condition(settled, 'Ready')).toBe('True Ready');
});
