/**
 * Gathers what is known of one SLMDeployment: reads stores, asks for the few objects that are not watched, and for the events
 * of one pod whose volume does not mount. Owns the stores of the controller; decides and writes nothing.
 */
import { randomBytes } from 'node:crypto';
import { type SLMDeployment as Deployment, labels, type SLMModel as Model } from '@slm-operator/crds';
import { SLMDeployment, SLMModel, SLMNodeCache, SLMRollout } from '../execution/kinds.ts';
import type { ObjectRef } from '../execution/plan.ts';
import { allPods } from '../hardware/all-pods.ts';
import type { Inventory } from '../hardware/inventory.ts';
import type { KubeClient } from '../kube/client.ts';
import { isForbidden } from '../kube/errors.ts';
import {
  controllerOf,
  Event,
  type KubeObject,
  keyOf,
  makeKey,
  Namespace,
  NetworkPolicy,
  Node,
  type ObjectOf,
  Pod,
  PodDisruptionBudget,
  ReplicaSet,
  Service,
} from '../kube/resource.ts';
import { labelsIn } from '../model/namespaces.ts';
import { sharingOf } from '../model/sharing.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Manager } from '../runtime/manager.ts';
import type { Store } from '../runtime/store.ts';
import { type BrokerPlace, lookForBroker, lookForKeys, lookForTls, type SeenSecrets } from './access-state.ts';
import type { Analyst } from './analysis/analyst.ts';
import { digestOf } from './causes.ts';
import {
  borrowerOf,
  candidateServiceName,
  disruptionBudgetName,
  managedSelector,
  modelKeyOf,
  serviceName,
} from './names.ts';
import type { NodeView } from './node-match.ts';
import type { Observed, PodObject } from './observed.ts';
import { isMounting } from './pod-causes.ts';
import type { Look, LookOptions, PodReports } from './pod-reports.ts';
import { ACTIVITY_AGE_MS } from './tier-plan.ts';

/** Children are found by their labels, so that the caches hold nothing of other people's. */
export const managed = { labelSelector: managedSelector };

/** Index of pods and ReplicaSets by `namespace/name` of their deployment. */
const BY_DEPLOYMENT = 'deployment';
/** Index of deployments by `namespace/name` of their model. */
const BY_MODEL = 'model';
/** Index of deployments by their namespace, where their model is in another one. */
const BY_BORROWER = 'borrower';

/** Time that a mount gets before the kubelet is asked what is wrong; most are done by then. */
export const MOUNT_PATIENCE_MS = 10_000;

export interface Stores {
  readonly deployments: Store<Deployment>;
  readonly models: Store<Model>;
  readonly caches: Store<ObjectOf<typeof SLMNodeCache>>;
  readonly nodes: Store<ObjectOf<typeof Node>>;
  readonly replicaSets: Store<ObjectOf<typeof ReplicaSet>>;
  readonly pods: Store<ObjectOf<typeof Pod>>;
  readonly services: Store<ObjectOf<typeof Service>>;
  readonly disruptionBudgets: Store<ObjectOf<typeof PodDisruptionBudget>>;
  readonly networkPolicies: Store<ObjectOf<typeof NetworkPolicy>>;
  readonly rollouts: Store<ObjectOf<typeof SLMRollout>>;
  readonly namespaces: Store<ObjectOf<typeof Namespace>>;
}

/** Key of the deployment that a labelled child belongs to. */
export function deploymentKeyOf(object: KubeObject): string | undefined {
  const name = object.metadata?.labels?.[labels.deployment];
  return name === undefined ? undefined : makeKey(object.metadata?.namespace, name);
}

/** Pods of a deployment. @param key `namespace/name` of it */
export function podsOf({ pods }: Pick<Stores, 'pods'>, key: string): readonly PodObject[] {
  return pods.byIndex(BY_DEPLOYMENT, key);
}

