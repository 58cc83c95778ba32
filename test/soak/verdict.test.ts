import { describe, expect, test } from 'vitest';
import { judge, medianSlope, type Rest, type Sample, type Tally } from './verdict.ts';

const MIB = 1024 * 1024;
const series = (memory: (minute: number) => number): Sample[] =>
  Array.from({ length: 61 }, (_, minute) => ({
    at: minute * 60,
    memory: memory(minute) * MIB,
    heap: 40 * MIB,
    slotsBusy: 2,
    queued: 0,
    files: 30,
    ended: minute * 100,
  }));
const tally: Tally = { sent: 9, answered: 5, refused: 1, aborted: 3, wrong: [], unanswered: 0 };
const rest: Rest = { slotsBusy: 0, queued: 0, restarts: 0, files: 2, answers: true };

test('caches that fill in the first half, and waves of garbage, are no leak', () => {
  const { passed, lines } = judge(
    series((minute) => 300 + Math.min(minute, 20) * 10 + (minute % 7)),
    tally,
    rest,
  );
  expect([passed, lines[0]]).toEqual([
    true,
    expect.stringMatching(/^ok {5}memory: 50\d\.0 MiB, .* over the last 1800 s/),
  ]);
});

test('memory that grows steadily is one', () => {
  const { passed, lines } = judge(
    series((minute) => 300 + minute),
    tally,
    rest,
  );
  expect([passed, lines[0]]).toEqual([
    false,
    'FAILED memory: 345.0 MiB, +30.0 MiB over the last 1800 s (60.0 MiB an hour)',
  ]);
});

describe('what is left behind fails', () => {
  const still = series(() => 300);
  const cases: [string, Partial<Tally>, Partial<Rest>][] = [
    ['a slot', {}, { slotsBusy: 1 }],
    ['a request in the queue', {}, { queued: 1 }],
    ['sockets', {}, { files: 100 }],
    ['a crash', {}, { restarts: 1 }],
    ['a request without an answer', { unanswered: 1 }, {}],
    ['a wrong answer', { wrong: ['POST /api/chat: 500'] }, {}],
    ['a server that answers no more', {}, { answers: false }],
  ];
  test.each(cases)('%s', (_, otherTally, otherRest) => {
    const { passed, lines } = judge(still, { ...tally, ...otherTally }, { ...rest, ...otherRest });
    expect([passed, lines.filter((line) => line.startsWith('FAILED')).length]).toEqual([false, 1]);
  });
});

test('too few samples prove nothing', () => {
  expect(judge(series(() => 300).slice(0, 3), tally, rest).passed).toBe(false);
});

test('the slope is that of most points', () => {
  expect(medianSlope([0, 1, 2, 3, 4, 5, 6].map((x) => [x, x === 3 ? 1000 : 2 * x]))).toBe(2);
});
