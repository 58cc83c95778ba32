import { setTimeout as delay } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import type { KubeClient } from '../kube/client.ts';
import { makeKubeClient } from '../kube/http-client.ts';
import { ConfigMap, type KubeObject, type ObjectOf } from '../kube/resource.ts';
import { silentLogger } from './log.ts';
import { type ReflectorOptions, runReflector } from './reflector.ts';
import { makeStore, type WritableStore } from './store.ts';
import { type FastClock, makeFastClock } from './testing/clocks.ts';
import { eventually } from './testing/eventually.ts';
import { type Fault, type FaultyApiServer, startFaultyApiServer, type Verb } from './testing/faulty-api-server.ts';
import { type Mirror, makeMirror } from './testing/mirror.ts';

// Real sockets on a machine that may be busy with other things.
vi.setConfig({ testTimeout: 30_000 });

type Map_ = ObjectOf<typeof ConfigMap>;

interface Setup extends AsyncDisposable {
  readonly server: FaultyApiServer;
  readonly client: KubeClient;
  readonly store: WritableStore<Map_>;
  readonly mirror: Mirror<Map_>;
  readonly clock: FastClock;
  readonly handlerErrors: unknown[];
}

/** A reflector at a thousand times the usual speed: 30 s of backoff pass in 30 ms. */
async function setUp(
  fill: (server: FaultyApiServer) => void = () => undefined,
  options: Partial<ReflectorOptions<Map_>> = {},
): Promise<Setup> {
  const server = await startFaultyApiServer({ bookmarkMs: 10, secondMs: 0.05 });
  fill(server);
  const client = makeKubeClient({ access: server.access, userAgent: 'test/1', timeoutMs: 150 });
  const clock = makeFastClock(1000);
  const handlerErrors: unknown[] = [];
  const store = makeStore<Map_>((error) => handlerErrors.push(error));
  const mirror = makeMirror(store);
  const ending = new AbortController();
  const running = runReflector(
    { client, type: ConfigMap, store, log: silentLogger, clock, pageSize: 3, quietMs: 61_000, ...options },
    ending.signal,
  );
  return {
    server,
    client,
    store,
    mirror,
    clock,
    handlerErrors,
    async [Symbol.asyncDispose]() {
      ending.abort(new Error('test over'));
      await running;
      await client.close();
      await server.close();
    },
  };
}

/** A fast clock that notes how long the reflector meant to sleep; its watchdogs are longer than any pause. */
function makeRecordingClock() {
  const fast = makeFastClock(1000);
  const pauses: number[] = [];
  const clock: FastClock = {
    ...fast,
    schedule(ms, callback) {
      if (ms < 60_000) pauses.push(ms);
      return fast.schedule(ms, callback);
    },
  };
  return { clock, pauses };
}

function makeMap(name: string, value = 'x'): KubeObject {
  return { metadata: { name, namespace: 'ns' }, data: { value } } as KubeObject;
}

function versions(objects: Iterable<[string, KubeObject]>): Record<string, string> {
  return Object.fromEntries(
    Array.from(objects, ([key, object]) => [key, `${object.metadata?.uid} ${object.metadata?.resourceVersion}`]),
  );
}

/** The store is what the server has, and every handler knows it. */
async function expectEqual({ server, store, mirror, handlerErrors }: Setup): Promise<void> {
  await eventually(() => {
    const expected = versions(server.state(ConfigMap));
    expect(versions(store.list().map((object) => [`ns/${object.metadata?.name}`, object]))).toEqual(expected);
    expect(versions(mirror.objects)).toEqual(expected);
    return true;
  });
  expect(mirror.complaints).toEqual([]);
  expect(handlerErrors).toEqual([]);
}

const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
const fill = (server: FaultyApiServer) => {
  for (const name of names) server.put(ConfigMap, makeMap(name));
};

