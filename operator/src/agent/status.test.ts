import type { Reason } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import type { PullEntry } from './puller.ts';
import { desiredStatus } from './status.ts';

const MB = 1_000_000;
const now = Date.UTC(2030, 0, 1);
const entryOf = (name: string, change: Partial<PullEntry> = {}): PullEntry => ({
  digest: `sha256:${name.at(-1)?.repeat(64)}`,
  models: [name],
  namespaces: ['demo'],
  state: 'Ready',
  bytesDone: 98 * MB,
  bytesTotal: 98 * MB,
  ...change,
});
const failed = (reason: Reason, terminal: boolean, message = 'what to do'): Partial<PullEntry> => ({
  state: 'Failed',
  bytesDone: 0,
  error: { reason, message, attempts: 3, nextRetry: now + 60_000, terminal },
});
const statusOf = (entries: PullEntry[]) =>
  desiredStatus({
    entries,
    observedGeneration: 4,
    disk: { capacityBytes: 100, freeBytes: 50, usedBytes: 10 },
    devices: [{ id: 'cpu', class: 'cpu', usable: true, cores: 2 }],
    agentVersion: '1.2.3',
    now,
    previous: undefined,
  });
const conditionsOf = (entries: PullEntry[]) =>
  (statusOf(entries).conditions ?? []).map(
    ({ type, status, reason, message }) => `${type}=${status} ${reason}: ${message}`,
  );

describe('conditions', () => {
  it.each<[string, PullEntry[], string[]]>([
    ['nothing wanted', [], ['Ready=True Ready: no model is wanted on this node']],
    ['one model here', [entryOf('demo/a')], ['Ready=True Ready: the model is here, 98 MB']],
    ['two models here', [entryOf('demo/a'), entryOf('demo/b')], ['Ready=True Ready: all 2 models are here, 196 MB']],
    [
      'one on its way',
      [entryOf('demo/a', { state: 'Downloading', bytesDone: 61 * MB, bytesPerSecond: 41 * MB })],
      [
        'Ready=False Downloading: a: 62% of 98 MB, 41 MB/s, 1 s left',
        'Reconciling=True Downloading: a: 62% of 98 MB, 41 MB/s, 1 s left',
      ],
    ],
    [
      'two of the same name in two namespaces',
      [
        entryOf('demo/a', { state: 'Verifying' }),
        entryOf('prod/a', { digest: `sha256:${'f'.repeat(64)}`, state: 'Queued', bytesDone: 0 }),
      ],
      [
        'Ready=False Downloading: demo/a: verifying 98 MB; prod/a: waits for its turn to pull 98 MB',
        'Reconciling=True Downloading: demo/a: verifying 98 MB; prod/a: waits for its turn to pull 98 MB',
      ],
    ],
    [
      'one that fails for now',
      [entryOf('demo/a', failed('ConnectionFailed', false)), entryOf('demo/b')],
      ['Ready=False ConnectionFailed: a: what to do', 'Reconciling=True ConnectionFailed: a: what to do'],
    ],
    [
      'one that only a person can help',
      [entryOf('demo/a', failed('DigestMismatch', true))],
      ['Ready=False DigestMismatch: a: what to do', 'Stalled=True DigestMismatch: a: what to do'],
    ],
    [
      'more than fit into a sentence',
      ['a', 'b', 'c', 'd', 'e'].map((name) => entryOf(`demo/${name}`, failed('NotFound', true, 'gone'))),
      [
        'Ready=False NotFound: a: gone; b: gone; c: gone; and 2 more',
        'Stalled=True NotFound: a: gone; b: gone; c: gone; and 2 more',
      ],
    ],
    [
      'one that only stays because it is mounted',
      [entryOf('demo/a', { state: 'Evicting' })],
      ['Ready=True Ready: no model is wanted on this node'],
    ],
  ])('%s', (_, entries, expected) => {
    expect(conditionsOf(entries)).toEqual(expected);
  });
});

describe('the status', () => {
  it('says what is here, in a fixed order and within the bounds of the API', () => {
    const long = 'x'.repeat(5000);
    expect(
      statusOf([entryOf('demo/b', failed('NotFound', true, long)), entryOf('demo/a', { from: 'hub.example' })]).entries,
    ).toEqual([
      {
        digest: `sha256:${'a'.repeat(64)}`,
        state: 'Ready',
        bytesDone: 98 * MB,
        bytesTotal: 98 * MB,
        from: 'hub.example',
      },
      {
        digest: `sha256:${'b'.repeat(64)}`,
        state: 'Failed',
        bytesDone: 0,
        bytesTotal: 98 * MB,
        error: { reason: 'NotFound', message: `${'x'.repeat(1023)}…`, attempts: 3, nextRetry: '2030-01-01T00:01:00Z' },
      },
    ]);
  });

  it('counts those wanted, not those that only stay', () => {
    const { summary, observedGeneration, agentVersion } = statusOf([
      entryOf('demo/a'),
      entryOf('demo/b', { state: 'Queued' }),
      entryOf('demo/c', { state: 'Evicting' }),
    ]);
    expect({ summary, observedGeneration, agentVersion }).toEqual({
      summary: '1/2',
      observedGeneration: 4,
      agentVersion: '1.2.3',
    });
  });

  it('moves the time of a condition only with its status', () => {
    const previous = statusOf([]);
    const later = desiredStatus({
      entries: [entryOf('demo/a')],
      observedGeneration: 5,
      disk: undefined,
      devices: undefined,
      agentVersion: '1.2.3',
      now: now + 3_600_000,
      previous,
    });
    expect(later.conditions?.[0]?.lastTransitionTime).toBe('2030-01-01T00:00:00Z');
    expect(later.conditions?.[0]?.observedGeneration).toBe(5);
  });
});
