/** Deployments with a pod on each node, where nodes differ in hardware. */
import { labels } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { type Choose, inOrder, seeded } from '../hardware/testing/choices.ts';
import { GPU } from './testing/hardware-plans.ts';
import { NodeSimulation } from './testing/node-simulation.ts';

const MINUTE = 60_000;
const spec = { placement: { mode: 'PerNode' }, hardware: { preferred: 'gpu', fallbackAfter: '30s' } } as const;

/** Hardware of each node's pod. */
function tiers(simulation: NodeSimulation): Record<string, string> {
  return Object.fromEntries(
    simulation.podsOf('edge').map((pod) => [pod.spec?.nodeName ?? '-', pod.metadata?.labels?.[labels.tier] ?? '']),
  );
}

function world(gpus: readonly number[]): NodeSimulation {
  const simulation = new NodeSimulation();
  for (const [index, amount] of gpus.entries()) simulation.node(`n${index}`, { pods: 9, [GPU]: amount });
  simulation.mayYield = true;
  return simulation;
}

describe('each node', () => {
  it('has a pod on its GPU, if it has one', () => {
    const simulation = world([0, 2, 1]);
    simulation.deploy('edge', spec).settle(inOrder);
    expect(tiers(simulation)).toEqual({ n0: 'cpu', n1: 'nvidia', n2: 'nvidia' });
    simulation.change('edge', { engine: { contextLength: 1024 } });
    simulation.settle(inOrder);
    expect(tiers(simulation)).toEqual({ n0: 'cpu', n1: 'nvidia', n2: 'nvidia' });
  });

  it('whose GPU is taken has a pod on its processors, and a GPU again with the next revision', () => {
    const simulation = world([1, 1]);
    simulation.occupy('n1', GPU, 1);
    simulation.deploy('edge', spec).settle(inOrder, { until: simulation.clock.now() + 5 * MINUTE });
    expect(tiers(simulation)).toEqual({ n0: 'nvidia', n1: 'cpu' });
    simulation.occupy('n1', GPU, 0);
    simulation.settle(inOrder, { until: simulation.clock.now() + 5 * MINUTE });
    expect(tiers(simulation)).toEqual({ n0: 'nvidia', n1: 'cpu' });
    simulation.change('edge', { engine: { contextLength: 1024 } });
    simulation.settle(inOrder, { until: simulation.clock.now() + 5 * MINUTE });
    expect(tiers(simulation)).toEqual({ n0: 'nvidia', n1: 'nvidia' });
  });

  it('without a GPU counts for none where nothing else will do', () => {
    const simulation = world([1, 0]);
    simulation.deploy('edge', { ...spec, hardware: { preferred: 'gpu', policy: 'Never' } }).settle(inOrder);
    expect(tiers(simulation)).toEqual({ n0: 'nvidia' });
    expect(simulation.known.get('edge')?.object.status?.readyText).toBe('1/1');
  });

  it('whose GPU does not work has a pod on its processors', () => {
    const simulation = world([1, 1]);
    simulation.broken.add(`n1/${GPU}`);
    simulation.deploy('edge', spec).settle(inOrder, { until: simulation.clock.now() + 10 * MINUTE });
    expect(tiers(simulation)).toEqual({ n0: 'nvidia', n1: 'cpu' });
  });
});

function live(seed: number): void {
  const choose: Choose = seeded(seed);
  const simulation = world(Array.from({ length: 1 + choose(5) }, () => choose(3)));
  simulation.deploy('edge', spec);
  for (let event = choose(8); event > 0; event--) {
    for (let step = choose(40); step > 0; step--) {
      const moves = simulation.moves();
      moves[choose(Math.max(1, moves.length))]?.();
    }
    const node = `n${choose(5)}`;
    const happens = [
      () => simulation.cordon(node),
      () => simulation.cordon(node, false),
      () => simulation.node(`m${choose(2)}`, { pods: 9, [GPU]: choose(2) }),
      () => simulation.change('edge', { engine: { contextLength: 512 * (1 + choose(4)) } }),
      () => simulation.removeNode(node),
    ];
    happens[choose(happens.length)]?.();
    if (choose(3) === 0) simulation.settle(choose, { until: simulation.clock.now() + 10_000 * choose(30) });
  }
  simulation.settle(choose, { until: simulation.clock.now() + 120 * MINUTE });
  const layout = simulation.layout('edge');
  const usable = [...simulation.nodes.objects.values()].filter(({ spec: it }) => it?.unschedulable !== true);
  for (const { metadata } of usable) {
    const there = layout[metadata?.name ?? ''];
    if (there !== 'new') throw simulation.failed(`${metadata?.name} has ${there}: ${JSON.stringify(layout)}`);
  }
}

/** What went wrong with a seed, if anything did. */
function failureOf(seed: number): string | undefined {
  try {
    live(seed);
    return undefined;
  } catch (error) {
    return `seed ${seed} (again with SLM_SEED=${seed}): ${(error as Error).message}`;
  }
}

describe('nodes with GPUs and without, made at random', () => {
  const { SLM_SEED: only, SLM_SEEDS: count = '60' } = process.env;
  const seeds = only === undefined ? Array.from({ length: Number(count) }, (_, index) => index + 1) : [Number(only)];
  it('each have one pod of the newest revision in the end', () => {
    expect(seeds.map(failureOf).find((failure) => failure !== undefined)).toBeUndefined();
  }, 600_000);
});
