import { describe, expect, test } from 'vitest';
import { Splitter } from './splitter.ts';

const starts = [0, 0.1, 0.381966, 0.5, 0.9, 0.999999];

function deal(percent: number, count: number, start: number): boolean[] {
  const splitter = new Splitter(start);
  return Array.from({ length: count }, () => splitter.next(percent));
}

const taken = (dealt: readonly boolean[]) => dealt.filter(Boolean).length;

describe.each(starts)('beginning at %d', (start) => {
  test.each([0.1, 1, 5, 10, 25, 33, 50, 75, 90, 99])(
    '%d percent of any number of requests, give or take three',
    (percent) => {
      const dealt = deal(percent, 3000, start);
      let sum = 0;
      dealt.forEach((one, index) => {
        sum += one ? 1 : 0;
        expect(Math.abs(sum - ((index + 1) * percent) / 100)).toBeLessThanOrEqual(3);
      });
    },
  );

  test('0 is none and 100 is all', () => {
    expect(taken(deal(0, 2000, start))).toBe(0);
    expect(taken(deal(100, 2000, start))).toBe(2000);
  });

  test.each([2, 3, 5, 7, 10, 20])('every client of %d that take turns has its part', (clients) => {
    const dealt = deal(10, 1000 * clients, start);
    for (let client = 0; client < clients; client++) {
      const mine = taken(dealt.filter((_, index) => index % clients === client));
      expect(Math.abs(mine - 100)).toBeLessThan(10);
    }
  });
});

test('a weight that changes on the way counts from there', () => {
  const splitter = new Splitter(0.3);
  const count = (percent: number, requests: number) =>
    taken(Array.from({ length: requests }, () => splitter.next(percent)));
  expect(count(10, 500)).toBeCloseTo(50, -1);
  expect(count(50, 500)).toBeCloseTo(250, -1);
  expect(count(0, 500)).toBe(0);
});
