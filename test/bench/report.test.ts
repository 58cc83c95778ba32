import { describe, expect, it } from 'vitest';
import { makeReport, median, renderTable, type Samples } from './report.ts';
import { difference, isLease, parseWrites, total } from './writes.ts';

it.each([
  [[3, 1, 2], 2],
  [[4, 1, 2, 3], 2.5],
  [[7], 7],
  [[], undefined],
])('the median of %j is %s', (samples, middle) => expect(median(samples)).toBe(middle));

describe('a report', () => {
  const samples: Samples[] = [
    { name: 'start', unit: 's', ours: [2.1, 1.9, 2], peer: [4, 4.4, 3.6], goal: { maxRatio: 0.6 } },
    { name: 'speed', unit: 'tok/s', ours: [80], peer: [100], goal: { minRatio: 0.9 }, note: 'one stream' },
    { name: 'idle writes', unit: 'writes', ours: [0], goal: { max: 0 } },
    { name: 'memory', unit: 'MiB', ours: [123.4, 125.6] },
    { name: 'not measured', unit: 's', ours: [], goal: { max: 1 } },
  ];
  const report = makeReport('quickstart', 'a machine', samples);

  it('has medians, ratios and whether goals are met, as JSON on one line', () => {
    expect(JSON.stringify(report)).not.toContain('\n');
    expect(report.rows).toEqual([
      {
        name: 'start',
        unit: 's',
        ours: 2,
        peer: 4,
        oursRange: [1.9, 2.1],
        peerRange: [3.6, 4.4],
        ratio: 0.5,
        goal: 'ratio ≤ 0.6',
        met: true,
      },
      {
        name: 'speed',
        unit: 'tok/s',
        ours: 80,
        peer: 100,
        oursRange: [80, 80],
        peerRange: [100, 100],
        ratio: 0.8,
        goal: 'ratio ≥ 0.9',
        met: false,
      },
      {
        name: 'idle writes',
        unit: 'writes',
        ours: 0,
        peer: null,
        oursRange: [0, 0],
        peerRange: null,
        ratio: null,
        goal: '≤ 0 writes',
        met: true,
      },
      {
        name: 'memory',
        unit: 'MiB',
        ours: 124.5,
        peer: null,
        oursRange: [123.4, 125.6],
        peerRange: null,
        ratio: null,
        goal: null,
        met: null,
      },
      {
        name: 'not measured',
        unit: 's',
        ours: null,
        peer: null,
        oursRange: null,
        peerRange: null,
        ratio: null,
        goal: '≤ 1 s',
        met: false,
      },
    ]);
  });

  it('shows the spread in its table', () => {
    expect(renderTable(report, samples)).toMatchInlineSnapshot(`
      "quickstart on a machine: medians (lowest to highest)

                    unit                   ours                 peer  ratio                 goal
      start         s       2.00 (1.90 to 2.10)  4.00 (3.60 to 4.40)   0.50      ratio ≤ 0.6 met
      speed         tok/s                  80.0                  100   0.80  ratio ≥ 0.9 NOT MET  one stream
      idle writes   writes                  0.0                                   ≤ 0 writes met
      memory        MiB        125 (123 to 126)
      not measured  s                                                              ≤ 1 s NOT MET"
    `);
  });
});

describe('counting writes', () => {
  const exposition = (patches: number, renewals: number) => `# TYPE kube_client_requests_total counter
kube_client_requests_total{verb="list",resource="nodes",code="200"} 1
kube_client_requests_total{verb="patch",resource="slmmodels.slm.dev/status",code="200"} ${patches}
kube_client_requests_total{verb="patch",resource="slmmodels.slm.dev/status",code="409"} 1
kube_client_requests_total{verb="update",resource="leases.coordination.k8s.io",code="200"} ${renewals}
rest_client_requests_total{code="200",method="PATCH",host="10.0.0.1"} 99
`;

  it('sums over codes, and leaves reads and other counters out', () => {
    expect([...parseWrites(exposition(2, 7))]).toEqual([
      ['patch slmmodels.slm.dev/status', 3],
      ['update leases.coordination.k8s.io', 7],
    ]);
  });

  it('takes what came since, and tells leases apart', () => {
    const since = difference(parseWrites(exposition(2, 7)), parseWrites(exposition(5, 8)));
    expect([...since]).toEqual([
      ['patch slmmodels.slm.dev/status', 3],
      ['update leases.coordination.k8s.io', 1],
    ]);
    expect([total(since), total(since, isLease)]).toEqual([4, 1]);
  });
});
