import { describe, expect, it, vi } from 'vitest';
import { makeKubeClient } from '../kube/http-client.ts';
import { ConfigMap, type KubeObject, Lease, Node, Pod, parseKey, Secret } from '../kube/resource.ts';
import { makeApplier } from './apply.ts';
import {
  type ControllerOptions,
  defineController,
  generationChanged,
  makeChannel,
  ownedBy,
  watches,
} from './controller.ts';
import { LeadershipLostError } from './leader-election.ts';
import { silentLogger } from './log.ts';
import { type Manager, type ManagerOptions, makeManager } from './manager.ts';
import { done, stalled, waiting } from './outcome.ts';
import { eventually } from './testing/eventually.ts';
import { type FaultyApiServer, startFaultyApiServer } from './testing/faulty-api-server.ts';

// Real sockets on a machine that may be busy with other things.
vi.setConfig({ testTimeout: 30_000 });

interface Setup extends AsyncDisposable {
  readonly server: FaultyApiServer;
  makeManager(options?: Partial<ManagerOptions>): Manager;
}

async function setUp(): Promise<Setup> {
  const server = await startFaultyApiServer({ secondMs: 1000 });
  const endings: (() => Promise<void>)[] = [];
  return {
    server,
    makeManager(options = {}) {
      const client = makeKubeClient({ access: server.access, userAgent: 'test/1' });
      const manager = makeManager({ client, log: silentLogger, shutdownTimeoutMs: 500, ...options });
      endings.push(async () => {
        await manager.stop();
        await client.close();
      });
      return manager;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(endings.map((end) => end()));
      await server.close();
    },
  };
}

function makeMap(name: string, value = 'x'): KubeObject {
  return { metadata: { name, namespace: 'ns' }, data: { value } } as KubeObject;
}

const election = { name: 'test', namespace: 'ns', leaseDurationMs: 1000, renewDeadlineMs: 600, retryPeriodMs: 50 };

/** Notes each run; behaves as told. */
function makeRecorder(behaviour: ControllerOptions['reconcile'] = () => Promise.resolve(done)) {
  const runs: string[] = [];
  const reconcile: ControllerOptions['reconcile'] = (key, context) => {
    runs.push(key);
    return behaviour(key, context);
  };
  return { runs, reconcile };
}

