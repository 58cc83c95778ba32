import { expect, test } from 'vitest';
import { pool } from './embedding-model.ts';

test.each([
  ['mean', [3, 2, 1]],
  ['cls', [1, 0, -4]],
  ['last', [6, 3, 5]],
  ['max', [6, 3, 5]],
  ['mean-sqrt', [5.196, 3.464, 1.732]],
  ['weighted-mean', [3.833, 2.5, 2.5]],
] as const)('%s', (pooling, expected) => {
  const vectors = Float32Array.from([1, 0, -4, 2, 3, 2, 6, 3, 5]);
  const found = Array.from(pool(vectors, 3, pooling), (value) => Math.round(value * 1000) / 1000);
  expect(found).toEqual(expected);
});
