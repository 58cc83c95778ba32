/**
 * The status of an SLMDeployment: what is, what it waits for and why, in sentences. Pure; the only place that puts together
 * `status`.
 */
import {
  type BlockedBy,
  type Condition,
  ports,
  type Reason,
  type SLMDeploymentStatus,
  type SLMModel,
} from '@slm-operator/crds';
import { done, type EventIntent, type Outcome, stalled, waiting } from '../execution/plan.ts';
import type { Refusal } from '../execution/refusal.ts';
import { type DesiredCondition, reconcileConditions, summaryConditions, toRfc3339 } from '../runtime/conditions.ts';
import { causesOf } from './causes.ts';
import { type DeploymentGate, isAccessReason } from './gate.ts';
import { hardwareStatus } from './hardware-status.ts';
import type { ModelState } from './model-state.ts';
import { apiKeySecretName, modelTextOf, podSelectorText, servedNamesOf, serviceName, tlsSecretName } from './names.ts';
import { hasPods, type Observed, type ReplicaSetObject, tierOf } from './observed.ts';
import { isReady } from './pod-causes.ts';
import { judgeProgress } from './progress.ts';
import { awayFrom, type Counts, countsOf } from './replica-counts.ts';
import type { WantedRevision } from './revision.ts';
import { goalLine, rolledBackCondition } from './rollout-lines.ts';
import type { Goal } from './strategy/goal.ts';
import type { LastRollback, StrategyPlan, Verdict } from './strategy/types.ts';
import { formatDuration, shorten } from './text.ts';
import type { TierPlacement } from './tier-plan.ts';

/** Bounds of the schema. */
const MAX_STATUS_TEXT = 256;
const MAX_MESSAGE = 1024;

/** How often missing keys and certificates are looked for: Secrets are not watched, so that the operator needs no right to list them. */
const KEYS_RETRY_MS = 10_000;

export interface StatusInput {
  readonly observed: Observed;
  readonly model: ModelState;
  readonly goal: Goal;
  /** The revision that the deployment is brought to. */
  readonly wanted: WantedRevision | undefined;
  readonly strategy: StrategyPlan;
  /** The revision that was taken back last. */
  readonly lastRollback: LastRollback | undefined;
  /** Where its pods belong; undefined while nobody knows which revision is wanted. */
  readonly placement: TierPlacement | undefined;
  /** ReplicaSets of that revision on hardware that its pods belong on. */
  readonly update: readonly ReplicaSetObject[];
  readonly old: readonly ReplicaSetObject[];
  /** Closed only when it holds something back. */
  readonly gate: DeploymentGate;
  /** Why the rollout cannot go on within its own bounds. */
  readonly deadlock: string | undefined;
  readonly bounds: { readonly replicas: number; readonly maxUnavailable: number; readonly paused: boolean };
  readonly now: number;
}

export interface StatusResult {
  readonly status: SLMDeploymentStatus;
  readonly outcome: Outcome;
  /** Of hardware. */
  readonly events: readonly EventIntent[];
  /** All pods are there, serve, and have the wanted revision. */
  readonly complete: boolean;
  /** Nothing moved for so long that the rollout has failed. */
  readonly exceeded: Verdict | undefined;
}

type Block = { readonly reason: Reason; readonly message: string };

