/**
 * Owns waiting for an SLMDeployment to be ready, with what it and its model say meanwhile. Reads only, over one connection.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { SLMDeployment, SLMModel, SLMNodeCache } from '@slm-operator/crds';
import type { KubeClient } from '@slm-operator/operator/kube/client';
import { accessFrom, loadKubeConfig } from '@slm-operator/operator/kube/config';
import { makeKubeClient } from '@slm-operator/operator/kube/http-client';
import type { Cluster } from '../cluster/cluster.ts';
import { UserError } from '../cluster/errors.ts';

/** What is seen at one moment. */
export interface Sight {
  readonly deployment: SLMDeployment | undefined;
  readonly model: SLMModel | undefined;
  readonly caches: readonly SLMNodeCache[];
}

const API = '/apis/slm.dev/v1alpha1';
/** Short against what a person notices; one GET of three small objects. */
const INTERVAL_MS = 200;

/** A client of the cluster with the rights of its kubeconfig. */
export function openClient(cluster: Cluster): KubeClient {
  return makeKubeClient({
    access: accessFrom(loadKubeConfig({ file: cluster.kubeconfig })),
    userAgent: 'slm-demo/0.1.0',
  });
}

/** Reads the three objects. */
export async function look(client: KubeClient, namespace: string, deployment: string): Promise<Sight> {
  const read = async <T>(path: string) => {
    const { items } = await client.request<{ items: T[] }>({ method: 'GET', path });
    return items;
  };
  const [deployments, models, caches] = await Promise.all([
    read<SLMDeployment>(`${API}/namespaces/${namespace}/slmdeployments`),
    read<SLMModel>(`${API}/namespaces/${namespace}/slmmodels`),
    read<SLMNodeCache>(`${API}/slmnodecaches`),
  ]);
  const found = deployments.find((candidate) => candidate.metadata.name === deployment);
  const name = found?.status?.modelName ?? found?.spec.modelRef?.name ?? deployment;
  return { deployment: found, model: models.find((model) => model.metadata.name === name), caches };
}

/**
 * Looks until the deployment is ready.
 * @param onSight called with every look
 * @throws UserError with the deployment's own reason when it is stalled or the time is over
 */
export async function waitUntilReady(
  client: KubeClient,
  namespace: string,
  name: string,
  options: { readonly timeoutMs: number; readonly onSight?: (sight: Sight) => void; readonly intervalMs?: number },
): Promise<Sight> {
  const end = performance.now() + options.timeoutMs;
  for (;;) {
    const sight = await look(client, namespace, name);
    options.onSight?.(sight);
    if (isReady(sight.deployment)) return sight;
    const stalled = conditionOf(sight.deployment, 'Stalled') ?? conditionOf(sight.model, 'Stalled');
    if (stalled?.status === 'True')
      throw new UserError(`${namespace}/${name} cannot get ready: ${stalled.reason}: ${stalled.message}`);
    if (performance.now() > end)
      throw new UserError(
        `${namespace}/${name} is not ready after ${Math.round(options.timeoutMs / 1000)} s: ${reasonOf(sight)}`,
      );
    await sleep(options.intervalMs ?? INTERVAL_MS);
  }
}

/** True when Ready speaks of the spec as it is. */
export function isReady(deployment: SLMDeployment | undefined): boolean {
  const ready = conditionOf(deployment, 'Ready');
  const { generation } = deployment?.metadata ?? {};
  return ready?.status === 'True' && deployment?.status?.observedGeneration === generation;
}

/** Why it is not ready, in one line. */
export function reasonOf({ deployment, model }: Sight): string {
  if (!deployment?.status) return 'the operator has not looked at it yet';
  const [blocked] = deployment.status.blockedBy ?? [];
  if (blocked) return `${blocked.reason}: ${blocked.message}`;
  const own = conditionOf(deployment, 'Ready');
  const models = conditionOf(model, 'Ready');
  if (own?.status === 'True') return deployment.status.statusText ?? own.message;
  const one = own ?? models;
  return one ? `${one.reason}: ${one.message}` : (deployment.status.statusText ?? 'no reason given');
}

function conditionOf(object: SLMDeployment | SLMModel | undefined, type: string) {
  return object?.status?.conditions?.find((condition) => condition.type === type);
}
