import { expect, test } from 'vitest';
import { learnSpeed, prefillChunk } from './chunk-size.ts';

test('the first chunk is small, for nothing is known yet', () => {
  expect(prefillChunk({}, false, 512)).toBe(64);
});

test('a chunk takes a tenth of a second while others stream, and half a second alone', () => {
  const speed = { tokensPerMs: 1.5 };
  expect([prefillChunk(speed, true, 512), prefillChunk(speed, false, 1024)]).toEqual([129, 704]);
});

test('beside streams a chunk is one token longer than whole tiles: its first goes along with theirs', () => {
  expect([prefillChunk({ tokensPerMs: 0.8 }, true, 512), prefillChunk({ tokensPerMs: 0.8 }, false, 512)]).toEqual([
    65, 384,
  ]);
});

test('a chunk is one tile up to twice the budget, and half of one beyond', () => {
  expect([0.33, 0.31].map((tokensPerMs) => prefillChunk({ tokensPerMs }, true, 512))).toEqual([65, 32]);
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
