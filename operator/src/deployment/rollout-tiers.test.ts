import { describe, expect, it } from 'vitest';
import { type Goal, planRollout, type RevisionSize, type RolloutInput } from './rollout-planner.ts';

function set(name: string, number: number, desired: number, change: Partial<RevisionSize> = {}): RevisionSize {
  const [revision, tier] = name.split('-') as [string, string];
  return { name, number, revision, tier, desired, current: desired, available: desired, ...change };
}

function goal(name: string, target: number, exists?: RevisionSize, change: Partial<Goal> = {}): Goal {
  const [, tier] = name.split('-') as [string, string];
  return { name, tier, target, gate: { open: true }, ...(exists === undefined ? {} : { exists }), ...change };
}

function input(
  change: Partial<RolloutInput> & { room?: Record<string, number>; going?: Record<string, number> },
): RolloutInput {
  const { room = {}, going = {}, ...rest } = change;
  return {
    replicas: 3,
    maxSurge: 1,
    maxUnavailable: 0,
    mayYield: true,
    paused: false,
    historyLimit: 3,
    goals: [],
    old: [],
    tiers: new Map(['gpu', 'cpu'].map((tier) => [tier, { room: room[tier], going: going[tier] ?? 0 }])),
    ...rest,
  };
}

const sizesOf = (given: RolloutInput) => Object.fromEntries(planRollout(given).sizes.map(({ name, to }) => [name, to]));
const closed = { open: false, why: 'the bytes are not there' } as const;