/** The manager's stores with the indexes that are needed here. */
export function openStores(manager: Pick<Manager, 'store'>): Stores {
  return {
    deployments: manager.store(SLMDeployment, { indexes: { [BY_MODEL]: modelKeyOf, [BY_BORROWER]: borrowerOf } }),
    models: manager.store(SLMModel),
    caches: manager.store(SLMNodeCache),
    nodes: manager.store(Node),
    replicaSets: manager.store(ReplicaSet, { ...managed, indexes: { [BY_DEPLOYMENT]: deploymentKeyOf } }),
    pods: manager.store(Pod, { ...allPods, indexes: { [BY_DEPLOYMENT]: deploymentKeyOf } }),
    services: manager.store(Service, managed),
    disruptionBudgets: manager.store(PodDisruptionBudget, managed),
    networkPolicies: manager.store(NetworkPolicy, managed),
    rollouts: manager.store(SLMRollout),
    namespaces: manager.store(Namespace),
  };
}

/** Keys of the deployments that serve this model. */
export function deploymentsOf(stores: Pick<Stores, 'deployments'>, model: Model): string[] {
  return serversOf(stores, keyOf(model)).map((deployment) => keyOf(deployment));
}

/** The deployments that serve a model. @param key `namespace/name` of it */
export function serversOf(stores: Pick<Stores, 'deployments'>, key: string): readonly Deployment[] {
  return stores.deployments.byIndex(BY_MODEL, key);
}

/** Keys of the deployments of a namespace whose models are in others. */
export function borrowersIn(stores: Pick<Stores, 'deployments'>, namespace: KubeObject): string[] {
  return stores.deployments.byIndex(BY_BORROWER, namespace.metadata?.name ?? '').map((deployment) => keyOf(deployment));
}

/** The stored child that is meant, for the executor; `unknown` of kinds without a store. */
export function liveChild(stores: Stores, ref: ObjectRef): KubeObject | 'unknown' | undefined {
  const key = makeKey(ref.namespace, ref.name);
  switch (ref.kind) {
    case 'SLMModel':
      return stores.models.get(key);
    case 'ReplicaSet':
      return stores.replicaSets.get(key);
    case 'Service':
      return stores.services.get(key);
    case 'PodDisruptionBudget':
      return stores.disruptionBudgets.get(key);
    case 'NetworkPolicy':
      return stores.networkPolicies.get(key);
    default:
      return 'unknown';
  }
}

export interface ObserveOptions {
  readonly stores: Stores;
  readonly client: Pick<KubeClient, 'find' | 'list'>;
  readonly clock: Clock;
  readonly broker: BrokerPlace;
  readonly inventory: Pick<Inventory, 'nodes'>;
  readonly reports: Pick<PodReports, 'look'>;
  /** Absent: nobody asks and measures revisions that come. */
  readonly analyst?: Pick<Analyst, 'look'> | undefined;
  readonly secrets: SeenSecrets;
  /** Random bytes for keys. Default: the system's. */
  readonly random?: ((size: number) => Uint8Array) | undefined;
}

/** What was observed, and when it is worth looking again at what pods say of themselves. */
export interface Observation {
  readonly observed: Observed;
  readonly look: Pick<Look, 'again' | 'hold'>;
}

/** Everything that is known of one deployment. What changes all the time is read last, so that a plan made at once knows it. */
export async function observe(
  { stores, client, clock, broker, inventory, reports, analyst, secrets, random = randomBytes }: ObserveOptions,
  deployment: Deployment,
  signal?: AbortSignal,
): Promise<Observation> {
  const key = keyOf(deployment);
  const { namespace, name, uid } = deployment.metadata;
  const asked = {
    apiKeys: await lookForKeys(client, deployment, secrets, random, signal),
    tls: await lookForTls(client, deployment, secrets, signal),
    broker: await lookForBroker(client, deployment, broker, signal),
    mountEvents: await mountEvents(client, stores, stores.pods.byIndex(BY_DEPLOYMENT, key), clock.now(), signal),
  };

  const mine = (object: KubeObject) => controllerOf(object)?.uid === uid;
  const inlineName = makeKey(namespace, name);
  const leftover = stores.models.get(inlineName);
  const model = stores.models.get(modelKeyOf(deployment));
  const budget = stores.disruptionBudgets.get(makeKey(namespace, disruptionBudgetName(name)));
  const service = (child: string) => {
    const found = stores.services.get(makeKey(namespace, child));
    return found !== undefined && mine(found) ? found : undefined;
  };
  const pods = stores.pods.byIndex(BY_DEPLOYMENT, key);
  const sets = stores.replicaSets.byIndex(BY_DEPLOYMENT, key).filter(mine);
  const { reports: said, ...look } = reports.look(key, pods, lookOptions(deployment));
  const observed: Observed = {
    ...asked,
    deployment,
    model,
    ...(borrowerOf(deployment) === undefined || model === undefined
      ? {}
      : { sharing: sharingOf(model, namespace ?? '', labelsIn(stores.namespaces)) }),
    leftoverModel:
      leftover !== undefined && mine(leftover) && modelKeyOf(deployment) !== inlineName ? leftover : undefined,
    replicaSets: sets,
    pods,
    nodes: inventory.nodes(key),
    caches: stores.caches,
    disruptionBudget: budget !== undefined && mine(budget) ? budget : undefined,
    services: { main: service(serviceName(name)), candidate: service(candidateServiceName(name)) },
    reports: said,
    ...analyst?.look(key, { deployment, pods, sets }),
    fleet: {
      rollouts: stores.rollouts.list(),
      namespaceLabels: stores.namespaces.get(namespace ?? '')?.metadata?.labels,
    },
  };
  return { observed, look };
}

