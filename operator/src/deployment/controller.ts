/**
 * The SLMDeployment controller: what wakes it, and one run from observing to writing. What to do is
 * `plan.ts`'s, when a status is written `status-pace.ts`'s.
 */
import type { SLMDeployment as Deployment, SLMNodeCache as NodeCache, SLMDeploymentStatus } from '@slm-operator/crds';
import { executePlan } from '../execution/execute.ts';
import { SLMDeployment, SLMModel, SLMNodeCache } from '../execution/kinds.ts';
import { allPods } from '../hardware/all-pods.ts';
import { makeInventory } from '../hardware/inventory.ts';
import type { KubeClient } from '../kube/client.ts';
import {
  keyOf,
  Namespace,
  NetworkPolicy,
  Node,
  type ObjectOf,
  Pod,
  PodDisruptionBudget,
  ReplicaSet,
  Service,
} from '../kube/resource.ts';
import { labelsChanged } from '../model/namespaces.ts';
import { deploymentsTouched } from '../rollout/wakes.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import {
  type Controller,
  defineController,
  generationChanged,
  makeChannel,
  ownedBy,
  watches,
} from '../runtime/controller.ts';
import type { EventRecorder } from '../runtime/events.ts';
import type { Manager } from '../runtime/manager.ts';
import { done, type Outcome } from '../runtime/outcome.ts';
import type { StoreEvent } from '../runtime/store.ts';
import { type BrokerPlace, makeSeenSecrets } from './access-state.ts';
import type { Analyst } from './analysis/analyst.ts';
import { isPerNode } from './names.ts';
import {
  borrowersIn,
  deploymentKeyOf,
  deploymentsOf,
  liveChild,
  MOUNT_PATIENCE_MS,
  managed,
  nodeView,
  observe,
  openStores,
  type Stores,
  scheduledAt,
  serversOf,
} from './observe.ts';
import { type Observed, type ReplicaSetObject, sizeOf } from './observed.ts';
import { makeOwnWrites } from './own-writes.ts';
import { type DeploymentConfig, planDeployment } from './plan.ts';
import { isMounting } from './pod-causes.ts';
import { makePodReports, type PodReports } from './pod-reports.ts';
import { isAlike } from './revision.ts';
import { refusedStatus } from './status.ts';
import { makePace } from './status-pace.ts';

export interface DeploymentControllerOptions {
  readonly manager: Pick<Manager, 'store'>;
  readonly client: KubeClient;
  readonly config: DeploymentConfig;
  /** The operator's own Service, which pods ask to review tokens. */
  readonly broker: BrokerPlace;
  readonly recorder: Pick<EventRecorder, 'record'>;
  /** Default: the system's. */
  readonly clock?: Clock | undefined;
  /** Random bytes for API keys. Default: the system's. */
  readonly random?: ((size: number) => Uint8Array) | undefined;
  /** Deployments worked on at the same time. Default 4. */
  readonly concurrency?: number | undefined;
  /** Default: asks pods over HTTP. */
  readonly reports?: PodReports | undefined;
  /** Default: nobody, and revisions pass their smoke tests and gates unseen. */
  readonly analyst?: Analyst | undefined;
  /** Called after every run, for tests. */
  readonly onOutcome?: ((key: string, outcome: object) => void) | undefined;
}

/** Milliseconds that echoes of our own writes, and the steps of pods, wait for each other. */
const ECHO_DELAY_MS = 100;