/** Status and outcome for what was observed. */
export function deploymentStatus(input: StatusInput): StatusResult {
  const { observed, model, goal, wanted, strategy, placement, update, old, bounds, now } = input;
  const { deployment } = observed;
  const { metadata, spec } = deployment;
  const previous = deployment.status;
  const counts = countsOf(update, old, strategy);
  const { replicas } = bounds;
  const countsAway = awayFrom(goal, [...update, ...old]);

  const arrived =
    wanted !== undefined &&
    !old.some(hasPods) &&
    counts.updatedReplicas === replicas &&
    counts.availableReplicas >= replicas &&
    areInPlace(update, placement, replicas) &&
    strategy.settled;
  const said = goalLine({ ...input, arrived });
  const complete = arrived && said === undefined && !(model.usable && model.settling);
  const hardware = hardwareStatus(observed, placement);

  const blocks = complete ? [] : blocksOf(input, counts, said);
  const isBlind = goal.choice.revision === goal.choice.asked && !model.usable;
  const held =
    said?.phase ??
    (isBlind || !input.gate.open ? 'WaitingForModel' : waitsForDevices(input) ? 'WaitingForDevice' : undefined);
  const progress = judgeProgress({
    previous,
    counts: { ...counts, updatedReplicas: countsAway?.pods ?? counts.updatedReplicas },
    away: countsAway !== undefined,
    updateRevision: goal.choice.asked,
    generation: metadata.generation ?? 0,
    complete,
    held,
    paused: bounds.paused,
    timed: strategy.fields.stepStartedAt !== undefined,
    bytesMoving: blocks.some((block) => block.reason === 'MountPending') && isDownloading(observed),
    deadlineSeconds: spec.strategy?.progressDeadlineSeconds ?? 600,
    now,
  });
  let exceeded: Verdict | undefined;
  if (progress.phase === 'Stalled' && said?.phase !== 'Stalled') {
    const [first] = blocks;
    const after = formatDuration(spec.strategy?.progressDeadlineSeconds ?? 600);
    const message = `no progress for ${after}${first === undefined ? '' : `: ${first.message}`}`;
    exceeded = { reason: 'ProgressDeadlineExceeded', message };
    blocks.unshift(exceeded);
  }

  const line = complete
    ? { reason: (replicas === 0 ? 'ScaledToZero' : 'Ready') as Reason, message: readyMessage(input, counts) }
    : (blocks[0] ?? { reason: 'Progressing' as Reason, message: 'the ReplicaSets are being brought to size' });
  const blocked = blocks.filter((block) => block.reason !== 'Progressing');
  const isStalled = progress.phase === 'Stalled' || (!model.usable && model.stalled && isBlind);

  const conditions: DesiredCondition[] = [
    ...summaryConditions({
      state: complete ? 'ready' : isStalled ? 'stalled' : 'reconciling',
      reason: line.reason,
      message: line.message,
    }),
    availableCondition(counts.servingReplicas, bounds, line.message),
    ...rolledBackCondition(input, arrived),
    modelCondition(input),
    ...scheduledCondition(observed, blocks),
    ...(hardware.condition === undefined ? [] : [hardware.condition]),
  ];
  const keys = apiKeySecretName(deployment);
  const host = `${serviceName(metadata.name)}.${metadata.namespace}.svc`;
  const scheme = tlsSecretName(deployment) === undefined ? 'http' : 'https';
  const settled = arrived && !(model.usable && model.settling);
  const currentRevision = settled && replicas > 0 ? wanted?.revision : previous?.currentRevision;
  const { servingReplicas: _, ...numbers } = counts;
  const asked = goal.choice.asked ?? previous?.updateRevision;

  const status: SLMDeploymentStatus = {
    observedGeneration: metadata.generation ?? 0,
    conditions: reconcileConditions(previous?.conditions, conditions, {
      now,
      observedGeneration: metadata.generation,
    }) as Condition[],
    ...numbers,
    ...(countsAway === undefined ? {} : { updatedReplicas: countsAway.pods }),
    selector: podSelectorText(metadata.name),
    modelName: modelTextOf(deployment),
    ...(currentRevision === undefined ? {} : { currentRevision }),
    ...(asked === undefined ? {} : { updateRevision: asked }),
    readyText: `${counts.readyReplicas}/${replicas}`,
    statusText: shorten(complete ? servingText(input) : line.message, MAX_STATUS_TEXT),
    ...(blocked.length === 0 ? {} : { blockedBy: withSince(blocked, previous, now) }),
    ...(hardware.status === undefined ? {} : { hardware: hardware.status }),
    endpoints: {
      ollama: `${scheme}://${host}:${ports.ollama}`,
      openai: `${scheme}://${host}:${ports.openai}/v1`,
    },
    ...(keys === undefined ? {} : { apiKeySecret: keys }),
    rollout: {
      phase: progress.phase,
      message: shorten(line.message, MAX_MESSAGE),
      ...(progress.lastProgressTime === undefined ? {} : { lastProgressTime: progress.lastProgressTime }),
      ...(complete ? {} : strategy.fields),
    },
    ...(input.lastRollback === undefined ? {} : { lastRollback: input.lastRollback }),
  };
  const again = earliest(progress.requeueAfter, complete ? undefined : strategy.requeueAfter);
  const outcome = outcomeOf(complete, isStalled, line, observed, again);
  return { status, outcome, events: hardware.events, complete, exceeded };
}

