import { expect, test } from 'vitest';
import { PromptCache } from './prompt-cache.ts';

const dropped: string[] = [];
const state = (name: string, bytes: number) => ({ name, bytes, drop: () => void dropped.push(name) });
const range = (from: number, length: number) => Array.from({ length }, (_, index) => from + index);

test('the longest beginning is found, and the least recently used one goes when memory runs out', () => {
  const cache = new PromptCache(100);
  const [a, b, c] = [state('a', 40), state('b', 40), state('c', 40)];
  cache.add(range(0, 50), a);
  cache.add([...range(0, 40), ...range(1000, 10)], b);
  expect(cache.find(range(0, 60))).toMatchObject({ saved: a, length: 50 });
  expect(cache.find(range(0, 45))).toMatchObject({ saved: a, length: 44 });
  expect(cache.find(range(5, 60))).toBeUndefined();
  cache.touch(a);
  cache.add(range(5000, 50), c);
  expect([dropped.splice(0), cache.bytes]).toEqual([['b'], 80]);
  cache.clear();
  expect([dropped.splice(0), cache.bytes]).toEqual([['a', 'c'], 0]);
});

test('only what saves work and fits is wanted, and nothing twice', () => {
  const cache = new PromptCache(100);
  expect([cache.wants(range(0, 31)), cache.wants(range(0, 32))]).toEqual([false, true]);
  cache.add(range(0, 50), state('a', 50));
  expect([cache.wants(range(0, 40)), cache.wants(range(0, 60)), cache.wants(range(7, 101))]).toEqual([
    false,
    true,
    false,
  ]);
  cache.makeRoom(range(0, 60));
  expect([dropped.splice(0), cache.bytes]).toEqual([['a'], 0]);
  cache.add(range(0, 60), state('longer', 60));
  cache.add(range(9, 40), state('huge', 400));
  expect([dropped.splice(0), cache.bytes]).toEqual([['longer', 'huge'], 0]);
});

test('room is made before it is taken: there may be no more memory than the budget', () => {
  const cache = new PromptCache(100);
  for (const name of ['a', 'b']) cache.add(range(name.charCodeAt(0) * 1000, 40), state(name, 40));
  cache.makeRoom(range(0, 32));
  expect([dropped.splice(0), cache.bytes]).toEqual([['a'], 40]);
  cache.add(range(0, 32), state('c', 32));
  cache.makeRoom(range(100, 100));
  expect([dropped.splice(0), cache.bytes]).toEqual([['b', 'c'], 0]);
});
