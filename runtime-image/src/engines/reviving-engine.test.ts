import { expect, test } from 'vitest';
import { toApiError } from '../plugins/errors.ts';
import { GREEDY as sampling } from '../scheduling/decoder.ts';
import { EngineBrokenError } from '../scheduling/job.ts';
import type { Engine } from './engine.ts';
import { createFakeEngine } from './fake.ts';
import { RevivingEngine } from './reviving-engine.ts';

function start(loads: readonly (() => Promise<Engine>)[] = []) {
  const told: string[] = [];
  let dead = false;
  const make = () =>
    createFakeEngine({
      beforeDecode: () => {
        if (dead) throw new Error('the device is gone');
      },
    });
  let clock = 0;
  let count = 0;
  const load = () => (loads[count++] ?? (() => Promise.resolve(make())))();
  const engine = new RevivingEngine(
    make(),
    load,
    (message) => told.push(message),
    () => clock,
  );
  const ask = async (): Promise<string> => {
    let text = '';
    const prompt = [...engine.beginning, ...engine.tokenize('<|user|>Hi<|end|><|assistant|>', true)];
    for await (const part of engine.generate({ prompt, maxTokens: 30, sampling, stop: [] }))
      if (part.type === 'text') text += part.text;
    return text;
  };
  /** Batches fail until the engine gives up. */
  const kill = async () => {
    dead = true;
    const errors: unknown[] = [];
    for (let turn = 0; turn < 3; turn++) errors.push(await ask().catch((error: unknown) => error));
    dead = false;
    return errors;
  };
  return { engine, told, ask, kill, later: (ms: number) => (clock += ms) };
}

test('a broken engine is loaded again; requests until then are told when to come back', async () => {
  const arrival = Promise.withResolvers<Engine>();
  const { engine, told, ask, kill } = start([() => arrival.promise]);
  expect(await ask()).toBe('You said: Hi');
  const errors = await kill();
  expect(errors.at(-1)).toBeInstanceOf(EngineBrokenError);
  expect(toApiError(errors.at(-1))).toMatchObject({
    status: 503,
    details: { code: 'engine_restarting', retryAfter: 5 },
  });
  expect(engine.stats.broken?.message).toBe('the device is gone');
  await expect(ask()).rejects.toThrow(EngineBrokenError);
  await expect(engine.embed(['a'])).rejects.toThrow(EngineBrokenError);
  expect(() => engine.tokenize('a', false)).toThrow(EngineBrokenError);
  arrival.resolve(createFakeEngine());
  await expect.poll(() => engine.stats.broken).toBeUndefined();
  expect(await ask()).toBe('You said: Hi');
  expect(engine.stats.reloads).toBe(1);
  expect(told).toEqual(['the engine failed (the device is gone): it is loaded again']);
  await engine.close();
});

test('one that cannot be loaded is tried again, and stays broken', async () => {
  const { engine, told, kill } = start(Array.from({ length: 9 }, () => () => Promise.reject(new Error('no memory'))));
  await kill();
  const failures = () => {
    void engine.stats;
    return told.filter((line) => line.includes('no memory')).length;
  };
  await expect.poll(failures).toBe(3);
  expect(engine.stats).toMatchObject({ broken: { message: 'the device is gone' }, reloads: 0 });
  await engine.close();
});

test('one that breaks again and again is left to the kubelet, and given another chance much later', async () => {
  const { engine, kill, ask, later } = start();
  for (let time = 1; time <= 3; time++) {
    await kill();
    await expect.poll(() => engine.stats.broken).toBeUndefined();
    expect(engine.stats.reloads).toBe(time);
  }
  await kill();
  for (let look = 0; look < 20; look++) expect(engine.stats.broken).toBeDefined();
  later(11 * 60_000);
  await expect.poll(() => engine.stats.broken).toBeUndefined();
  expect(await ask()).toBe('You said: Hi');
  await engine.close();
});
