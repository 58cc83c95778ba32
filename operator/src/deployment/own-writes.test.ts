import { expect, it } from 'vitest';
import { makeManualClock } from '../runtime/testing/clocks.ts';
import type { ReplicaSetObject } from './observed.ts';
import { makeOwnWrites, SHOWN_WITHIN_MS } from './own-writes.ts';

const set = (name: string, resourceVersion: string): ReplicaSetObject => ({ metadata: { name, resourceVersion } });

it.each<[sentence: string, sets: ReplicaSetObject[], behind: boolean]>([
  ['a store that shows what was written', [set('a', '100')], false],
  ['a store that shows what came after', [set('a', '1000')], false],
  ['a store that shows what was before', [set('a', '99')], true],
  ['a store that lacks what was made', [set('b', '100')], true],
])('%s: behind is %j', (_sentence, sets, behind) => {
  const writes = makeOwnWrites(makeManualClock(0));
  writes.note('ns/web', 'a', '100');
  expect(writes.behind('ns/web', sets) !== undefined).toBe(behind);
  expect(writes.behind('ns/other', [])).toBeUndefined();
});

it('what was shown once is not waited for again, and what is never shown not for ever', () => {
  const clock = makeManualClock(0);
  const writes = makeOwnWrites(clock);
  writes.note('ns/web', 'a', '100');
  expect(writes.behind('ns/web', [set('a', '100')])).toBeUndefined();
  expect(writes.behind('ns/web', [])).toBeUndefined();
  writes.note('ns/web', 'b', '101');
  expect(writes.behind('ns/web', [])).toBe(SHOWN_WITHIN_MS);
  clock.advance(SHOWN_WITHIN_MS);
  expect(writes.behind('ns/web', [])).toBeUndefined();
});
