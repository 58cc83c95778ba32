import { annotations, type SLMDeployment, type SmokeTest, type Strategy } from '@slm-operator/crds';
import { Registry } from 'prom-client';
import { beforeEach, describe, expect, it } from 'vitest';
import { type ManualClock, makeManualClock } from '../../runtime/testing/clocks.ts';
import type { PodObject, ReplicaSetObject } from '../observed.ts';
import { deployment, pod, replicaSet } from '../testing/objects.ts';
import { type EvaluationRequest, type Evaluations, makeEvaluations } from './evaluations.ts';
import { signatureOf } from './likeness.ts';
import { registerEvaluationMetrics } from './metrics.ts';
import { AskError } from './model-client.ts';
import { smokeNote } from './smoke-note.ts';
import type { AskedPod, Outcome } from './smoke-tests.ts';

const NEW = 'bbbbbbbbbb';
const tests: SmokeTest[] = [
  { name: 'capital', prompt: 'Capital of France?', contains: 'Paris' },
  { name: 'sum', prompt: '1 + 1?', contains: '2' },
];
const withTests = (change: Partial<NonNullable<Strategy['analysis']>> = {}): SLMDeployment =>
  deployment({ strategy: { analysis: { smokeTests: tests, ...change } } });

function ready(name: string, revision = NEW, ip = '10.0.0.2'): PodObject {
  return pod(name, { phase: 'Running', podIP: ip, conditions: [{ type: 'Ready', status: 'True' }] }, revision);
}

const answered = (name: string, text: string, passed = true): Outcome => ({
  name,
  passed,
  score: passed ? 1 : 0,
  signature: signatureOf(text),
  ...(passed ? {} : { message: `the answer does not contain "Paris": it says "${text}"` }),
});

/** Pods that answer when the test says so. */
class World {
  readonly clock: ManualClock = makeManualClock();
  readonly asked: AskedPod[] = [];
  readonly woken: string[] = [];
  readonly notes: Record<string, string>[] = [];
  readonly #waiting: PromiseWithResolvers<readonly Outcome[]>[] = [];
  readonly evaluations: Evaluations = makeEvaluations({
    clock: this.clock,
    ask: (place) => {
      this.asked.push(place);
      const answer = Promise.withResolvers<readonly Outcome[]>();
      this.#waiting.push(answer);
      return answer.promise;
    },
    annotate: (_set, notes) => {
      this.notes.push({ ...notes });
      return Promise.resolve();
    },
  });

  constructor() {
    this.evaluations.source.bind({
      store: () => expect.unreachable(),
      enqueue: (key) => this.woken.push(key),
      onError: (error) => expect.unreachable(String(error)),
    });
  }

  look(change: Partial<EvaluationRequest> = {}) {
    const request = { deployment: withTests(), candidate: NEW, serving: undefined, pods: [ready('new')] };
    return this.evaluations.look('demo/chat', { ...request, sets: [replicaSet(NEW)], ...change });
  }

  async answer(outcomes: readonly Outcome[] | Error): Promise<void> {
    const waiting = this.#waiting.shift() ?? expect.unreachable('nobody was asked');
    if (outcomes instanceof Error) waiting.reject(outcomes);
    else waiting.resolve(outcomes);
    await this.settled();
  }

  async settled(): Promise<void> {
    for (let turn = 0; turn < 3; turn++)
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
  }
}

let world: World;
beforeEach(() => {
  world = new World();
});