describe('manager', () => {
  it('runs a controller for what is there and for what changes, after its stores are full', async () => {
    await using setup = await setUp();
    setup.server.put(ConfigMap, makeMap('a'));
    setup.server.put(ConfigMap, makeMap('b'));
    const manager = setup.makeManager();
    const maps = manager.store(ConfigMap);
    const sizes: number[] = [];
    const { runs, reconcile } = makeRecorder(() => {
      sizes.push(maps.size);
      return Promise.resolve(done);
    });
    manager.add(defineController({ name: 'maps', sources: [watches(ConfigMap)], reconcile }));
    void manager.start();
    await eventually(() => runs.length === 2);
    setup.server.put(ConfigMap, makeMap('a', 'changed'));
    await eventually(() => runs.length === 3);
    setup.server.remove(ConfigMap, 'ns/b');
    await eventually(() => runs.length === 4);
    expect(runs).toEqual(['ns/a', 'ns/b', 'ns/a', 'ns/b']);
    expect(sizes).toEqual([2, 2, 2, 1]);
  });

  it('lists and watches a resource once, however many controllers and stores ask for it', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager();
    const [one, two] = [makeRecorder(), makeRecorder()];
    manager.add(defineController({ name: 'one', sources: [watches(ConfigMap)], reconcile: one.reconcile }));
    manager.add(defineController({ name: 'two', sources: [watches(ConfigMap)], reconcile: two.reconcile }));
    expect(manager.store(ConfigMap)).toBe(manager.store(ConfigMap, {}));
    expect(manager.store(ConfigMap)).not.toBe(manager.store(ConfigMap, { namespace: 'ns' }));
    const transform = <T>(object: T): T => object;
    const cut = { namespace: 'ns', transform };
    expect(manager.store(ConfigMap, cut)).toBe(manager.store(ConfigMap, { ...cut }));
    expect(manager.store(ConfigMap, cut)).not.toBe(manager.store(ConfigMap, { namespace: 'ns' }));
    void manager.start();
    await manager.running;
    setup.server.put(ConfigMap, makeMap('a'));
    await eventually(() => one.runs.length === 1 && two.runs.length === 1);
    expect(setup.server.requests.filter((request) => request === 'list configmaps')).toHaveLength(3);
  });

  it('makes one run of several events where they may wait', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager();
    const maps = manager.store(ConfigMap);
    const { runs, reconcile } = makeRecorder();
    const delayMs = (event: { readonly type: string }) => (event.type === 'update' ? 300 : 0);
    manager.add(defineController({ name: 'maps', sources: [watches(ConfigMap, undefined, { delayMs })], reconcile }));
    void manager.start();
    await manager.running;
    setup.server.put(ConfigMap, makeMap('a'));
    await eventually(() => runs.length === 1);
    for (const value of ['1', '2', '3']) setup.server.put(ConfigMap, makeMap('a', value));
    await eventually(() => maps.get('ns/a')?.data?.['value'] === '3');
    expect(runs).toHaveLength(1);
    await eventually(() => runs.length === 2);
    setup.server.put(ConfigMap, makeMap('b'));
    await eventually(() => runs.includes('ns/b'));
    expect(runs).toEqual(['ns/a', 'ns/a', 'ns/b']);
  });

  it('keeps of a resource what the table for all stores leaves', async () => {
    await using setup = await setUp();
    setup.server.put(ConfigMap, makeMap('a'));
    const cut = <T extends KubeObject>({ metadata }: T): T => ({ metadata }) as T;
    const manager = setup.makeManager({ transforms: new Map([[ConfigMap, cut]]) });
    const maps = manager.store(ConfigMap);
    expect(manager.store(ConfigMap, { transform: cut })).toBe(maps);
    void manager.start();
    await manager.running;
    expect(maps.list().map((map) => Object.keys(map))).toEqual([['metadata']]);
  });

  it('maps children to their owner, both owners when one changes hands, and honours predicates', async () => {
    await using setup = await setUp();
    const owner = (name: string) => ({ apiVersion: 'v1', kind: 'ConfigMap', name, uid: name, controller: true });
    const child = (name: string) => ({ metadata: { name: 'c', namespace: 'ns', ownerReferences: [owner(name)] } });
    const manager = setup.makeManager();
    const { runs, reconcile } = makeRecorder();
    const nodes = makeRecorder();
    manager.add(defineController({ name: 'owners', sources: [watches(Secret, ownedBy(ConfigMap))], reconcile }));
    manager.add(
      defineController({
        name: 'nodes',
        sources: [watches(Node, undefined, { predicate: generationChanged })],
        reconcile: nodes.reconcile,
      }),
    );
    void manager.start();
    await manager.running;
    setup.server.put(Secret, child('one'));
    await eventually(() => runs.length === 1);
    setup.server.put(Secret, child('two'));
    await eventually(() => runs.length === 3);
    expect(runs.toSorted()).toEqual(['ns/one', 'ns/one', 'ns/two']);
    setup.server.put(Node, { metadata: { name: 'n', generation: 1 } });
    setup.server.put(Node, { metadata: { name: 'n', generation: 1, labels: { a: 'b' } } });
    setup.server.put(Node, { metadata: { name: 'n', generation: 2 } });
    await eventually(() => manager.store(Node).get('n')?.metadata?.generation === 2);
    await eventually(() => nodes.runs.length > 0);
    expect(nodes.runs.length).toBeLessThanOrEqual(2);
  });

  it('survives mappers, reconciles and outcome callbacks that throw', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager();
    const { runs, reconcile } = makeRecorder(() => {
      throw new Error('not even a promise');
    });
    manager.add(
      defineController({
        name: 'wild',
        backoff: { baseMs: 1, maxMs: 2 },
        sources: [
          watches(ConfigMap),
          watches(ConfigMap, () => {
            throw new Error('mapper');
          }),
        ],
        reconcile,
        onOutcome: () => {
          throw new Error('callback');
        },
      }),
    );
    void manager.start();
    await manager.running;
    setup.server.put(ConfigMap, makeMap('a'));
    await eventually(() => runs.length >= 5);
    expect(new Set(runs)).toEqual(new Set(['ns/a']));
    const text = await manager.metrics.registry.metrics();
    expect(text).toMatch(/controller_runtime_reconcile_errors_total\{controller="wild"\} [1-9]/);
    expect(text).toMatch(/workqueue_retries_total\{name="wild",controller="wild"\} [1-9]/);
  });

  it('comes back after requeueAfter, not after stalled, and counts tries', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager();
    const attempts: number[] = [];
    const { runs, reconcile } = makeRecorder((key, { attempt }) => {
      if (key === 'ns/wait') return Promise.resolve(waiting('Soon', 'not yet', 5));
      if (key === 'ns/stuck') return Promise.resolve(stalled('Bad', 'a person must help'));
      attempts.push(attempt);
      return attempts.length < 3 ? Promise.reject(new Error('fails twice')) : Promise.resolve(done);
    });
    manager.add(
      defineController({ name: 'c', sources: [watches(ConfigMap)], reconcile, backoff: { baseMs: 1, maxMs: 5 } }),
    );
    for (const name of ['wait', 'stuck', 'fails']) setup.server.put(ConfigMap, makeMap(name));
    void manager.start();
    await eventually(() => runs.filter((key) => key === 'ns/wait').length >= 5 && attempts.length === 3);
    expect(runs.filter((key) => key === 'ns/stuck')).toHaveLength(1);
    expect(attempts).toEqual([0, 1, 2]);
  });

  it('cuts a reconcile that takes too long, and tells the probe about one that does not listen', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager({ probes: { host: '127.0.0.1', port: 0 } });
    const outcomes: unknown[] = [];
    manager.add(
      defineController({
        name: 'slow',
        sources: [watches(ConfigMap)],
        concurrency: 2,
        reconcileTimeoutMs: 30,
        reconcile: async (key, { signal }) => {
          await new Promise<void>((resolve) => {
            if (key === 'ns/listens') signal.addEventListener('abort', () => resolve());
          });
          signal.throwIfAborted();
        },
        onOutcome: (key, outcome) =>
          outcomes.push([key, outcome.outcome === 'error' ? String(outcome.error) : outcome]),
      }),
    );
    for (const name of ['listens', 'deaf']) setup.server.put(ConfigMap, makeMap(name));
    void manager.start().catch(() => undefined);
    await eventually(() => outcomes.length > 0);
    expect(outcomes[0]).toEqual([
      'ns/listens',
      'ReconcileTimeoutError: reconcile of ns/listens took longer than 30 ms',
    ]);
    const health = () => fetch(`http://127.0.0.1:${manager.ports.probes}/healthz`);
    const body = await eventually(async () => {
      const answer = await health();
      return answer.status === 503 ? await answer.text() : undefined;
    });
    expect(body).toMatch(/^\[-\] controllers: controller slow: reconcile of ns\/deaf runs for \d+ s/);
  });

  it('is not ready while a resource cannot be listed, and says which', async () => {
    await using setup = await setUp();
    for (let i = 0; i < 50; i++) setup.server.fail('list', { kind: 'status', code: 403 });
    const manager = setup.makeManager({ probes: { host: '127.0.0.1', port: 0 } });
    manager.store(Pod);
    void manager.start();
    await eventually(() => manager.ports.probes !== undefined);
    const answer = await fetch(`http://127.0.0.1:${manager.ports.probes}/readyz`);
    expect(answer.status).toBe(503);
    expect(await answer.text()).toBe('[-] stores: not listed yet: pods (CRD missing, or no right to list?)\nfailed\n');
    expect((await fetch(`http://127.0.0.1:${manager.ports.probes}/healthz`)).status).toBe(200);
    expect((await fetch(`http://127.0.0.1:${manager.ports.probes}/metrics`)).status).toBe(404);
  });

  it('serves metrics under controller-runtime’s names, beside the probes when the port is the same', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager({ metricsServer: { host: '127.0.0.1', port: 0 } });
    manager.add(defineController({ name: 'c', sources: [watches(ConfigMap)], reconcile: () => Promise.resolve(done) }));
    void manager.start();
    await manager.running;
    const text = await (await fetch(`http://127.0.0.1:${manager.ports.metrics}/metrics`)).text();
    const names = new Set(text.match(/^(?:controller_runtime|workqueue|rest_client|leader_election)\w+/gm));
    expect(Array.from(names, (name) => name.replace(/_(bucket|sum|count)$/, ''))).toEqual(
      expect.arrayContaining([
        'controller_runtime_reconcile_total',
        'controller_runtime_reconcile_errors_total',
        'controller_runtime_active_workers',
        'controller_runtime_max_concurrent_reconciles',
        'workqueue_depth',
        'workqueue_adds_total',
        'workqueue_retries_total',
        'workqueue_unfinished_work_seconds',
        'workqueue_longest_running_processor_seconds',
      ]),
    );
  });

  it('finishes what runs and what waits when it is asked to stop, and starts nothing new', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager({ shutdownTimeoutMs: 5000 });
    const finished: string[] = [];
    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    manager.add(
      defineController({
        name: 'c',
        sources: [watches(ConfigMap)],
        reconcile: async (key) => {
          await gate;
          finished.push(key);
        },
      }),
    );
    for (const name of ['a', 'b', 'c']) setup.server.put(ConfigMap, makeMap(name));
    const running = manager.start();
    await manager.running;
    const stopped = manager.stop();
    setup.server.put(ConfigMap, makeMap('late'));
    release();
    await Promise.all([running, stopped]);
    expect(finished).toEqual(['ns/a', 'ns/b', 'ns/c']);
  });

  it('cuts work short that does not end within the limit of a stop', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager({ shutdownTimeoutMs: 50 });
    let reason: unknown;
    manager.add(
      defineController({
        name: 'c',
        sources: [watches(ConfigMap)],
        reconcile: async (_key, { signal }) => {
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
          reason = signal.reason;
        },
      }),
    );
    setup.server.put(ConfigMap, makeMap('a'));
    const running = manager.start();
    await manager.running;
    await manager.stop();
    await running;
    expect(String(reason)).toBe('Error: the process is stopping');
  });

  it('wakes keys pushed through a channel, also those pushed before it ran', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager();
    const channel = makeChannel('timer');
    channel.push('early');
    const { runs, reconcile } = makeRecorder();
    manager.add(defineController({ name: 'c', sources: [channel], reconcile }));
    void manager.start();
    await manager.running;
    channel.push('later');
    await eventually(() => runs.length === 2);
    expect(runs).toEqual(['early', 'later']);
  });

  it('writes nothing but its lease while nothing changes, although its controller runs all the time', async () => {
    await using setup = await setUp();
    for (const name of ['a', 'b', 'c']) setup.server.put(ConfigMap, makeMap(name));
    const manager = setup.makeManager({ leaderElection: { ...election, retryPeriodMs: 20 } });
    const applier = makeApplier({ client: manager.client, fieldManager: 'test' });
    const maps = manager.store(ConfigMap);
    const secrets = manager.store(Secret);
    let runs = 0;
    manager.add(
      defineController({
        name: 'idle',
        sources: [watches(ConfigMap), watches(Secret)],
        async reconcile(key, { signal }) {
          runs += 1;
          const map = maps.get(key);
          if (map === undefined) return done;
          const desired = { metadata: parseKey(key), data: { copy: map.data?.['value'] ?? '' } };
          const { object } = await applier.apply(Secret, desired, secrets.get(key), { signal });
          await applier.writeStatusIfChanged(Secret, object, { phase: 'Ready' });
          return waiting('Forever', 'never content', 2);
        },
      }),
    );
    void manager.start();
    await eventually(() => secrets.size === 3 && runs > 20);
    const before = setup.server.requests.length;
    const runsBefore = runs;
    await eventually(() => setup.server.requests.length >= before + 10);
    expect(new Set(setup.server.requests.slice(before))).toEqual(new Set(['put leases']));
    expect(runs).toBeGreaterThan(runsBefore + 10);
  });

  it('stops with the error of a task that ends with one', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager();
    manager.addRunnable({ name: 'server', needsLeader: false, run: () => Promise.reject(new Error('port taken')) });
    await expect(manager.start()).rejects.toThrow('port taken');
  });

  it('refuses two controllers of a name, and anything that comes after start', async () => {
    await using setup = await setUp();
    const manager = setup.makeManager();
    const controller = defineController({ name: 'c', sources: [], reconcile: () => Promise.resolve() });
    manager.add(controller);
    expect(() => manager.add(controller)).toThrow('there is already a controller c');
    void manager.start();
    expect(() => manager.add({ ...controller, name: 'd' })).toThrow('controller d comes too late: add it before start');
    expect(() => manager.start()).toThrow('the manager was started before');
    expect(() => defineController({ ...controller, name: 'Not good' })).toThrow('write lower-case letters');
  });
});

