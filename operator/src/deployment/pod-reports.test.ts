import type { ReadyReport } from '@slm-operator/crds';
import { beforeEach, describe, expect, it } from 'vitest';
import { type ManualClock, makeManualClock } from '../runtime/testing/clocks.ts';
import type { PodObject } from './observed.ts';
import type { PodPlace } from './pod-report.ts';
import { type LookOptions, makePodReports, type PodReports } from './pod-reports.ts';
import { pod } from './testing/objects.ts';

const gpu: ReadyReport = {
  device: { class: 'gpu', backend: 'CUDA', name: 'NVIDIA L4' },
  tokensPerSecond: 40,
  running: 0,
  idleSeconds: 3,
};

/** Pods that answer when the test says so. */
class Pods {
  readonly clock: ManualClock = makeManualClock();
  readonly asked: PodPlace[] = [];
  readonly woken: string[] = [];
  readonly #waiting: PromiseWithResolvers<ReadyReport>[] = [];
  readonly reports: PodReports = makePodReports({
    clock: this.clock,
    ask: (place) => {
      this.asked.push(place);
      const answer = Promise.withResolvers<ReadyReport>();
      this.#waiting.push(answer);
      return answer.promise;
    },
  });

  constructor() {
    this.reports.source.bind({
      store: () => expect.unreachable(),
      enqueue: (key) => this.woken.push(key),
      onError: (error) => expect.unreachable(String(error)),
    });
  }

  look(pods: readonly PodObject[], options: Partial<LookOptions> = {}) {
    return this.reports.look('demo/chat', pods, { tls: false, ...options });
  }

