import type { Analysis } from '@slm-operator/crds';
import { beforeEach, describe, expect, it } from 'vitest';
import { makeManualClock } from '../../runtime/testing/clocks.ts';
import type { PodObject } from '../observed.ts';
import { pod } from '../testing/objects.ts';
import { type MeterRequest, makeMeters } from './meters.ts';
import { type ReadingOptions, reading } from './testing/readings.ts';

const analysis: Analysis = { window: '1m', errorRate: { maxPercent: 1, maxIncreasePoints: 1 } };
const NEW = 'bbbbbbbbbb';
const OLD = 'aaaaaaaaaa';

function running(name: string, revision: string, ip: string): PodObject {
  return pod(name, { phase: 'Running', podIP: ip, conditions: [{ type: 'Ready', status: 'True' }] }, revision);
}

/** Servers that count requests as the test says, under a clock that it moves. */
class Servers {
  readonly clock = makeManualClock();
  readonly woken: string[] = [];
  readonly counts = new Map<string, ReadingOptions>();
  readonly asked: string[] = [];
  pods: PodObject[] = [];
  readonly meters = makeMeters({
    clock: this.clock,
    ask: ({ ip }) => {
      this.asked.push(ip);
      const counts = this.counts.get(ip);
      return counts === undefined ? Promise.reject(new Error('no answer')) : Promise.resolve(reading(counts));
    },
  });

  constructor() {
    this.meters.source.bind({
      store: () => expect.unreachable(),
      enqueue: (key) => this.woken.push(key),
      onError: (error) => expect.unreachable(String(error)),
    });
  }

  look(change: Partial<MeterRequest> = {}) {
    const subject = { candidate: NEW, stable: OLD, since: 0 };
    return this.meters.look('demo/chat', { analysis, subject, pods: this.pods, tls: false, ...change });
  }

  serve(ip: string, answers: number, failures = 0): void {
    const before = this.counts.get(ip);
    this.counts.set(ip, {
      ...before,
      answers: (before?.answers ?? 0) + answers,
      failures: (before?.failures ?? 0) + failures,
    });
  }

  /** Time in which the readings of every five seconds are taken. */
  async pass(seconds: number, meanwhile: () => void = () => undefined): Promise<void> {
    for (let left = seconds; left > 0; left -= 5) {
      meanwhile();
      this.clock.advance(5000);
      await settled();
    }
  }
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn++)
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
}

let servers: Servers;
beforeEach(() => {
  servers = new Servers();
  servers.pods = [running('old', OLD, '10.0.0.1'), running('new', NEW, '10.0.0.2')];
  for (const { status } of servers.pods) servers.counts.set(status?.podIP ?? '', { answers: 0, failures: 0 });
});

describe('a candidate', () => {
  it('is judged after a whole window, and its deployment is woken once', async () => {
    expect(servers.look()).toMatchObject({ result: 'waiting', subject: { candidate: NEW } });
    await settled();
    await servers.pass(55, () => servers.serve('10.0.0.2', 10));
    expect(servers.look().result).toBe('waiting');
    await servers.pass(10, () => servers.serve('10.0.0.2', 10));
    expect(servers.look()).toMatchObject({ result: 'passed', items: [{ name: 'errorRate', value: '0 %' }] });
    expect(servers.woken).toEqual(['demo/chat']);
  });

  it('fails as soon as that is sure', async () => {
    servers.look();
    await settled();
    await servers.pass(10, () => servers.serve('10.0.0.2', 10, 5));
    expect(servers.look()).toMatchObject({
      result: 'failed',
      why: 'error rate 50 % in 20 requests: at most 1 % is allowed',
    });
    expect(servers.woken).toEqual(['demo/chat']);
  });

  it('is not judged by what it counted before, such as smoke tests', async () => {
    servers.serve('10.0.0.2', 100, 100);
    servers.look();
    await settled();
    await servers.pass(65, () => servers.serve('10.0.0.2', 10));
    expect(servers.look().result).toBe('passed');
  });

  it('is judged anew in the next step', async () => {
    servers.look();
    await settled();
    await servers.pass(65, () => servers.serve('10.0.0.2', 10));
    expect(servers.look().result).toBe('passed');
    const subject = { candidate: NEW, stable: OLD, since: 65_000 };
    expect(servers.look({ subject })).toMatchObject({ result: 'waiting', subject });
    await servers.pass(10, () => servers.serve('10.0.0.2', 10, 2));
    expect(servers.look({ subject })).toMatchObject({ result: 'failed', items: [{ value: '20 %' }] });
  });

  it('keeps what a pod counted that is gone, and counts a new one from its first reading', async () => {
    const patient = { analysis: { ...analysis, minRequests: 30 } };
    servers.look(patient);
    await settled();
    await servers.pass(10, () => servers.serve('10.0.0.2', 10, 1));
    servers.pods = [running('old', OLD, '10.0.0.1'), running('newer', NEW, '10.0.0.3')];
    servers.counts.set('10.0.0.3', { answers: 500 });
    servers.look(patient);
    await servers.pass(10, () => servers.serve('10.0.0.3', 10));
    expect(servers.look(patient).items[0]).toMatchObject({ result: 'Failed', value: '6.7 %' });
  });

  it('whose servers do not answer is not judged', async () => {
    servers.counts.delete('10.0.0.2');
    servers.look();
    await servers.pass(120);
    expect(servers.look()).toMatchObject({
      result: 'waiting',
      why: 'no pod of the new revision could be measured yet',
    });
    expect(servers.woken).toEqual([]);
  });
});

it('streams that a candidate broke count against it, though only those who passed them on could see it', async () => {
  servers.look();
  await settled();
  await servers.pass(5);
  servers.counts.set('10.0.0.1', { answers: 50, brokenByCandidate: 2 });
  await servers.pass(10, () => servers.serve('10.0.0.2', 9));
  expect(servers.look()).toMatchObject({ result: 'failed', items: [{ value: '10 %' }] });
});

describe('the revision before', () => {
  it('is compared with as it last was, when its requests went to the candidate', async () => {
    servers.look();
    await settled();
    await servers.pass(20, () => servers.serve('10.0.0.1', 20, 1));
    const subject = { candidate: NEW, stable: OLD, since: 20_000 };
    servers.pods = [running('new', NEW, '10.0.0.2')];
    servers.look({ subject, analysis: { errorRate: { maxIncreasePoints: 2 } } });
    await servers.pass(120, () => servers.serve('10.0.0.2', 20, 2));
    expect(servers.look({ subject, analysis: { errorRate: { maxIncreasePoints: 2 } } })).toMatchObject({
      result: 'failed',
      items: [{ value: '10 %', baseline: '5 %' }],
    });
  });
});

it('numbers that only move a little wake nobody more than once a window', async () => {
  servers.look();
  await settled();
  let failures = 0;
  await servers.pass(600, () => servers.serve('10.0.0.2', 1000, ++failures % 7));
  expect(servers.look().result).toBe('passed');
  expect(servers.woken.length).toBeLessThanOrEqual(10);
});

it('nothing is read when there is no rollout, or no gate', async () => {
  expect(servers.look({ subject: undefined })).toEqual({ result: 'none', items: [], why: '' });
  expect(servers.look({ analysis: { smokeTests: [] } }).result).toBe('none');
  await servers.pass(60);
  expect(servers.asked).toEqual([]);
  servers.look();
  await settled();
  const { length } = servers.asked;
  servers.look({ subject: undefined });
  await servers.pass(60);
  expect(servers.asked).toHaveLength(length);
});
