/**
 * Whole rollouts in a cluster in miniature, told in prose: `testdata/NAME.golden`. Each line has the pods that are ready, that exist and
 * that a revision is told to have, and what status says of it.
 */
import { annotations, type SLMDeploymentSpec } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { inOrder } from '../../hardware/testing/choices.ts';
import { GPU } from '../testing/hardware-plans.ts';
import type { Quality } from '../testing/strategy-answers.ts';
import { StrategySimulation } from '../testing/strategy-simulation.ts';

const smokeTests = [{ name: 'capital', prompt: 'The capital of France?', contains: 'Paris' }];
const gates = { errorRate: { maxPercent: 5 } };
const approval = [{ weight: 10, requireApproval: true }, { weight: 50 }];
const READY = 'Ready=True Ready, Available=True Available';
const BACK = 'Ready=False RolledBack, Stalled=True RolledBack, Available=True Available, RolledBack=True RolledBack';

interface Story {
  readonly spec: Partial<SLMDeploymentSpec>;
  /** Of the revision that comes, B. */
  readonly quality?: Quality;
  /** What happens once B was asked for; default: nothing but time. */
  readonly next?: (simulation: StrategySimulation) => void;
  /** Revisions with pods in the end, and what is said of them. */
  readonly running: Record<string, number>;
  readonly summary: string;
}

const minutes = (simulation: StrategySimulation, count: number) =>
  simulation.settle(inOrder, { until: simulation.clock.now() + count * 60_000 });

