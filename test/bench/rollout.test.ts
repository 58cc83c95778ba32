import { makeStore } from '@slm-operator/operator/runtime/store';
import { expect, it } from 'vitest';
import { makeFiles, makeModels, newerFile, newFile } from './placement-objects.ts';
import type { ReplicaSetObject } from './placement-watch.ts';
import { watchServing } from './rollout-watch.ts';

let version = 0;

function setOf(deployment: string, revision: string, available: number): ReplicaSetObject {
  const name = `${deployment}-${revision}`;
  const labels = { 'slm.dev/deployment': deployment };
  return {
    metadata: { name, namespace: 'team-1', labels, resourceVersion: String(++version) },
    status: { replicas: available, availableReplicas: available },
  };
}

it('a deployment that served with fewer pods for a moment is counted, one that only moved is not', () => {
  const store = makeStore<ReplicaSetObject>((error) => {
    throw error;
  });
  store.replace([setOf('careful', 'a', 3), setOf('hasty', 'a', 3)]);
  const watch = watchServing(store);
  const moves: Record<string, [revision: string, available: number][]> = {
    careful: [
      ['b', 1],
      ['a', 2],
      ['b', 3],
      ['a', 0],
    ],
    hasty: [
      ['a', 2],
      ['b', 3],
      ['a', 0],
    ],
  };
  for (const [name, steps] of Object.entries(moves))
    for (const [revision, available] of steps) store.put(setOf(name, revision, available));
  expect(watch.below(3)).toBe(1);
  expect(watch.below(2)).toBe(0);
});

it('the new bytes are in a file that there is and no model had', () => {
  for (const uri of [newFile, newerFile]) expect(makeFiles().has(uri.replace('hf://', 'hf/'))).toBe(true);
  const uris = makeModels(Array.from({ length: 20 }, (_, index) => `team-${index}`)).map(({ spec }) => spec.source.uri);
  expect(uris.filter((uri) => [newFile, newerFile].includes(uri))).toEqual([]);
});
