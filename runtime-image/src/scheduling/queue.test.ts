import * as fc from 'fast-check';
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

test('tenants take turns, however much one of them sends', () => {
  const queue = new AdmissionQueue<string>(100);
  for (const item of ['a1', 'a2', 'a3', 'a4', 'b1', 'c1', 'b2']) queue.push(item, 0, 1, item[0]);
  expect(Array.from({ length: 8 }, () => queue.shift())).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4', undefined]);
});

test('a tenant that fills the queue shuts nobody else out', () => {
  const queue = new AdmissionQueue<string>(2);
  for (const item of ['a1', 'a2']) queue.push(item, 0, 1, 'a');
  expect(() => queue.push('a3', 0, 1, 'a')).toThrow(QueueFullError);
  queue.push('b1', 0, 1, 'b');
  expect(() => queue.push('b2', 0, 1, 'b')).toThrow(QueueFullError);
  queue.push('c1', 0, 1, 'c');
  expect(() => queue.push('d1', 0, 1, 'd')).toThrow(QueueFullError);
  expect([queue.shift(), queue.shift(), queue.shift(), queue.shift()]).toEqual(['a1', 'b1', 'c1', 'a2']);
  expect(() => new AdmissionQueue<string>(0).push('a', 0, 1, 'a')).toThrow(QueueFullError);
});

test('no tenant waits for more admissions than there are waiting tenants, and each keeps its own order', () => {
  type Step = { readonly push: number } | 'shift' | { readonly leave: number };
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ push: fc.nat(4) }) },
    { weight: 3, arbitrary: fc.constant('shift' as const) },
    { weight: 1, arbitrary: fc.record({ leave: fc.nat(30) }) },
  );
  interface Item {
    readonly id: number;
    readonly tenant: number;
  }
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps: readonly Step[]) => {
      const queue = new AdmissionQueue<Item>(1000);
      let waiting: Item[] = [];
      /** Whom a waiting tenant has let pass since its last turn or its arrival. */
      const patience = new Map<number, Set<number>>();
      steps.forEach((one, id) => {
        if (one === 'shift') {
          const expected = queue.first();
          const item = queue.shift();
          expect(item).toBe(expected);
          expect(item === undefined).toBe(waiting.length === 0);
          if (!item) return;
          expect(waiting.find(({ tenant }) => tenant === item.tenant)).toBe(item);
          waiting = waiting.filter((other) => other !== item);
          patience.delete(item.tenant);
          for (const [tenant, passed] of patience)
            if (tenant !== item.tenant) {
              // Nobody is let pass twice.
              expect(passed.has(item.tenant)).toBe(false);
              passed.add(item.tenant);
            }
          if (waiting.some(({ tenant }) => tenant === item.tenant)) patience.set(item.tenant, new Set());
        } else if ('push' in one) {
          const item = { id, tenant: one.push };
          queue.push(item, 0, 1, String(one.push));
          waiting.push(item);
          if (!patience.has(one.push)) patience.set(one.push, new Set());
        } else {
          const leaves = (item: Item) => item.id % 31 === one.leave;
          expect(
            queue
              .remove(leaves)
              .map(({ id: left }) => left)
              .sort((a, b) => a - b),
          ).toEqual(
            waiting
              .filter(leaves)
              .map(({ id: left }) => left)
              .sort((a, b) => a - b),
          );
          waiting = waiting.filter((item) => !leaves(item));
          for (const tenant of patience.keys())
            if (!waiting.some((item) => item.tenant === tenant)) patience.delete(tenant);
        }
        expect(queue.length).toBe(waiting.length);
      });
    }),
    { numRuns: 300 },
  );
});
