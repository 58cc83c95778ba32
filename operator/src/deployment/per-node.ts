/**
 * Deployments with a pod on each matching node. Owns how many pods that are, and which pods the rest of the planning is not told
 * of: those on nodes that take no new ones keep their places, those on nodes that match no more go. The rest plans a deployment
 * of as many replicas as there are nodes, and what it says is put into words of nodes again here. Pure.
 *
 * A node that is cordoned or that nobody hears of is not waited for: its pod stays, of whatever revision, and it is seen to when
 * the node is back. Of several pods Kubernetes removes one that is not ready first, so when an old revision shrinks meanwhile,
 * the pod of a lost node may be told to go before its node has another.
 */
import { annotations } from '@slm-operator/crds';
import type { EventIntent, KubeObject, PatchIntent } from '../execution/plan.ts';
import { nodesFor } from '../hardware/fit.ts';
import type { NodeStock } from '../hardware/node-hardware.ts';
import { tiersOf } from '../hardware/tiers.ts';
import { noMatch } from './gate.ts';
import { modelStateOf } from './model-state.ts';
import { isEligible } from './node-match.ts';
import { type Observed, type PodObject, type ReplicaSetObject, revisionOf } from './observed.ts';
import { nodesInStatus } from './per-node-status.ts';
import type { DeploymentPlan, PlanContext } from './plan.ts';
import { isReady } from './pod-causes.ts';
import { marksFor, podsOfSet } from './pods-to-go.ts';
import { tierOfPod } from './tier-plan.ts';

/** A node that matches and takes no new pod. */
export interface AwayNode {
  readonly name: string;
  readonly why: 'not ready' | 'cordoned';
}

/** The nodes of a deployment, and the pods that count for none of them. */
export interface NodeScene {
  /** Nodes that are to have a pod each. */
  readonly places: number;
  readonly away: readonly AwayNode[];
  /** Why there are none, when no node matches. */
  readonly none: string | undefined;
  /** Pods that stay where they are, whatever is planned. */
  readonly parked: readonly PodObject[];
  /** Pods on nodes that match no more. */
  readonly leaving: readonly PodObject[];
}

/** Plans a deployment with a pod on each node; `plan` is for as many replicas as it is told. */
export function planByNode(
  observed: Observed,
  context: PlanContext,
  plan: (observed: Observed, context: PlanContext) => DeploymentPlan,
): DeploymentPlan {
  const scene = sceneOf(observed, context);
  const planned = plan(viewOf(observed, scene), context);
  const shrinks = shrinksOf(observed, scene, planned.patch ?? []);
  const { status, notes, expected } = planned;
  return {
    ...planned,
    apply: planned.apply.filter(({ kind }) => kind !== 'PodDisruptionBudget').map((it) => local(it, observed)),
    patch: [...shrinks.marks, ...realSizes(planned.patch ?? [], observed, scene, shrinks)],
    remove: [...planned.remove, ...budgetToRemove(observed, planned.remove)],
    ...(status === undefined
      ? {}
      : { status: nodesInStatus(status, { scene, previous: observed.deployment.status, now: context.now }) }),
    events: [...planned.events, ...shrinks.events],
    notes: [...(scene.none === undefined ? [] : [scene.none]), ...notes, ...shrinks.notes],
    expected: expected && {
      ...expected,
      // Pods that stay count among those that have a node.
      places: expected.places.map((place) => ({
        ...place,
        replicas: place.replicas + scene.parked.filter((pod) => tierOfPod(pod) === place.tier).length,
      })),
    },
  };
}

/** Where pods belong, by labels, taints and devices, and what is there. */
export function sceneOf(observed: Observed, { config }: PlanContext): NodeScene {
  const { deployment, nodes, pods } = observed;
  const matching = matchingNodes(observed, config);
  const usable = matching.filter((node) => node.ready && !node.cordoned);
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const placed = new Set(usable.map(({ name }) => name));
  const matches = new Set(matching.map(({ name }) => name));
  const parked: PodObject[] = [];
  const leaving: PodObject[] = [];
  for (const pod of pods) {
    const node = pod.spec?.nodeName;
    if (node === undefined || pod.metadata?.deletionTimestamp !== undefined || placed.has(node)) continue;
    // A node that is gone takes its pod along, and one that is new may be seen a moment later than its pod.
    const isKnown = byName.get(node)?.deleted === false;
    if (isKnown && !matches.has(node)) leaving.push(pod);
    else parked.push(pod);
  }
  const settings = deployment.spec.podTemplate?.spec;
  return {
    places: usable.length,
    away: matching
      .filter((node) => !placed.has(node.name))
      .map(({ name, ready }) => ({ name, why: ready ? ('cordoned' as const) : ('not ready' as const) }))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    none: matching.length > 0 ? undefined : noMatch(settings?.nodeSelector, nodes.length),
    parked,
    leaving,
  };
}

