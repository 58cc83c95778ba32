import * as fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { FakeDecoder, turns } from '../engines/fake.ts';
import type { Token } from './decoder.ts';
import { GREEDY as sampling } from './decoder.ts';
import type { JobRequest, JobResult } from './job.ts';
import { Scheduler } from './scheduler.ts';
import { planShift } from './shift.ts';

const CONTEXT = 40;
/** Depends on everything that the slot holds. */
const next = (tokens: readonly Token[]) => tokens.reduce((hash, token) => (hash * 31 + token) % 1009, 7) % 50;
const range = (length: number, from = 0) => Array.from({ length }, (_, index) => (from + index) % 50);

function start(shifts = true, contextLength = CONTEXT) {
  const beforeDecode = () => turns(1);
  const decoder = new FakeDecoder({ slots: 2, contextLength, batchSize: 16, next, beforeDecode });
  if (!shifts) decoder.shift = () => false;
  let clock = 0;
  return {
    decoder,
    scheduler: new Scheduler(decoder, { maxQueue: 10, isEndOfGeneration: () => false, now: () => ++clock }),
  };
}

function submit(scheduler: Scheduler, request: Partial<JobRequest>): Promise<{ tokens: Token[]; result: JobResult }> {
  return new Promise((resolve, reject) => {
    const tokens: Token[] = [];
    scheduler.submit({
      prompt: range(10),
      maxTokens: 1000,
      sampling,
      sink: {
        accept: (token) => {
          tokens.push(token);
          return false;
        },
        flush: () => undefined,
        done: (result) => resolve({ tokens, result }),
        failed: reject,
      },
      ...request,
    });
  });
}

/** The same by hand: whenever the context is full, half of what is not kept goes. */
function byHand(prompt: readonly Token[], count: number, room: number, keep: number): Token[] {
  const held = [...prompt];
  const answer: Token[] = [];
  while (answer.length < count) {
    const token = next(held);
    answer.push(token);
    if (held.length >= room) {
      const shift = planShift(held.length, keep);
      if (shift) held.splice(shift.keep, shift.discard);
    }
    held.push(token);
  }
  return answer;
}

test('an answer goes on after its context is full, with its beginning kept', async () => {
  const { decoder, scheduler } = start();
  const { tokens, result } = await submit(scheduler, { maxTokens: 200, keep: () => 6 });
  expect(tokens).toEqual(byHand(range(10), 200, CONTEXT, 6));
  expect(result).toMatchObject({ reason: 'length', completionTokens: 200, promptTokens: 10 });
  expect(result.discardedTokens).toBeGreaterThan(150);
  // What followed the beginning had seen more than it would see in anybody else's prompt.
  expect(decoder.contents[0]).toEqual(range(6));
  await scheduler.close();
});

test('nobody is given what a shifted context holds, neither while it runs nor after', async () => {
  const { decoder, scheduler } = start(true, 200);
  const shift = vi.spyOn(decoder, 'shift');
  const leave = new AbortController();
  const long = submit(scheduler, { prompt: range(150), keep: () => 2, signal: leave.signal });
  while (shift.mock.calls.length === 0) await turns(1);
  const held = decoder.contents[0]?.slice() ?? [];
  // Long enough to be worth a copy, were it not for its past.
  expect(held.length).toBeGreaterThan(64);
  const beside = await submit(scheduler, { prompt: [...held, 1], maxTokens: 1 });
  expect(beside.result.cachedTokens).toBe(0);
  expect(beside.tokens).toEqual([next([...held, 1])]);
  leave.abort();
  await long;
  expect(decoder.contents[0]).toEqual(range(2));
  await scheduler.close();
});

test('without leave to shift, or where the model cannot, the answer ends with length', async () => {
  for (const [shifts, request] of [
    [true, {}],
    [false, { keep: () => 4 }],
  ] as const) {
    const { scheduler } = start(shifts);
    const { result } = await submit(scheduler, request);
    expect(result).toMatchObject({ reason: 'length', completionTokens: CONTEXT - 10 + 1, discardedTokens: 0 });
    await scheduler.close();
  }
});

test('a smaller context of its own is where a request shifts, or ends', async () => {
  const { scheduler } = start();
  const ended = await submit(scheduler, { contextLength: 20 });
  expect(ended.result).toMatchObject({ reason: 'length', completionTokens: 11 });
  const shifted = await submit(scheduler, { contextLength: 20, keep: () => 3, maxTokens: 60 });
  expect(shifted.tokens).toEqual(byHand(range(10), 60, 20, 3));
  await expect(submit(scheduler, { prompt: range(20), contextLength: 20 })).rejects.toThrow('cannot be scheduled');
  await scheduler.close();
});

test('whatever is to be kept, room is won and the beginning stays', () => {
  fc.assert(
    fc.property(fc.integer({ min: 16, max: 5000 }), fc.integer({ min: -3, max: 6000 }), (length, keep) => {
      const shift = planShift(length, keep);
      expect(shift?.discard).toBeGreaterThan(0);
      expect((shift?.keep ?? 0) + (shift?.discard ?? 0)).toBeLessThan(length);
      expect(shift?.keep).toBeLessThanOrEqual(Math.max(0, keep));
    }),
  );
});
