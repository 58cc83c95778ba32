/**
 * Carries out a plan: creates, applies, patches, removes, one status write, events; in that order, up to the first failure.
 * Owns the rule that an object of somebody else is never touched. Decides nothing else.
 */

import { annotations } from '@slm-operator/crds';
import type { KubeClient } from '../kube/client.ts';
import { isAlreadyExists, isConflict, isNotFound } from '../kube/errors.ts';
import { type KubeObject as AnyObject, controllerOf, type ResourceType } from '../kube/resource.ts';
import { type Applier, type ApplyResult, makeApplier } from '../runtime/apply.ts';
import type { EventRecorder } from '../runtime/events.ts';
import { resourceTypeOf } from './kinds.ts';
import { done, type KubeObject, type ObjectRef, type Outcome, type Plan, refTo, waiting } from './plan.ts';
import { isNamespaceGone, type Refusal, RefusedError, refusalOf } from './refusal.ts';

/** The one field manager of everything that the operator applies; part of the upgrade contract. */
export const FIELD_MANAGER = 'slm-operator';

/**
 * Milliseconds until a refused write is tried again. Quotas, policies and objects of others are not watched, so only
 * asking again tells that they changed; half a minute is what a person who just repaired it is willing to wait.
 */
export const REFUSED_RETRY_MS = 30_000;

