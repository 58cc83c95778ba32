/**
 * Waves with real pods on real nodes: one commit to a model that four namespaces share, and a deployment of the third wave that the
 * new revision does not please: its smoke test fails. Those before keep the revision, those of the wave go back, the last never begins.
 */
import type { SLMDeployment, SLMRollout } from '@slm-operator/crds';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { lab, makeDeployment, makeModel, openHub, type TestHub } from './context.ts';
import { condition, holds, type TestNamespace, until } from './harness.ts';

const WAVES = ['dev', 'staging', 'prod', 'edge'] as const;
type WaveName = (typeof WAVES)[number];
const PATIENCE = { timeoutMs: 300_000, everyMs: 1000 };
/** Names of the deployments: of the third wave, the second is the one that is not pleased. */
const chats: readonly (readonly [WaveName, string])[] = [
  ['dev', 'chat'],
  ['staging', 'chat'],
  ['prod', 'chat'],
  ['prod', 'strict'],
  ['edge', 'chat'],
];

let hub: TestHub;
let owner: TestNamespace;
const spaces = new Map<WaveName, TestNamespace>();
let sha256 = '';
/** Name of the SLMRollout, and value of the label of its namespaces: other tests' deployments are none of its business. */
let fleet = '';

const spaceOf = (wave: WaveName) => spaces.get(wave)?.name ?? '';
const all = () => Promise.all(chats.map(([wave, name]) => lab.deployment(spaceOf(wave), name)));
const rollout = () => lab.get<SLMRollout>('slmrollouts', fleet);
const revisionsOf = (some: readonly (SLMDeployment | undefined)[]) => some.map((one) => one?.status?.currentRevision);

async function applyModel(file: string): Promise<void> {
  const object = makeModel(owner.name, 'lm', hub, file, sha256);
  Object.assign(object.spec, { allowedNamespaces: { from: 'All' } });
  await lab.apply(object);
}

async function changeStrict(spec: object): Promise<void> {
  const patch = JSON.stringify({ spec });
  await lab.kubectl('patch', 'slmdeployment', 'strict', '-n', spaceOf('prod'), '--type=merge', '-p', patch);
}

beforeAll(async () => {
  hub = await openHub();
  for (const file of ['one.gguf', 'two.gguf', 'three.gguf']) ({ sha256 } = await hub.addModel(file));
  owner = await lab.namespace('fleet-models');
  fleet = owner.name;
  for (const wave of WAVES) {
    const space = await lab.namespace(`fleet-${wave}`);
    spaces.set(wave, space);
    await lab.kubectl('label', 'namespace', space.name, `example.com/fleet=${fleet}`, `example.com/wave=${wave}`);
  }
  await applyModel('one.gguf');
  const spec = { modelRef: { name: 'lm', namespace: owner.name }, auth: { type: 'None' } };
  for (const [wave, name] of chats) await lab.apply(makeDeployment(spaceOf(wave), name, 'lm', spec));
});
afterAll(async () => {
  await lab.remove('slmrollouts', fleet);
  for (const space of [owner, ...spaces.values()]) await space?.[Symbol.asyncDispose]();
  await hub?.[Symbol.asyncDispose]();
});

it('one commit, four waves, a test that fails in the third: one and two keep it, three goes back, four never begins', async () => {
  const first = await until('all serve', all, (some) => some.every((one) => holds(one, 'Ready')), PATIENCE);
  const old = revisionsOf(first);
  const smokeTests = [{ name: 'manners', prompt: 'Hello', maxTokens: 4, contains: 'Guten Tag' }];
  await changeStrict({ strategy: { analysis: { smokeTests } } });
  const generations = async () => (await all()).map((one) => one?.metadata.generation);
  const before = await generations();
  await lab.apply({
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMRollout',
    metadata: { name: fleet },
    spec: {
      namespaceSelector: { matchLabels: { 'example.com/fleet': fleet } },
      waves: WAVES.map((name) => ({
        name,
        namespaceSelector: { matchLabels: { 'example.com/wave': name } },
        soak: '1s',
      })),
      onFailure: 'RollbackWave',
      prePullAhead: 1,
    },
  });
  await until('the rollout is at rest', rollout, (one) => holds(one, 'Ready') && one?.status?.progressText === '5/5');

  await applyModel('two.gguf');
  const stopped = await until(
    'the third wave went back',
    rollout,
    (one) => one?.status?.waves?.[2]?.state === 'RolledBack',
    PATIENCE,
  );
  expect(condition(stopped, 'Stalled')).toMatchObject({ status: 'True', reason: 'WaveFailed' });
  expect(condition(stopped, 'Stalled')?.message).toContain(`${spaceOf('prod')}/strict`);
  expect(stopped?.status?.waves?.map(({ state }) => state)).toEqual(['Done', 'Done', 'RolledBack', 'Waiting']);
  const now = await until(
    'the third wave serves what it did before',
    all,
    (some) => {
      const [, , chat, strict] = revisionsOf(some);
      return chat === old[2] && strict === old[3] && some[2]?.status?.replicas === 1 && some[3]?.status?.replicas === 1;
    },
    PATIENCE,
  );
  const has = revisionsOf(now);
  expect(has.map((revision, index) => (revision === old[index] ? 'old' : 'new'))).toEqual([
    'new',
    'new',
    'old',
    'old',
    'old',
  ]);
  for (const one of now) expect(condition(one, 'Available')?.status, one?.metadata.namespace).toBe('True');
  const sets = await lab.list<object>('replicasets', '-n', spaceOf('edge'));
  expect(sets).toHaveLength(1);
  expect(await generations()).toEqual(before);
});

it('the commit that mends it goes through all of them', async () => {
  await changeStrict({ strategy: null });
  await applyModel('three.gguf');
  const isThrough = (one: SLMRollout | undefined) =>
    holds(one, 'Ready') && one?.status?.progressText === '5/5' && one.status.admitted === undefined;
  await until('all waves are through', rollout, isThrough, PATIENCE);
  for (const one of await all()) expect(one?.status?.currentRevision).toBe(one?.status?.updateRevision);
});
