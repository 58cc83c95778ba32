/**
 * From everything known of an SLMDeployment to everything to do about it. Pure: no I/O, timers, randomness or logging.
 * Owns the order of decisions; which revision is the goal and how it is come to is `strategy/`'s, where pods belong is
 * `tier-plan.ts`'s, sizes are the rollout planner's, words for status are `status.ts`'s.
 */
import { annotations, type SLMDeploymentStatus } from '@slm-operator/crds';
import { type KubeObject, type PatchIntent, type Plan, refTo } from '../execution/plan.ts';
import type { Expectation, Interest } from '../hardware/inventory.ts';
import { accessGate } from './access-gate.ts';
import { type ModelState, modelStateOf } from './model-state.ts';
import { isPerNode, modelNameOf, replicaSetName } from './names.ts';
import { numberOf, type Observed, type ReplicaSetObject, revisionOf, sizeOf } from './observed.ts';
import { planByNode } from './per-node.ts';
import { promotionEvents, sizeEvents, statusEvents } from './plan-events.ts';
import { choosePodsToGo } from './promotion.ts';
import { makeApiKeysSecret } from './resources/api-keys.ts';
import { makeBrokerConfig } from './resources/broker-config.ts';
import { makeDisruptionBudget } from './resources/disruption-budget.ts';
import { makeModel } from './resources/model.ts';
import { makeNetworkPolicy } from './resources/network-policy.ts';
import { makeService } from './resources/service.ts';
import { makeTierObjects, tierChildrenOf } from './resources/tier-objects.ts';
import { imageOf, type WantedRevision } from './revision.ts';
import { sum } from './rollout-draft.ts';
import { capacityOf, closedGate, goalsOf, goalsOfSets } from './rollout-goals.ts';
import { isAuto, planRollout, type RolloutInput, resolveBounds, type SizeIntent } from './rollout-planner.ts';
import { deploymentStatus } from './status.ts';
import { type Goal, goalOf } from './strategy/goal.ts';
import { approvedOf, carryingOf } from './strategy/goal-revision.ts';
import { rollbackEvents, rollbackOf } from './strategy/going-back.ts';
import { planStrategy } from './strategy/plan-strategy.ts';
import { crashOf, podsBut, revisionStates } from './strategy/revision-states.ts';
import type { LastRollback, RevisionState, StrategyPlan } from './strategy/types.ts';
import {
  expectationsOf,
  interestOf,
  type PlacementConfig,
  planTiers,
  type TierPlacement,
  tierRooms,
} from './tier-plan.ts';
import { mergePatches } from './traffic/patches.ts';
import { planTraffic } from './traffic/plan-traffic.ts';
import type { TrafficDecision, TrafficPlan, TrafficServices } from './traffic/types.ts';

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
export function planDeployment(observed: Observed, context: PlanContext): DeploymentPlan {
  return isPerNode(observed.deployment) ? planByNode(observed, context, planReplicas) : planReplicas(observed, context);
}

/** For as many pods as `spec.replicas` says. A revision that fails in it is taken back in it. */
function planReplicas(observed: Observed, context: PlanContext): DeploymentPlan {
  const model = modelStateOf(observed.deployment, observed.model, observed.sharing);
  const states = revisionStates(observed.replicaSets);
  const first = planFor({ observed, context, model, states, last: observed.deployment.status?.lastRollback });
  if (first.failed === undefined) return first.plan;
  return planFor({ observed, context, model, states, last: first.failed }).plan;
}

interface Situation {
  readonly observed: Observed;
  readonly context: PlanContext;
  readonly model: ModelState;
  readonly states: readonly RevisionState[];
  /** The revision that was taken back last. */
  readonly last: LastRollback | undefined;
}

