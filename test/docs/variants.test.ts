/** docs/guides/variants.md says what is: its model is the sample's, its sentences are the operator's, and its table what nodes are given. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { SLMModelSpec } from '@slm-operator/crds';
import { hardwareClasses, SLMModelSpec as schema } from '@slm-operator/crds';
import { builtInProfiles } from '@slm-operator/operator/hardware/profiles';
import { checkFormat, failureOfPart, type Part, partsOf } from '@slm-operator/operator/model/parts';
import { SourceError } from '@slm-operator/operator/sources/http-errors';
import { expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { repoRoot } from '../cache.ts';

const page = await readFile(path.join(repoRoot, 'docs/guides/variants.md'), 'utf8');
const sample = parseAllDocuments(await readFile(path.join(repoRoot, 'samples/variants.yaml'), 'utf8'));

/** Indented blocks, without their indent. */
const blocks = page.split(/\n(?=\S)/).flatMap((part) => {
  const lines = part.split('\n').filter((line) => line.startsWith('    '));
  return lines.length === 0 ? [] : [lines.map((line) => line.slice(4)).join('\n')];
});

test('the model is the one of the sample', () => {
  const [model] = sample.map((document) => document.toJS() as { kind: string; spec: SLMModelSpec });
  expect(parse(blocks[0] ?? '')).toEqual({ spec: model?.spec });
});

test('the names that it gives for hardware are those that there are', () => {
  const [, listed = ''] = /An entry of `accelerators` is a class \(([^)]+)\)/.exec(page) ?? [];
  expect([...listed.matchAll(/`([^`]+)`/g)].map(([, name]) => name)).toEqual([...hardwareClasses]);
  const [, profiles = ''] = /or a profile \(([^)]+)\)/.exec(page) ?? [];
  for (const [, name = ''] of profiles.matchAll(/`([^`]+)`/g)) expect([...builtInProfiles().keys()]).toContain(name);
});

test('its sentence about a wrong format is the operator’s', () => {
  const variants = [{ name: 'int4-npu', accelerators: ['npu'], uri: 'hf://acme/phi3', format: 'ONNX' as const }];
  const [, part] = partsOf({ spec: { source: { uri: 'hf://acme/phi3' }, variants } }, 'https://hub');
  let said = '';
  try {
    checkFormat(part as Part, { metadata: { format: 'GGUF' } });
  } catch (error) {
    if (error instanceof SourceError) said = failureOfPart(part as Part, error.failure, false).message;
  }
  expect(blocks).toContain(said);
});

test('every policy of pre-pulling is in its table', () => {
  const { policy } = schema.properties.prePull.properties;
  const rows = [...page.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  expect(rows).toEqual((policy as unknown as { enum: string[] }).enum);
});
