/**
 * Where the pods of a deployment belong: gathers for each kind of hardware in its line what is there of the wanted revision
 * and what has room, and asks the placement planner. Owns the counting; the decisions are the planner's. Pure.
 */
import { type HardwareTier, labels, type SLMDeployment } from '@slm-operator/crds';
import { type Fit, fitOf } from '../hardware/fit.ts';
import type { Expectation, Interest } from '../hardware/inventory.ts';
import type { NodeStock } from '../hardware/node-hardware.ts';
import { planPlacement } from '../hardware/placement-planner.ts';
import type { PlacementPlan, TierClocks, TierState } from '../hardware/placement-types.ts';
import type { Profiles } from '../hardware/profiles.ts';
import { requestsOfTier, type Tier, type TierProblem, tiersOf } from '../hardware/tiers.ts';
import { type Trouble, troubleOf } from './device-trouble.ts';
import { type Gate, type GateInput, gateOf } from './gate.ts';
import type { ModelState } from './model-state.ts';
import { CPU_TIER, isPerNode } from './names.ts';
import { eachOnce, NodeShares } from './node-shares.ts';
import { hasPods, type Observed, type PodObject, type ReplicaSetObject, revisionOf, tierOf } from './observed.ts';
import { isReady } from './pod-causes.ts';
import { parseDuration } from './quantity.ts';
import { imageOf, type ServerImages, type WantedRevision } from './revision.ts';
import { resolveBounds, type TierRoom } from './rollout-planner.ts';

/** Operator configuration that placement depends on. */
export interface PlacementConfig {
  /** Server images of new revisions by variant. */
  readonly serverImages: ServerImages;
  readonly hardwareProfiles: Profiles;
  /** Order of a deployment that names no hardware. */
  readonly hardwareOrder: readonly string[];
  /** Pods are made only where they fit; false where a cluster autoscaler makes nodes for those that wait. */
  readonly waitForFit: boolean;
}

/** One kind of hardware in the deployment's line, with what is there. */
export interface TierView {
  readonly tier: Tier;
  readonly fit: Fit;
  /** ReplicaSet of the wanted revision there. */
  readonly set: ReplicaSetObject | undefined;
  /** Closed: its bytes are not on its nodes. */
  readonly gate: Gate;
  readonly trouble: Trouble | undefined;
  /** With a pod on each node: names of those that better tiers have or want. */
  readonly avoid?: readonly string[] | undefined;
  /** With a pod on each node: names of those that have theirs, or get it from a better tier. */
  readonly taken?: ReadonlySet<string> | undefined;
}

/** Where the pods of the wanted revision belong. */
export interface TierPlacement {
  /** The best first. */
  readonly views: readonly TierView[];
  readonly problems: readonly TierProblem[];
  /** The spec names no hardware. */
  readonly auto: boolean;
  readonly plan: PlacementPlan;
}

const FALLBACK_AFTER_MS = 120_000;
/** What a pod said this long ago of whether it serves somebody says nothing of now. */
export const ACTIVITY_AGE_MS = 10_000;

export interface TierPlanInput {
  readonly observed: Observed;
  readonly model: Extract<ModelState, { readonly usable: true }>;
  readonly wanted: WantedRevision;
  readonly config: PlacementConfig;
  /** Wall clock, milliseconds since 1970. */
  readonly now: number;
  /** Names of the tiers that pods may be on. Default: all of the line. */
  readonly only?: ReadonlySet<string> | undefined;
}

/** The placement of the wanted revision. */
export function planTiers(input: TierPlanInput): TierPlacement {
  const { observed, model, wanted, config, now, only } = input;
  const { deployment, nodes } = observed;
  const { hardware, replicas = 1, strategy } = deployment.spec;
  const {
    tiers: line,
    problems,
    auto,
  } = tiersOf({
    deployment,
    model: model.model,
    revision: model.revision,
    nodes,
    profiles: config.hardwareProfiles,
    order: config.hardwareOrder,
    images: wanted.images ?? config.serverImages,
  });
  const tiers = only === undefined ? line : line.filter(({ name }) => only.has(name));
  const pods = podsByTier(observed.pods, wanted.revision);
  const known = new Map(deployment.status?.hardware?.tiers?.map((tier) => [tier.name, tier]));
  const shares = isPerNode(deployment) ? new NodeShares(observed.pods, wanted.revision) : undefined;
  const views = tiers.map((tier, index) => {
    const there = pods.get(tier.name) ?? noPods;
    const view = viewOf(input, tier, tiers[index + 1], there, shares);
    const isUsable = view.gate.open || view.gate.reason === 'WaitingForBytes';
    if (isUsable && known.get(tier.name)?.failedSince === undefined) shares?.take(view.fit, there);
    if (view.trouble !== undefined) shares?.release(there.wanted);
    return view;
  });
  const states = views.map((view, index): TierState => {
    const there = pods.get(view.tier.name) ?? noPods;
    const counted = view.fit.open === undefined ? there : eachOnce(there, view);
    return stateOf(view, counted, known.get(view.tier.name), index === views.length - 1, wanted, observed, now);
  });
  const plan = planPlacement({
    replicas,
    tiers: states,
    fallbackAfterMs: auto ? 0 : (parseDuration(hardware?.fallbackAfter) ?? FALLBACK_AFTER_MS),
    policy: hardware?.policy ?? 'Fallback',
    promoteBack: hardware?.promoteBack ?? 'Never',
    auto,
    maxSurge: resolveBounds(replicas, strategy?.maxSurge, strategy?.maxUnavailable).maxSurge,
    rolling: observed.replicaSets.some((set) => revisionOf(set) !== wanted.revision && hasPods(set)),
    // Times in status have no fractions, and what is said of them must not change when they are read again.
    now: Math.floor(now / 1000) * 1000,
  });
  return { views, problems, auto, plan };
}

