import { describe, expect, test, vi } from 'vitest';
import { createFakeEngine, turns } from '../engines/fake.ts';
import { makeLoadedModel } from './loaded-model.ts';
import { type ModelSpec, makeSpec } from './model-spec.ts';
import { ModelRegistry, type RegistryOptions } from './registry.ts';

/** Models that are loaded when told to, and a log of what came and went. */
function makeRegistry(names: readonly string[], options: Partial<RegistryOptions> = {}) {
  const log: string[] = [];
  const gates = new Map<string, PromiseWithResolvers<void>>();
  const load = async (spec: ModelSpec) => {
    const name = spec.names[0];
    log.push(`load ${name}`);
    await gates.get(name)?.promise;
    const engine = createFakeEngine();
    const close = engine.close.bind(engine);
    engine.close = async () => {
      log.push(`close ${name}`);
      await close();
    };
    return makeLoadedModel(spec, engine, { tokensPerSecond: 1, loadedAt: new Date(0) });
  };
  const models = new ModelRegistry(
    names.map((name) => makeSpec({ names: [name], path: `/${name}` })),
    { load, ...options },
  );
  const entry = (name: string) => {
    const found = models.find(name);
    if (!found) throw new Error(`no ${name}`);
    return found;
  };
  return {
    models,
    log,
    entry,
    hold: (name: string) => {
      const gate = Promise.withResolvers<void>();
      gates.set(name, gate);
      return gate;
    },
    use: (name: string, given: Parameters<ModelRegistry['use']>[1] = {}) => models.use(entry(name), given),
    loaded: () => models.loaded.map((one) => one.name),
  };
}

test('a model is loaded for the first request, once for all that wait, and stays', async () => {
  const { use, log, loaded } = makeRegistry(['a']);
  const [first, second] = await Promise.all([use('a'), use('a')]);
  expect(first.model).toBe(second.model);
  first.release();
  second.release();
  (await use('a')).release();
  expect([log, loaded()]).toEqual([['load a'], ['a']]);
});

test('the one whose last use is longest ago makes room', async () => {
  let now = 0;
  const { use, log, loaded } = makeRegistry(['a', 'b', 'c'], { maxLoaded: 2, now: () => ++now });
  for (const name of ['a', 'b', 'a', 'c']) (await use(name)).release();
  expect([log, loaded()]).toEqual([
    ['load a', 'load b', 'close b', 'load c'],
    ['a', 'c'],
  ]);
});

test('a model that answers is never unloaded: the other waits for its end', async () => {
  const { use, log } = makeRegistry(['a', 'b'], { maxLoaded: 1 });
  const running = await use('a');
  const waiting = use('b');
  await turns(5);
  expect(log).toEqual(['load a']);
  // Whoever wants the first again comes after the other, or it would never get its turn.
  const again = use('a');
  await turns(5);
  running.release();
  (await waiting).release();
  (await again).release();
  expect(log).toEqual(['load a', 'close a', 'load b', 'close b', 'load a']);
});

test('nothing is unloaded for somebody who left', async () => {
  const { use, log, loaded } = makeRegistry(['a', 'b'], { maxLoaded: 1 });
  const running = await use('a');
  const leaving = new AbortController();
  const waiting = use('b', { signal: leaving.signal });
  await turns(5);
  leaving.abort();
  await expect(waiting).rejects.toThrow('aborted');
  await turns(5);
  running.release();
  (await use('a')).release();
  expect([log, loaded()]).toEqual([['load a'], ['a']]);
});

test('memory: estimates are added up, and what can never fit is refused', async () => {
  const sizes: Record<string, number> = { a: 3, b: 3, huge: 11 };
  const { use, log } = makeRegistry(['a', 'b', 'huge'], {
    maxMemory: 5 * 2 ** 30,
    estimate: async (spec) => (sizes[spec.names[0]] ?? 0) * 2 ** 30,
  });
  (await use('a')).release();
  (await use('b')).release();
  await expect(use('huge')).rejects.toThrow(
    "model 'huge' needs about 11.00 GiB and 5.00 GiB of the server's 5.00 GiB are free: raise SLM_MAX_MEMORY",
  );
  expect(log).toEqual(['load a', 'close a', 'load b', 'close b']);
});

