/** What GitOps tools say of deployments that move by steps, are taken back, or wait, and of the waves that they wait for. */
import {
  API_VERSION,
  annotations,
  type SLMDeployment,
  type SLMDeploymentSpec,
  type SLMRollout,
  type SLMRolloutSpec,
  type Strategy,
} from '@slm-operator/crds';
import type { ReplicaSetObject } from '@slm-operator/operator/deployment/observed';
import { planDeployment } from '@slm-operator/operator/deployment/plan';
import { cache, config, deployment, model, now, observed } from '@slm-operator/operator/deployment/testing/objects';
import type { Quality } from '@slm-operator/operator/deployment/testing/strategy-simulation';
import { inOrder, seeded } from '@slm-operator/operator/hardware/testing/choices';
import { describe, expect, test } from 'vitest';
import { isInstalled } from '../cluster/command.ts';
import { failed, held, judge, moving, problemOf, ready, storyOf, textOf } from './engines.ts';
import { FleetRecording, StrategyRecording } from './recordings.ts';

const smokeTests = [{ name: 'capital', prompt: 'The capital of France?', contains: 'Paris' }];
const errorRate = { maxPercent: 5 };

/** A deployment that serves revision A. */
function serving(strategy: Strategy, more: Partial<SLMDeploymentSpec> = {}): StrategyRecording {
  const world = new StrategyRecording({ replicas: 3, strategy, ...more }).settle(inOrder);
  world.trusted.add('A');
  return world;
}

/** Moves to B, which is like this. */
function toB(strategy: Strategy, quality: Quality = {}): StrategyRecording {
  const world = serving(strategy);
  world.qualities.set('B', quality);
  world.ask('B').settle(inOrder);
  return world;
}

const stories: Record<string, [play: () => StrategyRecording, verdicts: string[]]> = {
  Recreate: [() => toB({ type: 'Recreate' }), [moving, ready, moving, ready]],
  'Rolling, with smoke tests and gates that pass': [
    () => toB({ analysis: { smokeTests, errorRate } }),
    [moving, ready, moving, ready],
  ],
  BlueGreen: [() => toB({ type: 'BlueGreen', analysis: { smokeTests } }), [moving, ready, moving, ready]],
  'Canary by time': [() => toB({ type: 'Canary', analysis: { errorRate } }), [moving, ready, moving, ready]],
  'a canary that waits for approval': [
    () => {
      const world = toB({ type: 'Canary', canary: { steps: [{ weight: 10, requireApproval: true }] } });
      world.annotate('approve', { [annotations.approvedRevision]: world.revision('B') });
      return world.settle(inOrder);
    },
    [moving, ready, moving, held, moving, ready],
  ],
  'a green that waits for approval': [
    () => {
      const world = toB({ type: 'BlueGreen', blueGreen: { requireApproval: true } });
      world.annotate('approve', { [annotations.approvedRevision]: world.revision('B') });
      return world.settle(inOrder);
    },
    [moving, ready, moving, held, moving, ready],
  ],
  'a smoke test that fails': [
    () => toB({ analysis: { smokeTests } }, { failsSmoke: true }),
    [moving, ready, moving, failed],
  ],
  'a gate that fails in the second step, and the commit that reverts': [
    () => {
      const world = toB({ type: 'Canary', analysis: { errorRate } }, { failsAt: 50 });
      return world.ask('A').settle(inOrder);
    },
    [moving, ready, moving, failed, moving, ready],
  ],
  'pods that crash, taken back, and tried again': [
    () => {
      const world = toB({}, { pods: 'crashes' });
      world.qualities.delete('B');
      world.annotate('try again', { [annotations.retry]: 'again' });
      return world.settle(inOrder);
    },
    [moving, ready, moving, failed, moving, ready],
  ],
  'pods that crash, and nothing is taken back by itself': [
    () => toB({ autoRollback: false }, { pods: 'crashes' }),
    [moving, ready, moving, failed],
  ],
  'a person who goes back, by the spec': [
    () => {
      const world = toB({});
      world.change('back', { rollbackTo: { revision: world.revision('A') } });
      return world.settle(inOrder);
    },
    [moving, ready, moving, ready, moving, ready],
  ],
};

/** A fleet of two waves that has been brought to revision r2. */
function fleet(spec: Partial<SLMRolloutSpec>, faults: Record<string, string[]> = {}): FleetRecording {
  const waves = [
    { name: 'staging', selector: { matchLabels: { wave: 'staging' } } },
    { name: 'prod', ...spec.waves?.[0] },
  ];
  const world = new FleetRecording({ spec: { ...spec, waves }, sizes: { staging: 2, prod: 3 }, faults });
  world.settle();
  world.commit('r2');
  world.settle();
  return world;
}