/** `failed`: the goal is to be taken back, so that the plan is void. */
function planFor(situation: Situation): { readonly plan: DeploymentPlan; readonly failed: LastRollback | undefined } {
  const { observed, model, states, last } = situation;
  const { now, config } = situation.context;
  const { deployment, replicaSets } = observed;
  const { spec } = deployment;
  const replicas = spec.replicas ?? 1;
  const goal = goalOf(observed, model, states, last, config.serverImages);
  const { wanted } = goal;
  const placement = placementOf(situation, goal);
  const access = accessGate(observed);
  const goals = rolloutGoals(situation, goal, placement, replicas);
  const inLine = new Set(goals?.map(({ name }) => name));
  const update = replicaSets.filter((set) => inLine.has(set.metadata?.name ?? ''));
  const old = replicaSets.filter((set) => !update.includes(set));
  const bounds = resolveBounds(replicas, spec.strategy?.maxSurge, spec.strategy?.maxUnavailable);
  const tiers = placement === undefined ? undefined : tierRooms(placement, observed.pods);
  const strategy = strategyOf(situation, goal, placement, {
    replicas,
    surge: isAuto(spec.strategy?.maxSurge) ? undefined : bounds.maxSurge,
    maxUnavailable: bounds.maxUnavailable,
    capacity: capacityOf({ goals, tiers }),
    placeable: (goals ?? []).reduce((sum, { target }) => sum + target, 0),
  });
  const traffic = trafficOf(observed, strategy.decision);
  if (strategy.verdict !== undefined) {
    const failed = rollbackOf(deployment, goal.choice, strategy.verdict, states, now);
    if (failed !== undefined) return { plan: nothing, failed };
  }

  const input: RolloutInput = {
    replicas: isRefused(model) ? Math.min(replicas, sum(old.map((set) => set.spec?.replicas ?? 1))) : replicas,
    ...bounds,
    ...stageOf(strategy, goal),
    paused: spec.paused === true,
    historyLimit: spec.revisionHistoryLimit ?? DEFAULT_HISTORY_LIMIT,
    goals,
    old: old.map((set) => ({ ...sizeOf(set), ...(isShut(set, strategy, goal) ? { shut: true } : {}) })),
    ...(tiers === undefined ? {} : { tiers }),
    ...(strategy.recreate ? { recreate: { pods: podsBut(observed, goal.choice.revision ?? '') } } : {}),
    needed: new Set([goal.choice.asked, goal.choice.stable].filter((revision) => revision !== undefined)),
  };
  const rollout = planRollout(input);
  const left = new Set(old.map(({ metadata }) => metadata?.name ?? ''));
  const going = choosePodsToGo(observed, placement, rollout.sizes, left, now);
  const { sizes } = going;

  const status = deploymentStatus({
    observed,
    model,
    goal,
    wanted,
    strategy,
    lastRollback: last,
    placement,
    update,
    old,
    gate: closedGate(input, access, placement),
    deadlock: rollout.deadlock,
    bounds: { replicas, maxUnavailable: bounds.maxUnavailable, paused: input.paused },
    now,
  });
  if (status.exceeded !== undefined) {
    const failed = rollbackOf(deployment, goal.choice, status.exceeded, states, now);
    if (failed !== undefined) return { plan: nothing, failed };
  }

  const reviews = observed.broker.state === 'ready' ? observed.broker.access : undefined;
  const apply: KubeObject[] = [
    makeService(deployment, traffic.selector),
    makeNetworkPolicy(deployment, reviews, traffic.egressToPeers),
    ...traffic.apply,
  ];
  if (reviews !== undefined) apply.push(makeBrokerConfig(deployment, reviews));
  const inline = makeModel(deployment);
  if (inline !== undefined && (model.usable || model.reason !== 'ModelConflict')) apply.unshift(inline);
  if (replicas > 1) apply.push(makeDisruptionBudget(deployment));

  const number = numberFor(replicaSets, wanted);
  /** Server images of the ReplicaSets that are made. */
  const made = new Map<string, string>();
  for (const size of sizes) {
    if (wanted === undefined || goal.model === undefined) continue;
    if (replicaSets.some((set) => set.metadata?.name === size.name)) continue;
    const view = placement?.views.find(
      ({ tier }) => replicaSetName(deployment.metadata.name, wanted.revision, tier.name) === size.name,
    );
    if (view === undefined) continue;
    made.set(size.name, imageOf(wanted, view.tier.image) ?? wanted.image);
    const template = traffic.template(wanted.revision);
    apply.push(
      ...makeTierObjects({
        observed,
        model: goal.model,
        wanted,
        ...view,
        replicas: size.to,
        number,
        traffic: template,
        config,
      }),
    );
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

  const plan: DeploymentPlan = {
    create: observed.apiKeys.state === 'to-make' ? [makeApiKeysSecret(deployment, observed.apiKeys.keys)] : [],
    apply,
    // Pods get requests before others go, and a ReplicaSet is told both at once.
    patch: mergePatches(traffic.patch, going.patch, sizePatches(replicaSets, sizes, wanted, number)),
    remove: [...remove, ...traffic.remove],
    status: status.status,
    events: [
      ...sizes.flatMap((size) => sizeEvents(size, made, wanted, replicaSets, modelNameOf(deployment))),
      ...promotionEvents(sizes, going.promoted),
      ...status.events,
      ...rollbackEvents(deployment.status?.lastRollback, last),
      ...statusEvents(deployment.status, status.status),
    ],
    outcome: status.outcome,
    notes: [...(placement?.plan.notes ?? []), ...strategy.notes, ...rollout.notes],
    expected:
      placement === undefined
        ? undefined
        : { places: expectationsOf(placement), interest: interestOf(placement, deployment) },
    placeAgain: placement?.plan.requeueAfter,
  };
  return { plan, failed: undefined };
}

function placementOf({ observed, context }: Situation, { wanted, model, only }: Goal): TierPlacement | undefined {
  if (wanted === undefined || model === undefined) return undefined;
  const placement = planTiers({ observed, model, wanted, config: context.config, now: context.now, only });
  // Of an older revision no hardware that it had pods on is in the line any more: it stays where it is.
  return only !== undefined && placement.views.length === 0 ? undefined : placement;
}

/** Nodes give new pods no volume, so that there are none to be made; those that serve stay. */
function isRefused(model: ModelState): boolean {
  return !model.usable && model.reason === 'ModelNotAllowed';
}

function rolloutGoals(
  { observed, model }: Situation,
  { wanted, choice }: Goal,
  placement: TierPlacement | undefined,
  replicas: number,
) {
  if (wanted === undefined || isRefused(model)) return undefined;
  if (placement === undefined) return goalsOfSets(observed.replicaSets, wanted.revision, replicas);
  const goals = goalsOf(observed, wanted, placement, accessGate(observed));
  // What served before may come back while a node still pulls: its pods wait there, and others serve.
  const isBack = choice.revision !== choice.asked || choice.undo;
  if (!isBack || observed.deployment.spec.strategy?.type === 'Recreate') return goals;
  return goals.map((goal) => ({ ...goal, gate: { open: true } as const }));
}

function strategyOf(
  { observed, states, context }: Situation,
  { choice }: Goal,
  placement: TierPlacement | undefined,
  numbers: { replicas: number; surge: number | undefined; maxUnavailable: number; capacity: number; placeable: number },
): StrategyPlan {
  const { deployment } = observed;
  const { spec, status } = deployment;
  const { revision = status?.rollout?.revision ?? '', kind, undo, stable } = choice;
  return planStrategy({
    ...numbers,
    strategy: spec.strategy,
    // Nobody knows the goal: everything stays as it is.
    paused: spec.paused === true || choice.revision === undefined,
    goal: revision,
    kind,
    undo,
    stable,
    revisions: states,
    crash: crashOf(observed, revision, placement),
    previous: status?.rollout,
    carrying: carryingOf(deployment, states, revision),
    approved: approvedOf(deployment),
    smoke: observed.smoke,
    gates: observed.gates,
    effectOf: (decision) => trafficOf(observed, decision),
    now: context.now,
  });
}

/** What a decision over requests takes, and how far it is carried out. */
function trafficOf(
  { deployment, replicaSets, pods, beside = [], services = NO_SERVICES, reports }: Observed,
  decision: TrafficDecision,
): TrafficPlan {
  const all = beside.length === 0 ? pods : [...pods, ...beside];
  return planTraffic({ deployment, sets: replicaSets, pods: all, services, decision, reports });
}

const NO_SERVICES: TrafficServices = { main: undefined, candidate: undefined };

function stageOf({ stage }: StrategyPlan, { choice }: Goal): Partial<RolloutInput> {
  if (stage === undefined) return {};
  const { surge, ...rest } = stage;
  return { maxSurge: surge, stage: { ...rest, stable: choice.stable ?? '' } };
}

/** Its pods get no requests and never will: not those of what comes, nor of what serves. */
function isShut(set: ReplicaSetObject, { decision }: StrategyPlan, { choice }: Goal): boolean {
  const revision = revisionOf(set);
  return decision.closed.has(revision) && revision !== choice.revision && revision !== choice.stable;
}

/** Void: what failed is planned anew. */
const nothing: DeploymentPlan = {
  apply: [],
  remove: [],
  events: [],
  outcome: { outcome: 'done' },
  notes: [],
  expected: undefined,
  placeAgain: undefined,
};

function withoutVersion(object: Parameters<typeof refTo>[0]) {
  return { ...refTo(object), resourceVersion: undefined };
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
