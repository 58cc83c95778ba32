/** The guide's chapter on waves says what is: its example is an SLMRollout, its output is the planner's, its fields are the schema's. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type SLMRollout, SLMRolloutSpec } from '@slm-operator/crds';
import { planRolloutOf } from '@slm-operator/operator/rollout/controller';
import { permissionOf } from '@slm-operator/operator/rollout/permission';
import type { Member } from '@slm-operator/operator/rollout/wave-planner';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { repoRoot } from '../cache.ts';

const page = await readFile(path.join(repoRoot, 'docs/guides/rollouts.md'), 'utf8');
const chapter = page.slice(page.indexOf('## A fleet in waves'), page.indexOf('## What is promised'));
const example = parse(/```yaml\n([\s\S]*?)```/.exec(chapter)?.[1] ?? '') as SLMRollout;
const sample = parse(await readFile(path.join(repoRoot, 'samples/fleet.yaml'), 'utf8')) as SLMRollout;

/** As many deployments as the wave has, of which some have the new revision and the rest are on the way or wait. */
const members = (namespace: string, wave: number, total: number, updated: number): Member[] =>
  Array.from({ length: total }, (_, index) => ({
    key: `${namespace}-${Math.floor(index / 4) + 1}/chat-${(index % 4) + 1}`,
    wave,
    current: index >= total - updated ? 'new' : 'old',
    wanted: 'new',
    held: index < total - updated,
    approvals: [],
    settling: false,
    ready: index >= total - updated,
    failure: undefined,
  }));

test('what kubectl prints is what the planner says', () => {
  const all = [...members('dev', 0, 12, 12), ...members('staging', 1, 28, 7), ...members('prod', 2, 80, 0)];
  const { status } = planRolloutOf(example, { members: all, elsewhere: new Map() }, 0);
  const [shown = ''] = chapter.split('\n').filter((line) => line.startsWith('fleet '));
  const [, readiness, wave, updated] = shown.split(/\s+/);
  expect({ readiness, wave, updated }).toEqual({
    readiness: status?.conditions?.[0]?.status,
    wave: status?.wave,
    updated: status?.progressText,
  });
  const text = /wave staging: .*?(?=…)/.exec(shown)?.[0] ?? 'nothing';
  expect(status?.statusText?.slice(0, text.length)).toBe(text);

  const chat = {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment',
    metadata: { name: 'chat-1', namespace: 'prod-4' },
    spec: { modelRef: { name: 'assistant' } },
  } as const;
  const revision = (name: string) => ({ revision: name, model: name, digests: [name] });
  const held = permissionOf(
    { rollouts: [{ ...example, status: status ?? {} }], namespaceLabels: { stage: 'prod' } },
    chat,
    {
      wanted: revision('new'),
      current: revision('old'),
    },
  );
  expect(chapter).toContain(held.allowed ? 'it waits' : held.why);
});

test('the table has every field that the schema has, and the sample uses them', () => {
  const rows = [...chapter.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`(?:waves\[\]\.)?(\w+)`/g)].map(([, name = '']) => name),
  );
  const inText = ['name', 'selector', 'namespaceSelector', 'nodeSelector', 'deploymentSelector', 'waves'];
  const { waves } = SLMRolloutSpec.properties;
  const ofWave = Object.keys((waves as unknown as { items: { properties: object } }).items.properties);
  const fields = [...Object.keys(SLMRolloutSpec.properties), ...ofWave].filter((name) => !inText.includes(name));
  expect(rows.toSorted()).toEqual([...new Set(fields)].toSorted());
  expect(Object.keys(SLMRolloutSpec.properties)).toEqual(expect.arrayContaining(Object.keys(sample.spec)));
});