/** A deployment that serves, whose model has new bytes that its wave has not come to. */
function heldByWave(): SLMDeployment {
  const context = { now, config };
  const object = deployment({ replicas: 2 });
  const [set] = planDeployment(observed({ deployment: object }), context).apply.filter(
    ({ kind }) => kind === 'ReplicaSet',
  );
  const served = { ...(set as ReplicaSetObject), status: { replicas: 2, readyReplicas: 2, availableReplicas: 2 } };
  const spec = { ...served.spec, replicas: 2 } as NonNullable<ReplicaSetObject['spec']>;
  const replicaSets = [{ ...served, spec }];
  const { status } = planDeployment(observed({ deployment: object, replicaSets }), context);
  const digest = `sha256:${'b'.repeat(64)}`;
  const known = model();
  const [old] = known.status?.revisions ?? [];
  const next = { ...(old as NonNullable<typeof old>), name: 'bbbbbbbbbb', digest };
  const rollout: SLMRollout = {
    apiVersion: API_VERSION,
    kind: 'SLMRollout',
    metadata: { name: 'fleet', generation: 1 },
    spec: { waves: [{ name: 'prod', requireApproval: true }] },
  };
  const later = planDeployment(
    observed({
      deployment: { ...object, ...(status && { status }) },
      model: model({ latestRevision: next, revisions: [next, ...(known.status?.revisions ?? [])] }),
      replicaSets,
      caches: new Map([['n1', cache('n1', { digest })]]),
      fleet: { rollouts: [rollout], namespaceLabels: {} },
    }),
    context,
  );
  return { ...object, ...(later.status && { status: later.status }) };
}

const fleets: Record<string, [play: () => FleetRecording, verdicts: string[]]> = {
  'waves one after the other': [() => fleet({}), [moving, ready, moving, ready]],
  'a wave that waits for approval': [
    () => {
      const world = fleet({ waves: [{ name: 'prod', requireApproval: true }] });
      world.change({ approvedRevisions: ['r2'] });
      world.settle();
      return world;
    },
    [moving, ready, moving, held, moving, ready],
  ],
  'a wave that fails': [
    () => fleet({ onFailure: 'RollbackWave' }, { 'prod/d1': ['r2'] }),
    [moving, ready, moving, failed],
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

  test('whatever happens in the middle, it is never Current before it is, and all tools agree', async () => {
    const moments = Array.from({ length: 40 }, (_, seed) => live(seed + 1).moments).flat();
    const verdicts = await judge(moments.map(({ object }) => object));
    expect(moments.length).toBeGreaterThan(1000);
    const wrong = moments.flatMap((moment, index) => {
      const said = verdicts[index];
      const problem = said && problemOf(said, moment);
      return problem === undefined || said === undefined
        ? []
        : [{ problem, said: textOf(said), status: moment.object.status }];
    });
    expect(wrong).toEqual([]);
  }, 600_000);
});

test.skipIf(!(await isInstalled('go')))(
  'a deployment that waits for its wave (needs Go on the PATH)',
  async () => {
    const object = heldByWave();
    expect(object.status?.rollout?.phase).toBe('WaitingForWave');
    expect(await storyOf([{ object }])).toEqual([held]);
  },
  600_000,
);

describe.skipIf(!(await isInstalled('go')))('an SLMRollout (needs Go on the PATH)', () => {
  test.each(Object.entries(fleets))(
    '%s',
    async (_, [play, verdicts]) => {
      expect(await storyOf(play().moments)).toEqual(verdicts);
    },
    600_000,
  );
});

const strategies: readonly Strategy[] = [
  {},
  { analysis: { smokeTests, errorRate } },
  { type: 'Recreate' },
  { type: 'Canary', analysis: { errorRate } },
  { type: 'Canary', canary: { steps: [{ weight: 30, requireApproval: true }] } },
  { type: 'BlueGreen', blueGreen: { requireApproval: true } },
  { type: 'BlueGreen', analysis: { smokeTests } },
];

const qualities: readonly Quality[] = [
  {},
  {},
  { pods: 'hangs' },
  { pods: 'crashes' },
  { failsSmoke: true },
  { failsAt: 20 },
];

/** New specs, sizes, pauses and approvals at any moment. */
function live(seed: number): StrategyRecording {
  const choose = seeded(seed);
  const world = new StrategyRecording({
    replicas: 1 + choose(4),
    strategy: strategies[seed % strategies.length] ?? {},
  }).settle(choose);
  world.trusted.add('A');
  for (let event = 0; event < 6; event++) {
    const letter = String.fromCharCode(66 + event);
    const events = [
      () => {
        world.qualities.set(letter, qualities[choose(qualities.length)] ?? {});
        world.ask(letter);
      },
      () => world.change('size', { replicas: 1 + choose(5) }),
      () => world.change('pause or go on', { paused: world.object.spec.paused !== true }),
      () => world.annotate('approve', { [annotations.approvedRevision]: world.status.updateRevision }),
    ];
    (events[choose(3) === 0 ? choose(events.length) : 0] ?? events[0])?.();
    world.settle(choose, { steps: 5 + choose(80), until: world.clock.now() + choose(300) * 1000 });
  }
  return world.settle(choose, { until: world.clock.now() + 3_600_000 });
}