/** The controller; give it to `manager.add`. */
export function makeDeploymentController(options: DeploymentControllerOptions): Controller {
  const { manager, client, config, broker, recorder, clock = systemClock, random, concurrency = 4 } = options;
  const stores = openStores(manager);
  const pace = makePace(clock);
  const secrets = makeSeenSecrets(clock);
  // Statuses that the store does not show (yet): held back, or on their way through the watch. The next plan is made from them,
  // because sizes were changed by what they say, such as since when a device is waited for.
  const ahead = new Map<string, PlannedStatus>();
  const own = makeOwnWrites(clock);
  const inventory = makeInventory({ nodes: stores.nodes, pods: stores.pods, caches: stores.caches, clock });
  const reports = options.reports ?? makePodReports({ clock });
  const { analyst } = options;
  const freed = makeChannel('Inventory');
  inventory.onWake((key) => freed.push(key));

  return defineController({
    name: 'deployment',
    concurrency,
    onOutcome: options.onOutcome,
    sources: [
      watches(SLMDeployment, undefined, { delayMs: (event) => (generationChanged(event) ? 0 : ECHO_DELAY_MS) }),
      watches(SLMModel, (model) => deploymentsOf(stores, model)),
      watches(Namespace, (namespace) => borrowersIn(stores, namespace), { predicate: labelsChanged }),
      watches(SLMNodeCache, (cache) => interestedIn(stores, cache), { predicate: entriesChanged }),
      watches(Node, () => moving(stores), { predicate: placementChanged }),
      watches(ReplicaSet, ownedBy(SLMDeployment), {
        ...managed,
        delayMs: (event) => (countsChanged(event) ? 0 : ECHO_DELAY_MS),
      }),
      // A step follows from what their ReplicaSet counts, whose event comes at the same time.
      watches(Pod, deploymentKeyOf, { ...allPods, delayMs: ECHO_DELAY_MS }),
      watches(Service, ownedBy(SLMDeployment), { ...managed, delayMs: ECHO_DELAY_MS }),
      watches(PodDisruptionBudget, ownedBy(SLMDeployment), { ...managed, delayMs: ECHO_DELAY_MS }),
      watches(NetworkPolicy, ownedBy(SLMDeployment), { ...managed, delayMs: ECHO_DELAY_MS }),
      deploymentsTouched(stores.deployments, stores.rollouts),
      freed,
      reports.source,
      ...(analyst?.sources ?? []),
    ],
    async reconcile(key, { signal, log, backlog }): Promise<Outcome> {
      const stored = stores.deployments.get(key);
      if (stored === undefined || stored.metadata.deletionTimestamp !== undefined) {
        // Its children carry its owner reference: the garbage collector takes them along.
        pace.forget(key);
        secrets.forget(key);
        ahead.delete(key);
        own.forget(key);
        inventory.forget(key);
        reports.forget(key);
        analyst?.forget(key);
        return done;
      }
      const deployment = withStatus(stored, ahead.get(key));
      const { observed, look } = await observe(
        { stores, client, clock, random, broker, inventory, reports, analyst, secrets },
        deployment,
        signal,
      );
      const behind = own.behind(key, observed.replicaSets);
      // Their watch event comes within a moment and is the reason to look again.
      if (behind !== undefined) return sooner(done, behind);
      const plan = planDeployment(observed, { now: clock.now(), config });
      if (plan.notes.length > 0) log.debug({ notes: plan.notes }, 'rollout decisions');
      if (plan.expected !== undefined) {
        // Before anything is awaited: the next deployment must not count on the same devices.
        inventory.expect(key, plan.expected.places);
        inventory.interest(key, plan.expected.interest);
      }

      const paced = pace.status(key, stored, plan, { hold: look.hold, backlog });
      const executed = await executePlan({
        client,
        recorder,
        type: SLMDeployment,
        owner: stored,
        plan: paced.plan,
        live: (ref) => liveChild(stores, ref),
        onWrite: ({ kind, name }, { metadata }) => {
          if (kind === 'ReplicaSet') own.note(key, name, metadata?.resourceVersion);
        },
        refusedStatus: (refusal) =>
          refusedStatus(plan.status as SLMDeploymentStatus, deployment.status, refusal, clock.now()),
        signal,
      });
      if (executed.refusal !== undefined) log.info({ refusal: executed.refusal }, 'write refused');
      else
        for (const { kind, metadata } of plan.create ?? []) if (kind === 'Secret') secrets.note(stored, metadata.name);
      if (executed.refusal === undefined && !isAlike(plan.status, stored.status)) {
        ahead.set(key, { uid: stored.metadata.uid, status: plan.status });
      } else ahead.delete(key);
      const again = [paced.again, look.again, mountCheck(observed.pods, clock.now()), brokerCheck(observed)];
      return sooner(atTheLatest(executed.outcome, plan.placeAgain), ...again);
    },
  });
}

