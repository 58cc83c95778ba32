/**
 * What the Model controller does about one SLMModel: its status, its events, and whether to ask the source. Pure: time is an
 * argument, and nothing here talks to anybody.
 */
import { type ModelRevision, type Reason, type SLMModel, type SLMModelStatus } from '@slm-operator/crds';
import { formatBytes, shorten } from '../deployment/text.ts';
import { done, type Outcome, type Plan, stalled, waiting } from '../execution/plan.ts';
import { digestsAhead, factsOf, isListed } from '../nodecache/demand.ts';
import { type DesiredCondition, reconcileConditions, summaryConditions } from '../runtime/conditions.ts';
import { type CacheProgress, foldCaches, type PullTarget } from './cache-progress.ts';
import { eventsFor } from './events.ts';
import type { ObservedModel } from './observed.ts';
import { latestOf } from './parts.ts';
import { keepRevisions, makeRevision } from './revisions.ts';
import { stableJson } from './stable-json.ts';

/** A plan, and whether the source is to be asked. */
export interface ModelPlan extends Plan<SLMModelStatus> {
  /** Ask the source now; the answer comes with a later observation. */
  readonly resolve: boolean;
  /** Nothing but the users of revisions has changed, and that is not written yet. */
  readonly usersWait: boolean;
}

/** Progress alone is written this often, at most: watchers of the object are many, and eyes are slow. Milliseconds. */
export const PROGRESS_INTERVAL_MS = 2000;

/**
 * New users of a revision alone wait this long, for each of them, and at most: a hundred deployments that come one after the other
 * are a few writes. Milliseconds.
 */
const USERS_WAIT_MS = 2000;
const MAX_USERS_WAIT_MS = 60_000;

type Status = SLMModelStatus;

/** What is so about the source. */
interface Source {
  readonly condition: DesiredCondition;
  /** Only a person can help. */
  readonly stuck: boolean;
  readonly resolve: boolean;
  /** Milliseconds until the source is asked again. */
  readonly retryIn?: number;
}

export function planModel(observed: ObservedModel, { now }: { readonly now: number }): ModelPlan {
  const { model } = observed;
  const latest = latestRevision(observed, now);
  const source = judgeSource(observed, latest, now);
  const progress = latest === undefined ? undefined : progressOf(observed, latest);
  const status = makeStatus(observed, latest, source, progress, now);
  const plan = {
    apply: [],
    remove: [],
    resolve: source.resolve,
    usersWait: false,
    events: eventsFor(model, status),
    notes: [source.condition.message, ...(progress === undefined ? [] : [progress.message])],
  };
  const usersLeft = usersWait(observed, status, now);
  if (usersLeft !== undefined && usersLeft > 0) {
    const message = 'the users of a revision are written in a moment';
    const outcome = waiting('Progressing', message, Math.min(usersLeft, source.retryIn ?? usersLeft));
    return { ...plan, events: [], usersWait: true, outcome };
  }
  const sinceWrite = now - (observed.lastWrite ?? Number.NEGATIVE_INFINITY);
  if (sinceWrite >= 0 && sinceWrite < PROGRESS_INTERVAL_MS && significance(model.status) === significance(status)) {
    const wait = PROGRESS_INTERVAL_MS - sinceWrite;
    const message = 'the progress of a moment ago is written already';
    return { ...plan, events: [], outcome: waiting('Progressing', message, Math.min(wait, source.retryIn ?? wait)) };
  }
  return { ...plan, status, outcome: outcomeOf(status, source) };
}

/** Milliseconds until new users are written; undefined when something else has changed, or nothing. */
function usersWait({ model, usersSince }: ObservedModel, status: Status, now: number): number | undefined {
  const users = (of: Status | undefined) => stableJson((of?.revisions ?? []).map(({ usedBy }) => usedBy));
  if (users(model.status) === users(status)) return undefined;
  if (stableJson(withoutUsers(model.status)) !== stableJson(withoutUsers(status))) return undefined;
  const count = (status.revisions ?? []).reduce((sum, { usedBy }) => sum + (usedBy?.length ?? 0), 0);
  const wait = Math.min(MAX_USERS_WAIT_MS, USERS_WAIT_MS * Math.max(1, count));
  return wait - (now - (usersSince ?? now));
}