/** Half of the age at which the planner believes it no more. */
const ACTIVITY_MS = ACTIVITY_AGE_MS / 2;

/** What is asked of pods besides what they compute on: why a slow one is not ready, and who is idle while one may move. */
function lookOptions({ spec, status }: Deployment): LookOptions {
  const moving = status?.hardware?.tiers?.some(
    ({ freeSince, promotingSince }) => freeSince !== undefined || promotingSince !== undefined,
  );
  return {
    tls: spec.tls !== undefined,
    unready: spec.hardware?.minTokensPerSecond !== undefined,
    activityMs: moving === true ? ACTIVITY_MS : undefined,
  };
}

/** The parts of a Node that count. */
export function nodeView(node: ObjectOf<typeof Node>): NodeView {
  return {
    name: node.metadata?.name ?? '',
    labels: node.metadata?.labels ?? {},
    taints: (node.spec?.taints ?? []).map(({ key, value, effect }) => ({ key, value, effect })),
    ready:
      node.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ?? false,
    cordoned: node.spec?.unschedulable === true,
    deleted: node.metadata?.deletionTimestamp !== undefined,
  };
}

/**
 * What the kubelet says about the oldest pod that has been mounting for some time on a node that has its model. One pod, on
 * demand: watching the events of a cluster would cost more than everything else here together.
 */
async function mountEvents(
  client: ObserveOptions['client'],
  stores: Stores,
  pods: readonly PodObject[],
  now: number,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, string>> {
  const waiting = pods
    .filter((pod) => isMounting(pod) && now - scheduledAt(pod) >= MOUNT_PATIENCE_MS)
    .filter((pod) => !isPulling(stores, pod))
    .toSorted((a, b) => scheduledAt(a) - scheduledAt(b));
  const [pod] = waiting;
  const { name, namespace, uid } = pod?.metadata ?? {};
  if (name === undefined || uid === undefined) return new Map();
  try {
    const { items } = await client.list(Event, {
      namespace,
      fieldSelector: `regarding.kind=Pod,regarding.uid=${uid},reason=FailedMount`,
      limit: 20,
      signal,
    });
    const latest = items.toSorted((a, b) => lastSeen(b) - lastSeen(a))[0];
    return new Map(latest === undefined ? [] : [[name, latest.note]]);
  } catch (error) {
    // Where we may not read events the status says less; nothing else depends on them.
    if (isForbidden(error)) return new Map();
    throw error;
  }
}

function lastSeen(event: ObjectOf<typeof Event>): number {
  const { deprecatedLastTimestamp } = event as { deprecatedLastTimestamp?: string };
  return Date.parse(event.series?.lastObservedTime ?? deprecatedLastTimestamp ?? event.eventTime ?? '') || 0;
}

/** When the pod got its node. */
export function scheduledAt(pod: PodObject): number {
  const condition = pod.status?.conditions?.find(({ type, status }) => type === 'PodScheduled' && status === 'True');
  return Date.parse(condition?.lastTransitionTime ?? pod.metadata?.creationTimestamp ?? '') || 0;
}

/** True when the pod's node says itself what it waits for. */
function isPulling(stores: Stores, pod: PodObject): boolean {
  const entries = stores.caches.get(pod.spec?.nodeName ?? '')?.status?.entries ?? [];
  const digest = digestOf(pod);
  return entries.some((entry) => entry.digest === digest && entry.state !== 'Ready');
}