describe('rollouts on several kinds of hardware', () => {
  const rows: [string, RolloutInput, Record<string, number>][] = [
    [
      'all sets of a first rollout are made at once',
      input({ goals: [goal('b-gpu', 1), goal('b-cpu', 2)], room: { gpu: 1 } }),
      { 'b-gpu': 1, 'b-cpu': 2 },
    ],
    ['no pod is made that would not fit', input({ goals: [goal('b-gpu', 3)], room: { gpu: 2 } }), { 'b-gpu': 2 }],
    [
      'one kind does not wait for the bytes of the other',
      input({ goals: [goal('b-gpu', 1, undefined, { gate: closed }), goal('b-cpu', 2)] }),
      { 'b-cpu': 2 },
    ],
    [
      'nothing moves while no kind has its bytes',
      input({
        goals: [goal('b-gpu', 1, undefined, { gate: closed }), goal('b-cpu', 2, undefined, { gate: closed })],
        old: [set('a-cpu', 1, 3)],
      }),
      {},
    ],
    [
      'on one device the old pod goes first',
      input({ replicas: 1, goals: [goal('b-gpu', 1)], old: [set('a-gpu', 1, 1)], room: { gpu: 0 } }),
      { 'a-gpu': 0 },
    ],
    [
      'once it went nobody else has to',
      input({ replicas: 2, goals: [goal('b-gpu', 2)], old: [set('a-gpu', 1, 1, { current: 2 })], room: { gpu: 0 } }),
      {},
    ],
    [
      'nor while it still holds its device',
      input({ replicas: 2, goals: [goal('b-gpu', 2)], old: [set('a-gpu', 1, 1)], room: { gpu: 0 }, going: { gpu: 1 } }),
      {},
    ],
    [
      'nor while its successor starts',
      input({
        replicas: 2,
        goals: [goal('b-gpu', 2, set('b-gpu', 2, 1, { available: 0 }))],
        old: [set('a-gpu', 1, 1)],
        room: { gpu: 0 },
      }),
      {},
    ],
    [
      'somebody else took the device of the first: another one goes',
      input({
        replicas: 2,
        goals: [goal('b-gpu', 2, set('b-gpu', 2, 1, { available: 0 }), { stuck: 1 })],
        old: [set('a-gpu', 1, 2)],
        room: { gpu: 0 },
      }),
      { 'a-gpu': 1 },
    ],
    [
      'bounds that somebody chose hold',
      input({ replicas: 1, mayYield: false, goals: [goal('b-gpu', 1)], old: [set('a-gpu', 1, 1)], room: { gpu: 0 } }),
      {},
    ],
    [
      'with fewer devices than replicas the old pods still go one by one',
      input({ replicas: 4, goals: [goal('b-gpu', 2)], old: [set('a-gpu', 1, 2)], room: { gpu: 0 } }),
      { 'a-gpu': 1 },
    ],
    [
      'a free device is used before any old pod goes',
      input({ replicas: 2, goals: [goal('b-gpu', 2)], old: [set('a-gpu', 1, 2)], room: { gpu: 1 } }),
      { 'b-gpu': 1 },
    ],
    [
      'old pods whose devices are needed go before others',
      input({
        goals: [goal('b-gpu', 1), goal('b-cpu', 2, set('b-cpu', 2, 1))],
        old: [set('a-cpu', 1, 2), set('a-gpu', 1, 1)],
        room: { gpu: 0 },
      }),
      { 'a-gpu': 0 },
    ],
    [
      'pods on worse hardware stay until their successor serves',
      input({
        replicas: 1,
        goals: [goal('a-gpu', 1, set('a-gpu', 1, 1, { available: 0 })), goal('a-cpu', 0, set('a-cpu', 1, 1))],
      }),
      {},
    ],
    [
      'and go when it does',
      input({ replicas: 1, goals: [goal('a-gpu', 1, set('a-gpu', 1, 1)), goal('a-cpu', 0, set('a-cpu', 1, 1))] }),
      { 'a-cpu': 0 },
    ],
    [
      'unless they are to stay',
      input({
        replicas: 1,
        goals: [goal('a-gpu', 1, set('a-gpu', 1, 1)), goal('a-cpu', 0, set('a-cpu', 1, 1), { hold: 'busy' })],
      }),
      {},
    ],
    [
      'pods that cannot run are replaced elsewhere and gone at once',
      input({ goals: [goal('a-gpu', 1, set('a-gpu', 1, 3, { available: 1 })), goal('a-cpu', 2)], room: { gpu: 0 } }),
      { 'a-gpu': 1, 'a-cpu': 1 },
    ],
    [
      'a smaller size never costs a pod that serves for one that does not yet',
      input({
        replicas: 2,
        goals: [goal('a-gpu', 2, set('a-gpu', 1, 2, { available: 0 })), goal('a-cpu', 0, set('a-cpu', 1, 3))],
      }),
      { 'a-cpu': 2 },
    ],
    [
      'paused, more pods only where they fit',
      input({
        paused: true,
        replicas: 6,
        goals: [goal('a-gpu', 2, set('a-gpu', 1, 2)), goal('a-cpu', 1, set('a-cpu', 1, 1))],
        room: { gpu: 0 },
      }),
      { 'a-cpu': 4 },
    ],
  ];
  it.each(rows)('%s', (_, given, sizes) => {
    expect(sizesOf(given)).toEqual(sizes);
  });

  it('bounds under which a rollout can never end are told with what to change', () => {
    const given = input({
      replicas: 1,
      mayYield: false,
      goals: [goal('b-gpu', 1)],
      old: [set('a-gpu', 1, 1)],
      room: { gpu: 0 },
    });
    expect(planRollout(given).deadlock).toMatchInlineSnapshot(
      `"the next pod needs the place of an old one on gpu, and strategy.maxUnavailable lets none go first: raise it, or leave it out"`,
    );
  });

  it('history counts revisions, whatever number of sets each has', () => {
    const old = [set('a-gpu', 1, 0), set('a-cpu', 1, 0), set('b-gpu', 2, 0), set('b-cpu', 2, 0)];
    expect(planRollout(input({ historyLimit: 1, old, goals: [goal('c-cpu', 3, set('c-cpu', 3, 3))] })).remove).toEqual([
      'a-cpu',
      'a-gpu',
    ]);
  });
});