function withoutUsers(status: Status | undefined): unknown {
  return { ...status, revisions: status?.revisions?.map((revision) => ({ ...revision, usedBy: undefined })) };
}

/** The revision that deployments move to: from the source's answer, or as the status has it. */
function latestRevision({ model, resolution, sourceHash }: ObservedModel, now: number): ModelRevision | undefined {
  const known = latestOf(model.status);
  const result = resolution?.hash === sourceHash ? resolution.result : undefined;
  if (result === undefined || model.spec.suspend === true) return known;
  if (model.status?.resolvedSource === sourceHash && known !== undefined) return known;
  const revision = makeRevision(result, now);
  // The same bytes by another way: only the way is new.
  return known?.name === revision.name ? { ...revision, resolvedAt: known.resolvedAt } : revision;
}

function judgeSource(observed: ObservedModel, latest: ModelRevision | undefined, now: number): Source {
  const { model, sourceHash } = observed;
  const state = observed.resolution?.hash === sourceHash ? observed.resolution : undefined;
  const { uri } = model.spec.source;
  if (latest !== undefined && (model.status?.resolvedSource === sourceHash || state?.result !== undefined)) {
    return {
      condition: condition('Resolved', 'True', 'Resolved', resolvedText(uri, latest)),
      stuck: false,
      resolve: false,
    };
  }
  const serving = latest === undefined ? '' : `; revision ${latest.name} of before is served meanwhile`;
  if (model.spec.suspend === true) {
    const message = `spec.suspend is true: ${uri} is not asked${serving}`;
    return { condition: condition('Resolved', 'Unknown', 'Suspended', message), stuck: true, resolve: false };
  }
  if (state?.failure === undefined) {
    const message = `asking ${askedText(model.spec)}${serving}`;
    return {
      condition: condition('Resolved', 'Unknown', 'Resolving', message),
      stuck: false,
      resolve: state?.running !== true,
    };
  }
  const { reason, message, terminal } = state.failure;
  const due = now >= (state.retryAt ?? 0) || state.generation !== model.metadata.generation;
  return {
    condition: condition('Resolved', 'False', reason, `${message}${serving}`),
    stuck: terminal,
    resolve: due && !state.running,
    ...(state.running || due ? {} : { retryIn: Math.max(1, (state.retryAt ?? 0) - now) }),
  };
}

function resolvedText(uri: string, { name, sourceRevision, size, variants = [] }: ModelRevision): string {
  const commit = sourceRevision === undefined ? '' : `, commit ${sourceRevision.slice(0, 12)}`;
  const others = variants.map(
    (variant) => `${variant.name} for ${variant.accelerators.join(' and ')}, ${formatBytes(variant.size)}`,
  );
  const more = others.length === 0 ? '' : `; variants: ${others.join('; ')}`;
  return `${uri} is revision ${name}${commit}, ${formatBytes(size)}${more}`;
}

/** `hf://a/b and 2 variants`. */
function askedText({ source, variants = [] }: SLMModel['spec']): string {
  const { uri } = source;
  if (variants.length === 0) return uri;
  return `${uri} and ${variants.length === 1 ? `variant ${variants[0]?.name}` : `${variants.length} variants`}`;
}

interface Progress extends CacheProgress {
  readonly wantedText: string | undefined;
}