  async answer(report: ReadyReport | Error = gpu): Promise<void> {
    const waiting = this.#waiting.shift();
    if (report instanceof Error) waiting?.reject(report);
    else waiting?.resolve(report);
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}

let pods: Pods;
beforeEach(() => {
  pods = new Pods();
});

/** A pod whose server runs. */
function running(name = 'a', ready = true, restartCount = 0): PodObject {
  const state = { running: { startedAt: '2026-11-23T12:00:00Z' } };
  return pod(name, {
    phase: 'Running',
    podIP: '10.0.0.1',
    conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
    containerStatuses: [{ name: 'server', ready, restartCount, state, image: '', imageID: '' }],
  });
}

describe('a ready pod', () => {
  it('is asked once, and its answer wakes the deployment', async () => {
    expect(pods.look([running()])).toMatchObject({ reports: new Map(), hold: 300 });
    await pods.answer();
    expect(pods.woken).toEqual(['demo/chat']);
    const known = pods.look([running()]);
    expect(known.reports.get('a-uid')).toMatchObject(gpu);
    expect(known).toMatchObject({ again: undefined, hold: undefined });
    pods.clock.advance(3_600_000);
    pods.look([running()]);
    expect(pods.asked).toEqual([{ ip: '10.0.0.1', port: 11434, tls: false }]);
  });

  it('is asked anew when its server starts anew', async () => {
    pods.look([running()]);
    await pods.answer();
    expect(pods.look([running('a', true, 1)]).reports.size).toBe(0);
    expect(pods.asked).toHaveLength(2);
  });

  it('that does not answer is asked four times, and holds up no status any more', async () => {
    const pauses: (number | undefined)[] = [];
    pods.look([running()]);
    for (;;) {
      await pods.answer(new Error('timeout'));
      const { again, hold } = pods.look([running()]);
      pauses.push(again);
      expect(hold).toBeUndefined();
      if (again === undefined) break;
      pods.clock.advance(again);
      pods.look([running()]);
    }
    expect(pauses).toEqual([2000, 10_000, 60_000, undefined]);
    expect(pods.look([running('b')]).hold).toBeUndefined();
  });

  it('is waited for no longer than a moment', () => {
    pods.look([running()]);
    pods.clock.advance(250);
    expect(pods.look([running()]).hold).toBe(50);
    pods.clock.advance(100);
    expect(pods.look([running()]).hold).toBeUndefined();
  });

  it('is asked whether it serves somebody as often as that is wanted', async () => {
    pods.look([running()]);
    await pods.answer({ ...gpu, running: 2 });
    expect(pods.look([running()], { activityMs: 5000 }).again).toBe(5000);
    pods.clock.advance(5000);
    pods.look([running()], { activityMs: 5000 });
    await pods.answer({ ...gpu, running: 1 });
    expect(pods.woken).toHaveLength(1);
    pods.clock.advance(5000);
    pods.look([running()], { activityMs: 5000 });
    await pods.answer({ ...gpu, running: 0 });
    expect(pods.woken).toHaveLength(2);
  });
});

describe('a pod that passes requests on', () => {
  const told = (weight?: number): PodObject => {
    const setting = weight === undefined ? {} : { weight, address: '10.0.0.9:11434', revision: 'new' };
    const made = running();
    return {
      ...made,
      metadata: { ...made.metadata, annotations: { 'slm.dev/traffic': JSON.stringify(setting) } },
    };
  };
  const says = (weight?: number) => ({ ...gpu, traffic: weight === undefined ? {} : { weight, revision: 'new' } });

  it('is asked each second until it does what it was told, then now and then whether it still can', async () => {
    pods.look([told()]);
    await pods.answer(says());
    expect(pods.look([told()]).again).toBeUndefined();
    expect(pods.look([told(10)]).again).toBe(1000);
    pods.clock.advance(1000);
    pods.look([told(10)]);
    await pods.answer(says(10));
    expect(pods.woken).toHaveLength(2);
    expect(pods.look([told(10)]).again).toBe(10_000);
    expect(pods.look([told(50)]).again).toBe(1000);
    pods.clock.advance(1000);
    pods.look([told(50)]);
    await pods.answer(says(50));
    expect(pods.look([told()]).again).toBe(1000);
    pods.clock.advance(1000);
    pods.look([told()]);
    await pods.answer(says());
    expect(pods.look([told()]).again).toBeUndefined();
  });

  it('and says the same as before is asked again, although such an answer wakes nobody', async () => {
    pods.look([told()]);
    await pods.answer(says());
    pods.clock.advance(1000);
    expect(pods.look([told(10)]).again).toBe(1000);
    await pods.answer(says());
    expect(pods.woken).toHaveLength(1);
    pods.clock.advance(1000);
    pods.look([told(10)]);
    expect(pods.asked).toHaveLength(3);
  });

  it('and does not answer is asked for as long as that takes', async () => {
    pods.look([told()]);
    await pods.answer(says());
    for (const pause of [1000, 2000, 10_000, 60_000, 10_000, 10_000]) {
      expect(pods.look([told(10)]).again).toBe(pause);
      pods.clock.advance(pause);
      pods.look([told(10)]);
      await pods.answer(new Error('timeout'));
    }
  });

  it('wakes the deployment when it cannot', async () => {
    pods.look([told(10)]);
    await pods.answer(says(10));
    pods.clock.advance(10_000);
    pods.look([told(10)]);
    await pods.answer({ ...says(10), traffic: { weight: 10, revision: 'new', problem: 'it answers 401' } });
    expect(pods.woken).toHaveLength(2);
  });

  it('is asked no more often when its server is from before there were weights', async () => {
    pods.look([told(10)]);
    await pods.answer(gpu);
    expect(pods.look([told(10)]).again).toBeUndefined();
  });
});

describe('a pod that is not ready', () => {
  it('is left alone', () => {
    pods.look([running('a', false)]);
    expect(pods.asked).toEqual([]);
  });
  it('is asked why every five seconds where that is wanted, and again when it is ready', async () => {
    pods.look([running('a', false)], { unready: true });
    await pods.answer({ reason: 'too-slow', message: 'slow' });
    const known = pods.look([running('a', false)], { unready: true });
    expect([known.reports.get('a-uid')?.reason, known.again]).toEqual(['too-slow', 5000]);
    pods.look([running('a', true)], { unready: true });
    expect(pods.asked).toHaveLength(2);
  });
});

it('asks sixteen pods at a time', async () => {
  const many = Array.from({ length: 40 }, (_, index) => running(`p${index}`));
  pods.look(many);
  expect(pods.asked).toHaveLength(16);
  await pods.answer();
  expect(pods.asked).toHaveLength(17);
});

it('forgets pods that are gone', async () => {
  pods.look([running()]);
  await pods.answer();
  pods.look([]);
  expect(pods.look([running()]).reports.size).toBe(0);
});
