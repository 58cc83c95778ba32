import { annotations, labels, type Strategy } from '@slm-operator/crds';
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { SLMDeployment } from '../execution/kinds.ts';
import { Service } from '../kube/index.ts';
import { ScriptedAnalyst } from './testing/rollout-servers.ts';
import { condition, conditions, slow, World } from './testing/world.ts';

let world: World;
let analyst: ScriptedAnalyst;
beforeEach(async () => {
  analyst = new ScriptedAnalyst();
  world = await World.start(inject('kubeconfig'), {}, analyst);
});
afterEach(() => world[Symbol.asyncDispose]());

const smokeTests = [{ name: 'capital', prompt: 'The capital of France?', contains: 'Paris' }];
const gates = { errorRate: { maxPercent: 5 } };
const ready = { conditions: conditions(condition('Ready', 'True')) };
const back = {
  conditions: conditions(
    condition('Available', 'True'),
    condition('Ready', 'False', 'RolledBack'),
    condition('RolledBack', 'True', 'RolledBack'),
    condition('Stalled', 'True', 'RolledBack'),
  ),
};

/** A deployment that serves its first revision; answers with that. */
async function serving(strategy: Strategy, replicas = 2): Promise<string> {
  const node = await world.addNode();
  const digest = await world.addModel('smollm2', 'one');
  await world.reportNode(node, digest, 100);
  await world.deploy('chat', { modelRef: { name: 'smollm2' }, replicas, strategy });
  const { status } = await world.serveUntil('chat', ready);
  return status?.currentRevision ?? '';
}

/** Asks for another revision; answers with it once status has it. */
async function askForAnother(first: string): Promise<string> {
  await world.change('chat', { engine: { contextLength: 1024 } });
  let revision = '';
  await expect
    .poll(async () => {
      revision = (await world.deployment('chat')).status?.updateRevision ?? '';
      return revision;
    }, slow)
    .not.toBe(first);
  return revision;
}

/** Pods that serve, by revision, and whether the Service leads to them. */
async function reached(): Promise<Record<string, number>> {
  const service = await world.client.get(Service, world.ref('chat'));
  const selector = Object.entries(service.spec?.selector ?? {});
  const counts: Record<string, number> = {};
  for (const pod of await world.pods()) {
    if (!selector.every(([key, value]) => pod.metadata?.labels?.[key] === value)) continue;
    const revision = pod.metadata?.labels?.[labels.revision] ?? '';
    counts[revision] = (counts[revision] ?? 0) + 1;
  }
  return counts;
}

async function annotate(values: Record<string, string | null>): Promise<void> {
  await world.client.patch(SLMDeployment, world.ref('chat'), 'merge', { metadata: { annotations: values } });
}

it('takes a canary through its steps: tests, a weight, an approval, all requests', async () => {
  const steps = [{ weight: 25, requireApproval: true }, { weight: 50 }];
  const first = await serving({ type: 'Canary', canary: { steps }, analysis: { smokeTests, ...gates } });
  analyst.say({ smoke: 'running', gates: 'waiting' });
  const second = await askForAnother(first);
  await world.serveUntil('chat', { rollout: { phase: 'Analyzing', revision: second, stableRevision: first } });
  expect(await reached()).toEqual({ [first]: 2 });

  analyst.say({ smoke: 'passed' });
  await world.serveUntil('chat', { rollout: { phase: 'Analyzing', step: 1, steps: 2, weight: 25 } });
  const candidate = await world.client.get(Service, world.ref('chat-candidate'));
  expect(candidate.spec?.selector).toMatchObject({ [labels.revision]: second });
  for (const pod of await world.pods()) {
    const told = JSON.parse(pod.metadata?.annotations?.[annotations.traffic] ?? '{}') as object;
    if (pod.metadata?.labels?.[labels.revision] === first) expect(told).toMatchObject({ weight: 25, revision: second });
    else expect(told).toEqual({});
  }

  analyst.say({ gates: 'passed' });
  const { status } = await world.serveUntil('chat', {
    rollout: { phase: 'WaitingForApproval', step: 1 },
    conditions: conditions(condition('Ready', 'False', 'WaitingForApproval'), condition('Available', 'True')),
  });
  expect(status?.statusText).toContain(`set spec.strategy.approvedRevision: ${second}:1`);
  expect(status?.currentRevision).toBe(first);
  await annotate({ [annotations.approvedRevision]: `${second}:1` });
  const after = await world.serveUntil('chat', { ...ready, currentRevision: second, replicas: 2 });
  expect(after.status?.rollout).not.toHaveProperty('step');
  expect(await reached()).toEqual({ [second]: 2 });
  await expect.poll(() => world.client.find(Service, world.ref('chat-candidate')), slow).toBeUndefined();
  expect(after.status?.lastRollback).toBeUndefined();
});