describe('keep_alive', () => {
  test('the time begins with the last release, and the last who said one decides', async () => {
    vi.useFakeTimers();
    try {
      const { use, loaded, entry } = makeRegistry(['a'], { keepAliveMs: 1000 });
      const one = await use('a', { keepAliveMs: 5000 });
      const two = await use('a');
      one.release();
      vi.advanceTimersByTime(60_000);
      expect(loaded()).toEqual(['a']);
      two.release();
      expect(entry('a').expiresAt?.getTime()).toBe(Date.now() + 5000);
      vi.advanceTimersByTime(4999);
      expect(loaded()).toEqual(['a']);
      vi.advanceTimersByTime(1);
      expect(loaded()).toEqual([]);
    } finally {
      vi.useRealTimers();
    }
  });

  test('0 unloads at once, without end stays', async () => {
    const { use, loaded, models, entry } = makeRegistry(['a', 'b']);
    (await use('a', { keepAliveMs: 0 })).release();
    (await use('b', { keepAliveMs: Number.POSITIVE_INFINITY })).release();
    expect([loaded(), entry('b').expiresAt]).toEqual([['b'], undefined]);
    models.expire(entry('b'));
    expect(loaded()).toEqual([]);
  });
});

test('a load that fails is told to all who wait, and tried again', async () => {
  const failing = vi.fn().mockRejectedValue(new Error('the file is broken'));
  const { use } = makeRegistry(['a'], { load: failing });
  const answers = await Promise.allSettled([use('a'), use('a')]);
  expect(answers.map((one) => (one as PromiseRejectedResult).reason.message)).toEqual([
    "model 'a' cannot be loaded: the file is broken",
    "model 'a' cannot be loaded: the file is broken",
  ]);
  await expect(use('a')).rejects.toThrow('broken');
  expect(failing).toHaveBeenCalledTimes(2);
});

test('a model whose engine broke is loaded anew', async () => {
  const { use, log } = makeRegistry(['a']);
  const first = await use('a');
  first.release();
  const { stats } = first.model.engine;
  Object.defineProperty(first.model.engine, 'stats', { value: { ...stats, broken: new Error('gone') } });
  (await use('a')).release();
  expect(log).toEqual(['load a', 'close a', 'load a']);
});

test('a wait has an end; the load goes on', async () => {
  const { use, hold, loaded } = makeRegistry(['a'], { loadTimeoutMs: 20 });
  const gate = hold('a');
  await expect(use('a')).rejects.toThrow("model 'a' was not loaded within 0 s: try again later");
  gate.resolve();
  await expect.poll(loaded).toEqual(['a']);
});

test('models come and go with their folder; what runs comes to its end', async () => {
  let specs = [makeSpec({ names: ['a'], path: '/a' }), makeSpec({ names: ['b'], path: '/b' })];
  const { models, use, log, loaded } = makeRegistry(['a', 'b'], { refresh: async () => specs });
  const running = await use('a');
  (await use('b')).release();
  specs = [makeSpec({ names: ['b'], path: '/b' }), makeSpec({ names: ['c'], path: '/c' })];
  await models.refresh();
  expect([models.entries.map((one) => one.name), loaded(), log]).toEqual([['b', 'c'], ['b'], ['load a', 'load b']]);
  running.release();
  await expect.poll(() => log.at(-1)).toBe('close a');
});

test('looks at the folder never overlap, and who comes meanwhile shares the next', async () => {
  let looks = 0;
  let running = 0;
  const { models } = makeRegistry(['a'], {
    refresh: async () => {
      looks++;
      expect(++running).toBe(1);
      await turns(3);
      running--;
      return [];
    },
  });
  const first = models.refresh();
  await turns(1);
  await Promise.all([first, models.refresh(), models.refresh(), models.refresh()]);
  expect([looks, models.entries]).toEqual([2, []]);
});

test('closing ends every engine', async () => {
  const { models, use, log } = makeRegistry(['a', 'b']);
  await use('a');
  await use('b');
  await models.close();
  expect(log.slice(2)).toEqual(['close a', 'close b']);
});
