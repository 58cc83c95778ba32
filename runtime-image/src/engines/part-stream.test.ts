import { expect, test } from 'vitest';
import { PartStream } from './part-stream.ts';

async function collect(stream: PartStream<number>, leaveAt?: number): Promise<number[]> {
  const parts: number[] = [];
  for await (const part of stream) {
    parts.push(part);
    if (part === leaveAt) break;
  }
  return parts;
}

test('parts arrive in order, whether the reader waits or not', async () => {
  const stream = new PartStream<number>(() => undefined);
  stream.push(1);
  const reading = collect(stream);
  stream.push(2);
  await Promise.resolve();
  stream.push(3);
  stream.end();
  expect(await reading).toEqual([1, 2, 3]);
});

test('an error comes after what was pushed before it', async () => {
  const stream = new PartStream<number>(() => undefined);
  stream.push(1);
  stream.end(new Error('the engine failed'));
  const parts: number[] = [];
  await expect(
    (async () => {
      for await (const part of stream) parts.push(part);
    })(),
  ).rejects.toThrow('the engine failed');
  expect(parts).toEqual([1]);
});

test('a reader that leaves early is noticed once, and what comes later goes nowhere', async () => {
  let left = 0;
  const stream = new PartStream<number>(() => left++);
  stream.push(1);
  stream.push(2);
  expect(await collect(stream, 1)).toEqual([1]);
  stream.push(3);
  stream.end();
  expect(left).toBe(1);
});
