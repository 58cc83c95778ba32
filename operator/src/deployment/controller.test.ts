import type { SLMDeploymentStatus } from '@slm-operator/crds';
import { beforeEach, describe, expect, it } from 'vitest';
import { FakeClient, refused } from '../execution/fake-client.ts';
import type { KubeObject, ResourceType } from '../kube/resource.ts';
import type { Controller } from '../runtime/controller.ts';
import { silentLogger } from '../runtime/log.ts';
import { type Indexer, makeStore, type WritableStore } from '../runtime/store.ts';
import { type ManualClock, makeManualClock } from '../runtime/testing/clocks.ts';
import { makeDeploymentController } from './controller.ts';
import { FIRST_STATUS_MS, PROGRESS_INTERVAL_MS } from './status-pace.ts';
import { cache, config, deployment, digest, model, pod, size } from './testing/objects.ts';

/** A controller on stores that the test fills. */
class Bench {
  readonly stores = new Map<string, WritableStore<KubeObject>>();
  readonly api = new FakeClient();
  readonly clock: ManualClock = makeManualClock(Date.parse('2026-11-23T12:00:00Z'));
  readonly woken: string[] = [];
  readonly controller: Controller;
  eventsListed: () => Promise<unknown> = () => Promise.resolve({ items: [] });

  constructor() {
    this.controller = makeDeploymentController({
      manager: { store: (type, options) => this.#store(type, options?.indexes) as never },
      client: Object.assign(this.api.client, { list: () => this.eventsListed() }),
      config,
      broker: { namespace: 'slm-system', service: 'slm-operator' },
      recorder: { record: () => undefined },
      clock: this.clock,
      random: (bytes) => new Uint8Array(bytes),
    });
  }

  #store(type: ResourceType, indexes: Readonly<Record<string, Indexer<never>>> = {}): WritableStore<KubeObject> {
    const store = this.stores.get(type.kind) ?? makeStore<KubeObject>((error) => expect.unreachable(String(error)));
    this.stores.set(type.kind, store);
    for (const [name, indexer] of Object.entries(indexes)) store.addIndex(name, indexer as Indexer<KubeObject>);
    return store;
  }

  put(kind: string, object: KubeObject): void {
    this.stores.get(kind)?.put({ ...object, metadata: { ...object.metadata, resourceVersion: `${++version}` } });
    this.api.add(kind, object);
  }

  /** What the controller last wrote comes back through the watch. */
  sync(): void {
    for (const [id, object] of this.api.objects) {
      const kind = id.split(' ')[0] ?? '';
      if (kind === 'SLMDeployment') this.put(kind, { ...deployment(), ...object, metadata: deployment().metadata });
    }
  }

  reconcile() {
    // ReplicaSets that were made are in the store by the next look; until then there would be none.
    const sets = this.stores.get('ReplicaSet');
    for (const [id, object] of this.api.objects) {
      const { namespace, name } = object.metadata ?? {};
      if (id.startsWith('ReplicaSet') && sets?.get(`${namespace}/${name}`) === undefined) sets?.put(object);
    }
    const context = { signal: new AbortController().signal, log: silentLogger, attempt: 0 };
    return this.controller.reconcile('demo/chat', context);
  }

  /** Until the first status is due. */
  async reconcileTwice(): Promise<void> {
    await this.reconcile();
    this.clock.advance(FIRST_STATUS_MS);
    await this.reconcile();
  }

  /** Keys that a change wakes. */
  listen(): void {
    for (const source of this.controller.sources) {
      source.bind({
        store: (type, options) => this.#store(type, options?.indexes as never) as never,
        enqueue: (key) => this.woken.push(key),
        onError: (error) => expect.unreachable(String(error)),
      });
    }
    this.woken.length = 0;
  }

  get statusWrites(): SLMDeploymentStatus[] {
    return this.api.calls
      .filter((call) => call.verb === 'applyStatus')
      .map((call) => (call.body as { status: SLMDeploymentStatus }).status);
  }
}

