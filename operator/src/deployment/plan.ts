/**
 * From everything known of an SLMDeployment to everything to do about it. Pure: no I/O, timers, randomness or logging.
 * Owns the order of decisions; sizes are the rollout planner's, words for status are `status.ts`'s.
 */
import { annotations, modelDefaultsOf, type Reason, type SLMDeploymentStatus } from '@slm-operator/crds';
import { type EventIntent, type KubeObject, type PatchIntent, type Plan, refTo } from '../execution/plan.ts';
import { type DeploymentGate, gateOf } from './gate.ts';
import { estimateMemory, resolveEngine, resourcesFor } from './memory.ts';
import { type ModelState, modelStateOf } from './model-state.ts';
import { apiKeySecretName, CPU_TIER, modelNameOf, replicaSetName, tlsSecretName } from './names.ts';
import { knownRevision, numberOf, type Observed, type ReplicaSetObject, revisionOf, sizeOf } from './observed.ts';
import { makeApiKeysSecret } from './resources/api-keys.ts';
import { makeBrokerConfig } from './resources/broker-config.ts';
import { makeDisruptionBudget } from './resources/disruption-budget.ts';
import { makeModel } from './resources/model.ts';
import { makeNetworkPolicy } from './resources/network-policy.ts';
import { makeReplicaSet } from './resources/replica-set.ts';
import { makeService } from './resources/service.ts';
import { BASE_IMAGE, type WantedRevision, wantedRevision } from './revision.ts';
import { isGated, planRollout, type RolloutInput, resolveBounds } from './rollout-planner.ts';
import { deploymentStatus } from './status.ts';

/** Operator configuration that a plan depends on. */
export interface DeploymentConfig {
  /** Server image of new revisions. */
  readonly serverImage: string;
  readonly serverImagePullPolicy: 'IfNotPresent' | 'Always' | 'Never';
}

export interface PlanContext {
  /** Wall clock, milliseconds since 1970. */
  readonly now: number;
  readonly config: DeploymentConfig;
}

/** Old ReplicaSets that are kept when the spec says nothing. */
const DEFAULT_HISTORY_LIMIT = 3;

/** The plan for one SLMDeployment. */
export function planDeployment(observed: Observed, context: PlanContext): Plan<SLMDeploymentStatus> {
  const { deployment } = observed;
  const { spec } = deployment;
  const replicas = spec.replicas ?? 1;
  const model = modelStateOf(deployment, observed.model);
  const wanted = model.usable
    ? wantedRevision({
        deployment,
        model: model.revision,
        known: observed.replicaSets.map(knownRevision),
        images: { [BASE_IMAGE]: context.config.serverImage },
        defaults: modelDefaultsOf(model.model.spec),
      })
    : undefined;
  const update = wanted && observed.replicaSets.find((set) => revisionOf(set) === wanted.revision);
  const old = observed.replicaSets.filter((set) => set !== update);
  const gate = gateFor(observed, model);

  const input: RolloutInput = {
    replicas,
    ...resolveBounds(replicas, spec.strategy?.maxSurge, spec.strategy?.maxUnavailable),
    paused: spec.paused === true,
    historyLimit: spec.revisionHistoryLimit ?? DEFAULT_HISTORY_LIMIT,
    goals: wanted && [
      {
        name: replicaSetName(deployment.metadata.name, wanted.revision),
        target: replicas,
        exists: update && sizeOf(update),
        gate: gate.open ? gate : { open: false, why: gate.why },
      },
    ],
    old: old.map(sizeOf),
  };
  const rollout = planRollout(input);

  const status = deploymentStatus({
    observed,
    model,
    wanted,
    update,
    old,
    gate: isGated(input) ? gate : { open: true },
    bounds: input,
    now: context.now,
  });

  const access = observed.broker.state === 'ready' ? observed.broker.access : undefined;
  const apply: KubeObject[] = [makeService(deployment), makeNetworkPolicy(deployment, access)];
  if (access !== undefined) apply.push(makeBrokerConfig(deployment, access));
  const inline = makeModel(deployment);
  if (inline !== undefined && (model.usable || model.reason !== 'ModelConflict')) apply.unshift(inline);
  if (replicas > 1) apply.push(makeDisruptionBudget(deployment));

  const number = Math.max(0, ...observed.replicaSets.map(numberOf)) + 1;
  const first = rollout.sizes.find((size) => size.name === input.goals?.[0]?.name && update === undefined);
  if (first !== undefined && wanted !== undefined && model.usable) {
    apply.push(makeRevision(observed, model, wanted, { replicas: first.to, number }, context.config));
  }

  const remove = rollout.remove.flatMap((name) => {
    const set = old.find((candidate) => candidate.metadata?.name === name);
    // Only as seen: one that got a size or pods meanwhile is not history.
    return set === undefined ? [] : [{ ...refTo(set), resourceVersion: set.metadata?.resourceVersion }];
  });
  if (replicas <= 1 && observed.disruptionBudget !== undefined) remove.push(withoutVersion(observed.disruptionBudget));
  if (observed.leftoverModel !== undefined && status.complete) remove.push(withoutVersion(observed.leftoverModel));

  return {
    create: observed.apiKeys.state === 'to-make' ? [makeApiKeysSecret(deployment, observed.apiKeys.keys)] : [],
    apply,
    patch: sizePatches(observed, rollout.sizes, update, number),
    remove,
    status: status.status,
    events: [
      ...rollout.sizes.flatMap((size) => sizeEvents(size, first?.name, wanted, modelNameOf(deployment))),
      ...statusEvents(deployment.status, status.status),
    ],
    outcome: status.outcome,
    notes: rollout.notes,
  };
}

