import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FakeDecoder, type FakeDecoderOptions, turns } from '../engines/fake.ts';
import { type BatchItem, NO_TOKEN, type SamplingParams, GREEDY as sampling, type Token } from './decoder.ts';
import type { JobResult } from './job.ts';
import { QueueFullError } from './queue.ts';
import { Scheduler } from './scheduler.ts';

const END = 999;

/** Depends on every token before and on the seed, so whatever a slot holds wrongly changes the answer. */
function next(tokens: readonly Token[], params: SamplingParams): Token {
  let hash = params.seed;
  for (const token of tokens) hash = (Math.imul(hash, 31) + token) % 1_000_003;
  return hash % 23 === 0 ? END : Math.abs(hash) % 50;
}

interface Outcome {
  readonly tokens: Token[];
  readonly result?: JobResult;
  readonly error?: Error;
  readonly started: number;
}

function makeScheduler(options: Partial<FakeDecoderOptions> = {}, maxQueue = 1000, promptCacheBytes = 0) {
  const batches: (readonly BatchItem[])[] = [];
  let clock = 0;
  const decoder = new FakeDecoder({ slots: 3, contextLength: 200, batchSize: 64, next, ...options });
  const scheduler = new Scheduler(decoder, {
    maxQueue,
    promptCacheBytes,
    isEndOfGeneration: (token) => token === END,
    now: () => ++clock,
    onBatch: (items) => batches.push(items),
  });
  return { decoder, scheduler, batches };
}

function submit(
  scheduler: Scheduler,
  prompt: readonly Token[],
  more: { maxTokens?: number; signal?: AbortSignal; seed?: number; stopAt?: number; clock?: () => number } = {},
): Promise<Outcome> {
  return new Promise((resolve) => {
    const tokens: Token[] = [];
    let started = Number.POSITIVE_INFINITY;
    let over = false;
    const end = (outcome: Partial<Outcome>) => {
      if (over) throw new Error('a request ended twice');
      over = true;
      resolve({ tokens, started, ...outcome });
    };
    scheduler.submit({
      prompt,
      maxTokens: more.maxTokens ?? Number.POSITIVE_INFINITY,
      sampling: { ...sampling, seed: more.seed ?? 1 },
      ...(more.signal ? { signal: more.signal } : {}),
      sink: {
        accept: (token) => {
          if (over) throw new Error('a token came after the end');
          if (tokens.length === 0) started = more.clock?.() ?? 0;
          tokens.push(token);
          return tokens.length === more.stopAt;
        },
        flush: () => undefined,
        done: (result) => end({ result }),
        failed: (error) => end({ error }),
      },
    });
  });
}

/** What one request gives when nobody else is there. */
function alone(prompt: readonly Token[], maxTokens: number, seed: number, contextLength: number): Token[] {
  const tokens = [...prompt];
  const answer: Token[] = [];
  while (answer.length < maxTokens) {
    const token = next(tokens, { ...sampling, seed });
    if (token === END) break;
    answer.push(token);
    if (tokens.length >= contextLength) break;
    tokens.push(token);
  }
  return answer;
}

const range = (length: number, from = 0) => Array.from({ length }, (_, index) => (from + index) % 50);

