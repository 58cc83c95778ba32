import { expect, test } from 'vitest';
import { AdmissionQueue, QueueFullError } from './queue.ts';

test('items leave in order of arrival, or when they are told to', () => {
  const queue = new AdmissionQueue<string>(10);
  for (const item of ['a', 'b', 'c', 'd']) queue.push(item, 0, 1);
  expect(queue.remove((item) => item === 'b' || item === 'd')).toEqual(['b', 'd']);
  expect([queue.first(), queue.shift(), queue.shift(), queue.shift(), queue.length]).toEqual([
    'a',
    'a',
    'c',
    undefined,
    0,
  ]);
});

test('who would take a free slot at once does not count as waiting', () => {
  const queue = new AdmissionQueue<number>(1);
  queue.push(1, 2, 2);
  queue.push(2, 2, 2);
  queue.push(3, 2, 2);
  expect(() => queue.push(4, 2, 2)).toThrow(QueueFullError);
});

test('a full queue says how long to wait: its requests at the pace of the last ones', () => {
  const queue = new AdmissionQueue<number>(4);
  for (let index = 0; index < 50; index++) queue.learnDuration(6);
  for (let index = 0; index < 4; index++) queue.push(index, 0, 2);
  expect(() => queue.push(5, 0, 2)).toThrow(
    'the server is busy and its queue is full (4 waiting): try again in about 15 s',
  );
  for (let index = 0; index < 50; index++) queue.learnDuration(600);
  expect(() => queue.push(5, 0, 2)).toThrow('about 60 s');
});