function progressOf(observed: ObservedModel, latest: ModelRevision): Progress {
  const { model, nodes, caches, deployments } = observed;
  const policy = model.spec.prePull?.policy ?? 'OnDemand';
  const following = deployments.filter(({ spec }) => (spec.modelRef?.revision ?? latest.name) === latest.name);
  const key = `${model.metadata.namespace}/${model.metadata.name}`;
  const sizes = new Map([latest, ...(latest.variants ?? [])].map(({ digest, size }) => [digest, size]));
  const demand = observed.demandOf(withLatest(observed, latest));
  const targets = nodes.flatMap((node): PullTarget[] => {
    if (node.deleted) return [];
    const facts = factsOf(caches.get(node.name));
    const ahead = new Set(digestsAhead(demand, node, facts));
    const pulls = [...sizes].filter(([digest]) => ahead.has(digest) || isListed(facts, key, digest));
    return pulls.length === 0 ? [] : [{ node, pulls: pulls.map(([digest, size]) => ({ digest, size })) }];
  });
  const folded = foldCaches(targets, caches);
  if (targets.length > 0) return { ...folded, wantedText: undefined };
  if (policy === 'Nodes' || (policy === 'OnDemand' && following.length > 0)) {
    const where = policy === 'Nodes' ? 'spec.prePull' : 'the deployments of this model';
    const message = `no node has the labels and tolerated taints that ${where} ask for; label a node, or change the selector`;
    return { ...folded, complete: false, reason: 'NoMatchingNodes', message, wantedText: message };
  }
  const why =
    policy === 'None'
      ? 'spec.prePull.policy is None, so a node pulls it when the first pod mounts it'
      : deployments.length > 0
        ? 'every deployment pins another revision, so no node pulls it ahead'
        : 'no deployment uses it yet, so no node pulls it ahead';
  return { ...folded, reason: 'NotWanted', message: why, wantedText: why };
}

/** The model as if the revision were written already: each node's share is computed from what the status says. */
function withLatest({ model, resolution, sourceHash }: ObservedModel, latest: ModelRevision): SLMModel {
  const { name, digest, size, resolvedAt } = latest;
  const { metadata, estimate } = (resolution?.hash === sourceHash ? resolution.result : undefined) ?? {};
  const status = {
    ...model.status,
    ...(metadata === undefined ? {} : { metadata }),
    ...(estimate === undefined ? {} : { estimate }),
    latestRevision: { name, digest, size, resolvedAt },
    revisions: [latest],
  };
  return { ...model, status };
}

function makeStatus(
  observed: ObservedModel,
  latest: ModelRevision | undefined,
  source: Source,
  progress: Progress | undefined,
  now: number,
): Status {
  const { model, resolution, sourceHash } = observed;
  const previous = model.status;
  const observedGeneration = model.metadata.generation ?? 0;
  const context = { now, observedGeneration };
  const result = resolution?.hash === sourceHash && model.spec.suspend !== true ? resolution.result : undefined;
  const isNew = result !== undefined && previous?.resolvedSource !== sourceHash;
  const metadata = isNew ? result.metadata : previous?.metadata;
  const estimate = isNew ? result.estimate : previous?.estimate;
  const resolvedSource = isNew ? sourceHash : previous?.resolvedSource;
  const desired = [
    ...summarize(observed, latest, source, progress),
    source.condition,
    ...(latest === undefined || progress === undefined
      ? verifiedOfSource(source)
      : [verified(source, progress), cached(progress)]),
  ];
  return {
    observedGeneration,
    conditions: reconcileConditions(previous?.conditions, desired, context) as NonNullable<Status['conditions']>,
    ...(resolvedSource === undefined ? {} : { resolvedSource }),
    ...(latest === undefined
      ? {}
      : {
          latestRevision: shortRevision(latest),
          revisions: keepRevisions({
            latest,
            previous,
            namespace: model.metadata.namespace,
            uses: observed.uses,
            past: observed.past,
            deployments: observed.deployments,
          }),
        }),
    ...(metadata === undefined ? {} : { metadata }),
    ...(estimate === undefined ? {} : { estimate }),
    ...(progress === undefined ? {} : { cache: progress.cache }),
    ...(progress === undefined || progress.failures.length === 0 ? {} : { failures: [...progress.failures] }),
  };
}

