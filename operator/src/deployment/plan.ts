/**
 * From everything known of an SLMDeployment to everything to do about it. Pure: no I/O, timers, randomness or logging.
 * Owns the order of decisions; where pods belong is `tier-plan.ts`'s, sizes are the rollout planner's, words for status are
 * `status.ts`'s.
 */
import { annotations, modelDefaultsOf, type Reason, type SLMDeploymentStatus } from '@slm-operator/crds';
import { type EventIntent, type KubeObject, type PatchIntent, type Plan, refTo } from '../execution/plan.ts';
import type { Expectation, Interest } from '../hardware/inventory.ts';
import { adoptsImages } from '../rollout/permission.ts';
import { accessGate } from './access-gate.ts';
import type { DeploymentGate } from './gate.ts';
import { modelStateOf } from './model-state.ts';
import { modelNameOf, replicaSetName } from './names.ts';
import { knownRevision, numberOf, type Observed, type ReplicaSetObject, revisionOf, sizeOf } from './observed.ts';
import { choosePodsToGo } from './promotion.ts';
import { makeApiKeysSecret } from './resources/api-keys.ts';
import { makeBrokerConfig } from './resources/broker-config.ts';
import { makeDisruptionBudget } from './resources/disruption-budget.ts';
import { makeModel } from './resources/model.ts';
import { makeNetworkPolicy } from './resources/network-policy.ts';
import { makeService } from './resources/service.ts';
import { makeTierObjects, tierChildrenOf } from './resources/tier-objects.ts';
import { imageOf, type WantedRevision, wantedRevision } from './revision.ts';
import {
  type Goal,
  isGoalGated,
  planRollout,
  type RolloutInput,
  resolveBounds,
  type SizeIntent,
} from './rollout-planner.ts';
import { deploymentStatus } from './status.ts';
import { ordinaryWaits } from './status-pace.ts';
import {
  expectationsOf,
  interestOf,
  type PlacementConfig,
  planTiers,
  type TierPlacement,
  tierRooms,
} from './tier-plan.ts';

/** Operator configuration that a plan depends on. */
export interface DeploymentConfig extends PlacementConfig {
  readonly serverImagePullPolicy: 'IfNotPresent' | 'Always' | 'Never';
}

export interface PlanContext {
  /** Wall clock, milliseconds since 1970. */
  readonly now: number;
  readonly config: DeploymentConfig;
}

export interface DeploymentPlan extends Plan<SLMDeploymentStatus> {
  /** For the inventory: what the deployment is to have, and what is worth waking it for. Undefined: as it was. */
  readonly expected: { readonly places: readonly Expectation[]; readonly interest: Interest } | undefined;
  /** Milliseconds after which time alone changes where pods belong. */
  readonly placeAgain: number | undefined;
}

/** Old ReplicaSets that are kept when the spec says nothing. */
const DEFAULT_HISTORY_LIMIT = 3;

