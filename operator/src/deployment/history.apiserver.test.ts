/** Going back to a revision whose bytes the model no longer lists, on a real API server: a clear sentence, and users served. */
import { afterEach, beforeEach, expect, inject, it } from 'vitest';
import { SLMModel } from '../execution/kinds.ts';
import { condition, conditions, World } from './testing/world.ts';

let world: World;
beforeEach(async () => {
  world = await World.start(inject('kubeconfig'));
});
afterEach(() => world[Symbol.asyncDispose]());

const ready = { conditions: conditions(condition('Ready', 'True')), readyText: '2/2' };

it('stays while the bytes are to be had nowhere, and goes back when the model lists them again', async () => {
  const node = await world.addNode();
  const one = await world.addModel('smollm2', 'one');
  await world.reportNode(node, one, 100);
  await world.deploy('chat', { modelRef: { name: 'smollm2' }, replicas: 2 });
  const first = (await world.serveUntil('chat', ready)).status?.currentRevision;
  const [old] = (await world.client.get(SLMModel, world.ref('smollm2'))).status?.revisions ?? [];

  const two = await world.resolveModel('smollm2', 'two');
  await world.reportNode(node, two, 100);
  await expect
    .poll(
      async () => {
        await world.serveAll();
        return (await world.deployment('chat')).status?.currentRevision;
      },
      { timeout: 30_000, interval: 100 },
    )
    .not.toBe(first);
  const second = (await world.serveUntil('chat', ready)).status?.currentRevision;

  await world.change('chat', { rollbackTo: { revision: first } });
  const { status } = await world.until('chat', {
    conditions: conditions(condition('Available', 'True'), condition('Ready', 'False', 'RollbackTargetEvicted')),
    readyReplicas: 2,
  });
  expect(status?.conditions?.find(({ type }) => type === 'Ready')?.message).toBe(
    `revision ${first} cannot be gone back to: its bytes, revision ${one.slice(7, 17)} of the model, are on no node, and model smollm2 does not list it any more (it keeps 10 revisions): put that version back into the model’s source; or name another revision in spec.rollbackTo, or remove it`,
  );
  expect((await world.pods()).map(({ metadata }) => metadata?.labels?.['slm.dev/revision'])).toEqual([second, second]);

  const { status: known } = await world.client.get(SLMModel, world.ref('smollm2'));
  const listed = { revisions: [...(known?.revisions ?? []), old] };
  await world.client.patch(SLMModel, world.ref('smollm2'), 'merge', { status: listed }, { subresource: 'status' });
  await world.serveUntil('chat', { ...ready, currentRevision: first });
});
