import type { SLMRolloutSpec } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { type Choose, seeded } from '../hardware/testing/choices.ts';
import { FleetSimulation } from './testing/fleet-simulation.ts';

const wave = (name: string, more: object = {}) => ({ name, selector: { matchLabels: { wave: name } }, ...more });
const four: SLMRolloutSpec = {
  waves: [wave('dev'), wave('staging', { soak: '30m' }), wave('prod', { maxParallel: 3 }), wave('edge')],
};
const sizes = { dev: 2, staging: 3, prod: 6, edge: 4 };

describe('a fleet in waves', () => {
  const told: [string, string, () => FleetSimulation][] = [
    [
      'four waves take over one commit, one after the other',
      'four-waves',
      () => {
        const fleet = new FleetSimulation({ spec: four, sizes });
        fleet.settle();
        fleet.commit('r2');
        fleet.settle();
        expect(fleet.summary()).toEqual({ dev: '2×r2', staging: '3×r2', prod: '6×r2', edge: '4×r2' });
        expect(fleet.rollout.status?.admitted).toBeUndefined();
        return fleet;
      },
    ],
    [
      'a fault in the third wave stops it: nothing more begins',
      'fault-pauses',
      () => {
        const fleet = new FleetSimulation({ spec: four, sizes, faults: { 'prod/d2': ['r2'] } });
        fleet.commit('r2');
        fleet.settle();
        // Those of the wave that had begun are through.
        expect(fleet.summary()).toEqual({ dev: '2×r2', staging: '3×r2', prod: '4×r1 2×r2', edge: '4×r1' });
        return fleet;
      },
    ],
    [
      'a fault in the third wave takes the wave back',
      'fault-takes-the-wave-back',
      () => {
        const spec = { ...four, onFailure: 'RollbackWave' as const };
        const fleet = new FleetSimulation({ spec, sizes, faults: { 'prod/d5': ['r2'] } });
        fleet.commit('r2');
        fleet.settle();
        expect(fleet.summary()).toEqual({ dev: '2×r2', staging: '3×r2', prod: '6×r1', edge: '4×r1' });
        expect(fleet.states()).toBe('dev Done, staging Done, prod RolledBack, edge Waiting');
        return fleet;
      },
    ],
    [
      'a fault in the third wave takes everything back',
      'fault-takes-all-back',
      () => {
        const spec = { ...four, onFailure: 'RollbackAll' as const };
        const fleet = new FleetSimulation({ spec, sizes, faults: { 'prod/d5': ['r2'] } });
        fleet.commit('r2');
        fleet.settle();
        expect(fleet.summary()).toEqual({ dev: '2×r1', staging: '3×r1', prod: '6×r1', edge: '4×r1' });
        fleet.commit('r3');
        fleet.settle();
        expect(fleet.summary()).toEqual({ dev: '2×r3', staging: '3×r3', prod: '6×r3', edge: '4×r3' });
        return fleet;
      },
    ],
    [
      'a revert in Git goes by waves, too, and touches only what had moved',
      'revert',
      () => {
        const spec = { ...four, onFailure: 'RollbackWave' as const };
        const fleet = new FleetSimulation({ spec, sizes, faults: { 'prod/d5': ['r2'] } });
        fleet.commit('r2');
        fleet.settle();
        fleet.commit('r1');
        fleet.settle();
        expect(fleet.summary()).toEqual({ dev: '2×r1', staging: '3×r1', prod: '6×r1', edge: '4×r1' });
        expect(fleet.states()).toBe('dev Done, staging Done, prod Done, edge Done');
        return fleet;
      },
    ],
    [
      'another commit while the second wave moves begins with the first again',
      'commit-in-the-middle',
      () => {
        const fleet = new FleetSimulation({ spec: four, sizes });
        fleet.commit('r2');
        for (let step = 0; !fleet.states().includes('staging Running'); step++) fleet.step(fair(step));
        fleet.commit('r3');
        fleet.settle();
        expect(fleet.summary()).toEqual({ dev: '2×r3', staging: '3×r3', prod: '6×r3', edge: '4×r3' });
        return fleet;
      },
    ],
    [
      'approval in Git, and a window at night',
      'approval-and-window',
      () => {
        const spec: SLMRolloutSpec = {
          waves: [wave('dev'), wave('prod', { requireApproval: true })],
          window: { schedule: '0 22 * * *', timeZone: 'Europe/Lisbon', duration: '4h' },
        };
        const fleet = new FleetSimulation({ spec, sizes: { dev: 1, prod: 2 } });
        fleet.commit('r2');
        fleet.settle();
        expect(fleet.summary()).toEqual({ dev: '1×r2', prod: '2×r1' });
        fleet.change({ approvedRevisions: ['r2'] });
        fleet.settle();
        expect(fleet.summary()).toEqual({ dev: '1×r2', prod: '2×r2' });
        return fleet;
      },
    ],
    [
      'what no wave matches comes last',
      'others',
      () => {
        const fleet = new FleetSimulation({ spec: { waves: [wave('dev')] }, sizes: { lab: 2, dev: 1 } });
        fleet.commit('r2');
        fleet.settle();
        expect(fleet.states()).toBe('dev Done, others Done');
        return fleet;
      },
    ],
  ];
  it.each(told)('%s', async (_, name, run) => {
    const { log } = run();
    await expect(`${log.join('\n')}\n`).toMatchFileSnapshot(`testdata/${name}.golden`);
  });

  it('one failure that is tolerated does not stop the rest, and is told of', () => {
    const fleet = new FleetSimulation({ spec: { ...four, maxFailed: 1 }, sizes, faults: { 'prod/d5': ['r2'] } });
    fleet.commit('r2');
    fleet.settle();
    expect(fleet.summary()).toEqual({ dev: '2×r2', staging: '3×r2', prod: '1×r1 5×r2', edge: '4×r2' });
    expect(fleet.rollout.status).toMatchObject({
      statusText: 'all 15 deployments have what they are to have, but for 1 that failed',
      admitted: [{ deployment: 'prod/d5', failure: 'no pod of r2 gets ready' }],
    });
  });

  it('a retry lets a wave try again that was taken back', () => {
    const spec = { ...four, onFailure: 'RollbackWave' as const };
    const fleet = new FleetSimulation({ spec, sizes, faults: { 'prod/d5': ['r2'] } });
    fleet.commit('r2');
    fleet.settle();
    fleet.heal();
    fleet.settle();
    expect(fleet.summary()['prod']).toBe('6×r1');
    fleet.annotateRetry('1');
    fleet.settle();
    expect(fleet.summary()).toEqual({ dev: '2×r2', staging: '3×r2', prod: '6×r2', edge: '4×r2' });
  });

  it('paused: what has begun goes on, nothing more begins', () => {
    const fleet = new FleetSimulation({ spec: { ...four, paused: true }, sizes });
    fleet.commit('r2');
    fleet.settle();
    expect(fleet.summary()['dev']).toBe('2×r1');
    expect(fleet.rollout.status?.statusText).toBe(
      'wave dev: 0 of 2 have what they are to have; spec.paused is true: set it to false to go on',
    );
    fleet.change({ paused: false });
    fleet.settle();
    expect(fleet.summary()['edge']).toBe('4×r2');
  });

  it('one that gets ill while its wave soaks keeps the next from beginning until it is well', () => {
    const fleet = new FleetSimulation({ spec: four, sizes });
    fleet.commit('r2');
    for (let step = 0; !fleet.states().includes('staging Soaking'); step++) fleet.step(fair(step));
    fleet.makeSick('staging/d1');
    for (let step = 0; step < 500; step++) fleet.step(fair(step));
    expect(fleet.summary()['prod']).toBe('6×r1');
    expect(fleet.rollout.status?.statusText).toContain('not ready since: staging/d1');
    fleet.heal();
    fleet.settle();
    expect(fleet.summary()['edge']).toBe('4×r2');
  });

  it('a fleet at rest is written once', () => {
    const fleet = new FleetSimulation({ spec: four, sizes });
    fleet.settle();
    expect(fleet.writes).toBe(1);
    for (let step = 0; step < 200; step++) fleet.step(fair(step));
    expect(fleet.writes).toBe(1);
  });
});

