/**
 * What clients notice of what happens to pods, nodes and the control plane: nothing. One deployment, one load pod, one
 * disturbance after the other, and every request counted in the end.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SYSTEM_NAMESPACE } from '../demo/install.ts';
import { cluster, lab, makeDeployment, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { condition, holds, type TestNamespace, until } from './harness.ts';
import { type Load, type LoadResult, startLoad } from './load.ts';
import { countRequests, describeCounts } from './load-report.ts';

interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly labels: Record<string, string>;
    readonly deletionTimestamp?: string;
  };
  readonly spec: { readonly nodeName?: string };
}

/** How long clients may wait for eight tokens on machines that do other things besides, in milliseconds. */
const LATE_MS = 15_000;

let hub: TestHub;
let space: TestNamespace;
let load: Load;
let result: LoadResult;
/** The one that serves. */
let revision: string;
/** Where DNS and the load pod run. It stays as it is: no name is found while the one DNS server moves. */
const home = nodes[0]!;
const windows = new Map<string, { readonly from: number; readonly to: number }>();

const deployment = () => lab.deployment(space.name, 'web');
/** All pods, those on their way out as well. */
const pods = () => lab.list<Pod>('pods', '-n', space.name, '-l', 'slm.dev/deployment=web');
const patch = (spec: object) =>
  lab.kubectl('-n', space.name, 'patch', 'slmd/web', '--type=merge', '-p', JSON.stringify({ spec }));

/** Waits until the deployment has that many pods, all ready and of one revision, and no other pod is left. @returns the revision */
async function settles(replicas: number, unlike?: string): Promise<string> {
  const { one } = await until(
    `${replicas} pods serve and the others are gone`,
    async () => ({ one: await deployment(), all: await pods() }),
    ({ one, all }) =>
      holds(one, 'Ready') &&
      one?.status?.readyReplicas === replicas &&
      one.status.currentRevision === one.status.updateRevision &&
      one.status.updateRevision !== unlike &&
      all.length === replicas &&
      all.every(({ metadata }) => metadata.labels['slm.dev/revision'] === one.status?.currentRevision),
    { timeoutMs: 280_000, everyMs: 500 },
  );
  return one!.status!.currentRevision!;
}

/** Does something to the cluster, and keeps between which moments. */
async function during<T>(name: string, work: () => Promise<T>): Promise<T> {
  const from = Date.now();
  try {
    return await work();
  } finally {
    windows.set(name, { from, to: Date.now() });
  }
}

