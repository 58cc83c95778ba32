import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { childrenOf, shareOfOthers, watchOthers } from './other-load.ts';

test.each([
  ['nobody else', { all: 300, busy: 150, own: 140 }, 0],
  ['somebody who takes a fourth', { all: 300, busy: 200, own: 140 }, 0.25],
  // Both counters are read one after the other.
  ['own time that is counted later', { all: 300, busy: 150, own: 141 }, 0],
])('%s', (_, after, share) => {
  expect(shareOfOthers({ all: 100, busy: 50, own: 40 }, after)).toBe(share);
});

test('a running child belongs to this process', async () => {
  const others = await watchOthers();
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  expect(await childrenOf(process.pid)).toContain(child.pid);
  child.kill();
  await once(child, 'exit');
  expect(await others()).toBeLessThanOrEqual(1);
});

test('a process that has ended has no children', async () => {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  expect(await childrenOf(child.pid ?? 0)).toEqual([]);
});
