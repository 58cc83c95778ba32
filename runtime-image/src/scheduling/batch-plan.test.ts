import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ActiveRequest, planBatch } from './batch-plan.ts';

describe('planBatch', () => {
  test('gives every running stream its token and the rest to prompts in order of arrival', () => {
    const active = [
      { slot: 0, arrival: 7, promptLeft: 100 },
      { slot: 1, arrival: 1, promptLeft: 0 },
      { slot: 2, arrival: 5, promptLeft: 20 },
      { slot: 3, arrival: 9, promptLeft: 30 },
    ];
    expect(planBatch(active, { batchSize: 512, prefillChunk: 64 })).toEqual([
      { slot: 0, count: 44, sampled: false },
      { slot: 1, count: 1, sampled: true },
      { slot: 2, count: 20, sampled: true },
    ]);
  });

  test.each([
    ['alone, whole tiles', [], 200, 192],
    [
      'beside a stream, whole tiles and the token that goes along with it',
      [{ slot: 1, arrival: 1, promptLeft: 0 }],
      140,
      129,
    ],
    [
      'behind the end of another prompt, what goes along with that and whole tiles',
      [{ slot: 1, arrival: 1, promptLeft: 20 }],
      120,
      84,
    ],
    ['less than a tile where there is no room for one', [{ slot: 1, arrival: 1, promptLeft: 0 }], 64, 64],
  ])('gives a prompt that goes on %s', (_, others, prefillChunk, count) => {
    const plan = planBatch([{ slot: 0, arrival: 9, promptLeft: 1000 }, ...others], { batchSize: 512, prefillChunk });
    expect(plan[0]).toEqual({ slot: 0, count, sampled: false });
  });

  test('is empty when nothing runs', () => {
    expect(planBatch([], { batchSize: 8, prefillChunk: 4 })).toEqual([]);
  });

  const requests = fc.uniqueArray(
    fc.record({ slot: fc.nat(15), arrival: fc.nat(1000), promptLeft: fc.oneof(fc.constant(0), fc.nat(200)) }),
    { selector: (request: ActiveRequest) => request.slot, maxLength: 16 },
  );
  const limits = fc.record({
    batchSize: fc.integer({ min: 16, max: 128 }),
    prefillChunk: fc.integer({ min: 1, max: 256 }),
  });

  test('any plan keeps the promises that the engine and the clients rely on', () => {
    fc.assert(
      fc.property(requests, limits, (active, limit) => {
        const plan = planBatch(active, limit);
        const of = (slot: number) => active.find((request) => request.slot === slot);
        // It fits, it is sorted, and something happens whenever something can.
        expect(plan.reduce((sum, item) => sum + item.count, 0)).toBeLessThanOrEqual(limit.batchSize);
        expect(plan.map((item) => item.slot)).toEqual(plan.map((item) => item.slot).sort((a, b) => a - b));
        expect(plan.length > 0).toBe(active.length > 0);
        // No stream waits for a prompt.
        for (const request of active.filter((one) => one.promptLeft === 0))
          expect(plan).toContainEqual({ slot: request.slot, count: 1, sampled: true });
        // Prompts: no more than asked for, sampled exactly at their end, and nobody overtakes.
        const prompts = plan.filter((item) => (of(item.slot)?.promptLeft ?? 0) > 0);
        expect(prompts.reduce((sum, item) => sum + item.count, 0)).toBeLessThanOrEqual(Math.max(1, limit.prefillChunk));
        for (const item of prompts) {
          const left = of(item.slot)?.promptLeft ?? 0;
          expect(item.count).toBeLessThanOrEqual(left);
          expect(item.sampled).toBe(item.count === left);
          const earlier = active.filter((one) => one.promptLeft > 0 && one.arrival < (of(item.slot)?.arrival ?? 0));
          for (const one of earlier) expect(plan.find((other) => other.slot === one.slot)?.count).toBe(one.promptLeft);
        }
      }),
    );
  });
});