describe('reflector', () => {
  it('lists in pages, fills in kinds, strips managedFields and freezes', async () => {
    await using setup = await setUp(fill);
    await expectEqual(setup);
    expect(setup.server.requests.filter((request) => request === 'list configmaps')).toHaveLength(3);
    const [object] = setup.store.list();
    expect(object).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap' });
    expect(object?.metadata).not.toHaveProperty('managedFields');
    expect(() => Object.assign(object?.data ?? {}, { value: 'changed' })).toThrow(TypeError);
  });

  it('keeps of each object what its transform leaves, from lists and from watches', async () => {
    const transform = ({ apiVersion = '', kind = '', metadata = {} }: Map_): Map_ => ({ apiVersion, kind, metadata });
    await using setup = await setUp(fill, { transform });
    await eventually(() => setup.store.size === names.length);
    setup.server.put(ConfigMap, makeMap('new'));
    await eventually(() => setup.store.get('ns/new') !== undefined);
    for (const name of ['a', 'new']) expect(setup.store.get(`ns/${name}`)).not.toHaveProperty('data');
    setup.server.remove(ConfigMap, 'ns/new');
    await eventually(() => setup.store.size === names.length);
  });

  it('follows adds, updates and deletes, and objects that are made again under their name', async () => {
    await using setup = await setUp(fill);
    await expectEqual(setup);
    setup.server.put(ConfigMap, makeMap('new'));
    setup.server.put(ConfigMap, makeMap('a', 'changed'));
    setup.server.remove(ConfigMap, 'ns/b');
    setup.server.replace(ConfigMap, makeMap('c'));
    await expectEqual(setup);
    expect(setup.mirror.events.slice(names.length)).toEqual([
      'add ns/new',
      'update ns/a',
      'delete ns/b',
      'delete ns/c',
      'add ns/c',
    ]);
  });

  it('finds by a relist what was deleted and made again while it could not watch', async () => {
    await using setup = await setUp(fill);
    await expectEqual(setup);
    setup.server.fail('watch', { kind: 'reset' });
    setup.server.disconnect();
    setup.server.remove(ConfigMap, 'ns/a');
    setup.server.replace(ConfigMap, makeMap('b'));
    setup.server.compact();
    await expectEqual(setup);
    expect(setup.mirror.events.slice(names.length).sort()).toEqual(['add ns/b', 'delete ns/a', 'delete ns/b']);
  });

  it('goes on from bookmarks: compacted history costs no new list where nothing of ours changed', async () => {
    await using setup = await setUp(fill);
    await expectEqual(setup);
    const lists = () => setup.server.requests.filter((request) => request.startsWith('list')).length;
    const before = lists();
    for (let round = 0; round < 3; round++) {
      setup.server.tick();
      const watches = setup.server.requests.length;
      // Long enough for a bookmark and for the watch to end and begin again.
      await eventually(() => setup.server.requests.length >= watches + 1);
      setup.server.compact();
    }
    setup.server.put(ConfigMap, makeMap('last'));
    await expectEqual(setup);
    expect(lists()).toBe(before);
  });

  it('survives a handler that throws, and tells the others', async () => {
    await using setup = await setUp(fill);
    await expectEqual(setup);
    setup.store.subscribe(() => {
      throw new Error('handler');
    });
    const late = makeMirror(setup.store);
    setup.server.put(ConfigMap, makeMap('new'));
    await eventually(() => late.objects.has('ns/new') && setup.mirror.objects.has('ns/new'));
    expect(setup.handlerErrors.length).toBeGreaterThan(0);
  });

  it('waits longer and longer while a server answers every list with 500', async () => {
    const { clock, pauses } = makeRecordingClock();
    await using setup = await setUp(
      (server) => {
        fill(server);
        for (let i = 0; i < 8; i++) server.fail('list', { kind: 'status', code: 500 });
      },
      { clock, random: () => 0 },
    );
    await expectEqual(setup);
    expect(pauses).toEqual([800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
  });

  it('spreads its pauses by chance, never beyond the longest', async () => {
    const { clock, pauses } = makeRecordingClock();
    await using setup = await setUp(
      (server) => {
        fill(server);
        for (let i = 0; i < 6; i++) server.fail('list', { kind: 'status', code: 500 });
      },
      { clock, random: () => 0.5 },
    );
    await expectEqual(setup);
    expect(pauses).toEqual([1200, 2400, 4800, 9600, 19_200, 30_000]);
  });

  it('lists again at once after 410, but not in a tight loop when it comes again and again', async () => {
    const { clock, pauses } = makeRecordingClock();
    await using setup = await setUp(
      (server) => {
        fill(server);
        for (let i = 0; i < 5; i++) server.fail('watch', { kind: 'error-event', code: 410, afterEvents: 0 });
      },
      { clock, random: () => 0 },
    );
    await eventually(() => setup.server.requests.filter((request) => request.startsWith('watch')).length >= 6);
    await expectEqual(setup);
    expect(pauses).toEqual([1600, 3200, 6400, 12_800]);
  });

  it('waits as long as Retry-After says', async () => {
    const { clock, pauses } = makeRecordingClock();
    await using setup = await setUp(
      (server) => {
        fill(server);
        server.fail('watch', { kind: 'status', code: 429, retryAfterSeconds: 20 });
      },
      { clock, random: () => 0 },
    );
    await expectEqual(setup);
    setup.server.put(ConfigMap, makeMap('new'));
    await expectEqual(setup);
    expect(pauses).toEqual([20_000]);
  });

  it.each<[string, Verb, Fault]>([
    ['a watch that ends in the middle of an event', 'watch', { kind: 'cut', afterEvents: 1 }],
    ['a half-closed connection', 'watch', { kind: 'half-closed', afterEvents: 1 }],
    ['a watch that ends at once', 'watch', { kind: 'end', afterEvents: 0 }],
    ['a watch that is never answered', 'watch', { kind: 'hang' }],
    ['an answer that is no JSON to a watch', 'watch', { kind: 'garbage' }],
    ['410 as status of a watch', 'watch', { kind: 'status', code: 410 }],
    ['410 inside a watch', 'watch', { kind: 'error-event', code: 410, afterEvents: 1 }],
    ['500 inside a watch', 'watch', { kind: 'error-event', code: 500, afterEvents: 1 }],
    ['a list that is never answered', 'list', { kind: 'hang' }],
    ['a list cut in the middle', 'list', { kind: 'truncated' }],
    ['an answer that is no JSON to a list', 'list', { kind: 'garbage' }],
    ['a page token that is too old', 'list', { kind: 'status', code: 410 }],
    ['429 with Retry-After on a list', 'list', { kind: 'status', code: 429, retryAfterSeconds: 0 }],
    ['a connection reset on a list', 'list', { kind: 'reset' }],
  ])('recovers from %s', async (_name, verb, fault) => {
    await using setup = await setUp((server) => {
      fill(server);
      server.fail(verb, fault);
    });
    await eventually(() => setup.server.requests.some((request) => request.startsWith('watch')));
    for (let i = 0; i < 4; i++) setup.server.put(ConfigMap, makeMap(`later-${i}`));
    setup.server.remove(ConfigMap, 'ns/a');
    await expectEqual(setup);
    expect(setup.server.faultsMet).toBe(1);
  });
});

/** Real time at which the test's own patience ends, in time of the fast clock: longer than any test. */
const NEVER_MS = 1e9;

describe('a half-open connection (its other end gone without a word)', () => {
  it.each<[string, Partial<ReflectorOptions<Map_>>]>([
    [
      'by its silence, where bookmarks should come',
      { quietMs: 61_000, watchSeconds: [NEVER_MS / 1000, NEVER_MS / 1000] },
    ],
    ['by its age, where the server should have ended it', { quietMs: NEVER_MS, watchSeconds: [60, 60] }],
  ])('is noticed %s', async (_name, options) => {
    await using setup = await setUp((server) => {
      fill(server);
      server.fail('watch', { kind: 'silent', afterEvents: 0 });
    }, options);
    await eventually(() => setup.server.faultsMet === 1);
    setup.server.remove(ConfigMap, 'ns/a');
    await expectEqual(setup);
    expect(setup.mirror.events).toContain('delete ns/a');
  });
});

type Step =
  | { readonly do: 'put' | 'remove' | 'replace'; readonly name: string }
  | { readonly do: 'compact' | 'tick' | 'breathe' | 'disconnect' }
  | { readonly do: 'fail'; readonly verb: Verb; readonly fault: Fault }
  | { readonly do: 'jump'; readonly wall: number; readonly monotonic: number };

const afterEvents = fc.nat(3);
const watchFault: fc.Arbitrary<Fault> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('cut' as const, 'half-closed' as const, 'silent' as const, 'end' as const),
    afterEvents,
  }),
  fc.record({ kind: fc.constant('error-event' as const), code: fc.constantFrom(410, 500, 504), afterEvents }),
);
const anyFault: fc.Arbitrary<Fault> = fc.oneof(
  fc.record({ kind: fc.constantFrom('hang' as const, 'reset' as const, 'garbage' as const, 'truncated' as const) }),
  fc.record({ kind: fc.constant('status' as const), code: fc.constantFrom(410, 500, 503, 504, 404, 403) }),
  fc.record({
    kind: fc.constant('status' as const),
    code: fc.constantFrom(429, 503),
    retryAfterSeconds: fc.constantFrom(0, 0.01),
  }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom('put' as const, 'put' as const, 'remove' as const, 'replace' as const),
      name: fc.constantFrom(...names),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('compact' as const, 'tick' as const, 'breathe' as const, 'disconnect' as const),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('fail' as const), verb: fc.constant('watch' as const), fault: watchFault }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('fail' as const),
      verb: fc.constantFrom('list' as const, 'watch' as const),
      fault: anyFault,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('jump' as const),
      wall: fc.integer({ min: -86_400_000, max: 86_400_000 }),
      monotonic: fc.nat(700_000),
    }),
  },
);