describe('two managers', () => {
  it('lead one after the other; the standby has warm stores and takes over at once from one that stops', async () => {
    await using setup = await setUp();
    setup.server.put(ConfigMap, makeMap('a'));
    const make = (identity: string) => {
      const manager = setup.makeManager({ leaderElection: { ...election, identity } });
      const recorder = makeRecorder();
      const everywhere = makeRecorder();
      manager.add(defineController({ name: 'c', sources: [watches(ConfigMap)], reconcile: recorder.reconcile }));
      manager.add(
        defineController({
          name: 'all',
          sources: [watches(ConfigMap)],
          reconcile: everywhere.reconcile,
          needsLeader: false,
        }),
      );
      return { manager, runs: recorder.runs, everywhere: everywhere.runs };
    };
    const first = make('first');
    void first.manager.start();
    await first.manager.running;
    const second = make('second');
    const secondRun = second.manager.start();
    await eventually(() => second.manager.store(ConfigMap).synced && second.everywhere.length === 1);
    expect([first.manager.isLeader, second.manager.isLeader]).toEqual([true, false]);
    expect(second.runs).toEqual([]);
    await first.manager.stop();
    await second.manager.running;
    await eventually(() => second.runs.length === 1);
    setup.server.put(ConfigMap, makeMap('a', 'changed'));
    await eventually(() => second.runs.length === 2);
    expect(first.runs).toEqual(['ns/a']);
    await second.manager.stop();
    await secondRun;
    expect(setup.server.state(Lease).get('ns/test')).toMatchObject({ spec: { holderIdentity: '' } });
  });

  it('do not both act when one loses its lease in the middle of its work: its signal is aborted and start rejects', async () => {
    await using setup = await setUp();
    setup.server.put(ConfigMap, makeMap('a'));
    const manager = setup.makeManager({ leaderElection: { ...election, identity: 'first' } });
    let aborted: unknown;
    manager.add(
      defineController({
        name: 'c',
        sources: [watches(ConfigMap)],
        reconcile: async (_key, { signal }) => {
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
          aborted = signal.reason;
        },
      }),
    );
    const running = manager.start();
    await manager.running;
    const lease = setup.server.state(Lease).get('ns/test') as KubeObject & { spec: object };
    setup.server.put(Lease, { ...lease, spec: { ...lease.spec, holderIdentity: 'thief' } } as KubeObject);
    await expect(running).rejects.toThrow(LeadershipLostError);
    expect(aborted).toBeInstanceOf(LeadershipLostError);
    expect(manager.isLeader).toBe(false);
    expect(setup.server.state(Lease).get('ns/test')).toMatchObject({ spec: { holderIdentity: 'thief' } });
  });
});
