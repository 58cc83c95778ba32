import { describe, expect, it } from 'vitest';
import { stableJson, type WantedRevision, wantedRevision } from './revision.ts';
import { deployment, digest } from './testing/objects.ts';

type Spec = Parameters<typeof deployment>[0];

function want(spec: Spec = {}, image = 'server:1', known: Parameters<typeof wantedRevision>[2] = []): WantedRevision {
  return wantedRevision(deployment(spec), digest, known, image);
}

describe('a new revision comes with', () => {
  const rows: [string, Spec][] = [
    ['an engine setting', { engine: { contextLength: 1024 } }],
    ['resources', { resources: { limits: { memory: '1Gi' } } }],
    ['another kind of auth', { auth: { type: 'None' } }],
    ['other keys', { auth: { secretRef: { name: 'keys' } } }],
    ['a node selector', { podTemplate: { spec: { nodeSelector: { a: 'b' } } } }],
    ['other served names', { servedNames: ['phi'] }],
    ['a drain timeout', { strategy: { drainTimeoutSeconds: 5 } }],
    ['an image', { image: 'mine:1' }],
    ['another model of the same bytes', { modelRef: { name: 'other' } }],
  ];
  it.each(rows)('%s', (_, spec) => {
    expect(want(spec).revision).not.toBe(want().revision);
  });
  it('other defaults of the model', () => {
    const other = (defaults?: Parameters<typeof wantedRevision>[4]) =>
      wantedRevision(deployment(), digest, [], 'server:1', defaults).revision;
    expect(
      new Set([want().revision, other({ system: 'a' }), other({ system: 'b' }), other({ parameters: { seed: 1 } })])
        .size,
    ).toBe(4);
    expect([other(undefined), other({ parameters: {} })]).toEqual([want().revision, want().revision]);
  });
  it('other bytes', () => {
    const other = wantedRevision(deployment(), `sha256:${'b'.repeat(64)}`, [], 'server:1');
    expect(other.revision).not.toBe(want().revision);
  });
});

describe('no new revision comes with', () => {
  const rows: [string, Spec][] = [
    ['another size', { replicas: 5 }],
    ['a pause', { paused: true }],
    ['another pace', { strategy: { maxSurge: 2, maxUnavailable: 1, progressDeadlineSeconds: 10 } }],
    ['another Service', { service: { type: 'NodePort' } }],
    ['another NetworkPolicy', { isolation: { denyEgress: false } }],
    ['a longer history', { revisionHistoryLimit: 9 }],
    ['objects without content', { engine: {}, podTemplate: { spec: {} }, strategy: {} }],
  ];
  it.each(rows)('%s', (_, spec) => {
    expect(want(spec)).toEqual(want());
  });
  it('a newer operator with another default image', () => {
    const first = want();
    const known = [{ ...first, number: 1 }];
    expect(want({}, 'server:2', known)).toEqual(first);
  });
});

it('takes the operator’s image for settings that are new', () => {
  const known = [{ ...want(), number: 1 }];
  expect(want({ engine: { contextLength: 1024 } }, 'server:2', known).image).toBe('server:2');
});

it('takes the newest of several revisions with the same settings', () => {
  const { settingsHash } = want();
  const known = [
    { revision: 'new', settingsHash, image: 'server:2', number: 3 },
    { revision: 'old', settingsHash, image: 'server:1', number: 1 },
  ];
  expect(want({}, 'server:3', known)).toMatchObject({ revision: 'new', image: 'server:2' });
});

it('has a name of ten hex digits that never changes for the same spec: it is part of the upgrade contract', () => {
  expect(want()).toMatchInlineSnapshot(`
    {
      "image": "server:1",
      "revision": "f712db10c6",
      "settingsHash": "d399ebb631",
    }
  `);
});

it('writes JSON whatever the order of keys', () => {
  expect(stableJson({ b: 1, a: { d: [{ z: 1, y: undefined }], c: {} } })).toBe('{"a":{"d":[{"z":1}]},"b":1}');
});