const stories: Record<string, Story> = {
  'rolling pod by pod': { spec: { replicas: 3 }, running: { B: 3 }, summary: READY },
  'rolling with smoke tests and gates': {
    spec: { replicas: 3, strategy: { analysis: { smokeTests, ...gates } } },
    running: { B: 3 },
    summary: READY,
  },
  'rolling onto a revision that fails its smoke tests': {
    spec: { replicas: 3, strategy: { analysis: { smokeTests } } },
    quality: { failsSmoke: true },
    running: { A: 3 },
    summary: BACK,
  },
  'rolling onto a revision that turns out worse when all pods have it': {
    spec: { replicas: 2, strategy: { analysis: gates } },
    quality: { failsAt: 100 },
    running: { A: 2 },
    summary: BACK,
  },
  'rolling onto a revision that never gets ready': {
    spec: { replicas: 3 },
    quality: { pods: 'hangs' },
    running: { A: 3 },
    summary: BACK,
  },
  'recreate with a server that ends again and again': {
    spec: { replicas: 2, strategy: { type: 'Recreate' } },
    quality: { pods: 'crashes' },
    running: { A: 2 },
    summary: BACK,
  },
  'recreate all pods': { spec: { replicas: 2, strategy: { type: 'Recreate' } }, running: { B: 2 }, summary: READY },
  'canary promoted': {
    spec: { replicas: 3, strategy: { type: 'Canary', analysis: { smokeTests, ...gates } } },
    running: { B: 3 },
    summary: READY,
  },
  'canary that is worse at half of the requests': {
    spec: { replicas: 3, strategy: { type: 'Canary', analysis: gates } },
    quality: { failsAt: 50 },
    running: { A: 3 },
    summary: BACK,
  },
  'canary whose server ends again and again': {
    spec: { replicas: 3, strategy: { type: 'Canary' } },
    quality: { pods: 'crashes' },
    running: { A: 3 },
    summary: BACK,
  },
  'canary step by step with approval': {
    spec: { replicas: 2, strategy: { type: 'Canary', canary: { steps: approval } } },
    next: (simulation) => {
      minutes(simulation, 60);
      simulation.annotate('approve another revision', { [annotations.approvedRevision]: simulation.revision('A') });
      minutes(simulation, 5);
      simulation.annotate('approve B', { [annotations.approvedRevision]: `${simulation.revision('B')}:1` });
    },
    running: { B: 2 },
    summary: READY,
  },
  'canary without a surge': {
    spec: {
      replicas: 4,
      strategy: { type: 'Canary', maxSurge: 0, maxUnavailable: 1, canary: { steps: [{ weight: 50, pause: '1m' }] } },
    },
    running: { B: 4 },
    summary: READY,
  },
  'canary on a node with two devices': {
    spec: { replicas: 2, hardware: { preferred: 'gpu', policy: 'Never' }, strategy: { type: 'Canary' } },
    running: { B: 2 },
    summary: READY,
  },
  'canary on the only device': {
    spec: {
      replicas: 1,
      hardware: { preferred: 'gpu', policy: 'Never' },
      strategy: { type: 'Canary', analysis: { smokeTests } },
    },
    running: { B: 1 },
    summary: READY,
  },
  'canary and a larger size in the middle': {
    spec: { replicas: 4, strategy: { type: 'Canary' } },
    next: (simulation) => {
      minutes(simulation, 6);
      simulation.change('replicas: 8', { replicas: 8 });
      minutes(simulation, 1);
      simulation.change('replicas: 2', { replicas: 2 });
    },
    running: { B: 2 },
    summary: READY,
  },
  'canary and a new spec in the middle': {
    spec: { replicas: 3, strategy: { type: 'Canary' } },
    next: (simulation) => {
      minutes(simulation, 6);
      simulation.ask('C');
    },
    running: { C: 3 },
    summary: READY,
  },
  'canary paused in the middle of a step': {
    spec: { replicas: 2, strategy: { type: 'Canary', canary: { steps: [{ weight: 20, pause: '10m' }] } } },
    next: (simulation) => {
      minutes(simulation, 4);
      simulation.change('pause', { paused: true });
      minutes(simulation, 60);
      simulation.change('go on', { paused: false });
    },
    running: { B: 2 },
    summary: READY,
  },
  'canary that nobody takes back': {
    spec: { replicas: 3, strategy: { type: 'Canary', autoRollback: false, analysis: gates } },
    quality: { failsAt: 10 },
    running: { A: 3, B: 1 },
    summary: 'Ready=False AnalysisFailed, Stalled=True AnalysisFailed, Available=True Available',
  },
  'blue and green with approval': {
    spec: {
      replicas: 2,
      strategy: { type: 'BlueGreen', blueGreen: { requireApproval: true, soak: '5m' }, analysis: { smokeTests } },
    },
    next: (simulation) => {
      minutes(simulation, 60);
      simulation.annotate('approve', { [annotations.approvedRevision]: simulation.revision('B') });
    },
    running: { B: 2 },
    summary: READY,
  },
  'blue and green, and back while the old pods are there': {
    spec: { replicas: 2, strategy: { type: 'BlueGreen', analysis: gates } },
    quality: { failsAt: 100 },
    running: { A: 2 },
    summary: BACK,
  },
  'blue and green without room for both': {
    spec: { replicas: 2, hardware: { preferred: 'gpu', policy: 'Never' }, strategy: { type: 'BlueGreen' } },
    running: { B: 2 },
    summary: READY,
  },
  'a person goes back, and on again': {
    spec: { replicas: 2 },
    next: (simulation) => {
      simulation.settle(inOrder);
      simulation.annotate('go back', { [annotations.rollbackTo]: simulation.revision('A') });
      simulation.settle(inOrder);
      simulation.annotate('no longer', { [annotations.rollbackTo]: undefined });
    },
    running: { B: 2 },
    summary: READY,
  },
  'tried again after it was mended': {
    spec: { replicas: 2, strategy: { type: 'Canary', analysis: gates } },
    quality: { failsAt: 10 },
    next: (simulation) => {
      simulation.settle(inOrder);
      simulation.change('size up, which tries nothing again', { replicas: 3 });
      simulation.settle(inOrder);
      simulation.qualities.set('B', {});
      simulation.annotate('try again', { [annotations.retry]: '1' });
    },
    running: { B: 3 },
    summary: READY,
  },
};

describe('a rollout', () => {
  it.each(Object.entries(stories))('%s', async (name, { spec, quality = {}, next, running, summary }) => {
    const simulation = new StrategySimulation(spec);
    if (spec.hardware !== undefined) {
      simulation.isShort = true;
      simulation.node('g1', { [GPU]: spec.replicas ?? 1, pods: 200 });
    }
    simulation.qualities.set('B', quality);
    simulation.settle(inOrder).ask('B');
    next?.(simulation);
    simulation.settle(inOrder);
    expect(simulation.running()).toEqual(running);
    expect(simulation.summary()).toBe(summary);
    await expect(`${simulation.log.join('\n')}\n`).toMatchFileSnapshot(
      `testdata/${name.replaceAll(/[ ,]+/g, '-')}.golden`,
    );
  });

  it('costs a rolling update no more writes than before', () => {
    const simulation = new StrategySimulation({ replicas: 3 }).settle(inOrder);
    const { writes } = simulation;
    simulation.ask('B').settle(inOrder);
    // One more of the new and one fewer of the old for each pod.
    expect(simulation.writes - writes).toBe(6);
  });
});
