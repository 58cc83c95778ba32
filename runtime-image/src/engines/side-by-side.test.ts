import { expect, test } from 'vitest';
import { QueueFullError } from '../scheduling/queue.ts';
import { OneAtATime } from './one-at-a-time.ts';
import { SideBySide } from './side-by-side.ts';

interface Context {
  readonly threads: number;
}

function start(more: { lanes?: number; maxQueue?: number; most?: number } = {}) {
  const log: string[] = [];
  let contexts = 0;
  let running = 0;
  const side = new SideBySide<Context>({
    processor: new OneAtATime(),
    makeContext: (threads) => {
      if (++contexts > (more.most ?? 10)) throw new Error('no memory');
      return Promise.resolve({ threads });
    },
    threads: 4,
    lanes: more.lanes ?? 2,
    maxQueue: more.maxQueue ?? 10,
  });
  const one = (name: string, size = 1) => ({
    size,
    run: async ({ threads }: Context) => {
      running++;
      await Promise.resolve();
      log.push(`${name} of ${running} on ${threads}`);
      await Promise.resolve();
      running--;
      return name;
    },
  });
  return { side, one, log };
}

test('results come in the order of the request, several computed at a time and equal ones together', async () => {
  const { side, one, log } = start();
  const names = ['short', 'long', 'longer', 'shorter'];
  const results = await side.run(
    names.map((name) => one(name, name.startsWith('long') ? 9 : 1)),
    undefined,
  );
  expect(results).toEqual(names);
  expect(log).toEqual(['long of 2 on 1', 'longer of 2 on 1', 'short of 2 on 1', 'shorter of 2 on 1']);
});

test('one alone gets all threads', async () => {
  const { side, one, log } = start();
  expect((await side.context()).threads).toBe(4);
  await side.run([one('alone')], undefined);
  expect(log).toEqual(['alone of 1 on 4']);
});

test('a long list does not keep others waiting', async () => {
  const { side, one, log } = start({ lanes: 1 });
  const list = side.run(
    ['a', 'b', 'c', 'd'].map((name) => one(name)),
    undefined,
  );
  const single = side.run([one('x')], undefined);
  await Promise.all([list, single]);
  expect(log.map((line) => line[0]).join('')).toBe('abxcd');
});

test('without memory for more contexts, the one has to do', async () => {
  const { side, one, log } = start({ most: 1 });
  await side.context();
  expect(await side.run([one('a'), one('b')], undefined)).toEqual(['a', 'b']);
  expect(log).toEqual(['a of 1 on 4', 'b of 1 on 4']);
});

test('an abort ends what waits, a failure what failed, and too many are refused', async () => {
  const { side, one, log } = start({ lanes: 1, maxQueue: 0 });
  const leave = new AbortController();
  const list = side.run([one('a'), one('b'), one('c')], leave.signal);
  expect(() => side.checkRoom()).toThrow(QueueFullError);
  leave.abort(new Error('gone'));
  await expect(list).rejects.toThrow('gone');
  expect(log.length).toBeLessThan(3);
  const broken = { size: 1, run: () => Promise.reject(new Error('broken')) };
  await expect(side.run([broken, one('d')], undefined)).rejects.toThrow('broken');
  expect(await side.run([one('e')], undefined)).toEqual(['e']);
});