let version = 0;
let bench: Bench;
const downloading = (percent: number) =>
  cache('n1', { state: 'Downloading', bytesDone: Math.ceil((size * percent) / 100) });
const kubeNode = {
  metadata: { name: 'n1', uid: 'n1' },
  status: { conditions: [{ type: 'Ready', status: 'True' }] },
} as KubeObject;

beforeEach(() => {
  bench = new Bench();
  bench.put('Node', kubeNode);
  bench.put('SLMModel', model());
  bench.put('SLMNodeCache', downloading(10));
  bench.put('SLMDeployment', deployment());
});

describe('a wait for a device', () => {
  beforeEach(() => {
    bench.put('SLMNodeCache', cache());
    bench.put('SLMDeployment', deployment({ hardware: { preferred: 'gpu', fallbackAfter: '90s' } }));
  });
  const sets = () => [...bench.api.objects.keys()].filter((id) => id.startsWith('ReplicaSet'));

  it('ends when fallbackAfter is over, also while the store shows no status yet', async () => {
    expect(await bench.reconcile()).toMatchObject({ outcome: 'waiting', requeueAfter: 90_000 });
    bench.clock.advance(60_000);
    expect(await bench.reconcile()).toMatchObject({ outcome: 'waiting', requeueAfter: 30_000 });
    expect(sets()).toEqual([]);
    bench.clock.advance(30_000);
    await bench.reconcile();
    expect(sets()).toHaveLength(1);
    bench.clock.advance(1000);
    await bench.reconcile();
    expect(bench.statusWrites.at(-1)?.hardware?.summary).toBe('cpu (fallback)');
  });

  it('ends when a device comes: the inventory wakes the deployment', async () => {
    bench.listen();
    await bench.reconcile();
    bench.put('Node', {
      ...kubeNode,
      status: { ...(kubeNode as { status?: object }).status, allocatable: { 'nvidia.com/gpu': '1' } },
    } as KubeObject);
    bench.clock.advance(1000);
    expect(bench.woken).toContain('demo/chat');
    await bench.reconcile();
    expect(sets()[0]).toMatch(/-nvidia$/);
  });
});

describe('progress', () => {
  it('is written every two seconds at most, and then the newest', async () => {
    await bench.reconcileTwice();
    for (const percent of [11, 12, 13]) {
      bench.sync();
      bench.clock.advance(100);
      bench.put('SLMNodeCache', downloading(percent));
      await bench.reconcile();
    }
    expect(bench.statusWrites).toHaveLength(1);
    expect(await bench.reconcile()).toMatchObject({ outcome: 'waiting', requeueAfter: PROGRESS_INTERVAL_MS - 300 });
    bench.clock.advance(PROGRESS_INTERVAL_MS - 300);
    await bench.reconcile();
    expect(bench.statusWrites.map((status) => status.statusText)).toEqual([
      'model smollm2: 10% of 98 MB on node n1',
      'model smollm2: 13% of 98 MB on node n1',
    ]);
  });

  it('never holds back news', async () => {
    await bench.reconcileTwice();
    bench.sync();
    bench.put(
      'SLMNodeCache',
      cache('n1', { state: 'Failed', error: { reason: 'NotFound', message: 'x', attempts: 9 } }),
    );
    await bench.reconcile();
    expect(bench.statusWrites.map((status) => status.blockedBy?.[0]?.reason)).toEqual([
      'WaitingForBytes',
      'PullFailed',
    ]);
  });
});

it('makes two keys of 32 random bytes, once', async () => {
  await bench.reconcile();
  const made = bench.api.calls.find((call) => call.verb === 'create');
  expect(made).toMatchObject({ kind: 'Secret', key: 'demo/chat-api-keys' });
  const key = `sk-slm-${'A'.repeat(43)}`;
  expect(made?.body).toMatchObject({ stringData: { 'key-1': key, 'key-2': key } });
  await bench.reconcile();
  expect(bench.api.calls.filter((call) => call.verb === 'create')).toHaveLength(1);
});