describe('one request', () => {
  test('gets the tokens of its prompt until the model ends', async () => {
    const { scheduler } = makeScheduler();
    const { tokens, result } = await submit(scheduler, range(10));
    expect(tokens).toEqual(alone(range(10), 1000, 1, 200));
    expect(result).toMatchObject({
      reason: 'stop',
      promptTokens: 10,
      cachedTokens: 0,
      completionTokens: tokens.length,
    });
    await scheduler.close();
  });

  test('ends with length at its limit and where the context is full', async () => {
    const { scheduler } = makeScheduler({ contextLength: 40, next: () => 7 });
    expect((await submit(scheduler, range(10), { maxTokens: 5 })).result).toMatchObject({
      reason: 'length',
      completionTokens: 5,
    });
    // 40 cells, 10 of the prompt: 30 generated tokens are written, and the one after them has nowhere to go.
    expect((await submit(scheduler, range(10))).result).toMatchObject({ reason: 'length', completionTokens: 31 });
    await scheduler.close();
  });

  test('ends where its reader says so', async () => {
    const { scheduler } = makeScheduler({ next: () => 7 });
    const { tokens, result } = await submit(scheduler, range(10), { stopAt: 3 });
    expect([tokens, result?.reason]).toEqual([[7, 7, 7], 'stop']);
    await scheduler.close();
  });

  test('a prompt longer than a batch is computed in chunks', async () => {
    const { scheduler, batches } = makeScheduler();
    await submit(scheduler, range(150), { maxTokens: 1 });
    expect(batches.map((items) => items[0]?.tokens.length)).toEqual([64, 64, 22]);
    await scheduler.close();
  });

  test('computes only what the slot does not hold from before', async () => {
    const { scheduler, batches } = makeScheduler({ next: () => 7 });
    await submit(scheduler, range(50), { maxTokens: 4 });
    const { result } = await submit(scheduler, [...range(50), 7, 7, 7, 8, 9], { maxTokens: 1 });
    expect(result?.cachedTokens).toBe(53);
    expect(batches.at(-1)).toEqual([{ slot: 0, position: 53, tokens: [8, 9], sampled: true, prompt: true }]);
    await scheduler.close();
  });

  test('computes everything again where memory cannot be cut', async () => {
    const { scheduler, decoder } = makeScheduler();
    decoder.truncate = (slot) => {
      decoder.contents[slot] = [];
      return 0;
    };
    await submit(scheduler, range(50), { maxTokens: 4 });
    const { tokens, result } = await submit(scheduler, range(50), { maxTokens: 4 });
    expect([result?.cachedTokens, tokens]).toEqual([0, alone(range(50), 4, 1, 200)]);
    await scheduler.close();
  });
});

describe('several requests', () => {
  test('are decoded in one batch', async () => {
    const { scheduler, batches } = makeScheduler({ next: () => 7 });
    await Promise.all([1, 2, 3].map((from) => submit(scheduler, range(5, from), { maxTokens: 4 })));
    expect(batches.map((items) => items.map((item) => `${item.slot}:${item.tokens.length}`).join(' '))).toEqual([
      '0:5 1:5 2:5',
      '0:1 1:1 2:1',
      '0:1 1:1 2:1',
      '0:1 1:1 2:1',
    ]);
    await scheduler.close();
  });

  test('a running stream gets a token with every chunk of a long prompt', async () => {
    const { scheduler, batches } = makeScheduler({ next: () => 7 });
    const stream = submit(scheduler, range(5), { maxTokens: 20 });
    await submit(scheduler, range(190, 3), { maxTokens: 1 });
    await stream;
    const mixed = batches.filter((items) => items.some((item) => item.tokens.length > 5));
    expect(mixed.length).toBeGreaterThanOrEqual(3);
    for (const items of mixed) expect(items.map((item) => item.slot)).toEqual([0, 1]);
    await scheduler.close();
  });

  test('a prefix that another one is using is copied, not computed', async () => {
    const { scheduler } = makeScheduler({ next: () => 7 });
    const first = submit(scheduler, range(100), { maxTokens: 50 });
    await submit(scheduler, [40], { maxTokens: 2 });
    const second = await submit(scheduler, [...range(100), 3], { maxTokens: 2 });
    expect(second.result?.cachedTokens).toBe(100);
    await first;
    await scheduler.close();
  });

  test('a prompt whose slot is gone comes back from memory, unless that fails', async () => {
    const { scheduler, decoder, batches } = makeScheduler({ slots: 1, next: () => 7 }, 1000, 1000);
    await submit(scheduler, range(100), { maxTokens: 4 });
    await submit(scheduler, range(60, 9), { maxTokens: 4 });
    const back = await submit(scheduler, [...range(100), 1], { maxTokens: 4 });
    expect(back.result?.cachedTokens).toBe(100);
    expect(batches.at(-4)).toEqual([{ slot: 0, position: 100, tokens: [1], sampled: true, prompt: true }]);
    decoder.restore = () => Promise.reject(new Error('the file is gone'));
    const lost = await submit(scheduler, [...range(60, 9), 1], { maxTokens: 4 });
    expect([lost.result?.cachedTokens, lost.tokens]).toEqual([0, [7, 7, 7, 7]]);
    await scheduler.close();
    expect(decoder.savedStates).toBe(0);
  });

  test('start in order of arrival', async () => {
    const { scheduler, batches } = makeScheduler();
    const clock = () => batches.length;
    const outcomes = await Promise.all(
      range(20).map((from) => submit(scheduler, range(30, from), { maxTokens: 9, clock })),
    );
    const started = outcomes.filter((one) => one.tokens.length > 0).map((one) => one.started);
    expect(started).toEqual([...started].sort((a, b) => a - b));
    await scheduler.close();
  });

  test('more than may wait are refused, and the others do not notice', async () => {
    const { scheduler } = makeScheduler({ slots: 1, next: () => 7 }, 2);
    const outcomes = [1, 2, 3].map((from) => submit(scheduler, range(5, from), { maxTokens: 4 }));
    expect(() => {
      scheduler.submit({ ...noJob, prompt: [1] });
    }).toThrow(QueueFullError);
    expect((await Promise.all(outcomes)).map((one) => one.tokens.length)).toEqual([4, 4, 4]);
    await scheduler.close();
  });
});

