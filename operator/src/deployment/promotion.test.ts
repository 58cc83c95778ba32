import { describe, expect, it } from 'vitest';
import type { PodObject } from './observed.ts';
import type { PodReport } from './pod-reports.ts';
import { choosePodsToGo } from './promotion.ts';
import { now, observed, pod, replicaSet } from './testing/objects.ts';
import type { TierPlacement } from './tier-plan.ts';

const COST = 'controller.kubernetes.io/pod-deletion-cost';

function serving(name: string, marked = false): PodObject {
  const made = pod(name, { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] }, 'x');
  return { ...made, metadata: { ...made.metadata, annotations: marked ? { [COST]: '-1000' } : {} } };
}

const idle = (idleSeconds: number, age = 0): PodReport => ({ running: 0, idleSeconds, at: now - age });
const busy: PodReport = { running: 3, at: now };

function choose(
  pods: readonly PodObject[],
  reports: Readonly<Record<string, PodReport>>,
  promoting: { from: string; to: string } | undefined = { from: 'cpu', to: 'nvidia' },
) {
  const known = observed({
    pods,
    replicaSets: [replicaSet('x', { desired: pods.length }), replicaSet('x', { tier: 'nvidia' })],
    reports: new Map(Object.entries(reports).map(([name, report]) => [`${name}-uid`, report])),
  });
  const sizes = [{ name: 'chat-x', from: pods.length, to: pods.length - 1, why: 'one is on nvidia' }];
  const placement = { views: [], problems: [], auto: false, plan: { promoting } } as unknown as TierPlacement;
  const chosen = choosePodsToGo(known, placement, sizes, new Set(), now);
  const { patch, promoted } = chosen;
  const marks = patch.map(({ target, patch: { metadata } }) => {
    const { annotations } = metadata as { annotations: Record<string, string | null> };
    return `${target.name} ${annotations[COST]}`;
  });
  return { marks, shrinks: chosen.sizes.length === sizes.length, promoted: promoted?.set };
}

describe('a pod that moves to better hardware', () => {
  const rows: [string, PodObject[], Record<string, PodReport>, string[], boolean][] = [
    [
      'is the one that was idle longest, and nothing shrinks before its mark was seen',
      [serving('a'), serving('b'), serving('c')],
      { a: idle(5), b: idle(90), c: busy },
      ['b -1000'],
      false,
    ],
    ['goes once it is marked', [serving('a'), serving('b', true)], { a: idle(5), b: idle(90) }, [], true],
    [
      'loses its mark when a request came meanwhile, and another one goes',
      [serving('a'), serving('b', true)],
      { a: idle(5), b: busy },
      ['a -1000', 'b null'],
      false,
    ],
    ['waits while all serve somebody', [serving('a'), serving('b')], { a: busy, b: busy }, [], false],
    ['waits while nobody knows', [serving('a')], {}, [], false],
    ['waits when what is known is old', [serving('a')], { a: idle(5, 60_000) }, [], false],
    ['goes at once when it does not serve anyway', [serving('a'), pod('b', {}, 'x')], { a: busy }, [], true],
  ];
  it.each(rows)('%s', (_, pods, reports, marks, shrinks) => {
    expect(choose(pods, reports)).toEqual({ marks, shrinks, promoted: 'chat-x' });
  });
});

it('who goes for any other reason is left to Kubernetes', () => {
  expect(choose([serving('a'), serving('b')], { a: idle(1) }, { from: 'amd', to: 'nvidia' })).toEqual({
    marks: [],
    shrinks: true,
    promoted: undefined,
  });
});
