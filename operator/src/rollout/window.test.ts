import { describe, expect, it } from 'vitest';
import { type Window, windowAt } from './window.ts';

const at = (text: string) => Date.parse(text);
/** What a person would say of the window. */
const said = (window: Window | undefined, time: string): string => {
  const state = windowAt(window, at(time));
  if (state.state === 'unusable') return state.message;
  const [word, then] = state.state === 'open' ? ['open until', state.until] : ['closed until', state.opens];
  return then === undefined ? state.state : `${word} ${new Date(then).toISOString().replace(':00.000Z', 'Z')}`;
};

const nights: Window = { schedule: '0 22 * * 1-5', timeZone: 'Europe/Lisbon', duration: '4h' };
const rows: [string, Window | undefined, string, string][] = [
  ['no window is always open', undefined, '2026-11-23T12:00:00Z', 'open'],
  ['before it opens', nights, '2026-11-23T12:00:00Z', 'closed until 2026-11-23T22:00Z'],
  ['at the very minute', nights, '2026-11-23T22:00:00Z', 'open until 2026-11-24T02:00Z'],
  ['after midnight', nights, '2026-11-24T01:59:59Z', 'open until 2026-11-24T02:00Z'],
  ['when it has just closed', nights, '2026-11-24T02:00:00Z', 'closed until 2026-11-24T22:00Z'],
  ['over the week-end', nights, '2026-11-28T02:00:00Z', 'closed until 2026-11-30T22:00Z'],
  ['in summer time an hour earlier', nights, '2026-07-01T21:00:00Z', 'open until 2026-07-02T01:00Z'],
  [
    'in a time zone ahead of UTC, where Monday begins on Sunday',
    { schedule: '0 0 * * 1', timeZone: 'Asia/Tokyo', duration: '1h' },
    '2026-11-22T15:30:00Z',
    'open until 2026-11-22T16:00Z',
  ],
  [
    'in a zone with half an hour',
    { schedule: '30 9 * * *', timeZone: 'Asia/Kolkata', duration: '30m' },
    '2026-11-23T04:00:00Z',
    'open until 2026-11-23T04:30Z',
  ],
  // 2026-03-29 01:00 becomes 02:00 in Lisbon, 2026-10-25 02:00 becomes 01:00.
  [
    'the night that loses an hour: it lasts as long as it says',
    { schedule: '30 0 * * *', timeZone: 'Europe/Lisbon', duration: '2h' },
    '2026-03-29T02:15:00Z',
    'open until 2026-03-29T02:30Z',
  ],
  [
    'the night that has an hour twice: it lasts as long as it says',
    { schedule: '30 0 * * *', timeZone: 'Europe/Lisbon', duration: '2h' },
    '2026-10-25T01:15:00Z',
    'open until 2026-10-25T01:30Z',
  ],
  [
    'an hour that there is not on that day opens when the clocks have gone on',
    { schedule: '30 1 * * *', timeZone: 'Europe/Lisbon', duration: '1h' },
    '2026-03-29T01:45:00Z',
    'open until 2026-03-29T02:00Z',
  ],
  [
    'openings that overlap are one',
    { schedule: '0 * * * *', duration: '90m' },
    '2026-11-23T12:10:00Z',
    'open until 2026-11-23T13:30Z',
  ],
  ['a day that never comes', { schedule: '0 0 30 2 *', duration: '1h' }, '2026-11-23T12:00:00Z', 'closed'],
  [
    'a day that comes every four years',
    { schedule: '0 0 29 2 *', duration: '1h' },
    '2026-11-23T12:00:00Z',
    'closed until 2028-02-29T00:00Z',
  ],
  [
    'six fields',
    { schedule: '0 0 22 * * 1', duration: '1h' },
    '2026-11-23T12:00:00Z',
    'window.schedule "0 0 22 * * 1" cannot be read: it has other than five fields; write five fields such as 0 22 * * 1-5',
  ],
  [
    'a minute that there is not',
    { schedule: '61 22 * * 1', duration: '1h' },
    '2026-11-23T12:00:00Z',
    'window.schedule "61 22 * * 1" cannot be read: Invalid value for minute: 61; write five fields such as 0 22 * * 1-5',
  ],
  [
    'a place that there is not',
    { schedule: '0 22 * * 1', timeZone: 'Mars/Base', duration: '1h' },
    '2026-11-23T12:00:00Z',
    'window.timeZone "Mars/Base" is not known: write one such as Europe/Lisbon or UTC',
  ],
  [
    'no duration',
    { schedule: '0 22 * * 1', duration: '0s' },
    '2026-11-23T12:00:00Z',
    'window.duration is 0: write how long it stays open, such as 4h',
  ],
];
describe('a window', () => {
  it.each(rows)('%s', (_, window, time, expected) => {
    expect(said(window, time)).toBe(expected);
  });
});

it('every minute of a year it is open for exactly as long as it says, summer time or not', () => {
  let minutes = 0;
  let openings = 0;
  let before = false;
  const week = { schedule: '0 22 * * 0', timeZone: 'Europe/Lisbon', duration: '5h' };
  for (const start of ['2026-03-26T00:00:00Z', '2026-10-22T00:00:00Z']) {
    for (let minute = 0; minute < 7 * 24 * 60; minute += 15) {
      const open = windowAt(week, at(start) + minute * 60_000).state === 'open';
      if (open) minutes += 15;
      if (open && !before) openings++;
      before = open;
    }
  }
  expect({ minutes, openings }).toEqual({ minutes: 600, openings: 2 });
});