export interface ExecuteOptions<T extends AnyObject & { readonly status?: unknown }> {
  readonly client: KubeClient;
  readonly recorder: Pick<EventRecorder, 'record'>;
  /** Default: the one that {@link applierFor} keeps for the client. Its memory is what keeps an idle system from writing. */
  readonly applier?: Applier | undefined;
  /** Kind of the owner. */
  readonly type: ResourceType<T>;
  /** The object that was planned for, as it was read. */
  readonly owner: NoInfer<T>;
  readonly plan: Plan<NonNullable<NoInfer<T>['status']>>;
  /**
   * The live child from a store; undefined: the store has none; `unknown`: there is no store of this kind, so the server is
   * asked before anything is made. Absent: all are unknown.
   */
  readonly live?: ((ref: ObjectRef) => AnyObject | 'unknown' | undefined) | undefined;
  /**
   * The status to write instead of the plan's when the API server refuses a write for good. Absent: the refusal is thrown
   * and retried.
   */
  readonly refusedStatus?: ((refusal: Refusal) => NonNullable<T['status']>) | undefined;
  /** Told of each applied or patched child, as the API server answered it. */
  readonly onWrite?: ((ref: ObjectRef, object: AnyObject) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const appliers = new WeakMap<KubeClient, Applier>();

/** The one applier of a client, under {@link FIELD_MANAGER}. */
export function applierFor(client: KubeClient): Applier {
  let applier = appliers.get(client);
  if (applier === undefined) {
    applier = makeApplier({ client, fieldManager: FIELD_MANAGER, stamp: annotations.applied });
    appliers.set(client, applier);
  }
  return applier;
}

/** What came of a plan. */
export interface Executed {
  /** The plan's outcome; `waiting` with the refusal's reason when a write was refused. */
  readonly outcome: Outcome;
  /** Writes that were sent, the status among them, events not. */
  readonly writes: number;
  readonly refusal?: Refusal | undefined;
}

/**
 * Carries out `plan`. Rejects with what a write rejected with, unless that is a refusal and `refusedStatus` is given.
 * Whatever was planned after a failed write is left for the next run. Rests when the namespace is going.
 */
export async function executePlan<T extends AnyObject & { readonly status?: unknown }>(
  options: ExecuteOptions<T>,
): Promise<Executed> {
  const { client, recorder, type, owner, plan, signal } = options;
  const applier = options.applier ?? applierFor(client);
  const live = options.live ?? (() => 'unknown');
  const run: Run = { client, applier, live, signal, onWrite: options.onWrite, writes: 0, written: new Set() };

  let refusal: Refusal | undefined;
  try {
    for (const object of plan.create ?? []) await createOnce(run, object);
    for (const object of plan.apply) await applyOwned(run, object);
    for (const intent of plan.patch ?? []) await patch(run, intent);
    for (const ref of plan.remove) await remove(run, ref);
  } catch (error) {
    if (isNamespaceGone(error)) return { outcome: done, writes: run.writes };
    refusal = error instanceof RefusedError ? error.refusal : undefined;
    if (refusal === undefined || options.refusedStatus === undefined) throw error;
  }

  const status = refusal === undefined ? plan.status : options.refusedStatus?.(refusal);
  if (status !== undefined) {
    const result = await applier.writeStatusIfChanged(type, owner, status, { signal });
    if (result?.written === true) run.writes++;
  }
  if (refusal !== undefined) {
    return { outcome: waiting(refusal.reason, refusal.message, REFUSED_RETRY_MS), writes: run.writes, refusal };
  }
  for (const { ifWritten, ...event } of plan.events) {
    if (ifWritten === undefined || run.written.has(idOf(ifWritten))) recorder.record(type, owner, event);
  }
  return { outcome: plan.outcome, writes: run.writes };
}

interface Run {
  readonly client: KubeClient;
  readonly applier: Applier;
  readonly live: NonNullable<ExecuteOptions<AnyObject>['live']>;
  readonly signal: AbortSignal | undefined;
  readonly onWrite: ExecuteOptions<AnyObject>['onWrite'];
  writes: number;
  /** Children that were written, by {@link idOf}. */
  readonly written: Set<string>;
}

function idOf({ kind, name }: { readonly kind: string; readonly name: string }): string {
  return `${kind} ${name}`;
}

/** Turns an answer that no retry will change into a {@link RefusedError}. */
async function lifting<R>(target: ObjectRef, write: () => Promise<R>): Promise<R> {
  try {
    return await write();
  } catch (error) {
    const refusal = refusalOf(error, target);
    if (refusal === undefined || error instanceof RefusedError) throw error;
    throw new RefusedError(refusal, error);
  }
}

async function createOnce(run: Run, object: KubeObject): Promise<void> {
  const type = resourceTypeOf(object);
  const ref = refTo(object);
  await lifting(ref, async () => {
    try {
      run.writes++;
      await run.client.create(type, object, { fieldManager: FIELD_MANAGER, signal: run.signal });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const existing = await run.client.find(type, object.metadata, { signal: run.signal });
      if (existing !== undefined) refuseForeign(object, existing);
    }
  });
}

async function applyOwned(run: Run, object: KubeObject): Promise<void> {
  const type = resourceTypeOf(object);
  const ref = refTo(object);
  await lifting(ref, async () => {
    // A store holds only what carries our labels, so an object that it lacks may still be there: ours, which the store has not
    // seen yet, or somebody else's. Most often there is none, and then one request is enough.
    const stored = run.live(ref);
    const ask = stored === 'unknown' || (stored === undefined && run.applier.remembers(type, object));
    const known = ask ? await find(run, type, object) : stored;
    const result = known === undefined ? await applyNew(run, type, object) : await applyOver(run, type, object, known);
    if (!result.written) return;
    run.writes++;
    run.written.add(idOf(ref));
    run.onWrite?.(ref, result.object);
  });
}

/** Makes an object that should not be there yet. */
async function applyNew(run: Run, type: ResourceType, object: KubeObject): Promise<ApplyResult<AnyObject>> {
  try {
    return await run.applier.apply(type, object, undefined, { mustBeNew: true, signal: run.signal });
  } catch (error) {
    if (!isConflict(error) && !isAlreadyExists(error)) throw error;
    const live = await find(run, type, object);
    if (live === undefined) throw error;
    return applyOver(run, type, object, live);
  }
}

async function applyOver(run: Run, type: ResourceType, object: KubeObject, live: AnyObject) {
  refuseForeign(object, live);
  return run.applier.apply(type, object, live, { signal: run.signal });
}

function find(run: Run, type: ResourceType, object: KubeObject): Promise<AnyObject | undefined> {
  return run.client.find(type, object.metadata, { signal: run.signal });
}

async function patch(run: Run, intent: NonNullable<Plan['patch']>[number]): Promise<void> {
  const { target } = intent;
  const { uid, resourceVersion } = target;
  const metadata = {
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  };
  const body = { ...intent.patch, metadata: { ...(intent.patch['metadata'] as object | undefined), ...metadata } };
  await lifting(target, async () => {
    run.writes++;
    const object = await run.client.patch(resourceTypeOf(target), placeOf(target), 'merge', body, {
      fieldManager: FIELD_MANAGER,
      signal: run.signal,
    });
    run.written.add(idOf(target));
    run.onWrite?.(target, object);
  });
}

async function remove(run: Run, target: ObjectRef): Promise<void> {
  await lifting(target, async () => {
    try {
      run.writes++;
      await run.client.delete(resourceTypeOf(target), placeOf(target), {
        preconditions: { uid: target.uid, resourceVersion: target.resourceVersion },
        propagationPolicy: 'Background',
        signal: run.signal,
      });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  });
}

function placeOf(ref: ObjectRef): { name: string; namespace?: string } {
  return ref.namespace === undefined ? { name: ref.name } : { name: ref.name, namespace: ref.namespace };
}

/** Throws unless the live object has the controller that the desired one names. Objects without one are shared: no check. */
function refuseForeign(desired: KubeObject, live: AnyObject): void {
  const mine = controllerOf(desired);
  if (mine === undefined) return;
  const theirs = controllerOf(live);
  if (theirs?.uid === mine.uid) return;
  const what = `${desired.kind} ${desired.metadata.name}`;
  const whose = `${mine.kind} ${mine.name}`;
  let message: string;
  if (theirs === undefined) {
    message = `${what} exists and does not belong to ${whose}; it is left as it is: delete or rename it, or choose another name for ${whose}`;
  } else if (theirs.kind === mine.kind && theirs.name === mine.name) {
    message = `${what} belongs to an earlier ${whose} and is still being deleted; waiting until it is gone`;
  } else {
    message = `${what} exists and belongs to ${theirs.kind} ${theirs.name}; it is left as it is: choose another name for ${whose}`;
  }
  throw new RefusedError({ reason: 'ChildConflict', message, target: refTo(desired) });
}
