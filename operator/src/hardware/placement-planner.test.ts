import { describe, expect, it } from 'vitest';
import { planPlacement } from './placement-planner.ts';
import type { PlacementInput, TierState } from './placement-types.ts';

const NOW = Date.parse('2026-03-01T12:00:00Z');
const SECOND = 1000;
const MINUTE = 60 * SECOND;

const noDevice = { reason: 'WaitingForDevice', message: 'needs 1 nvidia.com/gpu; 0 of 5 nodes have one free' } as const;
const noMemory = { reason: 'InsufficientMemory', message: 'needs 3.1 GiB, largest free node has 2.2 GiB' } as const;
const noGpuFound = { pods: 1, reason: 'DeviceNotFound', message: 'pod web-1: no CUDA driver' } as const;
const unschedulable = { pods: 1, reason: 'Unschedulable', message: 'pod web-1: no node can take it' } as const;

function tier(name: string, rank: number, change: Partial<TierState>): TierState {
  const { desired = 0 } = change;
  return {
    name,
    rank,
    room: 0,
    desired,
    current: desired,
    available: desired,
    oldPods: 0,
    goingPods: 0,
    planned: desired,
    inventory: 'now',
    ...change,
  };
}

/** Full unless told otherwise. */
const gpu = (change: Partial<TierState> = {}) =>
  tier('gpu', 0, { ...((change.room ?? 0) === 0 ? { blocked: noDevice } : {}), ...change });
const cpu = (change: Partial<TierState> = {}) => tier('cpu', 1, { room: 10, ...change });

function input(tiers: readonly TierState[], change: Partial<PlacementInput> = {}): PlacementInput {
  return {
    replicas: 2,
    tiers,
    fallbackAfterMs: 2 * MINUTE,
    policy: 'Fallback',
    promoteBack: 'Never',
    auto: false,
    rolling: false,
    now: NOW,
    ...change,
  };
}

const targetsOf = (given: PlacementInput) => Object.fromEntries(planPlacement(given).targets);
const ago = (milliseconds: number) => NOW - milliseconds;

