import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { proportional } from './rollout-hold.ts';
import {
  planRollout,
  type RevisionSize,
  type RolloutGate,
  type RolloutInput,
  resolveBounds,
} from './rollout-planner.ts';
import { type Choose, inOrder, Simulation } from './rollout-simulation.ts';

function set(name: string, number: number, desired: number, available = desired, current = desired): RevisionSize {
  return { name, number, desired, current, available };
}

interface OneGoal extends Omit<RolloutInput, 'goals'> {
  update: { name: string; exists?: RevisionSize } | undefined;
  gate: RolloutGate;
}

/** A rollout to one set, where all pods belong. */
function input(change: Partial<OneGoal>): RolloutInput {
  const { update = { name: 'b' }, gate = { open: true }, ...rest } = change;
  const { replicas = 3 } = rest;
  const known = 'update' in change ? change.update : update;
  return {
    replicas,
    maxSurge: 1,
    maxUnavailable: 0,
    mayYield: true,
    paused: false,
    historyLimit: 3,
    goals: known && [{ ...known, target: replicas, gate }],
    old: [],
    ...rest,
  };
}

const closed = { open: false, why: 'the bytes are not there' } as const;

describe('planRollout', () => {
  const rows: [string, RolloutInput, Record<string, number>, string[]?][] = [
    ['makes all pods of the first revision at once', input({}), { b: 3 }],
    ['makes no pod before the bytes are there', input({ gate: closed }), {}],
    ['surges by one', input({ old: [set('a', 1, 3)] }), { b: 1 }],
    [
      'waits while the new pod starts',
      input({ old: [set('a', 1, 3)], update: { name: 'b', exists: set('b', 2, 1, 0) } }),
      {},
    ],
    [
      'lets an old pod go once the new one serves',
      input({ old: [set('a', 1, 3)], update: { name: 'b', exists: set('b', 2, 1) } }),
      { a: 2 },
    ],
    [
      'counts pods that are still going when it makes new ones',
      input({ old: [set('a', 1, 2, 2, 3)], update: { name: 'b', exists: set('b', 2, 1) } }),
      {},
    ],
    [
      'goes down first when only unavailability is allowed',
      input({ maxSurge: 0, maxUnavailable: 1, old: [set('a', 1, 3)] }),
      { a: 2 },
    ],
    [
      'lets old pods that do not serve go first, as many as could go if they worked',
      input({ old: [set('a', 1, 2, 1), set('m', 2, 1, 1)], update: { name: 'b', exists: set('b', 3, 1) } }),
      { a: 1 },
    ],
    [
      'keeps an unhealthy old pod while the new revision serves nobody',
      input({ old: [set('a', 1, 3, 2)], update: { name: 'b', exists: set('b', 2, 1, 0) } }),
      {},
    ],
    [
      'leaves the old revision alone while bytes are missing in the middle of a rollout',
      input({ gate: closed, old: [set('a', 1, 2)], update: { name: 'b', exists: set('b', 2, 2) } }),
      {},
    ],
    [
      'still honours a new size while bytes are missing, with the revision that serves',
      input({ gate: closed, replicas: 5, old: [set('a', 1, 3)] }),
      { a: 5 },
    ],
    [
      'sizes up a finished revision although a new node has not got the bytes',
      input({ gate: closed, replicas: 4, update: { name: 'b', exists: set('b', 2, 3) } }),
      { b: 4 },
    ],
    [
      'does not size up from zero before the bytes are there',
      input({ gate: closed, update: { name: 'b', exists: set('b', 2, 0) } }),
      {},
    ],
    ['scales everything to zero at once', input({ replicas: 0, old: [set('a', 1, 3)] }), { a: 0 }],
    [
      'scales to zero although paused and without bytes',
      input({ replicas: 0, paused: true, gate: closed, update: { name: 'b', exists: set('b', 2, 2) } }),
      { b: 0 },
    ],
    ['does not begin while paused', input({ paused: true, old: [set('a', 1, 3)] }), {}],
    ['starts nothing that was paused from the beginning', input({ paused: true }), {}],
    [
      'sizes up in proportion while paused',
      input({
        paused: true,
        replicas: 9,
        old: [set('a', 1, 4)],
        update: { name: 'b', exists: set('b', 2, 2) },
      }),
      { a: 6, b: 3 },
    ],
    [
      'sizes down in proportion while paused, down to the surge that a rollout may have',
      input({
        paused: true,
        replicas: 5,
        old: [set('a', 1, 8)],
        update: { name: 'b', exists: set('b', 2, 4) },
      }),
      { a: 4, b: 2 },
    ],
    [
      'takes pods that do not serve before those that do when it sizes down',
      input({ paused: true, replicas: 2, old: [set('a', 1, 3)], update: { name: 'b', exists: set('b', 2, 2, 0) } }),
      { b: 0 },
    ],
    [
      'sizes up the newest revision that ever ran when paused at zero',
      input({ paused: true, replicas: 2, old: [set('a', 1, 0), set('m', 2, 0)] }),
      { m: 2 },
    ],
    [
      'keeps serving at the asked size when the model is gone',
      input({ update: undefined, replicas: 2, old: [set('a', 1, 3)] }),
      { a: 2 },
    ],
    [
      'goes on from where it is when a third revision comes in the middle',
      input({ old: [set('a', 1, 2), set('m', 2, 1)], update: { name: 'b' } }),
      { b: 1 },
    ],
    [
      'reduces a finished revision to a smaller size',
      input({ replicas: 1, update: { name: 'b', exists: set('b', 2, 3) } }),
      { b: 1 },
    ],
  ];
  it.each(rows)('%s', (_, given, sizes) => {
    expect(Object.fromEntries(planRollout(given).sizes.map(({ name, to }) => [name, to]))).toEqual(sizes);
  });

  it('removes old ReplicaSets without pods beyond the limit, the oldest first', () => {
    const old = [set('d', 4, 0), set('a', 1, 0), set('b', 2, 0, 0, 1), set('c', 3, 0)];
    const given = input({ historyLimit: 1, old, update: { name: 'e', exists: set('e', 5, 3) } });
    expect(planRollout(given).remove).toEqual(['a', 'c']);
  });

  it('says in a sentence why it does what it does', () => {
    const given = input({ old: [set('a', 1, 3)], update: { name: 'b', exists: set('b', 2, 1) } });
    expect(planRollout(given).notes).toMatchInlineSnapshot(`
      [
        "wait with b at 1: 4 pods exist, and no more may",
        "scale down a from 3 to 2: 4 pods serve, and 3 must stay",
      ]
    `);
  });
});

