/** What the real API server says of strategies, gates and waves: contradictions are refused, with what to change. */
import { installCrds, type RawApi, rawApi } from '@slm-operator/test/envtest/crds';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { verdictOf } from './testing/verdict.ts';

let api: RawApi;

beforeAll(async () => {
  await installCrds(inject('kubeconfig'));
  api = await rawApi(inject('kubeconfig'));
});
afterAll(() => api[Symbol.asyncDispose]());

type Case = [sentence: string, spec: object, verdict: string | RegExp];
const saying = (expected: string | RegExp) =>
  typeof expected === 'string' ? expected : expect.stringMatching(expected);

const smoke = { name: 'capital', prompt: 'What is the capital of France?', contains: 'Paris' };

describe('a strategy', () => {
  it.each<Case>([
    [
      'of steps, pauses and approvals',
      {
        type: 'Canary',
        canary: {
          steps: [{ weight: 0 }, { weight: 10, pause: '5m' }, { weight: 10, requireApproval: true }, { weight: 100 }],
        },
      },
      'accepted',
    ],
    [
      'of steps that go back',
      { type: 'Canary', canary: { steps: [{ weight: 50 }, { weight: 10 }] } },
      /weights of canary.steps go down/,
    ],
    ['of no steps', { type: 'Canary', canary: { steps: [] } }, /at least 1 items/],
    ['of more than everything', { type: 'Canary', canary: { steps: [{ weight: 101 }] } }, /less than or equal to 100/],
    [
      'of steps for another type',
      { canary: { steps: [{ weight: 10 }] } },
      /strategy.canary needs strategy.type: Canary/,
    ],
    [
      'of a switch for another type',
      { type: 'Rolling', blueGreen: { soak: '5m' } },
      /blueGreen needs strategy.type: BlueGreen/,
    ],
    ['that starts anew with a surge', { type: 'Recreate', maxSurge: 1 }, /leave out maxSurge and maxUnavailable/],
    ['that switches with a surge', { type: 'BlueGreen', maxSurge: 1 }, /leave out maxSurge/],
    ['that leaves the surge to the hardware', { maxSurge: 'Auto', maxUnavailable: 'Auto' }, 'accepted'],
    ['with a surge of another word', { maxSurge: 'auto' }, /should match/],
    ['with bounds of nothing', { maxSurge: 0, maxUnavailable: '0%' }, /both 0/],
    ['with no surge and one that may be missing', { maxSurge: 0, maxUnavailable: 1 }, 'accepted'],
    [
      'of a type of somewhere else',
      { type: 'RollingUpdate' },
      /supported values: "Rolling", "Recreate", "Canary", "BlueGreen"/,
    ],
    ['with an approval', { approvedRevision: '0123456789:2' }, 'accepted'],
    ['with an approval of everything', { approvedRevision: 'latest' }, /should match/],
    [
      'with a pause in other words',
      { type: 'Canary', canary: { steps: [{ weight: 1, pause: '5 minutes' }] } },
      /should match/,
    ],
  ])('%s', async (_sentence, strategy, expected) => {
    expect(await verdictOf(api, 'SLMDeployment', { modelRef: { name: 'm' }, strategy })).toEqual(saying(expected));
  });
});

describe('an analysis', () => {
  it.each<Case>([
    ['by smoke tests', { smokeTests: [smoke], evaluateEvery: '1h' }, 'accepted'],
    [
      'by numbers',
      {
        window: '5m',
        errorRate: { maxPercent: 1 },
        ttftP95: { maxIncreasePercent: 20 },
        tokensPerSecond: { min: 2.5 },
      },
      'accepted',
    ],
    ['of nothing', {}, /has no gate: give one or more of errorRate/],
    ['of a window alone', { window: '5m', smokeTests: [smoke] }, /are for gates by numbers/],
    [
      'of an error rate without a bound',
      { errorRate: {} },
      /errorRate says nothing: give maxPercent or maxIncreasePoints/,
    ],
    ['of a first token without a bound', { ttftP95: {} }, /ttftP95 says nothing/],
    ['of a speed without a bound', { tokensPerSecond: {} }, /tokensPerSecond says nothing/],
    [
      'that is repeated without tests',
      { errorRate: { maxPercent: 1 }, evaluateEvery: '1h' },
      /evaluateEvery asks the smoke tests again, and there are none/,
    ],
    ['by a test that expects nothing', { smokeTests: [{ name: 'a', prompt: 'Hello?' }] }, /needs something to expect/],
    ['by two tests of one name', { smokeTests: [smoke, smoke] }, /Duplicate value/],
    [
      'by a golden answer',
      { smokeTests: [{ name: 'a', prompt: 'Hello?', similarity: { to: 'Hello!', atLeast: 0.8, embedder: 'minilm' } }] },
      'accepted',
    ],
  ])('%s', async (_sentence, analysis, expected) => {
    expect(await verdictOf(api, 'SLMDeployment', { modelRef: { name: 'm' }, strategy: { analysis } })).toEqual(
      saying(expected),
    );
  });
});

describe('a placement on each node', () => {
  it.each<Case>([
    ['alone', {}, 'accepted'],
    ['with a number of pods', { replicas: 3 }, /leave out replicas/],
    ['with steps', { strategy: { type: 'Canary' } }, /moves node by node: use strategy.type Rolling or Recreate/],
    ['that starts anew', { strategy: { type: 'Recreate' } }, 'accepted'],
    [
      'that comes back to better hardware',
      { hardware: { preferred: 'gpu', promoteBack: 'WhenIdle' } },
      /leave out hardware.promoteBack/,
    ],
    ['whose models are managed over the API', { api: { management: true } }, /leave out one of them/],
  ])('%s', async (_sentence, more, expected) => {
    expect(
      await verdictOf(api, 'SLMDeployment', { modelRef: { name: 'm' }, placement: { mode: 'PerNode' }, ...more }),
    ).toEqual(saying(expected));
  });
});

describe('an SLMRollout', () => {
  const waves = [{ name: 'staging' }];
  it.each<Case>([
    [
      'of three waves',
      {
        deploymentSelector: { matchLabels: { team: 'a' } },
        waves: [
          { name: 'canary', selector: { matchLabels: { wave: '1' } }, soak: '30m' },
          {
            name: 'half',
            namespaceSelector: { matchExpressions: [{ key: 'env', operator: 'In', values: ['prod'] }] },
            maxParallel: 5,
          },
          { name: 'rest', requireApproval: true },
        ],
        window: { schedule: '0 22 * * 1-5', timeZone: 'Europe/Lisbon', duration: '4h' },
      },
      'accepted',
    ],
    ['of no waves', { waves: [] }, /at least 1 items/],
    ['of two waves of one name', { waves: [...waves, ...waves] }, /Duplicate value/],
    [
      'with a selector that says nothing',
      { waves, deploymentSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } },
      /In and NotIn need values/,
    ],
    ['that brings something else', { waves, sources: ['Everything'] }, /supported values/],
  ])('%s', async (_sentence, spec, expected) => {
    expect(await verdictOf(api, 'SLMRollout', spec)).toEqual(saying(expected));
  });
});