beforeAll(async () => {
  hub = await openHub();
  space = await lab.namespace('zero');
  const { sha256 } = await hub.addModel('lm.gguf');
  await lab.apply(
    makeModel(space.name, 'lm', hub, 'lm.gguf', sha256),
    makeDeployment(space.name, 'web', 'lm', {
      replicas: 2,
      engine: { contextLength: 2048, parallelRequests: 4, threads: 1 },
      // Little of a processor makes streams long with few tokens, and leaves something for the cluster.
      resources: { requests: { cpu: '50m', memory: '256Mi' }, limits: { cpu: '600m', memory: '768Mi' } },
    }),
  );
  revision = await settles(2);
  load = await startLoad(lab, {
    namespace: space.name,
    deployment: 'web',
    image: await lab.serverImage(),
    node: home,
    // What one such pod can do alone, as it must from the middle on: a full queue is no failed rollout.
    perSecond: 2,
    streamEverySeconds: 20,
    maxStreamTokens: 1200,
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

describe('under load', () => {
  it('an API server is away for a minute', async () => {
    const after = await during('API server away', async () => {
      const { apiServer } = await cluster();
      await apiServer.stop();
      try {
        // The minute is the point of the test.
        await sleep(60_000);
      } finally {
        await apiServer.start();
      }
      return settles(2);
    });
    expect(after).toBe(revision);
  });

  it('a deployment grows', async () => {
    const after = await during('scale up', async () => {
      await lab.kubectl('-n', space.name, 'scale', 'slmd/web', '--replicas=3');
      return settles(3);
    });
    expect(after).toBe(revision);
  });

  it('a node is drained', async () => {
    const node = (await pods()).map(({ spec }) => spec.nodeName).find((name) => name !== undefined && name !== home)!;
    try {
      await during('node drained', async () => {
        await lab.kubectl('drain', node, '--ignore-daemonsets', '--delete-emptydir-data', '--timeout=150s');
        await settles(3);
      });
      expect((await pods()).map(({ spec }) => spec.nodeName)).not.toContain(node);
    } finally {
      await lab.kubectl('uncordon', node);
    }
  });

  it('a deployment shrinks', async () => {
    const after = await during('scale down', async () => {
      await lab.kubectl('-n', space.name, 'scale', 'slmd/web', '--replicas=1');
      return settles(1);
    });
    expect(after).toBe(revision);
  });

  // From here on with one pod: nothing else answers while it is replaced.
  it('a new revision comes', async () => {
    const after = await during('rolling update', async () => {
      await patch({ engine: { contextLength: 1984 } });
      return settles(1, revision);
    });
    expect(after).not.toBe(revision);
    revision = after;
  });

  it('another one comes, and the leader is killed in the middle, then every operator', async () => {
    const holder = async () =>
      (await lab.get<{ spec: { holderIdentity?: string } }>('lease', 'slm-operator', SYSTEM_NAMESPACE))?.spec
        .holderIdentity;
    const kill = (...names: string[]) =>
      lab.kubectl('-n', SYSTEM_NAMESPACE, 'delete', 'pod', ...names, '--grace-period=0', '--force');
    const leader = await holder();
    const after = await during('operators killed', async () => {
      await patch({ engine: { contextLength: 1920 } });
      await until('a pod of the new revision exists', pods, (all) =>
        all.some(({ metadata }) => metadata.labels['slm.dev/revision'] !== revision),
      );
      await kill(leader!);
      await until('another one leads', holder, (name) => name !== undefined && name !== '' && name !== leader);
      const operators = await lab.list<Pod>(
        'pods',
        '-n',
        SYSTEM_NAMESPACE,
        '-l',
        'app.kubernetes.io/component=operator',
      );
      await kill(...operators.map(({ metadata }) => metadata.name));
      return settles(1, revision);
    });
    expect(after).not.toBe(revision);
    revision = after;
  });

  it('a canary is promoted', async () => {
    const after = await during('canary promoted', async () => {
      const strategy = { type: 'Canary', canary: { steps: [{ weight: 25, pause: '10s' }] } };
      await patch({ strategy, engine: { contextLength: 1856 } });
      return settles(1, revision);
    });
    expect(after).not.toBe(revision);
    revision = after;
  });

  it('a canary that is slower than it may be is taken back', async () => {
    const one = await during('canary rolled back', async () => {
      // No model answers within a millisecond.
      const analysis = { window: '10s', minRequests: 2, ttftP95: { maxMilliseconds: 1 } };
      await patch({ strategy: { analysis }, engine: { contextLength: 1792 } });
      const { one: status } = await until(
        'the canary is taken back and its pods are gone',
        async () => ({ one: await deployment(), all: await pods() }),
        ({ one: now, all }) =>
          holds(now, 'RolledBack') &&
          all.length === 1 &&
          all.every(({ metadata }) => metadata.labels['slm.dev/revision'] === revision),
        { timeoutMs: 280_000, everyMs: 500 },
      );
      return status;
    });
    expect(one?.status?.lastRollback).toMatchObject({ to: revision });
    expect(one?.status?.lastRollback?.message).toMatch(/ms/);
    expect([condition(one, 'Available')?.status, condition(one, 'Stalled')?.reason]).toEqual(['True', 'RolledBack']);
  });

  it('all requests move at once', async () => {
    const after = await during('blue-green', async () => {
      const strategy = { type: 'BlueGreen', canary: null, analysis: null, blueGreen: { soak: '5s' } };
      await patch({ strategy, engine: { contextLength: 1728 } });
      return settles(1, revision);
    });
    expect(after).not.toBe(revision);
  });

  it('comes to its end', async () => {
    result = await load.stop();
    for (const [name, { from, to }] of windows)
      console.log(`${name}: ${describeCounts(countRequests(result.lines, from, to))}`);
    expect(result.sent).toBe(result.lines.length);
  });
});

describe('every request is answered, with its last byte, while', () => {
  it.each([
    'API server away',
    'scale up',
    'node drained',
    'scale down',
    'rolling update',
    'operators killed',
    'canary promoted',
    'canary rolled back',
    'blue-green',
  ])('%s', (name) => {
    const { from, to } = windows.get(name)!;
    const counts = countRequests(result.lines, from, to);
    expect(counts.failures).toEqual([]);
    expect(counts.answered).toBe(counts.planned);
    expect(counts.planned).toBeGreaterThan(10);
    expect(counts.slowestMs).toBeLessThan(LATE_MS);
  });

  it('nothing happens in particular', () => {
    expect(result.failures).toEqual([]);
    expect(result.answered).toBe(result.sent);
    const counts = countRequests(result.lines);
    expect(counts.reused).toBeGreaterThan(50);
    expect(counts.fresh).toBeGreaterThan(50);
    expect(counts.longestStreamSeconds).toBeGreaterThan(10);
  });
});
