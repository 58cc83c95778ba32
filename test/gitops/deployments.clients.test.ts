/** What GitOps tools say of an SLMDeployment at every step of what may happen to it. */
import type { SLMDeploymentSpec } from '@slm-operator/crds';
import { GPU } from '@slm-operator/operator/deployment/testing/hardware-plans';
import { type Choose, inOrder, seeded } from '@slm-operator/operator/hardware/testing/choices';
import { describe, expect, test } from 'vitest';
import { isInstalled } from '../cluster/command.ts';
import { failed, held, judge, moving, problemOf, ready, storyOf, textOf } from './engines.ts';
import { type Moment, Recording } from './recordings.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const cpus = () => new Recording().node('n1', { pods: 9 }).node('n2', { pods: 9 });

const stories: Record<string, [play: () => Recording, verdicts: string[]]> = {
  'a first deployment': [() => cpus().deploy('web', { replicas: 3 }).settle(inOrder), [moving, ready]],
  'a new revision': [
    () => {
      const world = cpus().deploy('web', { replicas: 3 }).settle(inOrder);
      world.change('web', { engine: { contextLength: 1024 } });
      return world.settle(inOrder);
    },
    [moving, ready, moving, ready],
  ],
  'another size': [
    () => {
      const world = cpus().deploy('web', { replicas: 1 }).settle(inOrder);
      world.change('web', { replicas: 4 });
      world.settle(inOrder);
      world.change('web', { replicas: 0 });
      return world.settle(inOrder);
    },
    [moving, ready, moving, ready, moving, ready],
  ],
  'a pause in the middle of a rollout': [
    () => {
      const world = cpus().deploy('web', { replicas: 3 }).settle(inOrder);
      world.change('web', { paused: true, engine: { contextLength: 1024 } });
      world.settle(inOrder);
      world.change('web', { paused: false });
      return world.settle(inOrder);
    },
    [moving, ready, moving, held, moving, ready],
  ],
  'a pause when there is nothing to do': [
    () => {
      const world = cpus().deploy('web', { replicas: 1 }).settle(inOrder);
      world.change('web', { paused: true });
      return world.settle(inOrder);
    },
    [moving, ready, moving, 'Current/Suspended/Current'],
  ],
  'hardware that never comes, and then does': [
    () => {
      const world = cpus()
        .deploy('web', { replicas: 1, hardware: { preferred: 'gpu', policy: 'Never' } })
        .settle(inOrder, { until: Date.parse('2026-11-23T12:00:00Z') + 2 * HOUR });
      world.offer('n1', GPU, 1);
      return world.settle(inOrder);
    },
    [moving, ready],
  ],
  'a pod on each node: a new revision, a node that joins, one that goes': [
    () => {
      const world = cpus()
        .deploy('web', { placement: { mode: 'PerNode' } })
        .settle(inOrder);
      world.change('web', { engine: { contextLength: 1024 } });
      world.settle(inOrder);
      world.node('n3', { pods: 9 });
      world.settle(inOrder);
      world.removeNode('n3');
      return world.settle(inOrder);
    },
    [moving, ready, moving, ready, moving, ready, moving, ready],
  ],
  'pods that never start, until somebody mends them': [
    () => {
      const world = new Recording().node('n1', { pods: 9, [GPU]: 1 });
      world.broken.add(`n1/${GPU}`);
      world
        .deploy('web', { replicas: 1, hardware: { preferred: 'gpu', policy: 'Never' } })
        .settle(inOrder, { until: world.clock.now() + 2 * HOUR });
      world.change('web', { hardware: { preferred: 'cpu' } });
      return world.settle(inOrder);
    },
    [moving, failed, moving, ready],
  ],
};

describe.skipIf(!(await isInstalled('go')))('an SLMDeployment (needs Go on the PATH)', () => {
  test.each(Object.entries(stories))(
    '%s',
    async (_, [play, verdicts]) => {
      expect(await storyOf(play().moments)).toEqual(verdicts);
    },
    600_000,
  );

  test('whatever happens, it is never Current before it is, and all tools agree', async () => {
    const moments = Array.from({ length: 80 }, (_, seed) => live(seeded(seed + 1))).flat();
    const verdicts = await judge(moments.map(({ object }) => object));
    expect(moments.length).toBeGreaterThan(1000);
    const wrong = moments.flatMap((moment, index) => {
      const said = verdicts[index];
      const problem = said && problemOf(said, moment);
      return said === undefined || problem === undefined
        ? []
        : [{ problem, said: textOf(said), status: moment.object.status }];
    });
    expect(wrong).toEqual([]);
  }, 600_000);
});

const strategies: readonly SLMDeploymentSpec['strategy'][] = [
  undefined,
  { maxSurge: 1, maxUnavailable: 1 },
  { maxSurge: 0, maxUnavailable: 1 },
];

/** A life of two deployments on a small cluster. */
function live(choose: Choose): readonly Moment[] {
  const pick = <T>(values: readonly T[]) => values[choose(values.length)] as T;
  const world = new Recording().node('n1', { pods: 6, [GPU]: 1 }).node('n2', { pods: 4 });
  for (const name of ['web', 'chat']) {
    const strategy = pick(strategies);
    world.deploy(name, {
      replicas: choose(4),
      ...(choose(2) === 0 ? {} : { hardware: { preferred: 'gpu', fallbackAfter: '30s' } }),
      ...(strategy === undefined ? {} : { strategy }),
    });
  }
  for (let event = 0; event < 8; event++) {
    for (let step = choose(30); step > 0; step--) {
      const moves = world.moves();
      moves[choose(Math.max(1, moves.length))]?.();
    }
    const name = pick(['web', 'chat']);
    pick([
      () => world.change(name, { replicas: choose(5) }),
      () => world.change(name, { engine: { contextLength: 512 * (1 + choose(4)) } }),
      () => world.change(name, { paused: choose(2) === 0 }),
      () => world.offer('n1', GPU, choose(2)),
      () => world.loseDevices(),
      () => world.clock.advance(MINUTE * (1 + choose(10))),
    ])();
  }
  world.settle(choose, { until: world.clock.now() + HOUR });
  return world.moments;
}
