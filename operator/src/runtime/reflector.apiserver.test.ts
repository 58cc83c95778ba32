import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startControlPlane, type TestControlPlane } from '../../../test/envtest/control-plane.ts';
import type { KubeClient } from '../kube/client.ts';
import { accessFrom, loadKubeConfig } from '../kube/config.ts';
import { isNotFound } from '../kube/errors.ts';
import { makeKubeClient } from '../kube/http-client.ts';
import { ConfigMap, type ObjectOf } from '../kube/resource.ts';
import { silentLogger } from './log.ts';
import { runReflector } from './reflector.ts';
import { makeStore } from './store.ts';
import { eventually } from './testing/eventually.ts';
import { makeMirror } from './testing/mirror.ts';

/** A control plane of its own, because it is killed and frozen. */
let plane: TestControlPlane;
let client: KubeClient;

beforeAll(async () => {
  plane = await startControlPlane();
  const access = accessFrom(loadKubeConfig({ file: plane.kubeconfig }));
  client = makeKubeClient({ access, userAgent: 'reflector-test/1', timeoutMs: 2000 });
});

afterAll(async () => {
  await client.close();
  await plane.stop();
});

const namespace = 'default';
const names = Array.from({ length: 40 }, (_value, index) => `map-${index}`);

/** The same numbers for the same seed: a failure can be run again. */
function makeRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** One change of one object by chance: made, changed, moved in or out of the selector, deleted, replaced. */
async function change(random: (below: number) => number): Promise<void> {
  const name = names[random(names.length)] as string;
  const labels = { side: random(2) === 0 ? 'left' : 'right' };
  const object = { metadata: { name, namespace, labels }, data: { value: String(random(1000)) } };
  const kind = random(10);
  if (kind < 6) await client.apply(ConfigMap, object, { force: true });
  else {
    await client.delete(ConfigMap, { name, namespace }).catch((error: unknown) => {
      if (!isNotFound(error)) throw error;
    });
    if (kind === 9) await client.apply(ConfigMap, object, { force: true });
  }
}

function startReflector(labelSelector: string | undefined) {
  const store = makeStore<ObjectOf<typeof ConfigMap>>((error) => {
    throw error;
  });
  const mirror = makeMirror(store);
  const ending = new AbortController();
  const events: string[] = [];
  const running = runReflector(
    {
      client,
      type: ConfigMap,
      selector: { namespace, labelSelector },
      store,
      log: silentLogger,
      pageSize: 7,
      backoff: { baseMs: 20, maxMs: 300 },
      watchSeconds: [1, 3],
      quietMs: 2500,
      onEvent: (event) => events.push(event),
    },
    ending.signal,
  );
  const versions = (objects: Iterable<ObjectOf<typeof ConfigMap>>) =>
    Object.fromEntries(
      Array.from(objects, ({ metadata }) => [metadata?.name, `${metadata?.uid} ${metadata?.resourceVersion}`]),
    );
  return {
    store,
    events,
    async expectEqual() {
      await eventually(
        async () => {
          const { items } = await client.listAll(ConfigMap, { namespace, labelSelector });
          expect(versions(store.list())).toEqual(versions(items));
          expect(versions(mirror.objects.values())).toEqual(versions(items));
          return true;
        },
        { timeoutMs: 20_000, everyMs: 50 },
      );
      expect(mirror.complaints).toEqual([]);
    },
    async end() {
      ending.abort(new Error('test over'));
      await running;
    },
  };
}

describe('reflector against a real API server', () => {
  it('keeps stores equal to the server while it is killed, restarted and frozen in the middle of changes', {
    timeout: 120_000,
  }, async () => {
    const random = makeRandom(20_301);
    for (let i = 0; i < 60; i++) await change(random);
    const reflectors = [startReflector(undefined), startReflector('side=left')];
    const check = async () => {
      for (const reflector of reflectors) await reflector.expectEqual();
    };
    /** Changes until told to stop; what fails while the server is away is tried by the next change. */
    const churn = async (until: AbortSignal) => {
      while (!until.aborted) await change(random).catch(() => delay(20));
    };
    try {
      await check();
      for (const trouble of ['kill', 'freeze', 'none'] as const) {
        const calm = new AbortController();
        const churning = churn(calm.signal);
        await delay(500);
        if (trouble === 'kill') await plane.restart();
        if (trouble === 'freeze') {
          plane.pause();
          await delay(3000);
          plane.resume();
        }
        await delay(1000);
        calm.abort();
        await churning;
        await check();
      }
      // It went through real trouble, and through watches that ended well.
      expect(reflectors[0]?.events.filter((event) => event === 'watch_error').length).toBeGreaterThan(0);
      expect(reflectors[0]?.events.filter((event) => event === 'watch').length).toBeGreaterThan(3);
    } finally {
      await Promise.all(reflectors.map((reflector) => reflector.end()));
    }
  });

  it('is told by a restarted server that its version is too old, and starts well from there', {
    timeout: 60_000,
  }, async () => {
    const random = makeRandom(7);
    for (let i = 0; i < 20; i++) await change(random);
    const { resourceVersion } = await client.list(ConfigMap, { namespace, limit: 1 });
    for (let i = 0; i < 20; i++) await change(random);
    // A restarted server remembers no changes from before its start.
    await plane.restart();
    const expired = (async () => {
      for await (const event of client.watch(ConfigMap, { namespace, resourceVersion, timeoutSeconds: 5 })) void event;
    })();
    await expect(expired).rejects.toMatchObject({ status: 410 });
    const reflector = startReflector(undefined);
    await reflector.expectEqual();
    const before = reflector.store.size;
    for (const name of names) {
      await client.delete(ConfigMap, { name, namespace }).catch((error: unknown) => {
        if (!isNotFound(error)) throw error;
      });
    }
    await reflector.expectEqual();
    expect(before).toBeGreaterThan(reflector.store.size);
    await reflector.end();
  });
});
