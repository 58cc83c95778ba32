/** What the real API server says to gates and smoke tests: the sentences that a user reads after `kubectl apply`. */
import { readFile } from 'node:fs/promises';
import { installCrds, type RawApi, rawApi } from '@slm-operator/test/envtest/crds';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { parse } from 'yaml';
import { verdictOf } from './testing/verdict.ts';

let api: RawApi;

beforeAll(async () => {
  await installCrds(inject('kubeconfig'));
  api = await rawApi(inject('kubeconfig'));
});
afterAll(() => api[Symbol.asyncDispose]());

const sample = parse(await readFile(new URL('../../samples/rollout-gates.yaml', import.meta.url), 'utf8')) as {
  readonly spec: { readonly strategy: { readonly analysis: unknown } };
};
const smoke = (test: object) => ({ smokeTests: [{ name: 'capital', prompt: 'Capital of France?', ...test }] });
const good = smoke({ contains: 'Paris' });
const errorRate = { maxPercent: 1 };

it.each<[sentence: string, analysis: unknown, verdict: string | RegExp]>([
  [
    'every gate and expectation',
    {
      window: '5m',
      minRequests: 50,
      onTooFewRequests: 'Wait',
      errorRate: { maxPercent: 0.5, maxIncreasePoints: 0.1 },
      ttftP95: { maxMilliseconds: 800, maxIncreasePercent: 20 },
      tokensPerSecond: { min: 10, maxDecreasePercent: 15 },
      evaluateEvery: '1h',
      ...smoke({
        system: 'Be short.',
        maxTokens: 8,
        timeoutSeconds: 30,
        contains: 'Paris',
        regex: '(?i)^paris\\b',
        jsonSchema: ' {"type": "object"}',
        similarity: { to: 'Paris', atLeast: 0.8, embedder: 'embed' },
      }),
    },
    'accepted',
  ],
  ['the sample', sample.spec.strategy.analysis, 'accepted'],
  ['no gate at all', { window: '5m' }, /strategy.analysis has no gate: give one or more of errorRate/],
  [
    'a gate without a limit',
    { errorRate: {} },
    /analysis.errorRate says nothing: give maxPercent or maxIncreasePoints/,
  ],
  ['a smoke test that expects nothing', smoke({}), /a smoke test needs something to expect/],
  ['an expression that is none', smoke({ regex: '(unclosed' }), /error parsing regexp: missing closing \)/],
  ['what RE2 does not have', smoke({ regex: '(?=Paris)' }), /error parsing regexp: invalid or unsupported Perl syntax/],
  [
    'a schema that is no object',
    smoke({ jsonSchema: '[1]' }),
    /jsonSchema is no JSON object: write the schema as JSON/,
  ],
  [
    'two tests of one name',
    { smokeTests: [...good.smokeTests, ...good.smokeTests] },
    /smokeTests\[1\]: Duplicate value/,
  ],
  ['a window without length', { window: '0s', errorRate }, /analysis.window has no length: write 1s or more/],
  ['a window for smoke tests alone', { window: '1m', ...good }, /are for gates by numbers: give errorRate/],
  ['an evaluation all the time', { evaluateEvery: '1s', ...good }, /evaluateEvery is shorter than 10s/],
  [
    'an evaluation of nothing',
    { evaluateEvery: '1h', errorRate },
    /evaluateEvery asks the smoke tests again, and there are none/,
  ],
  ['a similarity above 1', smoke({ similarity: { to: 'x', atLeast: 1.2 } }), /should be less than or equal to 1/],
])('%s', async (_, analysis, expected) => {
  const said = await verdictOf(api, 'SLMDeployment', { modelRef: { name: 'm' }, strategy: { analysis } });
  if (typeof expected === 'string') expect(said).toBe(expected);
  else expect(said).toMatch(expected);
});