/** Nodes that the deployment's pods are meant for, whatever their health and what is free on them. */
function matchingNodes(observed: Observed, config: PlanContext['config']): readonly NodeStock[] {
  const { deployment, nodes } = observed;
  const model = modelStateOf(deployment, observed.model);
  const settings = deployment.spec.podTemplate?.spec;
  if (!model.usable) return nodes.filter((node) => isEligible(node, settings?.nodeSelector, settings?.tolerations));
  const { tiers } = tiersOf({
    deployment,
    model: model.model,
    revision: model.revision,
    nodes,
    profiles: config.hardwareProfiles,
    order: config.hardwareOrder,
    images: config.serverImages,
  });
  return nodesFor(tiers, deployment, nodes);
}

/** What the rest of the planning sees: as many replicas as nodes, and nothing of the pods that count for none. */
function viewOf(observed: Observed, scene: NodeScene): Observed {
  const { deployment, replicaSets, pods } = observed;
  const beside = new Set([...scene.parked, ...scene.leaving]);
  return {
    ...observed,
    deployment: { ...deployment, spec: { ...deployment.spec, replicas: scene.places } },
    replicaSets: replicaSets.map((set) => setInView(set, beside, pods)),
    pods: pods.filter((pod) => !beside.has(pod)),
    beside: [...beside],
    disruptionBudget: undefined,
  };
}

/**
 * Sizes without the pods beside. Who serves is counted by the pods: the ReplicaSet's status comes later, and by it a node could
 * lose its old pod for a new one that went along with another node. How many there are is what either says, the larger.
 */
function setInView(set: ReplicaSetObject, beside: ReadonlySet<PodObject>, pods: readonly PodObject[]) {
  const there = podsOfSet(pods, set);
  const seen = there.filter((pod) => !beside.has(pod));
  const out = there.filter((pod) => beside.has(pod));
  const ready = seen.filter(isReady).length;
  const desired = sizeInView(set, out, pods);
  const replicas = Math.max(seen.length, (set.status?.replicas ?? 0) - out.length);
  return {
    ...set,
    spec: { ...set.spec, replicas: desired } as NonNullable<ReplicaSetObject['spec']>,
    status: { ...set.status, replicas, readyReplicas: ready, availableReplicas: ready },
  };
}

function podsBeside(set: ReplicaSetObject, beside: ReadonlySet<PodObject>, pods: readonly PodObject[]): PodObject[] {
  return podsOfSet(pods, set).filter((pod) => beside.has(pod));
}

/** Pods that the ReplicaSet was told to remove and has not removed yet are most likely those that are marked. */
function sizeInView(set: ReplicaSetObject, out: readonly PodObject[], pods: readonly PodObject[]): number {
  const desired = set.spec?.replicas ?? 1;
  const surplus = Math.max(0, podsOfSet(pods, set).length - desired);
  return Math.max(0, desired - Math.max(0, out.length - surplus));
}

interface Shrinks {
  readonly marks: readonly PatchIntent[];
  /** Pods on nodes that match no more and still stay, by ReplicaSet. */
  readonly kept: ReadonlyMap<string, number>;
  /** ReplicaSets that must not shrink before marks are gone. */
  readonly wait: ReadonlySet<string>;
  readonly events: readonly EventIntent[];
  readonly notes: readonly string[];
}

/** Pods whose nodes match no more go, as soon as the ReplicaSet has all others and would remove none of them. */
function shrinksOf(
  { replicaSets, pods }: Observed,
  { leaving, parked }: NodeScene,
  patches: readonly PatchIntent[],
): Shrinks {
  const marks: PatchIntent[] = [];
  const kept = new Map<string, number>();
  const wait = new Set<string>();
  const events: EventIntent[] = [];
  const notes: string[] = [];
  const [gone, stays] = [new Set(leaving), new Set(parked)];
  for (const set of replicaSets) {
    const name = set.metadata?.name ?? '';
    const there = podsOfSet(pods, set);
    const going = there.filter((pod) => gone.has(pod));
    const staying = there.filter((pod) => stays.has(pod));
    if (going.length === 0 && staying.length === 0) continue;
    const others = there.filter((pod) => !gone.has(pod) && !stays.has(pod));
    const before = sizeInView(set, [...going, ...staying], pods);
    const planned = plannedSize(patches, name) ?? before;
    // Others of it are chosen to go, and marked; else no mark may be left from before.
    const isChosen = planned < before || others.some((pod) => patches.some(({ target }) => isThe(target, pod)));
    const cleared = marksFor(isChosen ? staying : [...staying, ...others], []);
    const missing = marksFor(going, going);
    marks.push(...cleared, ...missing);
    if (cleared.length > 0) wait.add(name);
    if (going.length === 0) continue;
    const isStarting = others.length < planned || !others.every(isReady);
    const where = going.map((pod) => pod.spec?.nodeName).join(', ');
    if (missing.length + cleared.length > 0 || isStarting || isChosen) {
      kept.set(name, going.length);
      notes.push(
        `wait with the pods of ${name} on ${where}: ${isStarting ? 'others are starting' : 'others go first'}`,
      );
      continue;
    }
    notes.push(`scale down ${name}: ${where} matches no more`);
    events.push({
      ifWritten: { kind: 'ReplicaSet', name },
      reason: 'ScalingReplicaSet',
      action: 'Scale',
      note: `scaled ${name} down by ${going.length}: ${where} matches no more`,
    });
  }
  return { marks, kept, wait, events, notes };
}

