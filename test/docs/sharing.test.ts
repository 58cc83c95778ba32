/** docs/guides/sharing.md says what is: its example is the sample's, its words are the schema's, its sentences those of operator and agent. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { API_VERSION, annotations, SLMDeploymentSpec, type SLMModel, SLMModelSpec } from '@slm-operator/crds';
import { checkNamespace } from '@slm-operator/operator/agent/csi/volume-request';
import { modelStateOf } from '@slm-operator/operator/deployment/model-state';
import { lostBytes } from '@slm-operator/operator/model/lost-bytes';
import { MAX_REVISIONS } from '@slm-operator/operator/model/revisions';
import { refusalOf } from '@slm-operator/operator/model/sharing';
import { expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { repoRoot } from '../cache.ts';

const page = await readFile(path.join(repoRoot, 'docs/guides/sharing.md'), 'utf8');
const sample = parseAllDocuments(await readFile(path.join(repoRoot, 'samples/shared-model.yaml'), 'utf8')).map(
  (document) => document.toJS() as { kind: string; metadata: { labels?: object }; spec: Record<string, unknown> },
);
const of = (kind: string) => sample.filter((document) => document.kind === kind);

/** Indented blocks, without their indent. */
const blocks = page.split(/\n(?=\S)/).flatMap((part) => {
  const lines = part.split('\n').filter((line) => line.startsWith('    '));
  return lines.length === 0 ? [] : [lines.map((line) => line.slice(4)).join('\n')];
});

const model: SLMModel = {
  apiVersion: API_VERSION,
  kind: 'SLMModel',
  metadata: { name: 'phi3-mini', namespace: 'models' },
  spec: { source: { uri: 'hf://a/b' } },
  status: {
    latestRevision: { name: '0123456789', digest: '', size: 1, resolvedAt: '' },
    revisions: [{ name: '0123456789', digest: '', size: 1, resolvedAt: '', files: [], sources: [] }],
  },
};

test('who is let in is the sample’s, and the sample’s other namespace has the label', () => {
  const { allowedNamespaces } = of('SLMModel')[0]?.spec ?? {};
  expect(parse(blocks[0] ?? '')).toEqual({ spec: { allowedNamespaces } });
  const { matchLabels } = (allowedNamespaces as NonNullable<SLMModel['spec']['allowedNamespaces']>).selector ?? {};
  expect(of('Namespace').map(({ metadata }) => metadata.labels)).toEqual([undefined, matchLabels]);
});

test('the table has every word for who is let in', () => {
  const { from } = SLMModelSpec.properties.allowedNamespaces.properties;
  const rows = [...page.matchAll(/^\| `([A-Z][a-z]+)`/gm)].map(([, word]) => word);
  expect(rows).toEqual((from as unknown as { enum: string[] }).enum);
});

test('what is pinned is a reference that the schema knows', () => {
  const pinned = parse(blocks.find((block) => block.includes('revision: "')) ?? '') as { spec: { modelRef: object } };
  expect(Object.keys(SLMDeploymentSpec.properties.modelRef.properties)).toEqual(Object.keys(pinned.spec.modelRef));
  expect(page).toContain('ten revisions and 512 KiB');
  expect(MAX_REVISIONS).toBe(10);
});

test('its sentences are those of operator and agent', () => {
  expect(blocks).toContain(refusalOf(model, 'team-b'));
  const request = { digest: '', targetPath: '', model: 'models/phi3-mini', pod: { namespace: 'team-b', name: 'x' } };
  expect(() => checkNamespace(request, { namespaces: ['models'] })).toThrow(
    blocks.find((block) => block.startsWith('pods of namespace')),
  );
  const modelRef = { name: 'phi3-mini', namespace: 'models', revision: '9999999999' };
  const pinning = {
    apiVersion: API_VERSION,
    kind: 'SLMDeployment' as const,
    metadata: { name: 'chat', namespace: 'team-a' },
    spec: { modelRef },
  };
  expect(modelStateOf(pinning, model)).toMatchObject({
    message: blocks.find((block) => block.startsWith('model models/phi3-mini has no revision')),
  });
  const notes = { [annotations.modelDigest]: `sha256:${'e'.repeat(64)}`, [annotations.modelRevision]: 'eeeeeeeeee' };
  const lost = lostBytes({
    namespace: 'demo',
    modelText: 'smollm2',
    model,
    sets: [{ metadata: { annotations: notes } }],
    nodes: [],
    caches: new Map(),
  });
  expect(blocks.at(-1)).toContain(lost);
});
