/** docs/hardware.md says what the operator does: its profiles, their fields, the fields of spec.hardware. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Hardware } from '@slm-operator/crds';
import { builtInProfiles, readProfiles } from '@slm-operator/operator/hardware/profiles';
import { expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { repoRoot } from '../cache.ts';

const page = await readFile(path.join(repoRoot, 'docs', 'hardware.md'), 'utf8');

test('every built-in profile is there, as it is', () => {
  const code = (names: readonly string[]) => names.map((name) => `\`${name}\``).join(', ') || '–';
  const short = (label: string) => label.replace('feature.node.kubernetes.io/', '…/');
  const rows = [...builtInProfiles().values()].map(({ name, class: kind, resources, nodeLabels, image, formats }) => {
    const labels = code(nodeLabels.map(short));
    const computed = image === undefined ? '–' : formats.join(', ');
    return `| ${name} | ${kind} | ${code(resources)} | ${labels} | ${image ?? 'yours'} | ${computed} |`;
  });
  expect(rows.filter((row) => !page.includes(row))).toEqual([]);
});

test('every field of spec.hardware is there', () => {
  expect(Object.keys(Hardware.properties).filter((field) => !page.includes(`| \`${field}\` |`))).toEqual([]);
});

test('every example is accepted', async () => {
  const examples = [...page.matchAll(/(?:^|\n\n)((?: {4}.*\n)+)/g)].map(([, text = '']) =>
    text.replaceAll(/^ {4}/gm, ''),
  );
  const values = examples
    .filter((text) => text.startsWith('hardware:'))
    .map((text) => (parse(text) as { hardware: { profiles: object } }).hardware.profiles);
  expect(values.length).toBeGreaterThan(3);
  for (const profiles of values) expect(() => readProfiles(JSON.stringify(profiles), 'values')).not.toThrow();
});

test('the sample asks for what the page begins with', async () => {
  const sample = await readFile(path.join(repoRoot, 'samples', 'hardware.yaml'), 'utf8');
  const objects = parseAllDocuments(sample).map((document) => document.toJS() as { spec: { hardware?: object } });
  expect(objects.map(({ spec }) => spec.hardware)).toContainEqual(
    expect.objectContaining({ preferred: 'npu', fallback: ['gpu', 'cpu'] }),
  );
});
