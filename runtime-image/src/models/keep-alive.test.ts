import { expect, test } from 'vitest';
import { parseKeepAlive } from './keep-alive.ts';

test('seconds, durations, for ever, and nonsense', () => {
  const cases: [number | string, number | undefined][] = [
    [0, 0],
    [2.5, 2500],
    [-1, Number.POSITIVE_INFINITY],
    ['0', 0],
    ['300', 300_000],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['1.5s', 1500],
    ['100ms', 100],
    ['-1m', Number.POSITIVE_INFINITY],
    ['5 minutes', undefined],
    ['m', undefined],
    ['', undefined],
  ];
  expect(cases.map(([value]) => [value, parseKeepAlive(value)])).toEqual(cases);
});
