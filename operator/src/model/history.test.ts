import { annotations, type ModelRevision, type SLMDeployment, type SLMModel } from '@slm-operator/crds';
import { describe, expect, it, test } from 'vitest';
import type { KubeObject } from '../kube/resource.ts';
import { modelAt, pastRevision, revisionsAsked, soughtRevision } from './history.ts';
import { lostBytes } from './lost-bytes.ts';

const digestOf = (letter: string) => `sha256:${letter.repeat(64)}`;
const revision = (letter: string, variant?: string): ModelRevision => ({
  name: `${letter}${variant ?? letter}`.repeat(5),
  digest: digestOf(letter),
  size: 1,
  resolvedAt: '2026-01-01T00:00:00Z',
  files: [],
  sources: [],
  ...(variant === undefined
    ? {}
    : {
        variants: [{ name: 'v', accelerators: ['gpu'], digest: digestOf(variant), size: 1, files: [], sources: [] }],
      }),
});
const latest = revision('b');
const model: SLMModel = {
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMModel',
  metadata: { name: 'phi', namespace: 'models' },
  spec: { source: { uri: 'hf://a/b' } },
  status: {
    latestRevision: latest,
    revisions: [
      latest,
      { ...revision('a', 'c'), metadata: { format: 'ONNX' }, estimate: { weights: 7 } },
      revision('a', 'd'),
    ],
    metadata: { format: 'GGUF' },
    estimate: { weights: 1 },
  },
};
const setOf = (digest?: string, name?: string): KubeObject => ({
  metadata: {
    name: 'chat-0',
    annotations: {
      ...(digest === undefined ? {} : { [annotations.modelDigest]: digest }),
      ...(name === undefined ? {} : { [annotations.modelRevision]: name }),
    },
  },
});
const chat = (spec: Partial<SLMDeployment['spec']> = {}, more: Partial<SLMDeployment> = {}): SLMDeployment => ({
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMDeployment',
  metadata: { name: 'chat', namespace: 'apps' },
  spec: { modelRef: { name: 'phi', namespace: 'models' }, ...spec },
  ...more,
});

describe('the revision that a ReplicaSet was made from', () => {
  it.each<[string, KubeObject, string | undefined]>([
    ['is the one that it names', setOf(digestOf('a'), revision('a', 'd').name), revision('a', 'd').name],
    ['is told by the digest where it names none', setOf(digestOf('c')), revision('a', 'c').name],
    ['is the newest with the digest where several have it', setOf(digestOf('a')), revision('a', 'c').name],
    ['is unknown when the model lists it no more', setOf(digestOf('a'), 'eeeeeeeeee'), undefined],
    ['is unknown for somebody else’s ReplicaSet', setOf(), undefined],
  ])('%s', (_, set, expected) => {
    expect(pastRevision(model, set)?.name).toBe(expected);
  });
});

test('a deployment asks for the latest revision, or for the one that it pins', () => {
  const pinning = (name: string) => chat({ modelRef: { name: 'phi', namespace: 'models', revision: name } });
  expect(soughtRevision(chat(), model)?.name).toBe(latest.name);
  expect(soughtRevision(pinning(revision('a', 'd').name), model)?.name).toBe(revision('a', 'd').name);
  expect(soughtRevision(pinning('eeeeeeeeee'), model)).toBeUndefined();
});

test('an older revision brings what was known of it, and of one of which nothing was kept the latest stands in', () => {
  expect(modelAt(model, revision('b'))).toBe(model);
  const [, known, unknown] = (model.status?.revisions ?? []) as [ModelRevision, ModelRevision, ModelRevision];
  expect(modelAt(model, known).status).toMatchObject({ metadata: { format: 'ONNX' }, estimate: { weights: 7 } });
  expect(modelAt(model, unknown).status).toMatchObject({ metadata: { format: 'GGUF' }, estimate: { weights: 1 } });
});

test('a revision is gone back to by field, by annotation, and by a rollout that is on its way there', () => {
  const annotated = chat({}, { metadata: { name: 'chat', annotations: { [annotations.rollbackTo]: 'aaaaaaaaaa' } } });
  const moving = chat({}, { status: { rollout: { phase: 'Progressing', revision: 'bbbbbbbbbb' } } });
  expect([...revisionsAsked(chat({ rollbackTo: { revision: 'cccccccccc' } }))]).toEqual(['cccccccccc']);
  expect([...revisionsAsked(annotated)]).toEqual(['aaaaaaaaaa']);
  expect([...revisionsAsked(moving)]).toEqual(['bbbbbbbbbb']);
  expect([...revisionsAsked(chat())]).toEqual([]);
});

describe('bytes of an older revision', () => {
  const gone = setOf(digestOf('e'), 'eeeeeeeeee');
  const lostIn = (more: Partial<Parameters<typeof lostBytes>[0]>) =>
    lostBytes({
      namespace: 'apps',
      modelText: 'models/phi',
      model,
      sets: [gone],
      nodes: [{ name: 'n1' }],
      caches: new Map(),
      ...more,
    });
  const cacheFor = (namespace: string, state: 'Ready' | 'Downloading' = 'Ready') =>
    new Map([
      [
        'n1',
        {
          apiVersion: 'slm.dev/v1alpha1',
          kind: 'SLMNodeCache' as const,
          metadata: { name: 'n1' },
          spec: {
            wanted: [
              {
                digest: digestOf('e'),
                size: 1,
                files: [],
                sources: [],
                models: ['models/phi'],
                namespaces: [namespace],
              },
            ],
          },
          status: { entries: [{ digest: digestOf('e'), state, bytesDone: 1, bytesTotal: 1 }] },
        },
      ],
    ]);

  it('can be had while the model lists the revision', () => {
    expect(lostIn({ sets: [setOf(digestOf('c'))] })).toBeUndefined();
  });
  it('can be had from a node that holds them for the namespace', () => {
    expect(lostIn({ caches: cacheFor('apps') })).toBeUndefined();
  });
  it('are lost when nodes hold them for others, or are not done', () => {
    expect(lostIn({ caches: cacheFor('others') })).toBeDefined();
    expect(lostIn({ caches: cacheFor('apps', 'Downloading') })).toBeDefined();
  });
  it('are lost with a sentence that says what to do', () => {
    expect([lostIn({}), lostIn({ model: undefined, sets: [setOf(digestOf('e'))] })]).toMatchInlineSnapshot(`
      [
        "its bytes, revision eeeeeeeeee of the model, are on no node, and model models/phi does not list it any more (it keeps 10 revisions): put that version back into the model’s source",
        "its bytes, revision sha256:eeeeeeeeee of the model, are on no node, and there is no SLMModel models/phi any more: put that version back into the model’s source",
      ]
    `);
  });
});
