import type { ModelFile, SLMModel, SLMModelSpec, SLMModelStatus } from '@slm-operator/crds';
import { describe, expect, test } from 'vitest';
import { SourceError } from '../sources/http-errors.ts';
import type { Resolution } from '../sources/resolve.ts';
import {
  checkFormat,
  checkSize,
  credentialsFor,
  failureOfPart,
  joinParts,
  knownParts,
  type Part,
  partsOf,
  sourceHash,
  type VariantSpec,
} from './parts.ts';
import { makeRevision } from './revisions.ts';

const HUB = 'https://hub';
const source = { uri: 'hf://acme/tiny' };
const fp16: VariantSpec = { name: 'fp16', accelerators: ['nvidia'], uri: 'hf://acme/tiny/fp16.gguf' };
const int4: VariantSpec = { name: 'int4', accelerators: ['npu'], uri: 'hf://acme/tiny-onnx', format: 'ONNX' };
const spec: SLMModelSpec = { source, variants: [fp16, int4] };

const model = (of: SLMModelSpec, status?: SLMModelStatus): SLMModel => ({
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMModel',
  metadata: { name: 'tiny', namespace: 'demo' },
  spec: of,
  ...(status === undefined ? {} : { status }),
});
const parts = (of: SLMModelSpec) => partsOf(model(of), HUB);

function resolved(letter: string, more: Partial<Resolution> = {}): Resolution {
  const digest = `sha256:${letter.repeat(64)}`;
  return {
    digest,
    size: 10,
    files: [{ path: 'm.gguf', size: 10, digest }],
    sources: [{ url: `https://hub/${letter}` }],
    metadata: { format: 'GGUF' },
    estimate: { weights: 10 },
    ...more,
  };
}

/** As the controller writes it. */
function statusOf(of: SLMModelSpec, ...results: Resolution[]): SLMModelStatus {
  const resolution = joinParts(parts(of), results);
  const revision = makeRevision(resolution, 0);
  const { metadata, estimate } = resolution;
  return {
    resolvedSource: sourceHash(of),
    latestRevision: revision,
    revisions: [revision],
    metadata,
    estimate,
  };
}

describe('the hash of a source', () => {
  test('is that of before without variants, so that an upgrade asks for nothing anew', () => {
    expect(sourceHash({ source })).toBe(sourceHash({ source, variants: [] }));
    expect(sourceHash({ source })).toMatch(/^[0-9a-f]{16}$/);
  });

  test.each<[string, Partial<SLMModelSpec>]>([
    ['a variant is added', { variants: [fp16, int4, { ...fp16, name: 'more', accelerators: ['amd'] }] }],
    ['a variant goes', { variants: [fp16] }],
    ['a variant is for other hardware', { variants: [{ ...fp16, accelerators: ['gpu'] }, int4] }],
    ['a variant has another address', { variants: [{ ...fp16, uri: 'hf://acme/other' }, int4] }],
    ['the source has another address', { source: { uri: 'hf://acme/other' } }],
  ])('changes when %s', (_, change) => {
    expect(sourceHash({ ...spec, ...change })).not.toBe(sourceHash(spec));
  });
});

describe('what the status knows', () => {
  const results = [resolved('a'), resolved('b', { sourceRevision: 'c0ffee' }), resolved('c')];
  /** Which parts of a changed spec are known, in order. */
  const known = (of: SLMModelSpec, status = statusOf(spec, ...results)) => {
    const all = knownParts(model(of, status));
    return parts(of).map(({ variant, hash }) => `${variant?.name ?? 'source'} ${all.has(hash) ? 'known' : 'new'}`);
  };

  test.each<[string, SLMModelSpec, string[]]>([
    ['the same spec', spec, ['source known', 'fp16 known', 'int4 known']],
    [
      'a variant more',
      { source, variants: [fp16, int4, { ...int4, name: 'q4', uri: 'hf://acme/q4', accelerators: ['cpu'] }] },
      ['source known', 'fp16 known', 'int4 known', 'q4 new'],
    ],
    ['a variant less', { source, variants: [int4] }, ['source known', 'int4 known']],
    ['no variant any more', { source }, ['source known']],
    [
      'a variant for other hardware',
      { source, variants: [{ ...fp16, accelerators: ['gpu'] }] },
      ['source known', 'fp16 known'],
    ],
    ['a variant by another name', { source, variants: [{ ...fp16, name: 'half' }] }, ['source known', 'half known']],
    [
      'a variant that must have another format',
      { source, variants: [{ ...fp16, format: 'ONNX' }] },
      ['source known', 'fp16 new'],
    ],
    ['another source', { source: { uri: 'hf://acme/other' }, variants: [fp16] }, ['source new', 'fp16 known']],
    [
      'another credential for all of them',
      { source: { ...source, secretRef: { name: 's' } }, variants: [fp16] },
      ['source new', 'fp16 new'],
    ],
  ])('after a change to %s', (_, of, expected) => {
    expect(known(of)).toEqual(expected);
  });

  test('a model of a release without variants, to which one is added, keeps its commit', () => {
    expect(known(spec, statusOf({ source }, resolved('a')))).toEqual(['source known', 'fp16 new', 'int4 new']);
  });

  test('nothing, before anything was resolved', () => {
    expect(knownParts(model(spec)).size).toBe(0);
  });

  test('all that a part was resolved to', () => {
    expect([...knownParts(model(spec, statusOf(spec, ...results))).values()]).toEqual(results);
  });
});

