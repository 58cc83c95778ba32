/**
 * Exact weights on real nodes: a canary at 10 % beside two pods gets 10 % of the requests, whatever connections they come on, and
 * nobody who asks notices anything of it, from the first step to the end.
 */
import { annotations, labels } from '@slm-operator/crds';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { holds, type TestNamespace, until } from './harness.ts';
import { type Load, startLoad } from './load.ts';
import { countRequests, describeCounts, type LoadCounts, parseLoad } from './load-report.ts';

interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly labels: Record<string, string>;
    readonly annotations?: Record<string, string>;
    readonly deletionTimestamp?: string;
  };
}

interface Service {
  readonly spec: { readonly selector: Record<string, string> };
}

let hub: TestHub;
let space: TestNamespace;
let load: Load;
/** The revision that serves first, and the one that comes. */
let stable: string;
let fresh: string;
const deployment = () => lab.deployment(space.name, 'web');
const pods = async () =>
  (await lab.list<Pod>('pods', '-n', space.name, '-l', `${labels.deployment}=web`)).filter(
    ({ metadata }) => metadata.deletionTimestamp === undefined,
  );
const revisionOf = ({ metadata }: Pod) => metadata.labels[labels.revision];
const approve = (text: string) =>
  lab.kubectl('-n', space.name, 'annotate', 'slmd/web', '--overwrite', `slm.dev/approved-revision=${text}`);

/** Waits for a step whose weight the servers really have. */
function reaches(step: number) {
  return until(
    `step ${step} has begun`,
    deployment,
    (one) => one?.status?.rollout?.step === step && one.status.rollout.stepStartedAt !== undefined,
    { timeoutMs: 200_000 },
  );
}

/** Waits until so many requests were answered from now on, and counts those that were due in this time. */
async function asked(count: number): Promise<LoadCounts> {
  const from = Date.now();
  return until(
    `${count} requests are answered`,
    async () => {
      const { lines } = parseLoad(await lab.kubectl('-n', space.name, 'logs', 'load-web'));
      // Those that are still under way have no line yet, whoever answers them.
      return countRequests(
        lines.filter(({ kind }) => kind === 'short'),
        from,
        Date.now() - 5000,
      );
    },
    ({ answered }) => answered >= count,
    { timeoutMs: 280_000, everyMs: 5000 },
  );
}

beforeAll(async () => {
  hub = await openHub();
  space = await lab.namespace('canary');
  const { sha256 } = await hub.addModel('lm.gguf');
  await lab.apply(
    makeModel(space.name, 'lm', hub, 'lm.gguf', sha256),
    makeDeployment(space.name, 'web', 'lm', {
      replicas: 2,
      engine: { contextLength: 1024, parallelRequests: 4, threads: 1 },
      strategy: {
        type: 'Canary',
        canary: {
          steps: [
            { weight: 10, requireApproval: true },
            { weight: 50, requireApproval: true },
          ],
        },
      },
    }),
  );
  const one = await until(
    'two pods serve',
    deployment,
    (it) => holds(it, 'Ready') && it?.status?.readyReplicas === 2 && it.status.currentRevision !== undefined,
  );
  stable = one!.status!.currentRevision!;
  load = await startLoad(lab, {
    namespace: space.name,
    deployment: 'web',
    image: await lab.serverImage(),
    node: nodes[0]!,
    perSecond: 8,
    streamEverySeconds: 10,
    streamSeconds: 10,
    rareEverySeconds: 7,
  });
  await until(
    'requests are answered',
    () => load.answered(),
    (count) => count > 3,
  );
});
afterAll(async () => {
  await space[Symbol.asyncDispose]();
  await hub[Symbol.asyncDispose]();
});

describe('a canary under load', () => {
  it('gets 10 % of the requests, within 3 points of a thousand', async () => {
    await lab.kubectl(
      '-n',
      space.name,
      'patch',
      'slmd/web',
      '--type=merge',
      '-p',
      '{"spec":{"engine":{"contextLength":960}}}',
    );
    const one = await reaches(1);
    fresh = one!.status!.rollout!.revision!;
    expect(one!.status!.rollout).toMatchObject({ weight: 10, stableRevision: stable });
    const all = await pods();
    expect(all.filter((pod) => revisionOf(pod) === stable)).toHaveLength(2);
    for (const pod of all)
      expect(pod.metadata.labels[labels.traffic]).toBe(revisionOf(pod) === fresh ? 'closed' : 'open');

    const counts = await asked(1000);
    console.log(`at 10 %: ${describeCounts(counts)}; by revision ${JSON.stringify(counts.revisions)}`);
    expect(counts.failures).toEqual([]);
    const share = (100 * (counts.revisions[fresh] ?? 0)) / counts.answered;
    expect(share).toBeGreaterThan(7);
    expect(share).toBeLessThan(13);
    expect((counts.revisions[fresh] ?? 0) + (counts.revisions[stable] ?? 0)).toBe(counts.answered);
    // Neither kind of connection is left out.
    expect(Math.min(counts.reused, counts.fresh)).toBeGreaterThan(300);
  });

  it('gets half of them once that is approved', async () => {
    await approve(`${fresh}:1`);
    await reaches(2);
    const counts = await asked(200);
    console.log(`at 50 %: ${describeCounts(counts)}; by revision ${JSON.stringify(counts.revisions)}`);
    const share = (100 * (counts.revisions[fresh] ?? 0)) / counts.answered;
    expect(share).toBeGreaterThan(45);
    expect(share).toBeLessThan(55);
  });

  it('takes all of them in the end, and leaves nothing behind', async () => {
    await approve(`${fresh}:2`);
    await until(
      'all pods have the new revision',
      async () => ({ one: await deployment(), all: await pods() }),
      ({ one, all }) =>
        holds(one, 'Ready') &&
        one?.status?.currentRevision === fresh &&
        all.length === 2 &&
        all.every((pod) => revisionOf(pod) === fresh),
      { timeoutMs: 200_000 },
    );
    await until(
      'the address of the candidate is gone',
      () => lab.get<Service>('service', 'web-candidate', space.name),
      (service) => service === undefined,
    );
    for (const { metadata } of await pods()) {
      expect(metadata.labels[labels.traffic]).toBe('open');
      expect(metadata.annotations?.[annotations.traffic]).toBe('{}');
    }
    const policy = await lab.get<{ spec: { egress?: object[] } }>('networkpolicy', 'web', space.name);
    expect(policy?.spec.egress ?? []).toEqual([]);
  });

  it('fails no request on the way', async () => {
    const { sent, answered, failures, lines } = await load.stop();
    console.log(`in all: ${describeCounts(countRequests(lines))}`);
    expect(failures).toEqual([]);
    expect(answered).toBe(sent);
  });
});
