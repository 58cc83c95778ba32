/** Owns what the benchmark `placement` sees of a world: slim copies by watch, on both sides alike, and the moment when all are Ready. */
import { SLMDeployment, SLMModel } from '@slm-operator/operator/execution/kinds';
import type { KubeClient } from '@slm-operator/operator/kube/client';
import { type KubeObject, type ObjectOf, ReplicaSet } from '@slm-operator/operator/kube/resource';
import { silentLogger } from '@slm-operator/operator/runtime/log';
import { makeManager } from '@slm-operator/operator/runtime/manager';
import type { Store } from '@slm-operator/operator/runtime/store';

type Deployment = ObjectOf<typeof SLMDeployment>;
type Model = ObjectOf<typeof SLMModel>;
export type ReplicaSetObject = ObjectOf<typeof ReplicaSet>;

export interface Watched extends AsyncDisposable {
  readonly deployments: Store<Deployment>;
  readonly models: Store<Model>;
  readonly replicaSets: Store<ReplicaSetObject>;
}

/** Opens the watches; resolves when the copies are whole. */
export async function openWatches(client: KubeClient): Promise<Watched> {
  const manager = makeManager({ client, log: silentLogger, shutdownTimeoutMs: 0 });
  const watched = {
    deployments: manager.store(SLMDeployment, { transform: slimStatus }),
    models: manager.store(SLMModel, { transform: slimStatus }),
    replicaSets: manager.store(ReplicaSet, { transform: slimReplicaSet }),
  };
  const running = manager.start();
  await manager.running;
  return {
    ...watched,
    async [Symbol.asyncDispose]() {
      await manager.stop();
      await running.catch(() => undefined);
    },
  };
}

/** Whether its newest spec is acted on and Ready. */
export function isReady({ metadata, status }: Pick<Deployment, 'metadata' | 'status'>): boolean {
  if (status?.observedGeneration !== metadata.generation) return false;
  return status?.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True') ?? false;
}

/** Whether it has the pods that it wants, and no others. */
export function isSettled({ metadata, spec, status }: ReplicaSetObject): boolean {
  const wanted = spec?.replicas ?? 1;
  if (status?.observedGeneration !== metadata?.generation) return false;
  return (status?.replicas ?? 0) === wanted && (status?.readyReplicas ?? 0) === wanted;
}

function slimStatus<T extends KubeObject & { readonly status?: object }>({ metadata, status }: T): T {
  const { observedGeneration, conditions, updateRevision } = (status ?? {}) as {
    observedGeneration?: number;
    conditions?: unknown;
    updateRevision?: string;
  };
  return { metadata, status: { observedGeneration, conditions, updateRevision } } as unknown as T;
}

function slimReplicaSet({ metadata, spec, status }: ReplicaSetObject): ReplicaSetObject {
  const { annotations: _, ...rest } = metadata ?? {};
  return { metadata: rest, spec: { replicas: spec?.replicas }, status } as ReplicaSetObject;
}