/** Pods of a deployment on one tier. */
export interface PodsOfTier {
  /** Of the wanted revision; not those that are going. */
  readonly wanted: readonly PodObject[];
  /** Of other revisions, on a node; not those that are going, nor those that have ended. */
  readonly old: readonly PodObject[];
  /** Of any revision, and told to go. */
  readonly going: readonly PodObject[];
  /** Of other revisions, without a node: they take the next place that comes free. */
  readonly unplaced: readonly PodObject[];
}

const noPods: PodsOfTier = { wanted: [], old: [], going: [], unplaced: [] };

/** The tier of a pod; those made before there were tiers are on tier cpu. */
export function tierOfPod(pod: PodObject): string {
  return pod.metadata?.labels?.[labels.tier] ?? CPU_TIER;
}

function podsByTier(pods: readonly PodObject[], revision: string): ReadonlyMap<string, PodsOfTier> {
  const tiers = new Map<string, Record<keyof PodsOfTier, PodObject[]>>();
  for (const pod of pods) {
    const name = tierOfPod(pod);
    const there = tiers.get(name) ?? { wanted: [], old: [], going: [], unplaced: [] };
    tiers.set(name, there);
    if (pod.metadata?.deletionTimestamp !== undefined) {
      // One without a node is gone as soon as it is told to, and holds nothing.
      if (pod.spec?.nodeName !== undefined && !hasEnded(pod)) there.going.push(pod);
    } else if (pod.metadata?.labels?.[labels.revision] === revision) there.wanted.push(pod);
    else if (!hasEnded(pod)) there[pod.spec?.nodeName === undefined ? 'unplaced' : 'old'].push(pod);
  }
  return tiers;
}

function hasEnded(pod: PodObject): boolean {
  return pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded';
}

function viewOf(
  { observed, model, wanted, config, now }: TierPlanInput,
  tier: Tier,
  next: Tier | undefined,
  pods: PodsOfTier,
  shares: NodeShares | undefined,
): TierView {
  const { deployment, nodes, caches, replicaSets, reports } = observed;
  const set = replicaSets.find(
    (candidate) => revisionOf(candidate) === wanted.revision && tierOf(candidate) === tier.name,
  );
  const bound = pods.wanted.filter((pod) => pod.spec?.nodeName !== undefined && !hasEnded(pod)).length;
  const fit = fitOf({
    tier,
    deployment,
    nodes,
    waitForFit: config.waitForFit,
    pending: Math.max(0, (set?.spec?.replicas ?? 0) - bound) + pods.unplaced.length,
    wanted: (deployment.spec.replicas ?? 1) - (set?.spec?.replicas ?? 0) - pods.old.length - pods.going.length,
    taken: shares?.taken(),
  });
  const gate = gateOfTier(tier, fit, { deployment, model: model.model, bytes: tier.bytes, nodes, caches });
  const trouble = troubleOf({
    resource: tier.resource,
    claimed: tier.claim !== undefined,
    count: tier.count,
    ownImage: next !== undefined && imageOf(wanted, tier.image) !== imageOf(wanted, next.image),
    set,
    pods: pods.wanted,
    reports,
    offered: (name) => offeredBy(nodes, name, tier),
    now,
  });
  const better = shares?.better() ?? [];
  return { tier, fit, set, gate, trouble, ...(better.length === 0 ? {} : { avoid: better }), taken: shares?.taken() };
}

/**
 * The bytes must be on the nodes that have the device; on processors, on all where labels and taints let pods go. Where no node
 * has the device nobody could pull ahead: one that an autoscaler makes pulls when the first pod mounts.
 */
function gateOfTier(tier: Tier, { eligible }: Fit, input: GateInput): Gate {
  if (tier.name === CPU_TIER) return gateOf(input);
  return eligible.length === 0 ? { open: true } : gateOf({ ...input, eligible });
}