it('takes a canary back with the numbers, keeps it back, and tries it again when asked', async () => {
  const first = await serving({ type: 'Canary', canary: { steps: [{ weight: 50 }] }, analysis: gates });
  analyst.say({ gates: 'waiting' });
  const second = await askForAnother(first);
  await world.serveUntil('chat', { rollout: { step: 1, weight: 50, phase: 'Analyzing' } });

  analyst.say({ gates: 'failed' });
  const { status } = await world.serveUntil('chat', { ...back, replicas: 2 });
  expect(status).toMatchObject({
    currentRevision: first,
    updateRevision: second,
    updatedReplicas: 0,
    lastRollback: { revision: second, to: first, reason: 'AnalysisFailed' },
  });
  expect(status?.statusText).toContain('error rate is 12.0 % of 250 requests, at most 5 % may fail');
  expect(world.events.filter((event) => event.reason === 'RolledBack')).toHaveLength(1);
  expect(await reached()).toEqual({ [first]: 2 });

  // Neither another size nor a restarted operator tries it again.
  await world.stopOperators();
  world.startOperator();
  await world.change('chat', { replicas: 3 });
  await world.serveUntil('chat', { ...back, replicas: 3, readyText: '3/3' });
  expect(await reached()).toEqual({ [first]: 3 });

  analyst.say({ gates: 'passed' });
  await annotate({ [annotations.retry]: 'mended' });
  await world.serveUntil('chat', { ...ready, currentRevision: second });
});

it('asks the smoke tests before anybody else asks, and takes back what fails them', async () => {
  const first = await serving({ analysis: { smokeTests } });
  analyst.say({ smoke: 'running' });
  const second = await askForAnother(first);
  await world.serveUntil('chat', {
    rollout: { phase: 'Analyzing' },
    blockedBy: expect.arrayContaining([expect.objectContaining({ reason: 'SmokeTesting' })]) as unknown[],
  });
  expect(await reached()).toEqual({ [first]: 2 });
  analyst.say({ smoke: 'failed' });
  const { status } = await world.serveUntil('chat', { ...back, replicas: 2 });
  expect(status?.lastRollback).toMatchObject({ revision: second, reason: 'SmokeTestFailed' });
  expect(status?.statusText).toContain('the answer lacks "Paris"');
});

it('moves all requests at once when blue and green is approved', async () => {
  const first = await serving({ type: 'BlueGreen', blueGreen: { requireApproval: true, soak: '1s' } });
  const second = await askForAnother(first);
  await world.serveUntil('chat', { rollout: { phase: 'WaitingForApproval' }, replicas: 4 });
  expect(await reached()).toEqual({ [first]: 2 });
  await world.change('chat', { strategy: { approvedRevision: second } });
  await world.serveUntil('chat', { ...ready, currentRevision: second, replicas: 2 });
  expect(await reached()).toEqual({ [second]: 2 });
});

it('lets all old pods go before the first new one with Recreate', async () => {
  const first = await serving({ type: 'Recreate' });
  const second = await askForAnother(first);
  await world.until('chat', { conditions: conditions(condition('Available', 'False')) });
  const seen = new Set<string>();
  await expect
    .poll(async () => {
      const revisions = new Set((await world.pods()).map((pod) => pod.metadata?.labels?.[labels.revision] ?? ''));
      seen.add([...revisions].sort().join(' and '));
      await world.serveAll();
      return (await world.deployment('chat')).status;
    }, slow)
    .toMatchObject({ ...ready, currentRevision: second });
  expect([...seen].filter((text) => text.includes(' and '))).toEqual([]);
});

it('goes back to a revision of the history for as long as it is named', async () => {
  const first = await serving({});
  const second = await askForAnother(first);
  await world.serveUntil('chat', { ...ready, currentRevision: second });
  await world.change('chat', { rollbackTo: { revision: first } });
  await world.serveUntil('chat', { ...ready, currentRevision: first, updateRevision: first });
  // The spec still says the other size of context.
  await world.change('chat', { rollbackTo: null });
  await world.serveUntil('chat', { ...ready, currentRevision: second, updateRevision: second });

  await world.change('chat', { rollbackTo: { revision: 'ffffffffff' } });
  const { status } = await world.serveUntil('chat', {
    conditions: conditions(condition('Available', 'True'), condition('Stalled', 'True', 'RollbackTargetNotFound')),
  });
  expect(status?.statusText).toContain(`it has ${second}, ${first}: name one of them in spec.rollbackTo`);
  expect(await reached()).toEqual({ [second]: 2 });
});

it('serves the old revision while another one is asked for whose model never resolves', async () => {
  const first = await serving({ type: 'Canary' });
  await world.change('chat', { modelRef: { name: 'nowhere' } });
  await world.serveUntil('chat', {
    conditions: conditions(condition('Available', 'True'), condition('Ready', 'False', 'ModelNotFound')),
    rollout: { phase: 'WaitingForModel' },
  });
  expect(await reached()).toEqual({ [first]: 2 });
});
