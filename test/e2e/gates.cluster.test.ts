/**
 * Gates on real nodes: a revision that answers its smoke tests comes, one that does not goes back before anybody's request reached it,
 * and so does one that is too slow; by real servers with a real model, whatever its clients must show.
 */
import { annotations, labels, type SmokeTest, type Strategy } from '@slm-operator/crds';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lab, makeDeployment, makeModel, openHub, type TestHub } from './context.ts';
import { condition, holds, type TestNamespace, until } from './harness.ts';
import { startLoad } from './load.ts';

const capital: SmokeTest = {
  name: 'capital',
  prompt: 'What is the capital of France?',
  system: 'Answer in one word.',
  maxTokens: 16,
  contains: 'Paris',
};
const form: SmokeTest = {
  name: 'form',
  prompt: 'Name a city.',
  jsonSchema: '{"type":"object","properties":{"city":{"type":"string","maxLength":20}},"required":["city"]}',
};

let hub: TestHub;
let space: TestNamespace;
let image: string;
const read = (name: string) => lab.deployment(space.name, name);

interface Child {
  readonly metadata: {
    readonly name: string;
    readonly labels: Record<string, string>;
    readonly annotations?: Record<string, string>;
  };
}

/** A deployment whose revision changes with its context. */
function write(name: string, contextLength: number, analysis: NonNullable<Strategy['analysis']>, spec: object = {}) {
  return lab.apply(
    makeDeployment(space.name, name, 'tiny', {
      engine: { contextLength, parallelRequests: 2, threads: 1 },
      strategy: { drainTimeoutSeconds: 5, analysis },
      ...spec,
    }),
  );
}

async function served(name: string): Promise<string> {
  const found = await until(
    `${name} serves`,
    () => read(name),
    (one) => holds(one, 'Ready'),
    { timeoutMs: 240_000 },
  );
  return found?.status?.currentRevision ?? expect.unreachable('no revision');
}

async function takenBack(name: string) {
  const found = await until(
    `${name} was taken back`,
    () => read(name),
    (one) => holds(one, 'Stalled', 'RolledBack') && one?.status?.rollout?.phase === 'Stalled',
    { timeoutMs: 240_000 },
  );
  return found ?? expect.unreachable('it is gone');
}

beforeAll(async () => {
  hub = await openHub();
  space = await lab.namespace('gates');
  image = await lab.serverImage();
  const { sha256 } = await hub.addModel('tiny.gguf');
  await lab.apply(makeModel(space.name, 'tiny', hub, 'tiny.gguf', sha256));
});
afterAll(async () => {
  await space?.[Symbol.asyncDispose]();
  await hub?.[Symbol.asyncDispose]();
});