describe('resolveBounds', () => {
  const rows: [string, number, number | string | undefined, number | string | undefined, number, number][] = [
    ['defaults to one above and none below', 3, undefined, undefined, 1, 0],
    ['rounds the surge up', 3, '25%', 0, 1, 0],
    ['rounds unavailability down', 7, 1, '25%', 1, 1],
    ['lets one go when both round to none', 3, '0%', '25%', 0, 1],
    ['never lets more go than there are', 2, 0, 5, 0, 2],
  ];
  it.each(rows)('%s', (_, replicas, surge, unavailable, maxSurge, maxUnavailable) => {
    const mayYield = unavailable === undefined;
    expect(resolveBounds(replicas, surge, unavailable)).toEqual({ maxSurge, maxUnavailable, mayYield });
  });
});

it('shares in proportion give out everything within the limits', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(20), { minLength: 1, maxLength: 6 }), fc.nat(100), (limits, asked) => {
      const total = limits.reduce((a, b) => a + b, 0);
      const amount = Math.min(asked, total);
      const shares = proportional(amount, limits, limits);
      expect(shares.reduce((a, b) => a + b, 0)).toBe(amount);
      for (const [index, share] of shares.entries()) expect(share).toBeLessThanOrEqual(limits[index] ?? 0);
    }),
  );
});

