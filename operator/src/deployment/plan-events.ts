/** What a plan tells as events: sizes, new revisions, pods on better hardware, trouble, ends of rollouts. Pure. */
import type { Reason, SLMDeploymentStatus } from '@slm-operator/crds';
import type { EventIntent } from '../execution/plan.ts';
import { type ReplicaSetObject, revisionOf } from './observed.ts';
import type { WantedRevision } from './revision.ts';
import type { SizeIntent } from './rollout-planner.ts';
import { ordinaryWaits } from './status-pace.ts';

/** @param made server images of the ReplicaSets that are made, by name */
export function sizeEvents(
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
export function promotionEvents(
  sizes: readonly SizeIntent[],
  promoted: { readonly set: string; readonly from: string; readonly to: string } | undefined,
): EventIntent[] {
  if (promoted === undefined || !sizes.some((size) => size.name === promoted.set && size.to < size.from)) return [];
  const note = `a pod that fell back to ${promoted.from} is on ${promoted.to} now`;
  return [{ ifWritten: { kind: 'ReplicaSet', name: promoted.set }, reason: 'PromotedBack', action: 'Promote', note }];
}

/** What is worth telling once: new trouble, and the end of a rollout. */
export function statusEvents(before: SLMDeploymentStatus | undefined, after: SLMDeploymentStatus): EventIntent[] {
  const known = new Set(before?.blockedBy?.map((block) => block.reason));
  const events: EventIntent[] = (after.blockedBy ?? [])
    .filter((block) => !ordinaryWaits.has(block.reason) && !known.has(block.reason))
    .map((block) => ({
      ...(block.reason === 'WaitingForApproval' ? {} : { type: 'Warning' as const }),
      reason: block.reason as Reason,
      note: block.message,
    }));
  // The first one is told by the condition Ready.
  const changed = before?.currentRevision !== undefined && before.currentRevision !== after.currentRevision;
  if (changed && after.currentRevision !== undefined) {
    events.push({ reason: 'RolloutComplete', note: `all pods run revision ${after.currentRevision}` });
  }
  return events;
}
