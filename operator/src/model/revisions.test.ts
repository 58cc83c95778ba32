import type { ModelRevision, ModelVariant, SLMDeployment, SLMModelStatus } from '@slm-operator/crds';
import { describe, expect, test } from 'vitest';
import { useOf } from '../nodecache/testing/objects.ts';
import type { RevisionUse } from '../nodecache/views.ts';
import type { PastUse } from './history.ts';
import { keepRevisions, makeRevision } from './revisions.ts';

const digestOf = (letter: string) => `sha256:${letter.repeat(64)}`;

/** A revision of the default file `letters[0]` and one variant for each letter more. */
function revision(letters: string, files = 1): ModelRevision {
  const list = (digest: string) => Array.from({ length: files }, (_, index) => ({ path: `${index}`, size: 1, digest }));
  const [first = '', ...others] = letters;
  const variants = others.map(
    (letter, index): ModelVariant => ({
      name: `v${index}`,
      accelerators: [`a${index}`],
      digest: digestOf(letter),
      size: 1,
      files: list(digestOf(letter)),
      sources: [],
    }),
  );
  const digest = digestOf(first);
  return makeRevision(
    {
      digest,
      size: 1,
      files: list(digest),
      sources: [],
      metadata: { format: 'GGUF' },
      estimate: { weights: 1 },
      ...(variants.length === 0 ? {} : { variants }),
    },
    0,
  );
}

const use = (letter: string, deployment = 'chat') => useOf(digestOf(letter), { model: 'tiny', deployment });
const chat: SLMDeployment = {
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMDeployment',
  metadata: { name: 'chat', namespace: 'demo' },
  spec: { modelRef: { name: 'tiny' } },
};

/** Each kept revision by its letters, with who uses it. */
function kept(
  latest: string,
  before: string[],
  uses: RevisionUse[],
  deployments = [chat],
  past: readonly PastUse[] = [],
): string[] {
  const all = [latest, ...before];
  const names = new Map(all.map((letters) => [revision(letters).name, letters]));
  const previous: SLMModelStatus = { revisions: before.map((letters) => revision(letters)) };
  return keepRevisions({ latest: revision(latest), previous, namespace: 'demo', uses, deployments, past }).map(
    ({ name, usedBy }) => `${names.get(name)} ${usedBy?.join(',') ?? '-'}`,
  );
}

describe('an older revision', () => {
  test.each<[string, string[], string[]]>([
    [
      'with the same default file and another variant stays while something runs on that variant',
      kept('ac', ['ab'], [use('a'), use('c'), use('b', 'gpu')]),
      ['ac chat', 'ab gpu'],
    ],
    ['goes when all that runs has its bytes from the latest', kept('ac', ['ab'], [use('a'), use('c')]), ['ac chat']],
    ['stays until something runs on what is new', kept('ac', ['ab'], [use('a')]), ['ac chat', 'ab -']],
    [
      'stays when a variant only went away and pods may come on it still',
      kept('a', ['ab'], [use('a')]),
      ['a chat', 'ab -'],
    ],
    ['goes when no deployment uses the model', kept('ac', ['ab'], [], []), ['ac -']],
    [
      'goes for a newer one that has the bytes, too',
      kept('d', ['ac', 'ab'], [use('d'), use('a')]),
      ['d chat', 'ac chat'],
    ],
  ])('%s', (_, got, expected) => {
    expect(got).toEqual(expected);
  });

  test('is let go when the list would get too long for the API server, the latest never', () => {
    const before = Array.from({ length: 9 }, (_, index) => `${index}`).map((letter) => revision(letter, 700));
    const uses = before.map((_, index) => use(`${index}`));
    const rest = { previous: { revisions: before }, namespace: 'demo', uses, deployments: [chat] };
    const all = keepRevisions({ latest: revision('ab', 700), ...rest });
    const bytes = Buffer.byteLength(JSON.stringify(all));
    expect(bytes).toBeLessThan(520 * 1024);
    expect(all.length).toBeGreaterThan(3);
    expect(all.length).toBeLessThan(10);
    expect(all.map(({ digest }) => digest.slice(7, 8)).join('')).toMatch(/^a0123/);
    expect(keepRevisions({ latest: revision('ab', 4000), ...rest })).toHaveLength(1);
  });
});

const pinning = (letters: string): SLMDeployment => ({
  ...chat,
  metadata: { name: 'pinned', namespace: 'other' },
  spec: { modelRef: { name: 'tiny', namespace: 'demo', revision: revision(letters).name } },
});
const past = (letter: string, from?: string): PastUse => ({
  digest: digestOf(letter),
  revision: from === undefined ? undefined : revision(from).name,
});

describe('a revision without pods', () => {
  test.each<[string, string[], string[]]>([
    [
      'stays while a deployment pins it, of another namespace too',
      kept('b', ['c', 'a'], [use('b')], [chat, pinning('a')]),
      ['b chat', 'a -'],
    ],
    [
      'stays while the history of a deployment may go back to it',
      kept('b', ['c', 'a'], [use('b')], [chat], [past('a')]),
      ['b chat', 'a -'],
    ],
    [
      'is told from one with the same default file by the name that the history has',
      kept('d', ['ac', 'ab'], [use('d')], [chat], [past('a', 'ab')]),
      ['d chat', 'ab -'],
    ],
    ['goes with the history', kept('b', ['a'], [use('b')], [chat], []), ['b chat']],
    [
      'gives way to those with pods when the list is full',
      kept(
        '0',
        ['f', '1', '2', '3', '4', '5', '6', '7', '8', '9'],
        '0123456789'.split('').map((one) => use(one)),
        [chat],
        [past('f')],
      ),
      '0123456789'.split('').map((letter) => `${letter} chat`),
    ],
  ])('%s', (_, got, expected) => {
    expect(got).toEqual(expected);
  });

  test('of ten the oldest of the history is let go', () => {
    const letters = 'abcdef12345'.split('');
    const got = kept(
      '0',
      letters,
      [use('0')],
      [chat],
      letters.map((letter) => past(letter)),
    );
    expect(got).toEqual(['0 chat', ...'abcdef123'.split('').map((letter) => `${letter} -`)]);
  });

  test('keeps what was known of it when it was the latest', () => {
    const before = revision('a');
    const previous: SLMModelStatus = {
      latestRevision: { name: before.name, digest: before.digest, size: 1, resolvedAt: before.resolvedAt },
      revisions: [before],
      metadata: { format: 'ONNX' },
      estimate: { weights: 7 },
    };
    const input = { latest: revision('b'), previous, namespace: 'demo', uses: [use('a')], deployments: [chat] };
    const [latest, older] = keepRevisions(input);
    expect(latest).not.toHaveProperty('metadata');
    expect(older).toMatchObject({ metadata: { format: 'ONNX' }, estimate: { weights: 7 } });
  });
});

test('users of other namespaces are told with their namespace', () => {
  const elsewhere = { ...use('a', 'bot'), namespace: 'other', modelNamespace: 'demo' };
  expect(kept('a', [], [use('a'), elsewhere])).toEqual(['a chat,other/bot']);
});
