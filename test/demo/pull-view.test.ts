import type { CacheEntry, SLMModel, SLMNodeCache } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { pullLines, pullsOf } from './pull-view.ts';

const digest = `sha256:${'a'.repeat(64)}`;
const size = 98_362_432;
const model = {
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMModel',
  metadata: { name: 'smollm2', namespace: 'demo' },
  spec: { source: { uri: 'hf://a/b' } },
  status: { latestRevision: { name: 'aaaaaaaaaa', digest, size, resolvedAt: '2026-01-01T00:00:00Z' } },
} satisfies SLMModel;
const cache = (name: string, entry?: Partial<CacheEntry>, wanted = digest): SLMNodeCache => ({
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMNodeCache',
  metadata: { name },
  spec: { wanted: [{ digest: wanted, size, files: [], sources: [], models: ['demo/smollm2'], namespaces: ['demo'] }] },
  ...(entry
    ? { status: { entries: [{ digest, state: 'Queued' as const, bytesDone: 0, bytesTotal: size, ...entry }] } }
    : {}),
});

describe('the pull of a model', () => {
  it('shows nothing before the model is resolved', () => {
    const { status: _, ...unresolved } = model;
    expect(pullsOf(unresolved, [cache('n1')])).toEqual([]);
  });

  it('shows every node that is to hold it, in order, and no other', () => {
    const other = `sha256:${'b'.repeat(64)}`;
    expect(pullsOf(model, [cache('n2'), cache('n1'), cache('n3', {}, other)]).map((pull) => pull.node)).toEqual([
      'n1',
      'n2',
    ]);
  });

  it('draws a bar with bytes, rate and time left', () => {
    const pulls = pullsOf(model, [
      cache('n1', { state: 'Downloading', bytesDone: 61e6, bytesPerSecond: 20e6 }),
      cache('n2', { state: 'Verifying', bytesDone: size }),
      cache('n3', { state: 'Ready' }),
      cache('node-4'),
      cache('node-5', {
        state: 'Failed',
        bytesDone: 5e6,
        error: { reason: 'ConnectionFailed', message: 'hub refused the connection', attempts: 2 },
      }),
    ]);
    expect(`\n${pullLines(pulls).join('\n')}\n`).toMatchInlineSnapshot(`
      "
        n1      █████████████████───────────  62%  61.0 of 98.4 MB  20.0 MB/s  2 s left
        n2      ████████████████████████████ 100%  98.4 MB, verifying
        n3      ████████████████████████████ 100%  98.4 MB verified
        node-4  ────────────────────────────   0%  waiting for its turn
        node-5  █───────────────────────────   5%  ConnectionFailed: hub refused the connection
      "
    `);
  });
});
