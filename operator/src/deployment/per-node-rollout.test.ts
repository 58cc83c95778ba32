/** Rollouts of a deployment with a pod on each node, with gates and the way back: each node is served at every moment. */
import { labels, type SLMDeploymentSpec } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { seeded } from '../hardware/testing/choices.ts';
import { isReady } from './pod-causes.ts';
import { isGoing } from './testing/object-cluster.ts';
import { type Quality, StrategySimulation } from './testing/strategy-simulation.ts';

const NODES = 3;
const smokeTests = [{ name: 'capital', prompt: 'The capital of France?', contains: 'Paris' }];
const gates = { errorRate: { maxPercent: 5 } };

class Simulation extends StrategySimulation {
  #wasWhole = false;

  constructor(strategy: SLMDeploymentSpec['strategy']) {
    const placement = { mode: 'PerNode' } as const;
    // As many as nodes, for what the simulation itself checks.
    super({ placement, replicas: NODES, ...(strategy === undefined ? {} : { strategy }) }, NODES);
  }

  served(): number {
    const open = this.podsOf('chat').filter(
      (pod) => isReady(pod) && !isGoing(pod) && pod.metadata?.labels?.[labels.traffic] !== 'closed',
    );
    return new Set(open.map((pod) => pod.spec?.nodeName)).size;
  }

  override moves(): (() => void)[] {
    const served = this.served();
    if (this.#wasWhole && served < NODES) throw this.failed(`${served} of ${NODES} nodes are served`);
    this.#wasWhole ||= served === NODES;
    return super.moves();
  }
}

describe('a rollout node by node', () => {
  it.each<[string, SLMDeploymentSpec['strategy'], Quality, Record<string, number>]>([
    ['comes to its end', {}, {}, { B: 3 }],
    ['comes to its end by twos', { maxSurge: 2 }, {}, { B: 3 }],
    ['comes to its end with smoke tests and gates', { analysis: { smokeTests, ...gates } }, {}, { B: 3 }],
    ['goes back from wrong answers', { analysis: { smokeTests } }, { failsSmoke: true }, { A: 3 }],
    ['goes back from errors', { analysis: gates }, { failsAt: 50 }, { A: 3 }],
    ['goes back from errors on every node', { analysis: gates }, { failsAt: 100 }, { A: 3 }],
    ['goes back from pods that never get ready', {}, { pods: 'hangs' }, { A: 3 }],
    ['goes back from pods that crash', { maxSurge: 3 }, { pods: 'crashes' }, { A: 3 }],
  ])('%s, and every node is served throughout', (_sentence, strategy, quality, running) => {
    for (let seed = 1; seed <= 15; seed++) {
      const choose = seeded(seed);
      const simulation = new Simulation(strategy);
      simulation.qualities.set('B', quality);
      simulation.trusted.add('A');
      simulation.settle(choose).ask('B').settle(choose);
      expect(simulation.running()).toEqual(running);
      expect(simulation.served()).toBe(NODES);
    }
  });

  it('goes from where it is when the spec changes again, or back', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const choose = seeded(seed);
      const simulation = new Simulation({});
      simulation
        .settle(choose)
        .ask('B')
        .settle(choose, { steps: 5 + (seed % 30) });
      simulation.ask('C').settle(choose, { steps: seed % 25 });
      simulation.ask(seed % 2 === 0 ? 'A' : 'D').settle(choose);
      expect(simulation.running()).toEqual({ [seed % 2 === 0 ? 'A' : 'D']: NODES });
    }
  });
});
