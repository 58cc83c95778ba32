/**
 * What a controller means to do, as plain data: made by a pure `plan` function, carried out by `executePlan`.
 * Owns the types and their constructors; talks to nobody.
 */
import type { Reason } from '@slm-operator/crds';
import type { ObjectMeta } from '../kube/resource.ts';
import type { Outcome } from '../runtime/outcome.ts';

export { done, type Outcome, stalled, waiting } from '../runtime/outcome.ts';

/** An object to apply: names its kind and itself. Fields beside these are the kind's own. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta & { readonly name: string };
}

/** An object that is meant, without its content. */
export interface ObjectRef {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  /** Absent for cluster-scoped kinds. */
  readonly namespace?: string | undefined;
  /** This very object, not a later one of the same name. */
  readonly uid?: string | undefined;
  /** Only as long as nobody changed it. */
  readonly resourceVersion?: string | undefined;
}

/** A merge patch (RFC 7386) of an object that is known to exist. */
export interface PatchIntent {
  /** `uid` and `resourceVersion`, where set, must still hold; otherwise the write is refused and the plan made anew. */
  readonly target: ObjectRef;
  readonly patch: Readonly<Record<string, unknown>>;
}

/** Something to tell about the owner, once. */
export interface EventIntent {
  /** Default Normal. */
  readonly type?: 'Normal' | 'Warning' | undefined;
  readonly reason: Reason;
  /** What was done or tried, in CamelCase. Default: the reason. */
  readonly action?: string | undefined;
  /** For people. */
  readonly note: string;
  /** Told only when this object was really written: a stale store plans again what was done a moment ago. */
  readonly ifWritten?: { readonly kind: string; readonly name: string } | undefined;
}

/** Everything that one reconcile wants to change. Carried out in the order of the fields. */
export interface Plan<Status = unknown> {
  /** Made when absent and never touched afterwards, for content that must not change (generated secrets). */
  readonly create?: readonly KubeObject[] | undefined;
  /** Server-side applied in this order; what already is so is not written. */
  readonly apply: readonly KubeObject[];
  /** Changes of single fields, after `apply`, in this order. */
  readonly patch?: readonly PatchIntent[] | undefined;
  /** Deleted, after `patch`; what is gone already is no error. */
  readonly remove: readonly ObjectRef[];
  /** The owner's whole status; absent leaves it as it is. Written only when it changed. */
  readonly status?: Status | undefined;
  /** Recorded last, and only when every write went through. */
  readonly events: readonly EventIntent[];
  readonly outcome: Outcome;
  /** Why, for people: one sentence a decision. For logs and tests; decides nothing. */
  readonly notes: readonly string[];
}

/** The reference of an object, bound to its uid where it has one. */
export function refTo(object: {
  readonly apiVersion?: string | undefined;
  readonly kind?: string | undefined;
  readonly metadata?: ObjectMeta | undefined;
}): ObjectRef {
  const { apiVersion, kind, metadata } = object;
  if (!apiVersion || !kind || !metadata?.name) {
    throw new Error('a reference needs apiVersion, kind and metadata.name');
  }
  return {
    apiVersion,
    kind,
    name: metadata.name,
    ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
    ...(metadata.uid === undefined ? {} : { uid: metadata.uid }),
  };
}