const noJob = {
  prompt: [1],
  maxTokens: 1,
  sampling,
  sink: { accept: () => false, flush: () => undefined, done: () => undefined, failed: () => undefined },
};

describe('aborts and failures', () => {
  test('an abort in the middle of a prompt is noticed before the next chunk', async () => {
    const gone = new AbortController();
    let chunks = 0;
    const { scheduler } = makeScheduler({
      beforeDecode: () => {
        if (++chunks === 2) gone.abort();
      },
    });
    const { result, tokens } = await submit(scheduler, range(190), { signal: gone.signal });
    expect([result?.reason, tokens, chunks]).toEqual(['aborted', [], 2]);
    expect(scheduler.stats).toMatchObject({ slotsBusy: 0, queued: 0 });
    await scheduler.close();
  });

  test('an abort while waiting frees the place', async () => {
    const { scheduler } = makeScheduler({ slots: 1, next: () => 7 }, 1);
    const running = submit(scheduler, range(5), { maxTokens: 20 });
    const gone = new AbortController();
    const waiting = submit(scheduler, range(5), { signal: gone.signal });
    gone.abort();
    expect((await waiting).result).toMatchObject({ reason: 'aborted', completionTokens: 0 });
    expect((await running).tokens).toHaveLength(20);
    await scheduler.close();
  });

  test('a batch that fails takes its requests with it and no others', async () => {
    let fail = true;
    const { scheduler, decoder } = makeScheduler({
      beforeDecode: () => {
        if (fail) throw new Error('no room in the cache');
      },
    });
    const failed = await submit(scheduler, range(5));
    expect(failed.error?.message).toBe('no room in the cache');
    fail = false;
    expect((await submit(scheduler, range(5))).tokens).toEqual(alone(range(5), 1000, 1, 200));
    expect(decoder.liveSamplers).toBe(0);
    await scheduler.close();
  });

  test('a request for which no token can be sampled fails alone', async () => {
    const { scheduler } = makeScheduler({ next: (_, { seed }) => (seed === 2 ? NO_TOKEN : 7) });
    const [bad, good] = await Promise.all([
      submit(scheduler, range(5), { seed: 2 }),
      submit(scheduler, range(5, 3), { maxTokens: 3 }),
    ]);
    expect(bad?.error?.message).toBe('no token can be sampled: the settings leave none to choose from');
    expect(good?.tokens).toEqual([7, 7, 7]);
    await scheduler.close();
  });

  test('closing aborts everybody', async () => {
    const { scheduler, decoder } = makeScheduler({ slots: 1, next: () => 7 });
    const outcomes = [1, 2].map((from) => submit(scheduler, range(5, from)));
    await scheduler.close();
    expect((await Promise.all(outcomes)).map((one) => one.result?.reason)).toEqual(['aborted', 'aborted']);
    expect(decoder.liveSamplers).toBe(0);
    expect(() => scheduler.submit(noJob)).toThrow('the engine is closed');
  });

  test('a decoder that breaks its promises breaks the scheduler, which says so', async () => {
    const { scheduler, decoder } = makeScheduler();
    decoder.sample = () => Promise.reject(new Error('the device is gone'));
    expect((await submit(scheduler, range(5))).error).toMatchObject({
      name: 'EngineBrokenError',
      cause: { message: 'the device is gone' },
    });
    expect(scheduler.stats.broken?.message).toBe('the device is gone');
    expect(() => scheduler.submit(noJob)).toThrow('the device is gone');
  });

  test('a batch that fails now and then fails its requests alone; several in a row are the end', async () => {
    let batches = 0;
    let failing = (batch: number) => batch % 3 === 0;
    const { scheduler } = makeScheduler({
      beforeDecode: () => {
        if (failing(++batches)) throw new Error('no compute');
      },
    });
    for (let turn = 0; turn < 11; turn++) {
      const { error } = await submit(scheduler, range(5, turn), { maxTokens: 1 });
      expect(error?.name).not.toBe('EngineBrokenError');
    }
    expect(scheduler.stats.broken).toBeUndefined();
    failing = () => true;
    const errors: (string | undefined)[] = [];
    for (let turn = 0; turn < 3; turn++) errors.push((await submit(scheduler, range(5, turn))).error?.name);
    expect(errors).toEqual(['Error', 'Error', 'EngineBrokenError']);
    expect(scheduler.stats.broken?.message).toBe('no compute');
  });
});

