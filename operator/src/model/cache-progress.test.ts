import type { CacheEntry, SLMNodeCache } from '@slm-operator/crds';
import { describe, expect, test } from 'vitest';
import { nodeOf } from '../nodecache/testing/objects.ts';
import { foldCaches, type PullTarget } from './cache-progress.ts';

const [own, half] = ['d', 'f'].map((letter) => `sha256:${letter.repeat(64)}`) as [string, string];
const files = { own: { digest: own, size: 100 }, half: { digest: half, size: 300 } };

const target = (name: string, ...pulls: (keyof typeof files)[]): PullTarget => ({
  node: nodeOf({ name }),
  pulls: pulls.map((pull) => files[pull]),
});

/** What agents report, by node. */
function reports(all: Record<string, Record<string, Partial<CacheEntry>>>): Map<string, SLMNodeCache> {
  return new Map(
    Object.entries(all).map(([name, entries]): [string, SLMNodeCache] => {
      const list = Object.entries(entries).map(([digest, entry]): CacheEntry => {
        const bytesTotal = digest === own ? 100 : 300;
        return { digest, state: 'Ready', bytesDone: bytesTotal, bytesTotal, ...entry };
      });
      const status = { observedGeneration: 1, entries: list };
      return [name, { apiVersion: 'slm.dev/v1alpha1', kind: 'SLMNodeCache', metadata: { name }, status }];
    }),
  );
}
const fold = (targets: PullTarget[], all: Parameters<typeof reports>[0]) => foldCaches(targets, reports(all));

describe('a node that is to hold two files', () => {
  const both = [target('n1', 'own', 'half')];
  test.each<[string, Parameters<typeof reports>[0], string, string]>([
    ['is ready when it has both', { n1: { [own]: {}, [half]: {} } }, '1/1 100%', '1 node holds it'],
    [
      'is pulling when it pulls one and has the other',
      { n1: { [own]: {}, [half]: { state: 'Downloading', bytesDone: 100, bytesPerSecond: 50 } } },
      '0/1 50% 50 B/s 4s',
      '50% of 400 B on 1 node, 50 B/s, 4 s left',
    ],
    ['is waiting when it has begun with neither', { n1: {} }, '0/1 0%', '0% of 400 B on 1 node'],
    [
      'has failed when one of them did and the other is there',
      {
        n1: {
          [own]: {},
          [half]: { state: 'Failed', bytesDone: 0, error: { reason: 'NotFound', message: 'it is gone', attempts: 1 } },
        },
      },
      '0/1 25%',
      '25% of 400 B on 1 node; node n1: it is gone',
    ],
  ])('%s', (_, all, columns, message) => {
    const { cache, message: said } = fold(both, all);
    expect(`${cache.nodes} ${cache.progress}`).toBe(columns);
    expect(said).toBe(message);
  });
});

test('nodes count with what each of them is to hold', () => {
  const { cache, complete } = fold([target('plain', 'own'), target('gpu', 'half')], {
    plain: { [own]: {} },
    gpu: { [half]: { state: 'Downloading', bytesDone: 150 } },
  });
  expect(cache).toMatchObject({ nodes: '1/2', bytesDone: 250, bytesTotal: 400, percent: 62 });
  expect(complete).toBe(false);
});

test('what a node holds for others says nothing about its own', () => {
  expect(fold([target('gpu', 'half')], { gpu: { [own]: {} } }).cache).toMatchObject({ nodes: '0/1', bytesDone: 0 });
});
