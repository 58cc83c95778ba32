import { describe, expect, it } from 'vitest';
import { knownRevision } from './observed.ts';
import { imageOf, isAlike, type RevisionInput, stableJson, type WantedRevision, wantedRevision } from './revision.ts';
import { deployment, digest, replicaSet, replicaSetOf } from './testing/objects.ts';

type Spec = Parameters<typeof deployment>[0];

function want(spec: Spec = {}, image = 'server:1', change: Partial<RevisionInput> = {}): WantedRevision {
  return wantedRevision({
    deployment: deployment(spec),
    model: { digest },
    known: [],
    images: { cpu: image },
    ...change,
  });
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
    ['a pod on each node', { placement: { mode: 'PerNode' } }],
    ['another model of the same bytes', { modelRef: { name: 'other' } }],
    ['another number of devices for each pod', { hardware: { preferred: 'gpu', count: 2 } }],
    ['another least speed', { hardware: { preferred: 'gpu', minTokensPerSecond: 20 } }],
  ];
  it.each(rows)('%s', (_, spec) => {
    expect(want(spec).revision).not.toBe(want().revision);
  });
  it('other defaults of the model', () => {
    const other = (defaults: RevisionInput['defaults']) => want({}, 'server:1', { defaults }).revision;
    expect(
      new Set([want().revision, other({ system: 'a' }), other({ system: 'b' }), other({ parameters: { seed: 1 } })])
        .size,
    ).toBe(4);
    expect([other(undefined), other({ parameters: {} })]).toEqual([want().revision, want().revision]);
  });
  it('other bytes', () => {
    const other = want({}, 'server:1', { model: { digest: `sha256:${'b'.repeat(64)}` } });
    expect(other.revision).not.toBe(want().revision);
  });
  it('other files for other hardware', () => {
    const other = (...variants: { accelerators: string[]; digest: string }[]) =>
      want({}, 'server:1', { model: { digest, variants } }).revision;
    const fp16 = { accelerators: ['gpu', 'nvidia'], digest: `sha256:${'f'.repeat(64)}` };
    expect(
      new Set([want().revision, other(fp16), other({ ...fp16, digest }), other({ ...fp16, accelerators: ['gpu'] })])
        .size,
    ).toBe(4);
    expect([other(), other({ ...fp16, accelerators: ['nvidia', 'gpu'] })]).toEqual([want().revision, other(fp16)]);
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
    ['the usual placement, written out', { placement: { mode: 'Replicas' } }],
    ['other hardware, which only moves pods', { hardware: { preferred: 'npu', fallback: ['gpu'], count: 1 } }],
    ['objects without content', { engine: {}, podTemplate: { spec: {} }, strategy: {} }],
  ];
  it.each(rows)('%s', (_, spec) => {
    expect(want(spec)).toEqual(want());
  });
  it('a newer operator with another default image', () => {
    const first = want();
    const known = [{ ...first, number: 1 }];
    expect(want({}, 'server:2', { known })).toEqual(first);
  });
});

it('takes the operator’s image for settings that are new', () => {
  const known = [{ ...want(), number: 1 }];
  expect(want({ engine: { contextLength: 1024 } }, 'server:2', { known }).image).toBe('server:2');
});

it('takes the newest of several revisions with the same settings', () => {
  const { settingsHash } = want();
  const known = [
    { revision: 'new', settingsHash, image: 'server:2', number: 3 },
    { revision: 'old', settingsHash, image: 'server:1', number: 1 },
  ];
  expect(want({}, 'server:3', { known })).toMatchObject({ revision: 'new', image: 'server:2' });
});

describe('the name of a revision and the hash of its settings never change for the same spec: they are part of the upgrade contract', () => {
  // As the releases before tiers and variants had them.
  const rows: [string, Spec, string, string][] = [
    ['the smallest spec', {}, 'd399ebb631', 'f712db10c6'],
    [
      'an engine and resources',
      { engine: { contextLength: 1024, gpuLayers: 0 }, resources: { limits: { memory: '1Gi' } } },
      '38b910a259',
      '59e19545cf',
    ],
    ['an image of its own', { image: 'mine:1' }, '402a9ebfee', '36607ba28d'],
    [
      'tokens, TLS, limits and a pod template',
      {
        auth: { type: 'ServiceAccount' },
        tls: { secretRef: { name: 'tls' } },
        limits: { maxTokens: 100 },
        podTemplate: { spec: { nodeSelector: { a: 'b' } } },
        strategy: { drainTimeoutSeconds: 5 },
      },
      '719f79769d',
      '32c62312cf',
    ],
  ];
  it.each(rows)('%s', (_, spec, settingsHash, revision) => {
    expect(want(spec)).toMatchObject({ settingsHash, revision });
    // More images, and files for hardware that there are none of, make no difference.
    const images = { cpu: 'server:1', cuda: 'server-cuda:1' };
    expect(want(spec, '', { images, model: { digest, variants: [] } })).toMatchObject({ settingsHash, revision });
  });
  it('defaults of the model', () => {
    const inline = want({ model: { uri: 'hf://a/b' } }, 'server:1', { defaults: { system: 'Be brief.' } });
    expect(inline).toMatchObject({ settingsHash: '6962fbe982', revision: '0905218382' });
  });
});

