import { expect, it } from 'vitest';
import { compareSnapshots } from './selfcheck.ts';

it('compareSnapshots names what came and what went', () => {
  const before = { links: ['lo', 'eth0'], mounts: ['/'] };
  expect(compareSnapshots(before, before)).toEqual([]);
  expect(compareSnapshots(before, { links: ['lo', 'slm1'], mounts: ['/'], rules: ['table x'] })).toEqual([
    'links: + slm1',
    'links: - eth0',
    'rules: + table x',
  ]);
});