describe('a deployment with smoke tests', () => {
  let first: string;

  it('serves when its first revision answers them, which is noted on it', async () => {
    await write('web', 512, { smokeTests: [capital, form], evaluateEvery: '10s' });
    first = await served('web');
    const sets = await lab.list<Child>('replicasets', '-n', space.name, '-l', `${labels.deployment}=web`);
    expect(sets.map(({ metadata }) => metadata.annotations?.[annotations.smoke])).toEqual([
      expect.stringMatching(/^[0-9a-f]{10} passed$/),
    ]);
  });

  it('goes to a revision that answers them too', async () => {
    await write('web', 640, { smokeTests: [capital, form], evaluateEvery: '10s' });
    await until('the new revision serves', served.bind(undefined, 'web'), (revision) => revision !== first);
    first = await served('web');
  });

  it('keeps its revision when the next one does not, and no request reaches that', async () => {
    const load = await startLoad(lab, { namespace: space.name, deployment: 'web', image, perSecond: 2 });
    await until(
      'requests are answered',
      () => load.answered(),
      (count) => count > 3,
    );
    const rome = { ...capital, contains: 'Rome' };
    await write('web', 768, { smokeTests: [rome], evaluateEvery: '10s' });
    const found = await takenBack('web');
    expect(found.status?.lastRollback).toMatchObject({
      to: first,
      reason: 'SmokeTestFailed',
      message: expect.stringMatching(/capital: the answer does not contain "Rome": it says ".*Paris/) as string,
    });
    expect(condition(found, 'Stalled')?.message).toMatch(/does not contain "Rome"/);
    expect(holds(found, 'Available')).toBe(true);
    expect(found.status?.currentRevision).toBe(first);
    const { failures, answered, sent } = await load.stop();
    expect(failures).toEqual([]);
    expect(answered).toBe(sent);
  });

  it('tells how well it answers them over time', async () => {
    const [operator] = await lab.list<Child & { metadata: { namespace: string } }>(
      'leases',
      '-A',
      '--field-selector=metadata.name=slm-operator',
    );
    const namespace = operator?.metadata.namespace ?? '';
    const metrics = async () => {
      const pods = await lab.list<Child>('pods', '-n', namespace, '-l', 'app.kubernetes.io/component=operator');
      const texts = pods.map(({ metadata: { name } }) =>
        lab.kubectl('get', '--raw', `/api/v1/namespaces/${namespace}/pods/${name}:8081/proxy/metrics`),
      );
      return (await Promise.all(texts)).join('');
    };
    const text = await until('the revision is evaluated', metrics, (all) =>
      all.includes(`slm_eval_score{namespace="${space.name}",name="web",test="capital"}`),
    );
    // It is asked for Rome now, and says Paris, as it always did.
    expect(text).toContain(`slm_eval_score{namespace="${space.name}",name="web",test="capital"} 0`);
    expect(text).toContain(`slm_eval_drift{namespace="${space.name}",name="web",test="capital"} 0`);
  });
});

describe('a first revision that fails its smoke tests', () => {
  it('says so, and nobody is sent to it; with better tests it serves', async () => {
    await write('first', 512, { smokeTests: [{ ...capital, contains: 'Rome' }] });
    const found = await until(
      'it says what was wrong',
      () => read('first'),
      (one) => condition(one, 'Stalled')?.status === 'True',
      { timeoutMs: 120_000 },
    );
    expect(condition(found, 'Ready')?.message).toMatch(/capital: the answer does not contain "Rome"/);
    expect(holds(found, 'Available')).toBe(false);
    const slices = await lab.list<{ readonly endpoints?: readonly unknown[] | null }>(
      'endpointslices',
      '-n',
      space.name,
      '-l',
      'kubernetes.io/service-name=first',
    );
    expect(slices.flatMap(({ endpoints }) => endpoints ?? [])).toEqual([]);
    await write('first', 512, { smokeTests: [capital] });
    await served('first');
  });
});

describe('a deployment whose clients show ServiceAccounts', () => {
  it('is asked its smoke tests by the operator’s own', async () => {
    const auth = { type: 'ServiceAccount', allowedServiceAccounts: [{ name: 'nobody' }] };
    await write('tokens', 512, { smokeTests: [capital] }, { auth });
    await served('tokens');
    const sets = await lab.list<Child>('replicasets', '-n', space.name, '-l', `${labels.deployment}=tokens`);
    expect(sets[0]?.metadata.annotations?.[annotations.smoke]).toMatch(/ passed$/);
  });
});

describe('a revision that is slower than it may be', () => {
  it('goes back with the numbers, and nobody who asks notices', async () => {
    const gates = { window: '20s', minRequests: 10, ttftP95: { maxMilliseconds: 60_000 } };
    await write('slow', 512, gates);
    const first = await served('slow');
    const load = await startLoad(lab, { namespace: space.name, deployment: 'slow', image, perSecond: 2 });
    await until(
      'requests are answered',
      () => load.answered(),
      (count) => count > 3,
    );
    await write('slow', 640, { ...gates, ttftP95: { maxMilliseconds: 1 } });
    const found = await takenBack('slow');
    expect(found.status?.lastRollback).toMatchObject({
      to: first,
      reason: 'AnalysisFailed',
      message: expect.stringMatching(
        /time to first token \(p95\) [\d.]+ ms in \d+ requests: at most 1 ms is allowed/,
      ) as string,
    });
    const back = await until(
      'the first revision serves',
      () => read('slow'),
      (one) => holds(one, 'Available') && one?.status?.currentRevision === first,
    );
    expect(back?.status?.currentRevision).toBe(first);
    const { failures, answered, sent } = await load.stop();
    expect(failures).toEqual([]);
    expect(answered).toBe(sent);
  });
});
