import { expect, test } from 'vitest';
import { learnSpeed, prefillChunk } from './chunk-size.ts';

test('the first chunk is small, for nothing is known yet', () => {
  expect(prefillChunk({}, false, 512)).toBe(64);
});

test('a chunk takes a tenth of a second while others stream, and half a second alone', () => {
  const speed = { tokensPerMs: 0.8 };
  expect([prefillChunk(speed, true, 512), prefillChunk(speed, false, 512)]).toEqual([64, 384]);
});

test('chunks stay between 32 tokens and the batch', () => {
  expect([prefillChunk({ tokensPerMs: 0.001 }, true, 512), prefillChunk({ tokensPerMs: 100 }, true, 512)]).toEqual([
    32, 512,
  ]);
  expect(prefillChunk({ tokensPerMs: 1 }, false, 8)).toBe(8);
});

test('the estimate follows what batches take, and tiny ones teach nothing', () => {
  const first = learnSpeed({}, 64, 128);
  expect(first).toEqual({ tokensPerMs: 0.5 });
  expect(learnSpeed(first, 4, 1000)).toEqual(first);
  expect(learnSpeed(first, 100, 100).tokensPerMs).toBeCloseTo(0.6);
});
