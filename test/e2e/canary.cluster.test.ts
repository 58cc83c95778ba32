/**
 * Exact weights on real nodes: a canary at 10 % beside two pods gets 10 % of the requests, whatever connections they come on, and
 * nobody who asks notices anything of it, from the first step to the end.
 */
import { annotations, labels } from '@slm-operator/crds';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { holds, type TestNamespace, until } from './harness.ts';
import { type Load, startLoad } from './load.ts';
import { countRequests, describeCounts } from './load-report.ts';

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

interface Counted {
  /** Answers by the revision that gave them. */
  readonly revisions: Readonly<Record<string, number>>;
  /** Anything but a whole answer, the first ten. */
  readonly failures: readonly string[];
  /** Requests on a connection that had served one before. */
  readonly reused: number;
}

/**
 * Asks so often through the Service, half of it on kept connections and half on new ones, six at a time. As fast as it is answered:
 * machines that are slow take longer and count the same.
 */
async function count(requests: number): Promise<Counted> {
  const plan = {
    requests,
    url: `http://web.${space.name}.svc:11434/api/generate`,
    key: await lab.apiKey(space.name, 'web'),
    body: { model: 'web', prompt: 'Hi', stream: false, options: { num_predict: 1, temperature: 0 } },
  };
  const script = `(${counter.toString()})(${JSON.stringify(plan)})`;
  const printed = await lab.kubectl('-n', space.name, 'exec', 'load-web', '--', 'node', '-e', script);
  return JSON.parse(printed) as Counted;
}

/** Runs in the load pod, so it is a text that knows nothing of this file. */
async function counter(plan: { requests: number; url: string; key: string; body: object }): Promise<void> {
  const http = process.getBuiltinModule('node:http');
  const kept = new http.Agent({ keepAlive: true, scheduling: 'fifo' });
  const revisions: Record<string, number> = {};
  const failures: string[] = [];
  let reused = 0;
  let sent = 0;
  const one = (agent: InstanceType<typeof http.Agent> | false) =>
    new Promise<void>((resolve) => {
      const failed = (what: string) => {
        if (failures.length < 10) failures.push(what);
        resolve();
      };
      const headers = { authorization: `Bearer ${plan.key}` };
      const asking = http.request(plan.url, { method: 'POST', headers, agent }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (piece: string) => {
          text += piece;
        });
        response.once('error', (error) => failed(error.message));
        response.once('end', () => {
          if (response.statusCode !== 200 || !text.includes('"done":true')) {
            failed(`${response.statusCode} ${text}`);
            return;
          }
          const revision = String(response.headers['x-slm-revision']);
          revisions[revision] = (revisions[revision] ?? 0) + 1;
          if (asking.reusedSocket) reused++;
          resolve();
        });
      });
      asking.once('error', (error) => failed(error.message));
      asking.end(JSON.stringify(plan.body));
    });
  const worker = async () => {
    while (sent < plan.requests) await one(sent++ % 2 === 0 ? kept : false);
  };
  await Promise.all(Array.from({ length: 6 }, worker));
  console.log(JSON.stringify({ revisions, failures, reused }));
  kept.destroy();
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
    perSecond: 1,
    streamEverySeconds: 15,
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

    const { revisions, failures, reused } = await count(1000);
    console.log(`at 10 %: ${JSON.stringify(revisions)}`);
    expect(failures).toEqual([]);
    expect(Object.keys(revisions).toSorted()).toEqual([fresh, stable].toSorted());
    expect(revisions[fresh]).toBeGreaterThanOrEqual(70);
    expect(revisions[fresh]).toBeLessThanOrEqual(130);
    // Neither kind of connection is left out.
    expect(reused).toBeGreaterThan(400);
  });

  it('gets half of them once that is approved', async () => {
    await approve(`${fresh}:1`);
    await reaches(2);
    const { revisions, failures } = await count(300);
    console.log(`at 50 %: ${JSON.stringify(revisions)}`);
    expect(failures).toEqual([]);
    expect(revisions[fresh]).toBeGreaterThanOrEqual(135);
    expect(revisions[fresh]).toBeLessThanOrEqual(165);
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
