import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { growth, type Histogram, NOTHING, quantile, type Reading, readNumbers, total, withBounds } from './numbers.ts';
import { readSamples } from './prometheus-text.ts';
import { metricsText, reading } from './testing/readings.ts';

describe('metrics of a server', () => {
  it('are read as they were written', () => {
    const written = reading({
      answers: 12,
      failures: 2,
      brokenByCandidate: 1,
      firstToken: 0.3,
      speed: 17.5,
      started: 1732380000.25,
    });
    expect(readNumbers(metricsText(written))).toEqual(written);
  });

  const rows: [string, string, Partial<Reading>][] = [
    [
      'probes and lists are no answers',
      'slm_requests_total{route="/readyz",code="503"} 9',
      { answers: 0, failures: 0 },
    ],
    ['what a client did wrong is none', 'slm_requests_total{route="/api/chat",code="400"} 9', { answers: 0 }],
    ['what a client broke off is none', 'slm_requests_total{route="/api/chat",code="499"} 9', { answers: 0 }],
    [
      'a stream that broke is an answer that failed',
      'slm_requests_total{route="/api/chat",code="200"} 3\nslm_broken_streams_total{route="/api/chat"} 1',
      { answers: 3, failures: 1 },
    ],
    [
      'a refusal by the server failed',
      'slm_requests_total{route="/v1/embeddings",code="503"} 2',
      { answers: 2, failures: 2 },
    ],
  ];
  it.each(rows)('%s', (_, text, expected) => {
    expect(readNumbers(text)).toMatchObject(expected);
  });

  it('of something else are nothing', () => {
    expect(readNumbers('<html>\nnot_found 1\n')).toBeUndefined();
  });
});

describe('the text format', () => {
  const names = new Set(['a']);
  const rows: [string, string, unknown][] = [
    ['a value without labels', 'a 3', [{ name: 'a', labels: {}, value: 3 }]],
    ['a time behind the value', 'a 3e2 1732380000000', [{ name: 'a', labels: {}, value: 300 }]],
    [
      'quotes, backslashes and braces in a label',
      'a{x="}\\" \\\\n",y="1"} 1',
      [{ name: 'a', labels: { x: '}" \\n', y: '1' }, value: 1 }],
    ],
    ['infinity', 'a +Inf', [{ name: 'a', labels: {}, value: Number.POSITIVE_INFINITY }]],
    ['no number', 'a NaN\na x\na\na{', []],
    ['other names, also those that begin alike', 'ab 1\n# a 1', []],
  ];
  it.each(rows)('%s', (_, text, expected) => {
    expect(readSamples(text, names)).toEqual(expected);
  });
});

describe('what came in between two readings', () => {
  it('is the difference', () => {
    const grown = growth(reading({ answers: 10, failures: 1 }), reading({ answers: 15, failures: 3 }));
    expect(grown).toMatchObject({ answers: 5, failures: 2, firstToken: { count: 3 }, speed: { count: 3, sum: 120 } });
  });

  it('is all of a new process, also when it has counted more than the one before', () => {
    const grown = growth(reading({ answers: 4 }), reading({ answers: 9, started: 2 }));
    expect(grown).toMatchObject({ answers: 9, firstToken: { count: 9 } });
  });

  it('has a failure for each crash, which took its requests along', () => {
    const grown = growth(reading({ answers: 40, crashes: 1 }), reading({ answers: 2, started: 2, crashes: 3 }));
    expect(grown).toMatchObject({ answers: 4, failures: 2, firstToken: { count: 2 } });
  });

  it('is all of a counter that went back', () => {
    const grown = growth(reading({ answers: 9 }), reading({ answers: 4 }));
    expect(grown).toMatchObject({ answers: 4 });
  });

  const counts = fc.record({ answers: fc.nat(1000), failures: fc.nat(1000) }).map(({ answers, failures }) => ({
    answers: answers + failures,
    failures,
  }));
  it('adds up to everything counted, whatever restarts there are', () => {
    fc.assert(
      fc.property(fc.array(fc.array(counts, { minLength: 1, maxLength: 5 }), { maxLength: 6 }), (processes) => {
        const readings = processes.flatMap((growths, started) => {
          const so = { answers: 0, failures: 0 };
          return growths.map(({ answers, failures }) => {
            so.answers += answers;
            so.failures += failures;
            return reading({ ...so, started });
          });
        });
        const parts = readings.map((after, index) => growth(readings[index - 1] ?? reading({ started: -1 }), after));
        const sums = processes.flat();
        expect(total(parts).answers).toBe(sums.reduce((sum, { answers }) => sum + answers, 0));
        expect(total(parts).failures).toBe(sums.reduce((sum, { failures }) => sum + failures, 0));
      }),
    );
  });
});

describe('a quantile', () => {
  const rows: [string, Histogram, number | undefined][] = [
    ['of nothing is none', NOTHING.firstToken, undefined],
    ['is interpolated within its bucket', { bounds: [1, 2], counts: [90, 100], count: 100 }, 1.5],
    ['begins at zero', { bounds: [1, 2], counts: [100, 100], count: 100 }, 0.95],
    ['beyond all bounds is the last', { bounds: [1, 2], counts: [0, 90], count: 100 }, 2],
  ];
  it.each(rows)('%s', (_, histogram, expected) => {
    expect(quantile(histogram, 0.95)).toBe(expected);
  });

  it('lies in the bucket of the observation that it is', () => {
    const bounds = [0.1, 0.2, 0.4, 0.8, 1.6];
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.001, max: 1.59, noNaN: true }), { minLength: 1, maxLength: 200 }),
        (times) => {
          const counts = bounds.map((bound) => times.filter((time) => time <= bound).length);
          const estimate = quantile({ bounds, counts, count: times.length }, 0.95) ?? Number.NaN;
          const exact = times.toSorted((a, b) => a - b)[Math.ceil(0.95 * times.length) - 1] ?? Number.NaN;
          const index = bounds.findIndex((bound) => exact <= bound);
          expect(estimate).toBeLessThanOrEqual((bounds[index] ?? 0) + 1e-9);
          expect(estimate).toBeGreaterThanOrEqual((bounds[index - 1] ?? 0) - 1e-9);
        },
      ),
    );
  });
});

it('servers with other buckets are added by the bounds that they share', () => {
  const one = { ...NOTHING, firstToken: { bounds: [1, 2, 4], counts: [1, 2, 3], count: 3 } };
  const other = { ...NOTHING, firstToken: { bounds: [1, 4, 8], counts: [5, 6, 7], count: 7 } };
  expect(total([one, other]).firstToken).toEqual({ bounds: [1, 4], counts: [6, 9], count: 10 });
  expect(total([one, NOTHING]).firstToken).toEqual(one.firstToken);
  expect(withBounds(one.firstToken, [2])).toEqual({ bounds: [2], counts: [2], count: 3 });
});
