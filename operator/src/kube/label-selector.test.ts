import { describe, expect, it } from 'vitest';
import { type LabelSelector, matchesLabels, selectorText } from './label-selector.ts';

const own = { team: 'a', tier: 'prod', empty: '' };

const rows: readonly [string, LabelSelector, boolean, string][] = [
  ['an empty selector matches everything', {}, true, ''],
  ['an equal label matches', { matchLabels: { team: 'a' } }, true, 'team=a'],
  ['all labels must be equal', { matchLabels: { team: 'a', tier: 'dev' } }, false, 'team=a,tier=dev'],
  ['a label that is not there is not equal to the empty text', { matchLabels: { other: '' } }, false, 'other='],
  [
    'In wants one of the values',
    { matchExpressions: [{ key: 'tier', operator: 'In', values: ['dev', 'prod'] }] },
    true,
    'tier in (dev, prod)',
  ],
  [
    'In does not match a label that is not there',
    { matchExpressions: [{ key: 'x', operator: 'In', values: ['y'] }] },
    false,
    'x in (y)',
  ],
  [
    'NotIn refuses the values',
    { matchExpressions: [{ key: 'tier', operator: 'NotIn', values: ['prod'] }] },
    false,
    'tier notin (prod)',
  ],
  [
    'NotIn matches a label that is not there',
    { matchExpressions: [{ key: 'x', operator: 'NotIn', values: ['y'] }] },
    true,
    'x notin (y)',
  ],
  [
    'Exists wants the label, with any value',
    { matchExpressions: [{ key: 'empty', operator: 'Exists' }] },
    true,
    'empty',
  ],
  ['DoesNotExist refuses it', { matchExpressions: [{ key: 'empty', operator: 'DoesNotExist' }] }, false, '!empty'],
  [
    'labels and expressions must all hold',
    { matchLabels: { team: 'a' }, matchExpressions: [{ key: 'team', operator: 'NotIn', values: ['a'] }] },
    false,
    'team=a,team notin (a)',
  ],
];

describe('matchesLabels', () => {
  it.each(rows)('%s', (_, selector, matches, text) => {
    expect(matchesLabels(selector, own)).toBe(matches);
    expect(selectorText(selector)).toBe(text);
  });
});
