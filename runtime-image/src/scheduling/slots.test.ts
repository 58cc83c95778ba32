import { describe, expect, test } from 'vitest';
import { chooseSlot, commonPrefix, type SlotView } from './slots.ts';

const range = (length: number, from = 0) => Array.from({ length }, (_, index) => from + index);
const slot = (id: number, tokens: number[] = [], more: Partial<SlotView> = {}): SlotView => ({
  id,
  tokens,
  busy: false,
  lastUsed: tokens.length === 0 ? 0 : 1,
  ...more,
});

describe('chooseSlot', () => {
  const prompt = range(100);
  const cases: [string, SlotView[], ReturnType<typeof chooseSlot>][] = [
    ['takes the first slot when all are empty', [slot(0), slot(1)], { slot: 0, reuse: 0 }],
    ['has none to give when all are busy', [slot(0, [], { busy: true })], undefined],
    [
      'takes the slot that holds the longest prefix',
      [slot(0), slot(1, range(40)), slot(2, range(80))],
      { slot: 2, reuse: 80 },
    ],
    ['always leaves the last token of the prompt to compute', [slot(0, range(100)), slot(1)], { slot: 0, reuse: 99 }],
    [
      'copies the prefix out of a busy slot',
      [slot(0, range(90), { busy: true }), slot(1)],
      { slot: 1, reuse: 90, copyFrom: 0 },
    ],
    ['does not copy what is quicker computed', [slot(0, range(20), { busy: true }), slot(1)], { slot: 1, reuse: 0 }],
    [
      'does not copy what it holds nearly as much of itself',
      [slot(0, range(90), { busy: true }), slot(1, range(70))],
      { slot: 1, reuse: 70 },
    ],
    [
      'gives up the slot that was used least recently',
      [slot(0, range(50, 500), { lastUsed: 3 }), slot(1, range(50, 700), { lastUsed: 2 })],
      { slot: 1, reuse: 0 },
    ],
    [
      'stays next to the running ones, whose ids are computed together',
      [
        slot(0, [], { lastUsed: 0 }),
        slot(1, [], { lastUsed: 9 }),
        slot(2, range(5, 900), { busy: true }),
        slot(3, [], { lastUsed: 8 }),
      ],
      { slot: 3, reuse: 0 },
    ],
    [
      'forgets what comes after the common prefix',
      [slot(0, [...range(60), ...range(60, 900)])],
      { slot: 0, reuse: 60 },
    ],
  ];
  test.each(cases)('%s', (_, slots, expected) => {
    expect(chooseSlot(slots, prompt)).toEqual(expected);
  });
});

test('the common prefix ends at the first difference or with the shorter one', () => {
  expect([commonPrefix([1, 2, 3], [1, 2, 4]), commonPrefix([1], [1, 2]), commonPrefix([], [1])]).toEqual([2, 1, 0]);
});