describe('reflector, any order of changes and faults', () => {
  it('ends with what the server has, and every handler saw a consistent story', { timeout: 120_000 }, async () => {
    let met = 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(6), fc.array(step, { maxLength: 40, size: 'max' }), async (initial, steps) => {
        await using setup = await setUp((server) => {
          for (const name of names.slice(0, initial)) server.put(ConfigMap, makeMap(name));
        });
        for (const [index, one] of steps.entries()) {
          if (one.do === 'put') setup.server.put(ConfigMap, makeMap(one.name, String(index)));
          else if (one.do === 'remove') setup.server.remove(ConfigMap, `ns/${one.name}`);
          else if (one.do === 'replace') setup.server.replace(ConfigMap, makeMap(one.name, String(index)));
          else if (one.do === 'compact') setup.server.compact();
          else if (one.do === 'tick') setup.server.tick();
          else if (one.do === 'disconnect') setup.server.disconnect();
          else if (one.do === 'fail') setup.server.fail(one.verb, one.fault);
          else if (one.do === 'jump') {
            setup.clock.jumpWall(one.wall);
            setup.clock.jumpMonotonic(one.monotonic);
          } else await delay(4);
          // Without time to notice, faults would be healed before anybody met them.
          if (one.do === 'fail') await delay(index % 7);
        }
        met += setup.server.faultsMet;
        setup.server.heal();
        await expectEqual(setup);
      }),
      // Shrinking a failure means waiting for it again and again: enough to find a short one, not for ever.
      { numRuns: 100, interruptAfterTimeLimit: 100_000, markInterruptAsFailure: true },
    );
    // Guards the test itself: a run in which nothing goes wrong proves nothing.
    expect(met).toBeGreaterThan(100);
  });
});
