/**
 * What the operator is compared with in `rollout`: Kubernetes' own Deployments with the very pods that the operator made, moved by the
 * controller manager. Owns recording the pods' templates and making Deployments of them.
 */
import type { KubeClient } from '@slm-operator/operator/kube/client';
import { defineResource, type KubeObject, keyOf, ReplicaSet } from '@slm-operator/operator/kube/resource';
import { silentLogger } from '@slm-operator/operator/runtime/log';
import { makeManager } from '@slm-operator/operator/runtime/manager';
import type { Store } from '@slm-operator/operator/runtime/store';
import { inLanes } from './placement-load.ts';

/** As which the controller manager writes Deployments and their ReplicaSets. */
export const DEPLOYMENT_CONTROLLER = 'system:serviceaccount:kube-system:deployment-controller';

type KubeDeployment = KubeObject & {
  readonly spec?: { readonly replicas?: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly replicas?: number;
    readonly updatedReplicas?: number;
    readonly availableReplicas?: number;
  };
};

const Deployment = defineResource<KubeDeployment>({
  group: 'apps',
  version: 'v1',
  plural: 'deployments',
  kind: 'Deployment',
  namespaced: true,
});

/** Pod templates by `namespace/name` of the deployment. */
export type Templates = ReadonlyMap<string, unknown>;

/** The templates of the pods that every SLMDeployment has now. */
export async function recordTemplates(client: KubeClient): Promise<Templates> {
  const { items } = await client.listAll(ReplicaSet, { labelSelector: 'app.kubernetes.io/managed-by=slm-operator' });
  const serving = items.filter(({ spec }) => (spec?.replicas ?? 0) > 0);
  return new Map(
    serving.map(({ metadata, spec }) => [
      `${metadata?.namespace}/${metadata?.labels?.['slm.dev/deployment']}`,
      spec?.template,
    ]),
  );
}

/** The Deployments of a world, by watch. */
export interface KubeDeployments extends AsyncDisposable {
  readonly store: Store<KubeDeployment>;
  /** Makes or changes all of them, in so many lanes. Bounds are those of the operator's default: one more, none fewer. */
  write(templates: Templates, replicas: number, lanes: number): Promise<void>;
  /** Those whose pods all have the newest template and serve. */
  rolled(): number;
}

export async function openDeployments(client: KubeClient): Promise<KubeDeployments> {
  const manager = makeManager({ client, log: silentLogger, shutdownTimeoutMs: 0 });
  const store = manager.store(Deployment, {
    transform: ({ metadata, spec, status }) => ({
      metadata: { ...metadata, annotations: {} },
      spec: { replicas: spec?.replicas ?? 1 },
      ...(status && { status }),
    }),
  });
  const running = manager.start();
  await manager.running;
  /** Generations that were asked for: what the watch has not seen yet has not rolled. */
  const asked = new Map<string, number>();
  return {
    store,
    async write(templates, replicas, lanes) {
      await inLanes(templates, lanes, async ([key, template]) => {
        const [namespace = '', name = ''] = key.split('/');
        const spec = { replicas, selector: { matchLabels: { 'slm.dev/deployment': name } }, template };
        const strategy = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } };
        const written = asked.has(key)
          ? await client.patch(Deployment, { name, namespace }, 'merge', { spec: { template } })
          : await client.create(Deployment, { metadata: { name, namespace }, spec: { ...spec, strategy } } as never);
        asked.set(key, written.metadata?.generation ?? 1);
      });
    },
    rolled: () => store.list().filter((object) => isRolled(object, asked.get(keyOf(object)))).length,
    async [Symbol.asyncDispose]() {
      await manager.stop();
      await running.catch(() => undefined);
    },
  };
}

function isRolled({ spec, status }: KubeDeployment, generation: number | undefined): boolean {
  const wanted = spec?.replicas ?? 1;
  return (
    generation !== undefined &&
    (status?.observedGeneration ?? 0) >= generation &&
    status?.replicas === wanted &&
    status.updatedReplicas === wanted &&
    status.availableReplicas === wanted
  );
}