describe('server images of a revision', () => {
  const images = { cpu: 'server:1', cuda: 'server-cuda:1' };
  const newer = { cpu: 'server:2', cuda: 'server-cuda:2', vulkan: 'server-vulkan:2' };
  const first = want({}, '', { images });
  const rows: [string, WantedRevision, object][] = [
    ['are the operator’s when it is new', first, { cpu: 'server:1', cuda: 'server-cuda:1', vulkan: undefined }],
    [
      'stay what they were with a newer operator, whose new variants come along',
      want({}, '', { images: newer, known: [knownRevision(replicaSetOf(first))] }),
      { cpu: 'server:1', cuda: 'server-cuda:1', vulkan: 'server-vulkan:2' },
    ],
    [
      'stay so when only the ReplicaSet of another tier is left',
      want({}, '', {
        images: newer,
        known: [knownRevision(replicaSetOf(first, { tier: 'nvidia', image: 'server-cuda:1' }))],
      }),
      { cpu: 'server:1', cuda: 'server-cuda:1', vulkan: 'server-vulkan:2' },
    ],
    [
      'of a ReplicaSet older than variants: its own, and the operator’s for other hardware',
      want({}, '', {
        images: newer,
        known: [knownRevision(replicaSet(first.revision, { settingsHash: first.settingsHash }))],
      }),
      { cpu: 'server:1', cuda: 'server-cuda:2', vulkan: 'server-vulkan:2' },
    ],
    [
      'are one for all with spec.image',
      want({ image: 'mine:1' }, '', { images }),
      { cpu: 'mine:1', cuda: 'mine:1', vulkan: 'mine:1' },
    ],
  ];
  it.each(rows)('%s', (_, wanted, expected) => {
    expect({
      cpu: imageOf(wanted, 'cpu'),
      cuda: imageOf(wanted, 'cuda'),
      vulkan: imageOf(wanted, 'vulkan'),
    }).toEqual(expected);
  });
  it('of a profile that names a whole reference are that', () => {
    expect(imageOf(first, 'registry.example/npu:3')).toBe('registry.example/npu:3');
  });
});

describe('where an SLMRollout brings server images', () => {
  const images = { cpu: 'server:1', cuda: 'server-cuda:1' };
  const first = want({}, '', { images });
  const known = [knownRevision(replicaSetOf(first))];
  const adopt = (newer: Record<string, string>, change: Partial<RevisionInput> = {}) =>
    want({}, '', { images: newer, known, adoptImages: true, ...change });

  it('a newer operator makes a new revision with its images', () => {
    const next = adopt({ cpu: 'server:2', cuda: 'server-cuda:2' });
    expect(next).toMatchObject({ image: 'server:2', images: { cuda: 'server-cuda:2' } });
    expect(next.revision).toBe(want({}, 'server:2').revision);
  });
  it('an image for other hardware alone makes one, too', () => {
    const next = adopt({ cpu: 'server:1', cuda: 'server-cuda:2' });
    expect(next.revision).not.toBe(first.revision);
    // Once its ReplicaSet is there, it is found again.
    const both = [...known, { ...knownRevision(replicaSetOf(next)), number: 2 }];
    expect(adopt({ cpu: 'server:1', cuda: 'server-cuda:2' }, { known: both }).revision).toBe(next.revision);
  });
  it('the same images make none, nor does a variant that is new', () => {
    expect(adopt(images).revision).toBe(first.revision);
    expect(adopt({ ...images, vulkan: 'server-vulkan:1' }).revision).toBe(first.revision);
  });
  it('an operator that goes back finds what ran before', () => {
    const next = adopt({ cpu: 'server:2', cuda: 'server-cuda:2' });
    const both = [...known, { ...knownRevision(replicaSetOf(next)), number: 2 }];
    expect(adopt(images, { known: both }).revision).toBe(first.revision);
  });
  it('spec.image stays what a person chose', () => {
    const own = { deployment: deployment({ image: 'mine:1' }), known: [] };
    expect(adopt({ cpu: 'server:2' }, own).image).toBe('mine:1');
  });
});

it('writes JSON whatever the order of keys', () => {
  expect(stableJson({ b: 1, a: { d: [{ z: 1, y: undefined }], c: {} } })).toBe('{"a":{"d":[{"z":1}]},"b":1}');
});

it.each([
  [{}, {}],
  [
    { a: 1, b: 2 },
    { b: 2, a: 1 },
  ],
  [{ a: 1 }, { a: 1, b: undefined, c: {}, d: [], e: { f: { g: [] } } }],
  [{ a: { b: {} } }, {}],
  [{ a: [{}] }, { a: [{ b: undefined }] }],
  [{ a: null }, {}],
  [{ a: 0 }, {}],
  [{ a: [1, 2] }, { a: [2, 1] }],
  [{ a: [1, 2] }, { a: [1] }],
  [{ a: [] }, { a: {} }],
  [{ a: '1' }, { a: 1 }],
  [{ a: { b: 1 } }, { a: { b: 1, c: 2 } }],
  [undefined, { a: 1 }],
  [[{ a: 1 }], { 0: { a: 1 } }],
])('is alike just when the JSON is: %j and %j', (one, other) => {
  const expected = stableJson(one) === stableJson(other);
  expect([isAlike(one, other), isAlike(other, one)]).toEqual([expected, expected]);
});