describe('where pods belong', () => {
  const rows: [string, PlacementInput, Record<string, number>][] = [
    ['all go to the preferred hardware while there is room', input([gpu({ room: 2 }), cpu()]), { gpu: 2, cpu: 0 }],
    ['what does not fit waits at first', input([gpu({ room: 1 }), cpu()]), { gpu: 1, cpu: 0 }],
    [
      'and falls back after fallbackAfter',
      input([gpu({ desired: 1, waitingSince: ago(2 * MINUTE) }), cpu()]),
      { gpu: 1, cpu: 1 },
    ],
    [
      'a pod beyond those that fell back does not wait again',
      input([gpu({ desired: 1, waitingSince: ago(60 * MINUTE) }), cpu({ desired: 1 })], { replicas: 3 }),
      { gpu: 1, cpu: 2 },
    ],
    [
      'policy Never waits for as long as it takes',
      input([gpu({ waitingSince: ago(60 * MINUTE) }), cpu()], { policy: 'Never' }),
      { gpu: 0, cpu: 0 },
    ],
    [
      'between two tiers of one class nobody waits',
      input([gpu({ room: 1 }), tier('amd', 0, { room: 1 }), cpu()]),
      { gpu: 1, amd: 1, cpu: 0 },
    ],
    [
      'the waits of all kinds run together: nobody waits twice',
      input([
        gpu({ waitingSince: ago(2 * MINUTE) }),
        tier('igpu', 1, { waitingSince: ago(2 * MINUTE) }),
        tier('cpu', 2, { room: 9 }),
      ]),
      { gpu: 0, igpu: 0, cpu: 2 },
    ],
    ['without spec.hardware nobody waits', input([gpu({ room: 1 }), cpu()], { auto: true }), { gpu: 1, cpu: 1 }],
    [
      'nothing is made that would not fit anywhere',
      input([gpu(), cpu({ room: 1 })], { auto: true }),
      { gpu: 0, cpu: 1 },
    ],
    [
      'where nobody can tell the room, the scheduler decides',
      input([gpu({ room: undefined }), cpu()]),
      { gpu: 2, cpu: 0 },
    ],
    [
      'pods stay where they are, better room or not',
      input([gpu({ room: 5 }), cpu({ desired: 2 })]),
      { gpu: 0, cpu: 2 },
    ],
    [
      'fewer replicas: the worst hardware is left first',
      input([gpu({ desired: 2 }), cpu({ desired: 3 })], { replicas: 3 }),
      { gpu: 2, cpu: 1 },
    ],
    [
      'fewer replicas: pods that cannot run go before those that do',
      input([gpu({ desired: 2, available: 1, stuck: noGpuFound }), cpu({ desired: 1 })]),
      { gpu: 1, cpu: 1 },
    ],
    [
      'a rollout counts on the devices of old pods',
      input([gpu({ oldPods: 2, planned: 2 }), cpu()], { rolling: true }),
      { gpu: 2, cpu: 0 },
    ],
    [
      'and on those of pods that are going',
      input([gpu({ goingPods: 1, oldPods: 1, planned: 2 }), cpu()], { rolling: true, auto: true }),
      { gpu: 2, cpu: 0 },
    ],
    [
      'a device that only just went from sight is still counted on',
      input([gpu({ desired: 1, planned: 2, shortSince: ago(5 * SECOND) }), cpu()], { auto: true }),
      { gpu: 2, cpu: 0 },
    ],
    [
      'but not for ever',
      input([gpu({ desired: 1, planned: 2, shortSince: ago(MINUTE) }), cpu()], { auto: true }),
      { gpu: 1, cpu: 1 },
    ],
    [
      'a pod that finds no device may yet find one',
      input([gpu({ desired: 2, available: 1, stuck: noGpuFound, shortSince: ago(MINUTE) }), cpu()]),
      { gpu: 2, cpu: 0 },
    ],
    [
      'and goes elsewhere when it did not for fallbackAfter',
      input([gpu({ desired: 2, available: 1, stuck: noGpuFound, shortSince: ago(2 * MINUTE) }), cpu()]),
      { gpu: 1, cpu: 1 },
    ],
    [
      'a pod that cannot run stays when there is nowhere else to go',
      input([gpu({ desired: 2, available: 1, stuck: noGpuFound, shortSince: ago(2 * MINUTE) }), cpu({ room: 0 })]),
      { gpu: 2, cpu: 0 },
    ],
    [
      'a pod that waits for one that is going is not stuck',
      input([
        gpu({ desired: 2, available: 1, goingPods: 1, stuck: unschedulable, shortSince: ago(9 * MINUTE) }),
        cpu(),
      ]),
      { gpu: 2, cpu: 0 },
    ],
    [
      'nobody is sent where pods could not run',
      input([gpu({ room: 2, failedSince: ago(60 * MINUTE), failedOn: 'now' }), cpu()]),
      { gpu: 0, cpu: 2 },
    ],
    [
      'until the devices change',
      input([gpu({ room: 2, failedSince: ago(60 * MINUTE), failedOn: 'before' }), cpu()]),
      { gpu: 2, cpu: 0 },
    ],
    [
      'or, when they only found no place, for ten minutes',
      input([gpu({ room: 2, failedSince: ago(9 * MINUTE), failedOn: '1:now' }), cpu()]),
      { gpu: 0, cpu: 2 },
    ],
    [
      'and then again',
      input([gpu({ room: 2, failedSince: ago(10 * MINUTE), failedOn: '1:now' }), cpu()]),
      { gpu: 2, cpu: 0 },
    ],
    [
      'each time twice as long',
      input([gpu({ room: 2, failedSince: ago(39 * MINUTE), failedOn: '3:now' }), cpu()]),
      { gpu: 0, cpu: 2 },
    ],
  ];
  it.each(rows)('%s', (_, given, targets) => {
    expect(targetsOf(given)).toEqual(targets);
  });
});