/** Devices that a node's kubelet offers; undefined when there is no such node. */
function offeredBy(nodes: readonly NodeStock[], name: string, { resource = '' }: Tier): number | undefined {
  const node = nodes.find((candidate) => candidate.name === name && !candidate.deleted);
  return node === undefined ? undefined : (node.allocatable[resource] ?? 0);
}

function stateOf(
  { tier, fit, set, gate, trouble }: TierView,
  pods: PodsOfTier,
  before: HardwareTier | undefined,
  isLast: boolean,
  wanted: WantedRevision,
  { reports }: Observed,
  now: number,
): TierState {
  const desired = set?.spec?.replicas ?? 0;
  // Bytes on their way are waited for. What nobody knows the end of is no reason to serve nobody meanwhile.
  const shut = !gate.open && gate.reason !== 'WaitingForBytes' ? gate : undefined;
  const room = shut === undefined ? fit.room : isLast ? undefined : 0;
  const blocked = shut === undefined ? fit.blocked : { reason: shut.reason, message: shut.why };
  return {
    name: tier.name,
    rank: tier.rank,
    room,
    ...(blocked === undefined || room === undefined ? {} : { blocked }),
    desired,
    current: set?.status?.replicas ?? 0,
    available: set?.status?.availableReplicas ?? 0,
    oldPods: pods.old.length,
    goingPods: pods.going.length,
    planned: before?.replicas ?? 0,
    stuck: trouble,
    inventory: `${fit.inventory}-${wanted.revision}`,
    idlePods: idleCount(pods.wanted, reports, now),
    ...clocksOf(before),
  };
}

/** Pods that serve nobody; undefined when none of them said anything of late. */
function idleCount(pods: readonly PodObject[], reports: Observed['reports'], now: number): number | undefined {
  const fresh = pods.filter(isReady).flatMap((pod) => {
    const report = reports.get(pod.metadata?.uid ?? '');
    return report?.running === undefined || now - report.at > ACTIVITY_AGE_MS ? [] : report.running;
  });
  return fresh.length === 0 ? undefined : fresh.filter((running) => running === 0).length;
}

function clocksOf(before: HardwareTier | undefined): TierClocks & { readonly message?: string | undefined } {
  if (before === undefined) return {};
  const { waitingSince, shortSince, freeSince, promotingSince, failedSince, failedOn, message } = before;
  return {
    waitingSince: timeOf(waitingSince),
    shortSince: timeOf(shortSince),
    freeSince: timeOf(freeSince),
    promotingSince: timeOf(promotingSince),
    failedSince: timeOf(failedSince),
    failedOn,
    message,
  };
}

function timeOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Date.parse(text);
}

/** Room by tier for the rollout planner. Processors are what a pod may always wait for, as it did before there were tiers. */
export function tierRooms({ views }: TierPlacement, pods: readonly PodObject[]): ReadonlyMap<string, TierRoom> {
  return new Map(
    views.map(({ tier, fit }) => {
      const going = pods.filter(
        (pod) =>
          pod.metadata?.deletionTimestamp !== undefined &&
          pod.spec?.nodeName !== undefined &&
          !hasEnded(pod) &&
          tierOfPod(pod) === tier.name,
      ).length;
      // With a pod on each node memory may suffice for one only, as devices do.
      const isUnbounded = tier.name === CPU_TIER && fit.open === undefined;
      return [tier.name, { room: isUnbounded ? undefined : fit.room, going }];
    }),
  );
}

/** What the inventory keeps places for. */
export function expectationsOf({ views, plan }: TierPlacement): Expectation[] {
  return views.map(({ tier, fit }) => ({
    tier: tier.name,
    replicas: plan.targets.get(tier.name) ?? 0,
    requests: requestsOfTier(tier),
    nodes: fit.eligible,
  }));
}

/** What is worth waking the deployment for: more of what it waits for, and another amount of what it has. */
export function interestOf({ views, plan, auto }: TierPlacement, { spec }: SLMDeployment): Interest {
  const used = views.findLastIndex(({ tier }) => (plan.targets.get(tier.name) ?? 0) > 0);
  const worst = plan.waiting > 0 ? views.length - 1 : used;
  const wants = new Set<string>();
  const uses = new Set<string>();
  for (const [index, { tier, fit }] of views.entries()) {
    const isFailed = plan.tiers.get(tier.name)?.failedSince !== undefined;
    const isBetter = index < worst && !auto && tier.rank < (views[worst]?.tier.rank ?? 0);
    if (plan.waiting > 0 || isBetter) for (const resource of fit.wants) wants.add(resource);
    if (tier.resource === undefined) continue;
    if (isFailed || (isBetter && spec.hardware?.promoteBack === 'WhenIdle')) wants.add(tier.resource);
    if (isFailed || (plan.targets.get(tier.name) ?? 0) > 0) uses.add(tier.resource);
  }
  return { wants: [...wants].sort(), uses: [...uses].sort() };
}
