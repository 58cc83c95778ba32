import { describe, expect, it } from 'vitest';
import type { LoadLine } from './load-client.ts';
import { countRequests, describeCounts, gapsOf, parseLoad } from './load-report.ts';

const line = (id: number, fields: Partial<LoadLine> = {}): LoadLine => ({
  id,
  kind: 'short',
  connection: 'kept',
  reused: true,
  at: Date.UTC(2030, 0, 1, 12, 0, id),
  firstMs: 20,
  ms: 30 + id,
  outcome: 'answered',
  ...fields,
});

describe('a log', () => {
  it('is read without what others printed and without a last line that is half there', () => {
    const text = `(node:1) Warning: of Node\n${JSON.stringify(line(0))}\n${JSON.stringify(line(1))}\n{"id":2,"ki`;
    expect(parseLoad(text)).toEqual({ lines: [line(0), line(1)], planned: undefined });
  });

  it('that ended tells how many were planned, and which of them are missing or there twice', () => {
    const log = parseLoad([line(0), line(2), line(2), { planned: 4 }].map((row) => JSON.stringify(row)).join('\n'));
    expect(log.planned).toBe(4);
    expect(gapsOf(log)).toEqual([1, 2, 3]);
  });
});

describe('counts', () => {
  const lines = [
    line(0),
    line(1, { reused: false, connection: 'new', revision: 'aaa' }),
    line(2, { kind: 'stream', ms: 21_300, revision: 'bbb' }),
    line(3, { outcome: 'reuse', detail: 'ECONNRESET socket hang up', firstMs: null }),
    line(4, { outcome: 'status', detail: '503 loading', reused: false, connection: 'new' }),
  ];

  it('are of all that was due, however it ended', () => {
    const counts = countRequests(lines);
    expect(counts).toEqual({
      planned: 5,
      answered: 3,
      failed: { reuse: 1, status: 1 },
      failures: [
        '12:00:03.000 short on a used connection (kept), after 33 ms: reuse, ECONNRESET socket hang up',
        '12:00:04.000 short on a new connection (new), after 34 ms: status, 503 loading',
      ],
      reused: 2,
      fresh: 1,
      streams: 1,
      longestStreamSeconds: 21.3,
      medianMs: 31,
      slowestMs: 31,
      revisions: { aaa: 1, bbb: 1 },
    });
    expect(describeCounts(counts)).toBe(
      '3 of 5 answered, 1 reuse, 1 status; 2 on used and 1 on new connections, 1 streams up to 21.3 s; short ones took 31 ms, the slowest 31 ms',
    );
  });

  it('of a span have what was due in it, also when it ended later', () => {
    const counts = countRequests(lines, Date.UTC(2030, 0, 1, 12, 0, 2), Date.UTC(2030, 0, 1, 12, 0, 4));
    expect([counts.planned, counts.answered, counts.streams]).toEqual([2, 1, 1]);
  });

  it('of nothing are zeros', () => {
    expect(countRequests([])).toMatchObject({ planned: 0, answered: 0, slowestMs: 0, longestStreamSeconds: 0 });
  });
});
