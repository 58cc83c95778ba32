import { expect, test } from 'vitest';
import { errands } from './mixture.ts';

const first = (seed: number, count: number) => {
  const all = errands('m', seed);
  return Array.from({ length: count }, () => all.next().value);
};

test('the same seed asks the same', () => {
  expect(first(7, 200)).toEqual(first(7, 200));
  expect(first(8, 20)).not.toEqual(first(7, 20));
});

test('every kind comes, and clients leave in every way', () => {
  const some = first(1, 1000);
  expect(new Set(some.map(({ url }) => url)).size).toBeGreaterThan(10);
  expect(new Set(some.map(({ leave }) => leave?.after))).toEqual(new Set([undefined, 'time', 'pieces', 'sending']));
});
