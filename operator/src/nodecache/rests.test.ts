import { expect, test } from 'vitest';
import { makeManualClock } from '../runtime/testing/clocks.ts';
import { makeRests } from './rests.ts';

test.each<[string, number, boolean, number]>([
  ['a node of three is looked at again at once', 3, true, 60],
  ['one of two hundred rests for seconds after a write', 200, true, 4000],
  ['and for one after a look that changed nothing', 200, false, 1000],
  ['one of a thousand rests for five seconds', 1000, true, 5000],
])('%s', (_, nodes, wrote, rest) => {
  const clock = makeManualClock();
  const rests = makeRests(clock);
  expect(rests.left('n1')).toBeLessThanOrEqual(0);
  rests.looked('n1', wrote, nodes);
  expect(rests.left('n1')).toBe(rest);
  expect(rests.left('n2')).toBeLessThanOrEqual(0);
  clock.advance(rest);
  expect(rests.left('n1')).toBe(0);
  rests.looked('n1', wrote, nodes);
  rests.forget('n1');
  expect(rests.left('n1')).toBeLessThanOrEqual(0);
});
