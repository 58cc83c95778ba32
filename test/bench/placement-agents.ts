/**
 * A stand-in for the agents of all nodes: whatever an SLMNodeCache wants is there a moment later, and its status says so in the
 * words of a real agent. Pulls nothing, and writes nothing but those statuses.
 */
import { desiredStatus } from '@slm-operator/operator/agent/status';
import { SLMNodeCache } from '@slm-operator/operator/execution/kinds';
import type { KubeClient } from '@slm-operator/operator/kube/client';
import { makeApplier } from '@slm-operator/operator/runtime/apply';
import { defineController, watches } from '@slm-operator/operator/runtime/controller';
import { silentLogger } from '@slm-operator/operator/runtime/log';
import { makeManager } from '@slm-operator/operator/runtime/manager';
import { done } from '@slm-operator/operator/runtime/outcome';

const DISK = { capacityBytes: 2 ** 40, freeBytes: 2 ** 39, usedBytes: 0 };

/** Starts them; they end when disposed of. */
export async function startAgents(client: KubeClient): Promise<AsyncDisposable> {
  const manager = makeManager({ client, log: silentLogger, shutdownTimeoutMs: 0 });
  const caches = manager.store(SLMNodeCache);
  const applier = makeApplier({ client, fieldManager: 'slm-agent' });
  manager.add(
    defineController({
      name: 'agents',
      sources: [watches(SLMNodeCache)],
      concurrency: 8,
      async reconcile(key, { signal }) {
        const cache = caches.get(key);
        const generation = cache?.metadata.generation;
        // One write for each spec, as soon as it is seen; its own echo changes nothing.
        if (cache === undefined || cache.status?.observedGeneration === generation) return done;
        const status = desiredStatus({
          entries: (cache.spec?.wanted ?? []).map(({ digest, size, models, namespaces }) => ({
            digest,
            models,
            namespaces,
            state: 'Ready',
            bytesDone: size,
            bytesTotal: size,
            from: 'files',
          })),
          observedGeneration: generation,
          disk: DISK,
          agentVersion: 'bench',
          devices: [],
          now: Date.now(),
          previous: cache.status,
        });
        await applier.writeStatusIfChanged(SLMNodeCache, cache, status, { signal });
        return done;
      },
    }),
  );
  const running = manager.start();
  await manager.running;
  return {
    async [Symbol.asyncDispose]() {
      await manager.stop();
      await running.catch(() => undefined);
    },
  };
}
