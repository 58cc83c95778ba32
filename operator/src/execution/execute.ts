/** Carries out a plan. */

import type { KubeClient } from '../kube/client.ts';
import type { KubeObject as AnyObject, ResourceType } from '../kube/resource.ts';
import type { Applier } from '../runtime/apply.ts';
import type { EventRecorder } from '../runtime/events.ts';
import type { ObjectRef, Outcome, Plan } from './plan.ts';
import type { Refusal } from './refusal.ts';

/** The one field manager of everything that the operator applies; part of the upgrade contract. */
export const FIELD_MANAGER = 'slm-operator';

export interface ExecuteOptions<T extends AnyObject & { readonly status?: unknown }> {
  readonly client: KubeClient;
  readonly recorder: EventRecorder;
  /** Default: one made of `client` and {@link FIELD_MANAGER}. */
  readonly applier?: Applier | undefined;
  /** Kind of the owner. */
  readonly type: ResourceType<T>;
  /** The object that was planned for, as it was read. */
  readonly owner: T;
  readonly plan: Plan<NonNullable<T['status']>>;
  /** The live child from a store. Undefined: not there, or not known; then the server is asked before anything is made. */
  readonly live?: ((ref: ObjectRef) => AnyObject | undefined) | undefined;
  /**
   * The status to write instead of the plan's when the API server refuses a write for good. Absent: the refusal is thrown
   * and retried.
   */
  readonly refusedStatus?: ((refusal: Refusal) => NonNullable<T['status']>) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What came of a plan. */
export interface Executed {
  /** The plan's outcome; `waiting` with the refusal's reason when a write was refused. */
  readonly outcome: Outcome;
  /** Writes that were sent, the status among them, events not. */
  readonly writes: number;
  readonly refusal?: Refusal | undefined;
}

export declare function executePlan<T extends AnyObject & { readonly status?: unknown }>(
  options: ExecuteOptions<T>,
): Promise<Executed>;