function withoutVersion(object: Parameters<typeof refTo>[0]) {
  return { ...refTo(object), resourceVersion: undefined };
}

/** Whether the newest revision may have pods: its bytes are there, and the keys that its pods mount. */
function gateFor(observed: Observed, model: ModelState): DeploymentGate {
  const { deployment, nodes, caches, apiKeys, tls, broker } = observed;
  if (apiKeys.state === 'missing') {
    return {
      open: false,
      reason: 'APIKeySecretNotFound',
      why: `there is no Secret ${apiKeySecretName(deployment)} in namespace ${deployment.metadata.namespace}; create it with one API key a value, or leave out spec.auth.secretRef`,
    };
  }
  if (tls.state === 'missing' || tls.state === 'unusable') {
    const where = `Secret ${tlsSecretName(deployment)} in namespace ${deployment.metadata.namespace}`;
    const why =
      tls.state === 'missing'
        ? `there is no ${where}; create it with kubectl create secret tls, or leave out spec.tls`
        : `${where} lacks ${tls.lacks.join(' and ')}: it must be of type kubernetes.io/tls`;
    return { open: false, reason: 'TLSSecretNotFound', why };
  }
  if (broker.state === 'missing') {
    return { open: false, reason: 'BrokerNotReady', why: `tokens cannot be reviewed yet: ${broker.why}` };
  }
  if (!model.usable) return { open: true };
  return gateOf({ deployment, model: model.model, digest: model.revision.digest, nodes, caches });
}

function makeRevision(
  { deployment }: Observed,
  { model, revision }: Extract<ModelState, { usable: true }>,
  wanted: WantedRevision,
  { replicas, number }: { replicas: number; number: number },
  config: DeploymentConfig,
): KubeObject {
  const engine = resolveEngine(deployment.spec.engine, model.status ?? {});
  const memory = estimateMemory(revision.size, model.status ?? {}, engine, deployment.spec);
  return makeReplicaSet({
    deployment,
    wanted,
    hardware: { tier: CPU_TIER, device: 'cpu' },
    image: wanted.image,
    number,
    replicas,
    model: revision,
    defaults: modelDefaultsOf(model.spec),
    engine,
    promptCacheBytes: memory.promptCache,
    resources: resourcesFor(deployment.spec.resources, memory),
    imagePullPolicy: config.serverImagePullPolicy,
  });
}

/**
 * One patch for each ReplicaSet that changes, and only of the ReplicaSet as it was seen: sizes computed from an older one
 * would break the bounds. A revision that becomes the goal again gets a new number, so that it counts as the newest.
 */
function sizePatches(
  observed: Observed,
  sizes: readonly { readonly name: string; readonly to: number }[],
  update: ReplicaSetObject | undefined,
  next: number,
): PatchIntent[] {
  return observed.replicaSets.flatMap((set) => {
    const size = sizes.find((candidate) => candidate.name === set.metadata?.name);
    const renumber = set === update && numberOf(set) < next - 1;
    if (size === undefined && !renumber) return [];
    return {
      target: { ...refTo(set), resourceVersion: set.metadata?.resourceVersion },
      patch: {
        ...(renumber ? { metadata: { annotations: { [annotations.revisionNumber]: String(next) } } } : {}),
        ...(size === undefined ? {} : { spec: { replicas: size.to } }),
      },
    };
  });
}

function sizeEvents(
  size: { readonly name: string; readonly from: number; readonly to: number; readonly why: string },
  made: string | undefined,
  wanted: WantedRevision | undefined,
  model: string,
): EventIntent[] {
  const ifWritten = { kind: 'ReplicaSet', name: size.name };
  const scaled: EventIntent = {
    ifWritten,
    reason: 'ScalingReplicaSet',
    action: 'Scale',
    note: `scaled ${size.name} from ${size.from} to ${size.to}: ${size.why}`,
  };
  if (size.name !== made) return [scaled];
  const note = `made ReplicaSet ${size.name} for revision ${wanted?.revision} of model ${model}, image ${wanted?.image}`;
  return [{ ifWritten, reason: 'RevisionCreated', action: 'Create', note }, scaled];
}

/** Waits that are part of every start and every rollout; what a model lacks is told by events of the model. */
const ordinary: ReadonlySet<string> = new Set<Reason>([
  'ModelNotReady',
  'WaitingForBytes',
  'WaitingForPods',
  'MountPending',
  'RollingUpdate',
  'Paused',
]);

/** What is worth telling once: new trouble, and the end of a rollout. */
function statusEvents(before: SLMDeploymentStatus | undefined, after: SLMDeploymentStatus): EventIntent[] {
  const known = new Set(before?.blockedBy?.map((block) => block.reason));
  const events: EventIntent[] = (after.blockedBy ?? [])
    .filter((block) => !ordinary.has(block.reason) && !known.has(block.reason))
    .map((block) => ({ type: 'Warning', reason: block.reason as Reason, note: block.message }));
  if (after.currentRevision !== undefined && before?.currentRevision !== after.currentRevision) {
    events.push({ reason: 'RolloutComplete', note: `all pods run revision ${after.currentRevision}` });
  }
  return events;
}