describe('the smoke tests of a candidate', () => {
  it('are none when the spec has none', () => {
    expect(world.look({ deployment: deployment() })).toEqual({ state: 'none', results: [] });
    expect(world.look({ candidate: undefined }).state).toBe('none');
    expect(world.asked).toEqual([]);
  });

  it('wait for a pod that is ready', () => {
    const waiting = { state: 'running', candidate: NEW, message: 'smoke tests: waits for a pod of the new revision' };
    expect(world.look({ pods: [pod('new', {}, NEW), ready('old', 'aaaaaaaaaa')] })).toMatchObject(waiting);
    expect(world.asked).toEqual([]);
    expect(world.look().state).toBe('running');
    expect(world.asked).toMatchObject([{ ip: '10.0.0.2' }]);
  });

  it('pass once, wake the deployment and leave a note that a new leader finds', async () => {
    world.look();
    expect(world.look()).toMatchObject({ message: 'smoke tests: new is being asked' });
    await world.answer([answered('capital', 'Paris'), answered('sum', '2')]);
    expect(world.woken).toEqual(['demo/chat']);
    const results = [
      { name: 'smoke/capital', result: 'Passed' },
      { name: 'smoke/sum', result: 'Passed' },
    ];
    expect(world.look()).toEqual({ state: 'passed', candidate: NEW, results });
    expect(world.notes).toEqual([{ [annotations.smoke]: smokeNote(tests) }]);

    const [note] = world.notes;
    const set = replicaSet(NEW);
    const noted: ReplicaSetObject = { ...set, metadata: { ...set.metadata, annotations: { ...note } } };
    const later = new World();
    expect(later.look({ sets: [noted] })).toEqual({ state: 'passed', candidate: NEW, results });
    expect(later.asked).toEqual([]);
  });

  it('fail with the test, what it expected and what came, and are not asked again', async () => {
    world.look();
    await world.answer([answered('capital', 'Lyon', false)]);
    const message = 'smoke test capital: the answer does not contain "Paris": it says "Lyon"';
    expect(world.look()).toMatchObject({ state: 'failed', message });
    world.clock.advance(3_600_000);
    expect(world.look().results).toMatchObject([{ name: 'smoke/capital', result: 'Failed' }]);
    expect(world.asked).toHaveLength(1);
    expect(world.notes).toEqual([]);
  });

  it('are asked again for another revision, for other tests, and when a person wants it', async () => {
    world.look();
    await world.answer([answered('capital', 'Lyon', false)]);
    const wanted = withTests();
    const metadata = { ...wanted.metadata, annotations: { [annotations.retry]: '1' } };
    for (const change of [
      { deployment: { ...wanted, metadata } },
      { deployment: withTests({ smokeTests: tests.slice(0, 1) }) },
      { candidate: 'cccccccccc', pods: [ready('newer', 'cccccccccc')], sets: [] },
    ])
      expect(world.look(change).state).toBe('running');
    expect(world.asked).toHaveLength(4);
  });

  it('go to another pod after a while when one cannot be asked', async () => {
    const pods = [ready('a', NEW, '10.0.0.1'), ready('b', NEW, '10.0.0.2')];
    world.look({ pods });
    await world.answer(new AskError('unreachable', 'the pod cannot be asked (ECONNREFUSED)'));
    const message = 'smoke tests: a cannot be asked: the pod cannot be asked (ECONNREFUSED)';
    expect(world.look({ pods })).toMatchObject({ state: 'running', message });
    expect(world.asked).toHaveLength(1);
    world.clock.advance(1000);
    expect(world.asked.map(({ ip }) => ip)).toEqual(['10.0.0.1', '10.0.0.2']);
    await world.answer([answered('capital', 'Paris'), answered('sum', '2')]);
    expect(world.look({ pods }).state).toBe('passed');
  });

  it('that can never pass fail before any pod is asked', () => {
    const broken = withTests({ smokeTests: [{ name: 'capital', prompt: 'x', regex: '(?=x)' }] });
    expect(world.look({ deployment: broken, pods: [] })).toMatchObject({
      state: 'failed',
      message: expect.stringContaining('smokeTests, capital: regex is no RE2 expression') as string,
    });
    expect(world.asked).toEqual([]);
  });

  it('end when the deployment is gone', async () => {
    world.look();
    world.evaluations.forget('demo/chat');
    await world.answer([answered('capital', 'Paris'), answered('sum', '2')]);
    expect(world.woken).toEqual([]);
  });
});

describe('the same tests on a schedule', () => {
  const serving = (sets = [replicaSet(NEW)]) => ({
    deployment: withTests({ evaluateEvery: '1h' }),
    candidate: undefined,
    serving: NEW,
    sets,
  });
  const metrics = () => {
    const registry = new Registry();
    registerEvaluationMetrics(registry, () => world.evaluations.results());
    return registry.metrics();
  };

  it('are asked within a minute and then each hour, and are metrics', async () => {
    world.look(serving());
    world.clock.advance(60_000);
    await world.settled();
    expect(world.asked).toHaveLength(1);
    await world.answer([answered('capital', 'It is Paris.'), answered('sum', 'three', false)]);
    expect(await metrics()).toContain('slm_eval_score{namespace="demo",name="chat",test="capital"} 1');
    expect(await metrics()).toContain('slm_eval_score{namespace="demo",name="chat",test="sum"} 0');
    expect(await metrics()).toContain('slm_eval_drift{namespace="demo",name="chat",test="capital"} 0');
    expect(world.woken).toEqual([]);

    const [note] = world.notes;
    expect(JSON.stringify(note)).not.toContain('Paris');
    const set = replicaSet(NEW);
    world.look(serving([{ ...set, metadata: { ...set.metadata, annotations: { ...note } } }]));
    world.clock.advance(3_600_000);
    await world.settled();
    await world.answer([answered('capital', 'Apples are green, and pears too.'), answered('sum', 'three', false)]);
    const drift = /slm_eval_drift\{namespace="demo",name="chat",test="capital"\} (\S+)/.exec(await metrics())?.[1];
    expect(Number(drift)).toBeGreaterThan(0.5);
    expect(await metrics()).toContain('slm_eval_drift{namespace="demo",name="chat",test="sum"} 0');
    expect(world.notes).toHaveLength(1);
  });

  it('that cannot be asked are counted, and keep what was known', async () => {
    world.look(serving());
    world.clock.advance(60_000);
    await world.settled();
    await world.answer([answered('capital', 'Paris'), answered('sum', '2')]);
    world.clock.advance(3_600_000);
    await world.settled();
    await world.answer(new AskError('unreachable', 'busy'));
    expect(await metrics()).toContain('slm_eval_errors{namespace="demo",name="chat"} 1');
    expect(await metrics()).toContain('slm_eval_score{namespace="demo",name="chat",test="capital"} 1');
  });

  it('stand still while a rollout is under way, and end with the field', async () => {
    world.look(serving());
    world.look({ ...serving(), serving: undefined });
    world.clock.advance(7_200_000);
    await world.settled();
    expect(world.asked).toEqual([]);
    world.look({ ...serving(), deployment: withTests() });
    expect([...world.evaluations.results()]).toEqual([]);
  });

  it('are not asked when nothing serves', async () => {
    world.look({ ...serving(), pods: [] });
    world.clock.advance(7_200_000);
    await world.settled();
    expect(world.asked).toEqual([]);
    expect(world.clock.pending).toBe(1);
  });
});
