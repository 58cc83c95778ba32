/** What the guide says of gates is what there is. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { SLMDeployment } from '@slm-operator/crds';
import { problemOf } from '@slm-operator/operator/deployment/analysis/expectations';
import { registerEvaluationMetrics } from '@slm-operator/operator/deployment/analysis/metrics';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { repoRoot } from '../cache.ts';

const guide = await readFile(path.join(repoRoot, 'docs/guides/rollouts.md'), 'utf8');
const sample = parseAllDocuments(await readFile(path.join(repoRoot, 'samples/rollout-gates.yaml'), 'utf8')).map(
  (document) => document.toJS() as SLMDeployment,
);

test('the smoke tests of guide and sample can pass', () => {
  const blocks = [...guide.matchAll(/```yaml\n(.*?)```/gs)].map(([, text = '']) => parse(text) as SLMDeployment);
  const tests = [...blocks, ...sample].flatMap(({ spec }) => spec.strategy?.analysis?.smokeTests ?? []);
  expect(tests.length).toBeGreaterThan(2);
  expect(tests.map(problemOf)).toEqual(tests.map(() => undefined));
});

test('the guide names every metric of evaluations, and no other', async () => {
  const registry = new Registry();
  registerEvaluationMetrics(registry, () => []);
  const there = (await registry.getMetricsAsJSON()).map(({ name }) => name);
  const named = new Set([...guide.matchAll(/slm_eval_\w+/g)].map(([name]) => name));
  expect([...named].toSorted()).toEqual(there.toSorted());
});
