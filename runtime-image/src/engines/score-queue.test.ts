import { expect, test } from 'vitest';
import { ScoreQueue } from './score-queue.ts';

test('scores leave in order, as far as the text has left', () => {
  const queue = new ScoreQueue();
  const score = (token: number) => ({ token, text: '', bytes: [], logprob: 0, top: [] });
  [0, 2, 2, 5].forEach((start, token) => queue.push(start, score(token)));
  const tokens = (released: number) => queue.take(released).map((one) => one.token);
  expect([tokens(0), tokens(2), tokens(3), tokens(5), tokens(Number.POSITIVE_INFINITY)]).toEqual([
    [],
    [0],
    [1, 2],
    [],
    [3],
  ]);
});
