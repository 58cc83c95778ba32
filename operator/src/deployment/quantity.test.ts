import { expect, it } from 'vitest';
import { parseDuration, parseQuantity } from './quantity.ts';

it.each([
  ['512Mi', 536_870_912],
  ['1.5Gi', 1_610_612_736],
  ['2G', 2_000_000_000],
  ['1500m', 2],
  [1024, 1024],
  ['0', 0],
  ['1Zi', undefined],
  ['many', undefined],
  [undefined, undefined],
])('%s', (quantity, expected) => {
  expect(parseQuantity(quantity)).toBe(expected);
});

it.each([
  ['90s', 90_000],
  ['2m', 120_000],
  ['1h30m', 5_400_000],
  ['0s', 0],
  ['', undefined],
  ['soon', undefined],
  [undefined, undefined],
])('duration %s', (duration, expected) => {
  expect(parseDuration(duration)).toBe(expected);
});
