import { expect, it } from 'vitest';
import { isEligible, type NodeView } from './node-match.ts';
import { node } from './testing/objects.ts';

type Tolerations = Parameters<typeof isEligible>[2];

const tainted = (effect: string, key = 'gpu', value?: string): Partial<NodeView> => ({
  taints: [{ key, value, effect }],
});

const rows: [string, Partial<NodeView>, Record<string, string> | undefined, Tolerations, boolean][] = [
  ['any node without conditions', {}, undefined, undefined, true],
  ['a node with the label', { labels: { a: '1' } }, { a: '1' }, undefined, true],
  ['not a node with another value', { labels: { a: '2' } }, { a: '1' }, undefined, false],
  ['not a node that is going', { deleted: true }, undefined, undefined, false],
  ['not a node with a taint', tainted('NoSchedule'), undefined, undefined, false],
  ['a node with a mere preference', tainted('PreferNoSchedule'), undefined, undefined, true],
  ['a tolerated taint', tainted('NoSchedule'), undefined, [{ key: 'gpu', operator: 'Exists' }], true],
  ['a taint tolerated by value', tainted('NoExecute', 'gpu', 'yes'), undefined, [{ key: 'gpu', value: 'yes' }], true],
  ['not a taint of another value', tainted('NoExecute', 'gpu', 'no'), undefined, [{ key: 'gpu', value: 'yes' }], false],
  [
    'not a taint of another effect',
    tainted('NoExecute'),
    undefined,
    [{ key: 'gpu', operator: 'Exists', effect: 'NoSchedule' }],
    false,
  ],
  ['everything for a toleration of everything', tainted('NoExecute'), undefined, [{ operator: 'Exists' }], true],
  ['a node that is briefly away', tainted('NoExecute', 'node.kubernetes.io/unreachable'), undefined, undefined, true],
];

it.each(rows)('%s', (_, change, selector, tolerations, eligible) => {
  expect(isEligible(node('n', change), selector, tolerations)).toBe(eligible);
});