describe('moving back', () => {
  const fallen = (change: Partial<TierState> = {}, below: Partial<TierState> = {}) =>
    input(
      [
        gpu({ desired: 1, room: 1, freeSince: ago(MINUTE), waitingSince: ago(60 * MINUTE), ...change }),
        cpu({ desired: 1, idlePods: 1, ...below }),
      ],
      { promoteBack: 'WhenIdle' },
    );
  const rows: [string, PlacementInput, Record<string, number>, string?][] = [
    [
      'a pod is made on better hardware, and the one on worse stays until it serves',
      fallen(),
      { gpu: 2, cpu: 0 },
      'its pods stay until the one on gpu serves',
    ],
    ['not before the room has lasted a minute', fallen({ freeSince: ago(59 * SECOND) }), { gpu: 1, cpu: 1 }],
    ['not while the pod is busy', fallen({}, { idlePods: 0 }), { gpu: 1, cpu: 1 }],
    ['not while nobody knows', fallen({}, { idlePods: undefined }), { gpu: 1, cpu: 1 }],
    ['not to where pods could not run', fallen({ failedSince: ago(MINUTE), failedOn: 'now' }), { gpu: 1, cpu: 1 }],
    ['not while another one starts there', fallen({ desired: 1, available: 0 }), { gpu: 1, cpu: 1 }],
    ['not in the middle of a rollout', { ...fallen(), rolling: true }, { gpu: 1, cpu: 1 }],
    ['not when promoteBack is Never', { ...fallen(), promoteBack: 'Never' }, { gpu: 1, cpu: 1 }],
    [
      'the pod on worse hardware stays while the new one starts',
      fallen({ desired: 2, available: 1, room: 0, promotingSince: ago(SECOND) }),
      { gpu: 2, cpu: 0 },
      'its pods stay until the one on gpu serves',
    ],
    [
      'and while it is busy',
      fallen({ desired: 2, room: 0, promotingSince: ago(SECOND) }, { idlePods: 0 }),
      { gpu: 2, cpu: 0 },
      'its pods stay until one of them is idle',
    ],
    ['and goes when it is idle', fallen({ desired: 2, room: 0, promotingSince: ago(SECOND) }), { gpu: 2, cpu: 0 }],
    [
      'is called off when the new one cannot run',
      fallen({
        desired: 2,
        available: 1,
        room: 0,
        promotingSince: ago(9 * MINUTE),
        shortSince: ago(3 * MINUTE),
        stuck: unschedulable,
      }),
      { gpu: 1, cpu: 1 },
    ],
  ];
  it.each(rows)('%s', (_, given, targets, hold) => {
    const plan = planPlacement(given);
    expect({ targets: Object.fromEntries(plan.targets), hold: plan.hold.get('cpu') }).toEqual({ targets, hold });
  });
});