test('whatever comes and goes: right answers, no slot lost, batches within their size', async () => {
  const request = fc.record({
    // Few different prompts, so that prefixes are shared, reused and copied all the time.
    family: fc.nat(2),
    shared: fc.integer({ min: 1, max: 120 }),
    own: fc.array(fc.nat(49), { maxLength: 20 }),
    maxTokens: fc.integer({ min: 1, max: 60 }),
    seed: fc.nat(3),
    /** Turns after which the client hangs up. */
    abortAfter: fc.option(fc.nat(10), { nil: undefined }),
    /** Turns after which it comes. */
    comesAfter: fc.nat(12),
  });
  const setup = fc.record({
    slots: fc.integer({ min: 1, max: 5 }),
    batchSize: fc.integer({ min: 5, max: 80 }),
    contextLength: fc.integer({ min: 142, max: 180 }),
    /** Tokens that fit into the prompt cache. */
    promptCache: fc.constantFrom(0, 60, 300, 2000),
    requests: fc.array(request, { minLength: 1, maxLength: 12 }),
  });
  await fc.assert(
    fc.asyncProperty(setup, async ({ requests, promptCache, ...limits }) => {
      const { scheduler, decoder } = makeScheduler({ ...limits, beforeDecode: () => turns(1) }, 1000, promptCache);
      const outcomes = requests.map(async (one) => {
        const gone = new AbortController();
        const prompt = [...range(one.shared, one.family * 17), ...one.own];
        await turns(one.comesAfter);
        const answer = submit(scheduler, prompt, { maxTokens: one.maxTokens, seed: one.seed, signal: gone.signal });
        if (one.abortAfter !== undefined) void turns(one.abortAfter).then(() => gone.abort());
        const { tokens, result, error } = await answer;
        expect(error).toBeUndefined();
        const right = alone(prompt, one.maxTokens, one.seed, limits.contextLength);
        expect(tokens).toEqual(result?.reason === 'aborted' ? right.slice(0, tokens.length) : right);
      });
      await Promise.all(outcomes);
      expect(scheduler.stats).toMatchObject({ slotsBusy: 0, queued: 0, slotsTotal: limits.slots });
      expect(decoder.liveSamplers).toBe(0);
      await scheduler.close();
      expect(decoder.savedStates).toBe(0);
    }),
    { numRuns: 150 },
  );
});