describe('a credential', () => {
  const secret = { uri: 'https://host/m.gguf', secretRef: { name: 's' } };
  const all = { headers: { authorization: 'Bearer x' }, caBundle: 'PEM' };
  test.each<[string, string, boolean]>([
    ['goes along to a variant on the host of the source', 'https://host/other.gguf', true],
    ['stays here for a variant on another host', 'https://elsewhere/other.gguf', false],
    ['stays here for a variant on another port', 'https://host:8443/other.gguf', false],
    ['stays here for a variant of the Hub', 'hf://acme/tiny', false],
  ])('%s', (_, uri, goes) => {
    const [, variant] = parts({ source: secret, variants: [{ ...fp16, uri }] });
    const part = variant as Part;
    expect(credentialsFor(part, all)).toEqual(goes ? all : { headers: {}, caBundle: 'PEM' });
    expect(part.spec.hasSecretRef).toBe(goes);
  });
});

describe('a variant that fails', () => {
  const [, part] = parts(spec) as unknown as [Part, Part];
  const failure = { reason: 'NotFound', terminal: true, message: 'x answers 404. Correct source.uri' } as const;

  test('names itself and its own fields', () => {
    expect(failureOfPart(part, failure, false).message).toBe(
      'variant fp16: x answers 404. Correct spec.variants[fp16].uri',
    );
  });

  test('of the source speaks of the source', () => {
    expect(failureOfPart(parts(spec)[0], failure, false)).toBe(failure);
  });

  test('for want of a credential that is for another host says so', () => {
    const [, other] = parts({
      source: { ...source, secretRef: { name: 's' } },
      variants: [{ ...fp16, uri: 'https://elsewhere/m.gguf' }],
    }) as unknown as [Part, Part];
    const { message } = failureOfPart(other, { ...failure, reason: 'Unauthorized', message: 'no' }, true);
    expect(message).toBe(
      'variant fp16: no. The Secret of source.secretRef is for the host of source.uri and was not sent',
    );
  });

  test('because of another format says which it is', () => {
    const [, , onnx] = parts(spec) as unknown as [Part, Part, Part];
    expect(() => checkFormat(onnx, resolved('a'))).toThrow(
      'hf://acme/tiny-onnx is GGUF, and the variant is to be ONNX: correct its uri or format',
    );
    expect(() => checkFormat(onnx, resolved('a', { metadata: { format: 'ONNX' } }))).not.toThrow();
    expect(() => checkFormat(part, resolved('a'))).not.toThrow();
  });
});

test('more files than a status can list are refused with what to do', () => {
  const digest = `sha256:${'d'.repeat(64)}`;
  const many = (count: number): ModelFile[] =>
    Array.from({ length: count }, (_, index) => ({ path: `${'folder/'.repeat(30)}${index}.bin`, size: 1, digest }));
  const nine = Array.from({ length: 9 }, (_, index) => ({ ...fp16, name: `v${index}`, accelerators: [`a${index}`] }));
  const of = { source, variants: nine };
  const resolution = (count: number) =>
    joinParts(
      parts(of),
      parts(of).map(() => resolved('a', { files: many(count) })),
    );
  expect(() => checkSize(resolution(100))).not.toThrow();
  expect(() => checkSize(resolution(256))).toThrow(SourceError);
  expect(() => checkSize(resolution(256))).toThrow(
    /^source and variants together have 2560 files, and their list of \d+ KiB is longer than the 384 KiB that a status can hold: narrow source\.files/,
  );
});