function shortRevision({
  name,
  digest,
  sourceRevision,
  size,
  resolvedAt,
}: ModelRevision): NonNullable<Status['latestRevision']> {
  return { name, digest, ...(sourceRevision === undefined ? {} : { sourceRevision }), size, resolvedAt };
}

/** Ready, with Reconciling or Stalled: the first thing that is not as asked for. */
function summarize(
  { model }: ObservedModel,
  latest: ModelRevision | undefined,
  source: Source,
  progress: Progress | undefined,
): DesiredCondition[] {
  const { condition: resolved } = source;
  const reason = resolved.reason as Reason;
  if (resolved.status !== 'True') return summaryOf(source.stuck ? 'stalled' : 'reconciling', reason, resolved.message);
  if (latest === undefined || progress === undefined) return summaryOf('reconciling', 'Resolving', resolved.message);
  if (progress.complete) return summaryOf('ready', 'Ready', `revision ${latest.name}: ${progress.message}`);
  if (model.spec.suspend === true) {
    return summaryOf('stalled', 'Suspended', `spec.suspend is true, nothing is pulled; ${progress.message}`);
  }
  return summaryOf(
    progress.stuck ? 'stalled' : 'reconciling',
    progress.reason,
    `revision ${latest.name}: ${progress.message}`,
  );
}

function summaryOf(state: 'ready' | 'reconciling' | 'stalled', reason: Reason, message: string): DesiredCondition[] {
  return summaryConditions({ state, reason, message: shorten(message, 4096) });
}

/** A source that says itself that its bytes are others than asked for. */
function verifiedOfSource({ condition: resolved }: Source): DesiredCondition[] {
  return resolved.reason === 'DigestMismatch'
    ? [condition('Verified', 'False', 'DigestMismatch', resolved.message)]
    : [];
}

function verified(source: Source, { cache, failures }: Progress): DesiredCondition {
  const [own] = verifiedOfSource(source);
  if (own !== undefined) return own;
  if (cache.readyNodes > 0)
    return condition('Verified', 'True', 'Verified', 'the bytes have the digest of the revision');
  const wrong = failures.filter(({ reason }) => reason === 'DigestMismatch');
  const [first] = wrong;
  if (first !== undefined && wrong.length === cache.desiredNodes) {
    return condition('Verified', 'False', 'DigestMismatch', first.message);
  }
  return condition('Verified', 'Unknown', 'Verifying', 'no node has all bytes yet');
}

function cached({ complete, reason, message, wantedText }: Progress): DesiredCondition {
  if (complete && wantedText === undefined) return condition('Cached', 'True', 'Cached', message);
  return condition('Cached', 'False', reason, message);
}

function condition(
  type: string,
  status: DesiredCondition['status'],
  reason: Reason,
  message: string,
): DesiredCondition {
  return { type, status, reason, message: shorten(message, 4096) };
}

function outcomeOf(status: Status, source: Source): Outcome {
  const ready = status.conditions?.find(({ type }) => type === 'Ready');
  if (ready === undefined || ready.status === 'True') return done;
  if (source.retryIn !== undefined) return waiting(ready.reason, ready.message, source.retryIn);
  const isStalled = status.conditions?.some(({ type }) => type === 'Stalled') ?? false;
  return isStalled ? stalled(ready.reason, ready.message) : waiting(ready.reason, ready.message);
}

/** All of a status but how far a pull is: two of the same significance differ in progress alone. */
function significance(status: Status | undefined): string {
  const { conditions, cache, failures, ...rest } = status ?? {};
  return stableJson([
    rest,
    conditions?.map(({ type, status: value, reason, observedGeneration }) => [type, value, reason, observedGeneration]),
    cache === undefined ? undefined : [cache.desiredNodes, cache.readyNodes, cache.downloadingNodes, cache.failedNodes],
    failures?.map(({ node, reason }) => [node, reason]),
  ]);
}