function isThe(target: PatchIntent['target'], pod: PodObject): boolean {
  return target.kind === 'Pod' && target.name === pod.metadata?.name;
}

/** Size of a ReplicaSet that is planned, if another one is. */
function plannedSize(patches: readonly PatchIntent[], name: string): number | undefined {
  const intent = patches.find(({ target }) => target.kind === 'ReplicaSet' && target.name === name);
  return (intent?.patch as { spec?: { replicas?: number } } | undefined)?.spec?.replicas;
}

/** Sizes of ReplicaSets with the pods that the planning was not told of. */
function realSizes(
  patches: readonly PatchIntent[],
  { replicaSets, pods }: Observed,
  { parked, leaving }: NodeScene,
  { kept, wait }: Shrinks,
): PatchIntent[] {
  const beside = new Set([...parked, ...leaving]);
  const stays = new Set(parked);
  const sized = new Set<string>();
  const sizeOf = (set: ReplicaSetObject, planned: number) =>
    planned + podsBeside(set, stays, pods).length + (kept.get(set.metadata?.name ?? '') ?? 0);
  const others = patches.flatMap((intent) => {
    const set = replicaSets.find(
      ({ metadata }) => intent.target.kind === 'ReplicaSet' && metadata?.name === intent.target.name,
    );
    const { spec, ...rest } = intent.patch as { spec?: { replicas?: number } };
    if (set === undefined) return [intent];
    sized.add(intent.target.name);
    const planned = spec?.replicas ?? sizeInView(set, podsBeside(set, beside, pods), pods);
    const size = wait.has(intent.target.name)
      ? Math.max(set.spec?.replicas ?? 1, sizeOf(set, planned))
      : sizeOf(set, planned);
    const changed = size === (set.spec?.replicas ?? 1) ? {} : { replicas: size };
    const { replicas: _, ...more } = spec ?? {};
    const patch = {
      ...rest,
      ...(Object.keys({ ...more, ...changed }).length === 0 ? {} : { spec: { ...more, ...changed } }),
    };
    return Object.keys(patch).length === 0 ? [] : [{ ...intent, patch }];
  });
  const unplanned = replicaSets.flatMap((set) => {
    const { name = '', namespace, uid, resourceVersion } = set.metadata ?? {};
    const out = podsBeside(set, beside, pods);
    if (sized.has(name) || wait.has(name) || out.length === 0) return [];
    const size = sizeOf(set, sizeInView(set, out, pods));
    if (size >= (set.spec?.replicas ?? 1)) return [];
    const target = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name, namespace, uid, resourceVersion };
    return [{ target, patch: { spec: { replicas: size } } }];
  });
  return [...others, ...unplanned];
}

/**
 * Clients are led to the pod of their own node once a revision with a pod on each has come whole, and from then on: until then
 * some nodes would have none.
 */
function local(object: KubeObject, { deployment, replicaSets }: Observed): KubeObject {
  if (object.kind !== 'Service') return object;
  const { currentRevision } = deployment.status ?? {};
  const current = replicaSets.find((set) => currentRevision !== undefined && revisionOf(set) === currentRevision);
  if (current?.metadata?.annotations?.[annotations.placement] !== 'PerNode') return object;
  const { spec } = object as KubeObject & { readonly spec?: object };
  return { ...object, spec: { ...spec, internalTrafficPolicy: 'Local' } } as KubeObject;
}

/** Each pod serves its own node: for a node that is drained no other pod makes up, and none need wait for another. */
function budgetToRemove({ disruptionBudget }: Observed, planned: DeploymentPlan['remove']) {
  const { name = '', namespace, uid } = disruptionBudget?.metadata ?? {};
  if (disruptionBudget === undefined || planned.some((ref) => ref.kind === 'PodDisruptionBudget')) return [];
  return [{ apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', name, namespace, uid }];
}