it('does nothing for a deployment that is gone or going', async () => {
  bench.put('SLMDeployment', {
    ...deployment(),
    metadata: { ...deployment().metadata, deletionTimestamp: '2026-11-23T12:00:00Z' },
  });
  expect(await bench.reconcile()).toEqual({ outcome: 'done' });
  bench.stores.get('SLMDeployment')?.replace([]);
  expect(await bench.reconcile()).toEqual({ outcome: 'done' });
  expect(bench.api.calls).toEqual([]);
});

describe('the kubelet’s events', () => {
  const mounting = () => {
    bench.put('SLMNodeCache', cache());
    const labels = { 'slm.dev/deployment': 'chat' };
    const waiting = pod('chat-x', {
      conditions: [{ type: 'PodScheduled', status: 'True', lastTransitionTime: '2026-11-23T11:59:00Z' }],
    });
    bench.put('Pod', { ...waiting, metadata: { ...waiting.metadata, labels } });
  };

  it('are asked for a pod that does not mount', async () => {
    mounting();
    const event = (note: string, eventTime: string) => ({ note, eventTime });
    bench.eventsListed = () =>
      Promise.resolve({ items: [event('older', '2026-11-23T11:59:10Z'), event('newer', '2026-11-23T11:59:20Z')] });
    await bench.reconcileTwice();
    expect(bench.statusWrites.at(-1)?.statusText).toBe('pod chat-x: newer');
  });

  it('are done without where we may not read them', async () => {
    mounting();
    bench.eventsListed = () => Promise.reject(refused(403, 'Forbidden', 'no'));
    await bench.reconcileTwice();
    expect(bench.statusWrites.at(-1)?.statusText).toBe('pods are starting: 0 of 1 pods serve');
  });
});

describe('what wakes a deployment', () => {
  const wanted = { digest, size, files: [], sources: [], models: ['demo/smollm2'], namespaces: ['demo'] };
  const withWanted = (percent: number) => ({ ...downloading(percent), spec: { wanted: [wanted] } });
  const idle = { ...deployment(), status: { observedGeneration: 1, rollout: { phase: 'Idle' } } } as KubeObject;
  const rows: [string, () => void, string[]][] = [
    ['its model', () => bench.put('SLMModel', model({ observedGeneration: 2 })), ['demo/chat']],
    ['progress on a node', () => bench.put('SLMNodeCache', withWanted(50)), ['demo/chat']],
    ['a report that says nothing new', () => bench.put('SLMNodeCache', withWanted(10)), []],
    [
      'a node that is cordoned',
      () => bench.put('Node', { ...kubeNode, spec: { unschedulable: true } } as KubeObject),
      ['demo/chat'],
    ],
    ['a heartbeat of a node', () => bench.put('Node', { ...kubeNode, status: { ...heartbeat } } as KubeObject), []],
    [
      'a pod with its label',
      () => bench.put('Pod', { metadata: { name: 'p', namespace: 'demo', labels: { 'slm.dev/deployment': 'chat' } } }),
      ['demo/chat'],
    ],
    [
      'nodes, once it rests',
      () => {
        bench.put('SLMDeployment', idle);
        bench.woken.length = 0;
        bench.put('SLMNodeCache', withWanted(60));
      },
      [],
    ],
  ];
  const heartbeat = {
    conditions: [{ type: 'Ready', status: 'True', lastHeartbeatTime: '2026-11-23T12:00:01Z' }],
  };
  it.each(rows)('%s', (_, change, keys) => {
    bench.put('SLMNodeCache', withWanted(10));
    bench.listen();
    change();
    expect([...new Set(bench.woken)]).toEqual(keys);
  });
});