/** The plan for one SLMDeployment. */
export function planDeployment(observed: Observed, { now, config }: PlanContext): DeploymentPlan {
  const { deployment, replicaSets } = observed;
  const { spec } = deployment;
  const replicas = spec.replicas ?? 1;
  const model = modelStateOf(deployment, observed.model);
  const wanted = model.usable
    ? wantedRevision({
        deployment,
        model: model.revision,
        known: replicaSets.map(knownRevision),
        images: config.serverImages,
        defaults: modelDefaultsOf(model.model.spec),
        adoptImages: adoptsImages(observed.fleet, deployment),
      })
    : undefined;
  const placement =
    model.usable && wanted !== undefined ? planTiers({ observed, model, wanted, config, now }) : undefined;
  const access = accessGate(observed);
  const goals = wanted && placement && goalsOf(observed, wanted, placement, access);
  const inLine = new Set(goals?.map(({ name }) => name));
  const update = replicaSets.filter((set) => inLine.has(set.metadata?.name ?? ''));
  const old = replicaSets.filter((set) => !update.includes(set));

  const input: RolloutInput = {
    replicas,
    ...resolveBounds(replicas, spec.strategy?.maxSurge, spec.strategy?.maxUnavailable),
    paused: spec.paused === true,
    historyLimit: spec.revisionHistoryLimit ?? DEFAULT_HISTORY_LIMIT,
    goals,
    old: old.map(sizeOf),
    ...(placement === undefined ? {} : { tiers: tierRooms(placement, observed.pods) }),
  };
  const rollout = planRollout(input);
  const going = choosePodsToGo(observed, placement, rollout.sizes, now);
  const sizes = rollout.sizes.filter(({ name }) => !going.wait.has(name));

  const status = deploymentStatus({
    observed,
    model,
    wanted,
    placement,
    update,
    old,
    gate: closedGate(input, access, placement),
    deadlock: rollout.deadlock,
    bounds: input,
    now,
  });

  const reviews = observed.broker.state === 'ready' ? observed.broker.access : undefined;
  const apply: KubeObject[] = [makeService(deployment), makeNetworkPolicy(deployment, reviews)];
  if (reviews !== undefined) apply.push(makeBrokerConfig(deployment, reviews));
  const inline = makeModel(deployment);
  if (inline !== undefined && (model.usable || model.reason !== 'ModelConflict')) apply.unshift(inline);
  if (replicas > 1) apply.push(makeDisruptionBudget(deployment));

  const number = numberFor(replicaSets, wanted);
  /** Server images of the ReplicaSets that are made. */
  const made = new Map<string, string>();
  for (const size of sizes) {
    if (wanted === undefined || !model.usable || replicaSets.some((set) => set.metadata?.name === size.name)) continue;
    const view = placement?.views.find(
      ({ tier }) => replicaSetName(deployment.metadata.name, wanted.revision, tier.name) === size.name,
    );
    if (view === undefined) continue;
    made.set(size.name, imageOf(wanted, view.tier.image) ?? wanted.image);
    apply.push(...makeTierObjects({ observed, model, wanted, ...view, replicas: size.to, number, config }));
  }

  const remove = rollout.remove.flatMap((name) => {
    const set = old.find((candidate) => candidate.metadata?.name === name);
    // Only as seen: one that got a size or pods meanwhile is not history.
    return set === undefined
      ? []
      : [{ ...refTo(set), resourceVersion: set.metadata?.resourceVersion }, ...tierChildrenOf(set)];
  });
  if (replicas <= 1 && observed.disruptionBudget !== undefined) remove.push(withoutVersion(observed.disruptionBudget));
  if (observed.leftoverModel !== undefined && status.complete) remove.push(withoutVersion(observed.leftoverModel));

  return {
    create: observed.apiKeys.state === 'to-make' ? [makeApiKeysSecret(deployment, observed.apiKeys.keys)] : [],
    apply,
    patch: [...going.patch, ...sizePatches(replicaSets, sizes, wanted, number)],
    remove,
    status: status.status,
    events: [
      ...sizes.flatMap((size) => sizeEvents(size, made, wanted, replicaSets, modelNameOf(deployment))),
      ...promotionEvents(sizes, going.promoted),
      ...status.events,
      ...statusEvents(deployment.status, status.status),
    ],
    outcome: status.outcome,
    notes: [...(placement?.plan.notes ?? []), ...rollout.notes],
    expected:
      placement === undefined
        ? undefined
        : { places: expectationsOf(placement), interest: interestOf(placement, deployment) },
    placeAgain: placement?.plan.requeueAfter,
  };
}

function withoutVersion(object: Parameters<typeof refTo>[0]) {
  return { ...refTo(object), resourceVersion: undefined };
}

/** The sets of the wanted revision: those that exist, and those that are to have pods. */
function goalsOf(
  { deployment }: Observed,
  { revision }: WantedRevision,
  { views, plan }: TierPlacement,
  access: DeploymentGate,
): Goal[] {
  return views.flatMap(({ tier, set, gate, trouble }) => {
    const target = plan.targets.get(tier.name) ?? 0;
    if (set === undefined && target === 0) return [];
    const closed = access.open ? gate : access;
    const hold = plan.hold.get(tier.name);
    return {
      name: replicaSetName(deployment.metadata.name, revision, tier.name),
      tier: tier.name,
      target,
      ...(set === undefined ? {} : { exists: sizeOf(set) }),
      gate: closed.open ? { open: true } : { open: false, why: closed.why },
      ...(hold === undefined ? {} : { hold }),
      ...(trouble === undefined ? {} : { stuck: trouble.pods }),
    };
  });
}

