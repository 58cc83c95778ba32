import { expect, it } from 'vitest';
import { parseQuantity } from './quantity.ts';

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
