import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { makeManualClock } from './testing/clocks.ts';
import { makeWorkQueue } from './workqueue.ts';

/** Lets resolved promises run. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('work queue', () => {
  it('hands out keys in the order in which they were added, each once', async () => {
    const queue = makeWorkQueue();
    for (const key of ['b', 'a', 'b', 'c', 'a']) queue.add(key);
    expect(queue.depth).toBe(3);
    expect([await queue.take(), await queue.take(), await queue.take()]).toEqual(['b', 'a', 'c']);
  });

  it('gives a key that was added during its work to nobody until the work is done, and then once', async () => {
    const queue = makeWorkQueue();
    queue.add('a');
    await queue.take();
    queue.add('a');
    queue.add('a');
    expect(queue.depth).toBe(0);
    queue.done('a');
    expect(queue.depth).toBe(1);
    expect(await queue.take()).toBe('a');
    queue.done('a');
    expect(queue.depth).toBe(0);
  });

  it('wakes a worker that waits', async () => {
    const queue = makeWorkQueue();
    const taken = queue.take();
    queue.add('a');
    expect(await taken).toBe('a');
  });

  it('doubles the delay after each failure, up to the longest, and begins anew after forget', () => {
    const clock = makeManualClock();
    const queue = makeWorkQueue({ clock, baseDelayMs: 5, maxDelayMs: 1_000_000 });
    const delays = Array.from({ length: 20 }, () => queue.addRateLimited('a'));
    expect(delays).toEqual([
      5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_240, 20_480, 40_960, 81_920, 163_840, 327_680, 655_360,
      1_000_000, 1_000_000,
    ]);
    expect(queue.failures('a')).toBe(20);
    expect(queue.addRateLimited('b')).toBe(5);
    queue.forget('a');
    expect(queue.addRateLimited('a')).toBe(5);
  });

  it('keeps finite delays after thousands of failures', () => {
    const queue = makeWorkQueue({ clock: makeManualClock() });
    for (let failure = 0; failure < 5000; failure++) expect(queue.addRateLimited('a')).toBeLessThanOrEqual(1_000_000);
  });

  it('keeps to the earliest of several delays', () => {
    const clock = makeManualClock();
    const queue = makeWorkQueue({ clock });
    queue.addAfter('a', 100);
    queue.addAfter('a', 50);
    queue.addAfter('a', 200);
    clock.advance(49);
    expect(queue.depth).toBe(0);
    clock.advance(1);
    expect(queue.depth).toBe(1);
    expect(clock.pending).toBe(0);
  });

  it('is not moved by a wall clock that jumps', () => {
    const clock = makeManualClock();
    const queue = makeWorkQueue({ clock });
    queue.addAfter('a', 1000);
    clock.jumpWall(3_600_000);
    clock.advance(999);
    expect(queue.depth).toBe(0);
    clock.jumpWall(-7_200_000);
    clock.advance(1);
    expect(queue.depth).toBe(1);
  });

  it('hands out what waits after shutdown, then ends its workers, and takes nothing more', async () => {
    const clock = makeManualClock();
    const queue = makeWorkQueue({ clock });
    queue.add('a');
    queue.addAfter('later', 10);
    queue.shutDown();
    queue.add('b');
    clock.advance(1000);
    let idle = false;
    void queue.whenIdle().then(() => (idle = true));
    expect(await queue.take()).toBe('a');
    expect(await queue.take()).toBeUndefined();
    await settle();
    expect(idle).toBe(false);
    queue.done('a');
    await settle();
    expect(idle).toBe(true);
  });

  it('redoes a key that became dirty before shutdown', async () => {
    const queue = makeWorkQueue();
    queue.add('a');
    await queue.take();
    queue.add('a');
    queue.shutDown();
    queue.done('a');
    expect(await queue.take()).toBe('a');
  });

  it('tells its observer about depth, waits, work and retries', async () => {
    const clock = makeManualClock();
    const seen: string[] = [];
    const queue = makeWorkQueue({
      clock,
      observer: {
        added: () => seen.push('added'),
        depth: (depth) => seen.push(`depth ${depth}`),
        taken: (seconds) => seen.push(`taken ${seconds}`),
        finished: (seconds) => seen.push(`finished ${seconds}`),
        retried: () => seen.push('retried'),
      },
    });
    queue.add('a');
    clock.advance(2000);
    await queue.take();
    clock.advance(3000);
    expect(queue.inWork()).toEqual([3]);
    queue.addRateLimited('a');
    queue.done('a');
    expect(seen).toEqual(['added', 'depth 1', 'depth 0', 'taken 2', 'retried', 'finished 3']);
  });
});

type Step =
  | { readonly do: 'add' | 'forget' | 'fail'; readonly key: string }
  | { readonly do: 'after'; readonly key: string; readonly ms: number }
  | { readonly do: 'take' }
  | { readonly do: 'done'; readonly worker: number }
  | { readonly do: 'advance'; readonly ms: number };

const key = fc.constantFrom('a', 'b', 'c', 'd');
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('add' as const, 'forget' as const, 'fail' as const), key }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('after' as const), key, ms: fc.integer({ min: -5, max: 500 }) }),
  },
  { weight: 4, arbitrary: fc.constant({ do: 'take' as const }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('done' as const), worker: fc.nat(7) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.nat(400) }) },
);

describe('work queue, any order of operations', () => {
  it('loses no key, gives no key to two workers, and keeps each delay within its bounds', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 120, size: 'max' }), async (steps) => {
        const clock = makeManualClock();
        const [baseDelayMs, maxDelayMs] = [5, 160];
        const queue = makeWorkQueue({ clock, baseDelayMs, maxDelayMs });
        /** The specification: keys that somebody asked for and nobody has begun, and the earliest delay of each key. */
        const asked = new Set<string>();
        const delayed = new Map<string, number>();
        const failures = new Map<string, number>();
        const held: string[] = [];
        let takers = 0;

        const pass = () => {
          for (const [name, at] of delayed) {
            if (at > clock.monotonic()) continue;
            delayed.delete(name);
            asked.add(name);
          }
        };
        const after = (name: string, ms: number) => {
          if (ms <= 0) asked.add(name);
          else delayed.set(name, Math.min(delayed.get(name) ?? Number.POSITIVE_INFINITY, clock.monotonic() + ms));
        };
        const take = () => {
          takers += 1;
          void (async () => {
            const taken = await queue.take();
            takers -= 1;
            if (taken === undefined) return;
            expect(held).not.toContain(taken);
            held.push(taken);
            // Neither early nor for nothing.
            expect(asked.delete(taken)).toBe(true);
          })();
        };

        for (const one of steps) {
          if (one.do === 'add') {
            queue.add(one.key);
            asked.add(one.key);
          } else if (one.do === 'after') {
            queue.addAfter(one.key, one.ms);
            after(one.key, one.ms);
          } else if (one.do === 'fail') {
            const before = failures.get(one.key) ?? 0;
            failures.set(one.key, before + 1);
            const delay = queue.addRateLimited(one.key);
            expect(delay).toBe(Math.min(maxDelayMs, baseDelayMs * 2 ** before));
            after(one.key, delay);
          } else if (one.do === 'forget') {
            queue.forget(one.key);
            failures.delete(one.key);
          } else if (one.do === 'take') {
            if (held.length + takers < 3) take();
          } else if (one.do === 'done') {
            const [finished] = held.splice(one.worker % Math.max(1, held.length), 1);
            if (finished !== undefined) queue.done(finished);
          } else if (one.do === 'advance') {
            clock.advance(one.ms);
            pass();
          }
          await settle();
          // A worker that waits while a free key is asked for would be a lost wake-up.
          if (takers > 0) expect(Array.from(asked).filter((name) => !held.includes(name))).toEqual([]);
        }

        // Work everything off: whatever was asked for must come.
        for (let round = 0; round < 1000; round++) {
          for (const finished of held.splice(0)) queue.done(finished);
          if (takers === 0) take();
          await settle();
          if (held.length > 0) continue;
          if (!clock.advanceToNext()) break;
          pass();
          await settle();
        }
        expect({ asked: [...asked], delayed: [...delayed], left: queue.depth + queue.delayed }).toEqual({
          asked: [],
          delayed: [],
          left: 0,
        });
      }),
      { numRuns: 500 },
    );
  });
});