/**
 * The status when the API server refuses something that is needed: the one that was planned, with the refusal first. Pods
 * that serve go on serving, so only Ready speaks of it.
 */
export function refusedStatus(
  planned: SLMDeploymentStatus,
  previous: SLMDeploymentStatus | undefined,
  refusal: Refusal,
  now: number,
): SLMDeploymentStatus {
  const rest = (planned.conditions ?? []).filter(({ type }) => !['Ready', 'Reconciling', 'Stalled'].includes(type));
  const summary = summaryConditions({ state: 'reconciling', reason: refusal.reason, message: refusal.message });
  const blocks = [refusal, ...(planned.blockedBy ?? []).filter((block) => block.reason !== refusal.reason)];
  return {
    ...planned,
    conditions: reconcileConditions(previous?.conditions, [...summary, ...rest], {
      now,
      observedGeneration: planned.observedGeneration,
    }) as Condition[],
    statusText: shorten(refusal.message, MAX_STATUS_TEXT),
    blockedBy: withSince(blocks as Block[], previous, now),
  };
}

function earliest(...times: readonly (number | undefined)[]): number | undefined {
  const known = times.filter((time) => time !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

/** Every ReplicaSet has the size that belongs there, and no pod waits for a place. */
function areInPlace(
  update: readonly ReplicaSetObject[],
  placement: TierPlacement | undefined,
  replicas: number,
): boolean {
  const sized = update.reduce((sum, set) => sum + (set.spec?.replicas ?? 1), 0);
  // Of a revision that nobody can place any more only the number is known.
  if (placement === undefined) return sized === replicas;
  return (
    sized === replicas &&
    update.every((set) => set.spec?.replicas === (placement.plan.targets.get(tierOf(set)) ?? 0)) &&
    (placement.plan.waiting === 0 || replicas === 0)
  );
}

/**
 * Nothing is missing but devices, and that is not for ever: time that is not the rollout's, because `fallbackAfter` or a device
 * that comes free ends it.
 */
function waitsForDevices({ placement, update, bounds }: StatusInput): boolean {
  if (placement === undefined) return false;
  const { waiting, requeueAfter } = placement.plan;
  if (waiting === 0 && requeueAfter === undefined) return false;
  const stuck = placement.views.reduce((sum, { trouble }) => sum + (trouble?.pods ?? 0), 0);
  const serving = update.reduce((sum, set) => sum + (set.status?.availableReplicas ?? 0), 0);
  return waiting + stuck > 0 && serving + waiting + stuck >= bounds.replicas;
}

/** Everything that is waited for, the most telling first, each reason once. */
function blocksOf(input: StatusInput, counts: Counts, said: Block | undefined): Block[] {
  const { observed, model, wanted, placement, update, old, gate, bounds } = input;
  const { replicas } = bounds;
  const blocks: Block[] = said === undefined ? [] : [{ reason: said.reason, message: said.message }];
  if (!model.usable) blocks.push({ reason: model.reason, message: model.message });
  if (!gate.open) blocks.push({ reason: gate.reason, message: gate.why });
  // What the spec asks for and cannot get comes before what is waited for.
  blocks.push(...(placement?.problems ?? []).map(({ reason, message }) => ({ reason, message })));
  blocks.push(...(placement?.plan.blocked ?? []));
  blocks.push(...causesOf(observed, update, old));
  if (input.deadlock !== undefined) blocks.push({ reason: 'RollingUpdate', message: input.deadlock });
  if (bounds.paused && wanted !== undefined) {
    const where = `${counts.updatedReplicas} of ${replicas} pods have revision ${wanted.revision}`;
    blocks.push({ reason: 'Paused', message: `spec.paused is true: ${where}; set it to false to go on` });
  }
  if (model.usable && model.settling) {
    blocks.push({
      reason: 'ModelNotReady',
      message: `model ${model.model.metadata.name}: its changed source is being resolved`,
    });
  }
  if (model.usable && gate.open && !bounds.paused && wanted !== undefined) {
    const oldPods = counts.replicas - counts.updatedReplicas;
    const ready = `${counts.availableReplicas} of ${replicas} pods serve`;
    const message =
      oldPods > 0
        ? `moving to revision ${wanted.revision}: ${counts.updatedReplicas} of ${replicas} pods have it, ${ready}`
        : counts.replicas > replicas
          ? `pods are going: ${counts.replicas} are left, ${replicas} asked for`
          : placement?.plan.waiting
            ? `pods wait for a place: ${ready}`
            : `pods are starting: ${ready}`;
    blocks.push({ reason: oldPods > 0 ? 'RollingUpdate' : 'WaitingForPods', message });
  }
  const seen = new Set<string>();
  return blocks
    .filter((block) => !seen.has(block.reason) && seen.add(block.reason))
    .map((block) => ({ reason: block.reason, message: shorten(block.message, MAX_MESSAGE) }));
}

function withSince(blocks: readonly Block[], previous: SLMDeploymentStatus | undefined, now: number): BlockedBy[] {
  return blocks.slice(0, 16).map((block) => ({
    reason: block.reason,
    message: shorten(block.message, MAX_MESSAGE),
    since: previous?.blockedBy?.find((known) => known.reason === block.reason)?.since ?? toRfc3339(now),
  }));
}

function readyMessage({ wanted, bounds }: StatusInput, counts: Counts): string {
  if (bounds.replicas === 0) return 'replicas is 0: nothing runs, as asked';
  return `${counts.availableReplicas} of ${bounds.replicas} pods serve revision ${wanted?.revision}`;
}

function servingText({ observed, bounds }: StatusInput): string {
  if (bounds.replicas === 0) return 'scaled to zero';
  return `serving ${servedNamesOf(observed.deployment)[0]}`;
}

function availableCondition(
  available: number,
  { replicas, maxUnavailable }: StatusInput['bounds'],
  why: string,
): DesiredCondition {
  if (replicas === 0) {
    return {
      type: 'Available',
      status: 'True',
      reason: 'ScaledToZero',
      message: 'replicas is 0: nothing runs, as asked',
    };
  }
  // maxUnavailable may be all of them; a deployment that serves nobody is still not available.
  const enough = Math.max(1, replicas - maxUnavailable);
  const said = `${available} of ${replicas} pods serve`;
  return available >= enough
    ? { type: 'Available', status: 'True', reason: 'Available', message: said }
    : {
        type: 'Available',
        status: 'False',
        reason: 'Unavailable',
        message: why.includes(said) ? why : `${said}: ${why}`,
      };
}

function modelCondition({ model, gate }: StatusInput): DesiredCondition {
  if (!model.usable) return { type: 'ModelReady', status: 'False', reason: model.reason, message: model.message };
  if (!gate.open && !isAccessReason(gate.reason)) {
    return { type: 'ModelReady', status: 'False', reason: gate.reason, message: gate.why };
  }
  const message = `model ${nameOf(model.model)} revision ${model.revision.name} may be served`;
  return { type: 'ModelReady', status: 'True', reason: 'Ready', message };
}

function nameOf(model: SLMModel): string {
  return model.metadata.name;
}

/** Absent while there are no pods to speak of. */
function scheduledCondition({ pods }: Observed, blocks: readonly Block[]): DesiredCondition[] {
  const unschedulable = blocks.find((block) => block.reason === 'Unschedulable');
  if (unschedulable !== undefined) {
    return [{ type: 'Scheduled', status: 'False', reason: unschedulable.reason, message: unschedulable.message }];
  }
  const placed = pods.filter((pod) => pod.spec?.nodeName !== undefined || isReady(pod));
  if (placed.length === 0 || placed.length < pods.length) return [];
  return [{ type: 'Scheduled', status: 'True', reason: 'Scheduled', message: 'every pod has a node' }];
}

/** True when a node that has a pod of this deployment still pulls something. */
function isDownloading({ pods, caches }: Observed): boolean {
  return pods.some((pod) =>
    caches
      .get(pod.spec?.nodeName ?? '')
      ?.status?.entries?.some((entry) => ['Queued', 'Downloading', 'Verifying'].includes(entry.state)),
  );
}

function outcomeOf(
  complete: boolean,
  isStalled: boolean,
  line: Block,
  observed: Observed,
  requeueAfter: number | undefined,
): Outcome {
  const lacking =
    observed.apiKeys.state === 'missing' ||
    observed.tls.state === 'missing' ||
    observed.tls.state === 'unusable' ||
    observed.broker.state === 'missing';
  const again = lacking ? KEYS_RETRY_MS : requeueAfter;
  if (complete) return done;
  // A missing Secret is found only by looking again, so not even a stalled rollout may rest.
  if (isStalled && !lacking) return stalled(line.reason, line.message);
  return waiting(line.reason, line.message, again);
}
