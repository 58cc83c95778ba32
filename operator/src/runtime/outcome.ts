/**
 * How a reconcile ends when nothing went wrong in the technical sense. A thrown error is the fourth ending: transient,
 * retried with backoff. Owns the type and its constructors only.
 */
export type Outcome =
  /** Observed state is as desired. Events alone wake the key again. */
  | { readonly outcome: 'done' }
  /** Something outside has to happen first. Woken by events, and after `requeueAfter` milliseconds when set. */
  | {
      readonly outcome: 'waiting';
      readonly reason: string;
      readonly message: string;
      readonly requeueAfter?: number | undefined;
    }
  /** Only a person can help: no retry until the object or what it refers to changes. */
  | { readonly outcome: 'stalled'; readonly reason: string; readonly message: string };

export const done: Outcome = Object.freeze({ outcome: 'done' });

/** @param requeueAfter milliseconds; leave it out when an event will wake the key */
export function waiting(reason: string, message: string, requeueAfter?: number): Outcome {
  return { outcome: 'waiting', reason, message, requeueAfter };
}

export function stalled(reason: string, message: string): Outcome {
  return { outcome: 'stalled', reason, message };
}