interface PlannedStatus {
  /** Of the very deployment. */
  readonly uid: string | undefined;
  readonly status: SLMDeploymentStatus | undefined;
}

function withStatus(stored: Deployment, planned: PlannedStatus | undefined): Deployment {
  if (planned?.status === undefined || planned.uid !== stored.metadata.uid) return stored;
  return { ...stored, status: planned.status };
}

/** Deployments whose model this node holds or is to hold. */
function interestedIn(stores: Stores, cache: NodeCache): string[] {
  const models = new Set(cache.spec?.wanted?.flatMap((wanted) => wanted.models));
  return [...models]
    .flatMap((model) => serversOf(stores, model))
    .filter(isMoving)
    .map((deployment) => keyOf(deployment));
}

/** Deployments that wait for something, or have a pod on each node: to the others nodes make no difference. */
function moving(stores: Stores): string[] {
  return stores.deployments
    .list()
    .filter((deployment) => isMoving(deployment) || isPerNode(deployment))
    .map((deployment) => keyOf(deployment));
}

function isMoving(deployment: Deployment): boolean {
  return (
    deployment.status?.rollout?.phase !== 'Idle' ||
    deployment.status.observedGeneration !== deployment.metadata.generation
  );
}

function entriesChanged(event: StoreEvent<NodeCache>): boolean {
  if (event.type !== 'update') return true;
  const { object, previous } = event;
  // What is wanted tells which deployments to wake, and the first report of an agent opens a gate.
  const view = ({ spec, status }: NodeCache) => [
    spec?.wanted?.map(({ digest, models }) => [digest, models]),
    status?.entries,
    status?.observedGeneration !== undefined,
  ];
  return !isAlike(view(object), view(previous));
}

/** True unless the change is one that we or somebody else wrote: what became of it follows. */
function countsChanged(event: StoreEvent<ReplicaSetObject>): boolean {
  if (event.type !== 'update') return event.type === 'delete';
  const { current, available } = sizeOf(event.object);
  const before = sizeOf(event.previous);
  return current !== before.current || available !== before.available;
}

/** Heartbeats and image lists change a Node all the time; what decides over placement seldom does. */
function placementChanged(event: StoreEvent<ObjectOf<typeof Node>>): boolean {
  if (event.type !== 'update') return true;
  return !isAlike(nodeView(event.object), nodeView(event.previous));
}

/** The broker's authority and address are not watched; both change once in years. */
const BROKER_CHECK_MS = 10 * 60_000;

function brokerCheck({ broker }: Observed): number | undefined {
  return broker.state === 'unneeded' ? undefined : BROKER_CHECK_MS;
}

/** Milliseconds until a pod that still mounts is worth a question to the kubelet's events. */
function mountCheck(pods: readonly ObjectOf<typeof Pod>[], now: number): number | undefined {
  const ages = pods.filter(isMounting).map((pod) => now - scheduledAt(pod));
  if (ages.length === 0) return undefined;
  return Math.max(1000, MOUNT_PATIENCE_MS - Math.min(...ages));
}

/** Not even a rollout that stands still may rest while time moves its pods to other hardware. */
function atTheLatest(outcome: Outcome, time: number | undefined): Outcome {
  if (time === undefined) return outcome;
  if (outcome.outcome === 'stalled') return { ...outcome, outcome: 'waiting', requeueAfter: time };
  return sooner(outcome, time);
}

/** The outcome, woken again after the shortest of these times. */
function sooner(outcome: Outcome, ...times: readonly (number | undefined)[]): Outcome {
  const own = outcome.outcome === 'waiting' ? outcome.requeueAfter : undefined;
  const known = [own, ...times].filter((time) => time !== undefined);
  if (known.length === 0 || outcome.outcome === 'stalled') return outcome;
  const requeueAfter = Math.min(...known);
  return outcome.outcome === 'waiting'
    ? { ...outcome, requeueAfter }
    : { outcome: 'waiting', reason: 'Progressing', message: 'the status is written in a moment', requeueAfter };
}
