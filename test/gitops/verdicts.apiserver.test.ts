/** Every version of an SLMDeployment that an API server showed while the operator worked, judged by GitOps tools. */
import type { SLMDeployment as Deployment } from '@slm-operator/crds';
import { condition, conditions, World } from '@slm-operator/operator/deployment/testing/world';
import { SLMDeployment } from '@slm-operator/operator/execution/kinds';
import { makeManager, silentLogger } from '@slm-operator/operator/runtime/index';
import { expect, inject, it } from 'vitest';
import { moving, ready, storyOf } from './engines.ts';

it('is moving from the first moment until it serves, and again with the next commit', async () => {
  await using world = await World.start(inject('kubeconfig'));
  const manager = makeManager({ client: world.client, log: silentLogger, shutdownTimeoutMs: 0 });
  const versions: { readonly object: Deployment }[] = [];
  manager.store(SLMDeployment).subscribe(({ type, object }) => {
    if (type !== 'delete' && object.metadata.namespace === world.namespace) versions.push({ object });
  });
  const running = manager.start();
  await manager.running;
  await using watching = {
    async [Symbol.asyncDispose]() {
      await manager.stop();
      await running;
    },
  };
  void watching;

  const serves = (generation: number) =>
    world.serveUntil('chat', { observedGeneration: generation, conditions: conditions(condition('Ready', 'True')) });
  const node = await world.addNode();
  await world.deploy('chat', { modelRef: { name: 'smollm2' }, replicas: 2 });
  const digest = await world.addModel('smollm2', 'one');
  await world.reportNode(node, digest, 40);
  await world.reportNode(node, digest, 100);
  await serves(1);
  await world.change('chat', { engine: { contextLength: 1024 } });
  await serves(2);
  await expect.poll(() => versions.at(-1)?.object.status?.rollout?.phase).toBe('Idle');

  expect(versions.map(({ object }) => object.status?.observedGeneration)).toContain(-1);
  const asSent = versions.map(({ object }) => ({
    object: { ...object, apiVersion: 'slm.dev/v1alpha1', kind: 'SLMDeployment' },
  }));
  expect(await storyOf(asSent)).toEqual([moving, ready, moving, ready]);
}, 600_000);
