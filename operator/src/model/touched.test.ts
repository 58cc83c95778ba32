import type { CacheEntry, SLMNodeCache } from '@slm-operator/crds';
import { expect, test } from 'vitest';
import { modelsTouched } from './controller.ts';

const [a, b] = ['a', 'b'].map((letter) => `sha256:${letter.repeat(64)}`) as [string, string];
const entry = (digest: string, bytesDone: number): CacheEntry => ({
  digest,
  state: 'Downloading',
  bytesDone,
  bytesTotal: 9,
});

/** A node that is to hold `a` for demo/one and demo/two, and `b` for demo/three. */
function cache(entries: readonly CacheEntry[] | undefined, wanted: Record<string, string[]> = {}, generation = 1) {
  const all = { [a]: ['demo/one', 'demo/two'], [b]: ['demo/three'], ...wanted };
  const files = { size: 9, files: [], sources: [], namespaces: ['demo'] };
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMNodeCache' as const,
    metadata: { name: 'n1', generation },
    spec: { wanted: Object.entries(all).map(([digest, models]) => ({ digest, models, ...files })) },
    ...(entries === undefined ? {} : { status: { observedGeneration: 1, entries: [...entries] } }),
  } satisfies SLMNodeCache;
}

const update = (previous: SLMNodeCache, object: SLMNodeCache) => [
  ...modelsTouched({ type: 'update', key: 'n1', previous, object }),
];

test.each<[string, string[], string[]]>([
  [
    'progress of one file wakes the models that have it',
    update(cache([entry(a, 1), entry(b, 1)]), cache([entry(a, 1), entry(b, 2)])),
    ['demo/three'],
  ],
  ['the same report wakes nobody', update(cache([entry(a, 1)]), cache([entry(a, 1)])), []],
  ['a file that is gone wakes its models', update(cache([entry(a, 1)]), cache([])), ['demo/one', 'demo/two']],
  [
    'the first report of an agent wakes all',
    update(cache(undefined), cache([])),
    ['demo/one', 'demo/two', 'demo/three'],
  ],
  [
    'a model more that wants a file wakes those of that file',
    update(cache([]), cache([], { [b]: ['demo/four', 'demo/three'] }, 2)),
    ['demo/four', 'demo/three'],
  ],
  [
    'a file that nobody wants any more wakes who wanted it',
    update(cache([]), cache([], { [b]: [] }, 2)),
    ['demo/three'],
  ],
])('%s', (_, got, expected) => {
  expect(got).toEqual(expected);
});