describe('what is said', () => {
  const said = (given: PlacementInput) => planPlacement(given).blocked.map(({ message }) => message);
  const rows: [string, PlacementInput, string[]][] = [
    [
      'all wait, and fall back',
      input([gpu(), cpu()], { fallbackAfterMs: 90 * SECOND }),
      ['needs 1 nvidia.com/gpu; 0 of 5 nodes have one free; falls back to cpu after 90 s, at 12:01:30Z'],
    ],
    [
      'some wait, and the end of the wait stays the same',
      input([gpu({ desired: 1, waitingSince: ago(MINUTE) }), cpu()], { replicas: 3 }),
      [
        'needs 1 nvidia.com/gpu; 0 of 5 nodes have one free; 2 of 3 pods wait and fall back to cpu after 2 min, at 12:01:00Z',
      ],
    ],
    [
      'policy Never',
      input([gpu(), cpu()], { policy: 'Never' }),
      ['needs 1 nvidia.com/gpu; 0 of 5 nodes have one free; waits, because hardware.policy is Never'],
    ],
    [
      'nowhere to fall back to',
      input([gpu({ waitingSince: ago(9 * MINUTE) }), cpu({ room: 0, blocked: noMemory })]),
      ['needs 1 nvidia.com/gpu; 0 of 5 nodes have one free; on cpu: needs 3.1 GiB, largest free node has 2.2 GiB'],
    ],
    [
      'a pod that cannot run',
      input([gpu({ desired: 2, available: 1, stuck: noGpuFound, shortSince: ago(MINUTE) }), cpu()]),
      ['pod web-1: no CUDA driver; 1 of 2 pods waits and falls back to cpu after 2 min, at 12:01:00Z'],
    ],
    ['nothing waits', input([gpu({ desired: 1, waitingSince: ago(9 * MINUTE) }), cpu({ desired: 1 })]), []],
  ];
  it.each(rows)('%s', (_, given, messages) => {
    expect(said(given)).toEqual(messages);
  });

  it('each tier tells why no more pods are there', () => {
    const tierSays = (given: PlacementInput) => planPlacement(given).tiers.get('gpu')?.message;
    const fallen = { desired: 1, waitingSince: ago(9 * MINUTE) };
    expect([
      tierSays(input([gpu(fallen), cpu({ desired: 1 })])),
      tierSays(input([gpu({ ...fallen, room: 1 }), cpu({ desired: 1 })])),
      tierSays(input([gpu({ ...fallen, room: 1 }), cpu({ desired: 1 })], { promoteBack: 'WhenIdle' })),
      tierSays(
        input([gpu({ desired: 1, available: 0, stuck: noGpuFound, shortSince: ago(9 * MINUTE) }), cpu()], {
          replicas: 1,
        }),
      ),
      tierSays(input([gpu({ desired: 2 }), cpu()])),
    ]).toMatchInlineSnapshot(`
      [
        "needs 1 nvidia.com/gpu; 0 of 5 nodes have one free",
        "has room again; pods stay where they are, because hardware.promoteBack is Never",
        "has room again; a pod comes back when one on worse hardware is idle",
        "pods could not run there: pod web-1: no CUDA driver; tried again when the nodes' devices change",
        undefined,
      ]
    `);
  });
});

describe('time', () => {
  it('nothing that is written changes while nothing happens', () => {
    let before = input([gpu({ desired: 1 }), cpu()], { replicas: 3 });
    const [first] = [planPlacement(before)];
    for (const seconds of [1, 30, 119]) {
      const clocks = first.tiers.get('gpu') ?? {};
      before = { ...before, tiers: [{ ...gpu({ desired: 1 }), ...clocks }, cpu()], now: NOW + seconds * SECOND };
      const later = planPlacement(before);
      expect([later.tiers, later.blocked, later.targets]).toEqual([first.tiers, first.blocked, first.targets]);
    }
  });

  const rows: [string, PlacementInput, number | undefined][] = [
    ['the end of a wait', input([gpu({ waitingSince: ago(MINUTE) }), cpu()]), MINUTE],
    ['not the end of one after which there is nothing', input([gpu()]), undefined],
    [
      'the end of patience with a pod that cannot run',
      input([gpu({ desired: 2, available: 1, stuck: noGpuFound }), cpu()]),
      2 * MINUTE,
    ],
    [
      'room that has lasted',
      input([gpu({ room: 2 }), cpu({ desired: 2, idlePods: 2 })], { promoteBack: 'WhenIdle' }),
      MINUTE,
    ],
    ['nothing, when all is well', input([gpu({ desired: 2 }), cpu()]), undefined],
  ];
  it.each(rows)('wakes for %s', (_, given, after) => {
    expect(planPlacement(given).requeueAfter).toBe(after);
  });
});