/** Everybody in turn, from the newest status. */
function fair(step: number): Choose {
  let asked = 0;
  return (count) => (asked++ === 0 ? step % count : 0);
}

describe('in any order, with faults, commits and people in the middle', () => {
  it.each(Array.from({ length: 150 }, (_, seed) => seed))('seed %i ends as it must', (seed) => {
    const choose = seeded(seed);
    const pick = <T>(...values: readonly T[]): T => values[choose(values.length)] as T;
    const names = ['dev', 'staging', 'prod', 'edge'].slice(0, 1 + choose(4));
    const spec: SLMRolloutSpec = {
      waves: names.map((name) =>
        wave(name, {
          ...pick({}, { maxParallel: 1 }, { maxParallel: 3 }),
          ...pick({}, { soak: '10m' }, { soak: '2h' }),
          ...pick({}, {}, { requireApproval: true }),
        }),
      ),
      ...pick({}, { onFailure: 'RollbackWave' as const }, { onFailure: 'RollbackAll' as const }),
      ...pick({}, { maxFailed: 1 }),
      ...pick<object>({}, {}, { window: { schedule: '0 22 * * *', timeZone: 'Asia/Kolkata', duration: '90m' } }),
    };
    const sizesHere = Object.fromEntries([...names, 'lab'].map((name) => [name, choose(5)]));
    const faults: Record<string, string[]> = {};
    for (const [name, size] of Object.entries(sizesHere)) {
      for (let index = 1; index <= size; index++) if (choose(8) === 0) faults[`${name}/d${index}`] = [pick('r2', 'r3')];
    }
    const fleet = new FleetSimulation({ spec, sizes: sizesHere, faults });
    const keys = [...fleet.fleet.keys()];
    fleet.commit('r2');
    for (let step = 0; step < 400; step++) {
      fleet.step(choose);
      const event = choose(120);
      if (event === 0) fleet.commit(pick('r1', 'r2', 'r3'));
      if (event === 1)
        fleet.commit(
          'r3',
          keys.filter(() => choose(2) === 0),
        );
      if (event === 2) fleet.change({ paused: choose(2) === 0 });
      if (event === 3) fleet.change({ approvedRevisions: pick([], ['r2'], ['r2', 'r3'], ['r1', 'r2', 'r3']) });
      if (event === 4) fleet.annotateRetry(String(step));
      if (event === 5) fleet.change({ onFailure: pick('Pause', 'RollbackWave', 'RollbackAll') });
    }
    fleet.settle();
    // With nothing in the way any more, all of them get there.
    fleet.heal();
    fleet.change({ paused: false, approvedRevisions: ['r1', 'r2', 'r3', 'r4'] });
    fleet.annotateRetry('last');
    fleet.settle();
    fleet.commit('r4');
    fleet.settle();
    for (const [name, size] of Object.entries(sizesHere)) {
      expect(fleet.summary()[name], fleet.log.slice(-20).join('\n')).toBe(size === 0 ? undefined : `${size}×r4`);
    }
    expect(fleet.rollout.status?.admitted).toBeUndefined();
    expect(fleet.rollout.status?.withdrawn).toBeUndefined();
  });
});