describe('rollouts to their end', () => {
  const stories: [string, () => Simulation][] = [
    ['first-rollout', () => new Simulation({ update: 'a', replicas: 2 }).settle(inOrder)],
    ['rolling-update', () => new Simulation({ update: 'b', replicas: 3 }).running('a', 3).settle(inOrder)],
    [
      'without-surge',
      () =>
        new Simulation({ update: 'b', replicas: 3, maxSurge: 0, maxUnavailable: 1 }).running('a', 3).settle(inOrder),
    ],
    [
      'bytes-come-late',
      () =>
        new Simulation({ update: 'b', replicas: 2, closed: new Set(['b']) })
          .running('a', 2)
          .settle(inOrder)
          .change('the bytes are on the nodes', (spec) => spec.closed.clear())
          .settle(inOrder),
    ],
    [
      'broken-revision-then-back',
      () => {
        const simulation = new Simulation({ update: 'b', replicas: 3 }).running('a', 3);
        simulation.broken.add('b');
        return simulation
          .settle(inOrder)
          .change('the spec goes back to a', (spec) => {
            spec.update = 'a';
          })
          .settle(inOrder);
      },
    ],
    [
      'paused-and-sized-up',
      () =>
        new Simulation({ update: 'b', replicas: 4, paused: true })
          .running('a', 3)
          .running('b', 1)
          .change('replicas 4 → 8', (spec) => {
            spec.replicas = 8;
          })
          .settle(inOrder)
          .change('paused: false', (spec) => {
            spec.paused = false;
          })
          .settle(inOrder),
    ],
    [
      'third-revision-in-the-middle',
      () => new Simulation({ update: 'c', replicas: 3 }).running('a', 2).running('b', 1).settle(inOrder),
    ],
  ];
  it.each(stories)('%s', async (name, run) => {
    const simulation = run();
    await expect(`${simulation.log.join('\n')}\n`).toMatchFileSnapshot(`testdata/rollouts/${name}.golden`);
  });

  /** Choices from a list of numbers that fast-check shrinks. */
  const choices = (numbers: readonly number[]): Choose => {
    let next = 0;
    return (count) => (numbers[next++ % numbers.length] ?? 0) % count;
  };
  const numbers = fc.array(fc.nat(1000), { minLength: 20, maxLength: 200 });
  const bounds = fc
    .record({ replicas: fc.nat(8), maxSurge: fc.nat(4), maxUnavailable: fc.nat(4) })
    .filter(({ maxSurge, maxUnavailable }) => maxSurge + maxUnavailable > 0);
  /** Every list must let the controller run sometimes, or nothing ever ends. */
  const fair = (choose: Choose): Choose => {
    let calls = 0;
    return (count) => (calls++ % 3 === 0 ? count - 1 : choose(count));
  };

  it('end at the new revision in any order, within the bounds at every step', () => {
    fc.assert(
      fc.property(bounds, fc.nat(8), fc.nat(8), numbers, (spec, a, b, order) => {
        const simulation = new Simulation({ ...spec, update: 'c' }).running('a', a).running('b', b);
        simulation.settle(fair(choices(order)));
        const sizes = Object.fromEntries(simulation.sets.map((known) => [known.name, known.pods.length]));
        expect(sizes).toEqual({ a: 0, b: 0, ...(spec.replicas > 0 ? { c: spec.replicas } : {}) });
        expect(simulation.available()).toBe(spec.replicas);
      }),
      { numRuns: 300, seed: 7 },
    );
  });

  it('survive any change of mind in any order, and end where the last one wanted', () => {
    const change = fc.record({
      replicas: fc.nat(6),
      update: fc.constantFrom('a', 'b', 'c'),
      paused: fc.boolean(),
      closed: fc.boolean(),
      steps: fc.nat(12),
    });
    fc.assert(
      fc.property(bounds, fc.array(change, { maxLength: 6 }), numbers, (spec, changes, order) => {
        const choose = fair(choices(order));
        const simulation = new Simulation({ ...spec, update: 'a' }).running('a', spec.replicas);
        for (const { steps, closed: shut, ...wanted } of changes) {
          simulation.change(JSON.stringify({ ...wanted, shut }), (now) => {
            Object.assign(now, wanted);
            now.closed = new Set(shut ? [wanted.update] : []);
          });
          for (let step = 0; step < steps; step++) {
            const moves = simulation.moves();
            const choice = choose(moves.length + 1);
            const before = simulation.promised();
            if (choice === moves.length) simulation.reconcile();
            else moves[choice]?.();
            simulation.check(before);
          }
        }
        simulation.change('let it end', (now) => {
          now.paused = false;
          now.closed.clear();
        });
        simulation.settle(choose);
        const running = simulation.sets.filter((known) => known.pods.length > 0).map((known) => known.name);
        expect(running).toEqual(simulation.spec.replicas > 0 ? [simulation.spec.update] : []);
        expect(simulation.available()).toBe(simulation.spec.replicas);
      }),
      { numRuns: 300, seed: 11 },
    );
  });
});
