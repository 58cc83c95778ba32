/**
 * Conditions as kstatus wants them: `Ready` always, `Reconciling` and `Stalled` only while true. Pure: the clock is an
 * argument, and inputs are never changed. Writes nothing.
 */

/** `metav1.Condition`. */
export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  /** CamelCase, never empty. */
  readonly reason: string;
  readonly message: string;
  /** RFC 3339: when `status` last changed; not when reason or message did. */
  readonly lastTransitionTime: string;
  readonly observedGeneration?: number | undefined;
}

/** A condition as a plan gives it, before it is known whether its status changed. */
export interface DesiredCondition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

export interface ConditionContext {
  /** Wall clock in milliseconds since 1970. */
  readonly now: number;
  /** `metadata.generation` of the object that was read. */
  readonly observedGeneration?: number | undefined;
}

/** Longest message that `metav1.Condition` allows. */
export const MAX_CONDITION_MESSAGE = 32_768;

/** The condition of that type, if there is one. */
export function findCondition(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/** True when the condition is there and has status True. */
export function isConditionTrue(conditions: readonly Condition[] | undefined, type: string): boolean {
  return findCondition(conditions, type)?.status === 'True';
}

/** A copy with this condition set; `lastTransitionTime` moves only when `status` changes. Order is kept. */
export function setCondition(
  conditions: readonly Condition[] | undefined,
  desired: DesiredCondition,
  context: ConditionContext,
): Condition[] {
  const previous = findCondition(conditions, desired.type);
  const next: Condition = {
    type: desired.type,
    status: desired.status,
    reason: desired.reason,
    message: shorten(desired.message),
    lastTransitionTime:
      previous !== undefined && previous.status === desired.status
        ? previous.lastTransitionTime
        : toRfc3339(context.now),
    ...(context.observedGeneration === undefined ? {} : { observedGeneration: context.observedGeneration }),
  };
  const rest = conditions ?? [];
  return previous === undefined
    ? [...rest, next]
    : rest.map((condition) => (condition.type === desired.type ? next : condition));
}

/** A copy without conditions of that type. */
export function removeCondition(conditions: readonly Condition[] | undefined, type: string): Condition[] {
  return (conditions ?? []).filter((condition) => condition.type !== type);
}

/**
 * The whole list of conditions for a status: exactly `desired`, in that order, each with the transition time it had.
 * Conditions that are not in `desired` go: this is how `Reconciling` and `Stalled` disappear.
 */
export function reconcileConditions(
  previous: readonly Condition[] | undefined,
  desired: readonly DesiredCondition[],
  context: ConditionContext,
): Condition[] {
  return desired.map((condition) => {
    const before = findCondition(previous, condition.type);
    const [next] = setCondition(before === undefined ? [] : [before], condition, context);
    return next as Condition;
  });
}

/**
 * kstatus' summary. Exactly one of three shapes:
 * ready: `Ready=True`; in progress: `Ready=False` or `Unknown` and `Reconciling=True`; stalled: `Ready=False` and
 * `Stalled=True`. Reason and message are the same in each pair.
 */
export function summaryConditions(summary: {
  readonly state: 'ready' | 'reconciling' | 'stalled';
  readonly reason: string;
  readonly message: string;
  /** Status of `Ready` while reconciling. Default False. */
  readonly readyWhileReconciling?: 'True' | 'False' | 'Unknown' | undefined;
}): DesiredCondition[] {
  const { state, reason, message } = summary;
  if (state === 'ready') return [{ type: 'Ready', status: 'True', reason, message }];
  const ready = state === 'stalled' ? 'False' : (summary.readyWhileReconciling ?? 'False');
  return [
    { type: 'Ready', status: ready, reason, message },
    { type: state === 'stalled' ? 'Stalled' : 'Reconciling', status: 'True', reason, message },
  ];
}

/** `metav1.Time`: whole seconds. */
export function toRfc3339(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** `metav1.MicroTime`: always six digits; the server refuses other lengths in Leases and Events. */
export function toMicroTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(/Z$/, '000Z');
}

function shorten(message: string): string {
  return message.length <= MAX_CONDITION_MESSAGE ? message : `${message.slice(0, MAX_CONDITION_MESSAGE - 1)}…`;
}