/** What holds back pods, if anything does: of all hardware, or of the best that waits. */
function closedGate(input: RolloutInput, access: DeploymentGate, placement: TierPlacement | undefined): DeploymentGate {
  const open: DeploymentGate = { open: true };
  if (input.goals === undefined) return input.replicas > 0 ? access : open;
  for (const goal of input.goals) {
    if (goal.gate.open || !isGoalGated(input, goal)) continue;
    return access.open ? (placement?.views.find(({ tier }) => tier.name === goal.tier)?.gate ?? open) : access;
  }
  return open;
}

/** Number of the wanted revision: its own while it is the newest, else one more than any. */
function numberFor(sets: readonly ReplicaSetObject[], wanted: WantedRevision | undefined): number {
  const highest = (some: readonly ReplicaSetObject[]) => Math.max(0, ...some.map(numberOf));
  const mine = highest(sets.filter((set) => revisionOf(set) === wanted?.revision));
  return mine > 0 && mine >= highest(sets) ? mine : highest(sets) + 1;
}

/**
 * One patch for each ReplicaSet that changes, and only of the ReplicaSet as it was seen: sizes computed from an older one
 * would break the bounds. A revision that becomes the goal again gets a new number, so that it counts as the newest.
 */
function sizePatches(
  sets: readonly ReplicaSetObject[],
  sizes: readonly SizeIntent[],
  wanted: WantedRevision | undefined,
  number: number,
): PatchIntent[] {
  return sets.flatMap((set) => {
    const size = sizes.find((candidate) => candidate.name === set.metadata?.name);
    const renumber = revisionOf(set) === wanted?.revision && numberOf(set) < number;
    if (size === undefined && !renumber) return [];
    return {
      target: { ...refTo(set), resourceVersion: set.metadata?.resourceVersion },
      patch: {
        ...(renumber ? { metadata: { annotations: { [annotations.revisionNumber]: String(number) } } } : {}),
        ...(size === undefined ? {} : { spec: { replicas: size.to } }),
      },
    };
  });
}

function sizeEvents(
  size: SizeIntent,
  made: ReadonlyMap<string, string>,
  wanted: WantedRevision | undefined,
  sets: readonly ReplicaSetObject[],
  model: string,
): EventIntent[] {
  const ifWritten = { kind: 'ReplicaSet', name: size.name };
  const scaled: EventIntent = {
    ifWritten,
    reason: 'ScalingReplicaSet',
    action: 'Scale',
    note: `scaled ${size.name} from ${size.from} to ${size.to}: ${size.why}`,
  };
  if (!made.has(size.name)) return [scaled];
  // On further hardware it is no new revision.
  if (sets.some((set) => revisionOf(set) === wanted?.revision)) return [scaled];
  const pods = size.to === 1 ? '1 pod' : `${size.to} pods`;
  const note = `made ReplicaSet ${size.name} for revision ${wanted?.revision} of model ${model}, image ${made.get(size.name)}, with ${pods}: ${size.why}`;
  return [{ ifWritten, reason: 'RevisionCreated', action: 'Create', note }];
}

/** Told when the pod on worse hardware goes, which is when the one on better hardware serves in its place. */
function promotionEvents(
  sizes: readonly SizeIntent[],
  promoted: { readonly set: string; readonly from: string; readonly to: string } | undefined,
): EventIntent[] {
  if (promoted === undefined || !sizes.some((size) => size.name === promoted.set && size.to < size.from)) return [];
  const note = `a pod that fell back to ${promoted.from} is on ${promoted.to} now`;
  return [{ ifWritten: { kind: 'ReplicaSet', name: promoted.set }, reason: 'PromotedBack', action: 'Promote', note }];
}

/** What is worth telling once: new trouble, and the end of a rollout. */
function statusEvents(before: SLMDeploymentStatus | undefined, after: SLMDeploymentStatus): EventIntent[] {
  const known = new Set(before?.blockedBy?.map((block) => block.reason));
  const events: EventIntent[] = (after.blockedBy ?? [])
    .filter((block) => !ordinaryWaits.has(block.reason) && !known.has(block.reason))
    .map((block) => ({ type: 'Warning', reason: block.reason as Reason, note: block.message }));
  // The first one is told by the condition Ready.
  const changed = before?.currentRevision !== undefined && before.currentRevision !== after.currentRevision;
  if (changed && after.currentRevision !== undefined) {
    events.push({ reason: 'RolloutComplete', note: `all pods run revision ${after.currentRevision}` });
  }
  return events;
}
