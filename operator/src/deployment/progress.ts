/** Where a rollout is, and whether it has stood still for too long. Pure. */
import type { SLMDeploymentStatus } from '@slm-operator/crds';
import { toRfc3339 } from '../runtime/conditions.ts';

type Phase = NonNullable<SLMDeploymentStatus['rollout']>['phase'];

export interface ProgressInput {
  readonly previous: SLMDeploymentStatus | undefined;
  readonly counts: {
    readonly replicas: number;
    readonly updatedReplicas: number;
    readonly readyReplicas: number;
    readonly availableReplicas: number;
  };
  readonly updateRevision: string | undefined;
  readonly generation: number;
  readonly complete: boolean;
  /** The goal is not what the spec asks for: its pods go, and `updatedReplicas` counts them. */
  readonly away?: boolean | undefined;
  /** It waits for something that is not the rollout's, or it stands still for good. */
  readonly held: Exclude<Phase, 'Idle' | 'Progressing' | 'Paused'> | undefined;
  readonly paused: boolean;
  /** A step is in effect whose clock stands still while it is paused: when that began is written down. */
  readonly timed?: boolean | undefined;
  /** Pods wait for a volume whose bytes are on their way. */
  readonly bytesMoving: boolean;
  readonly deadlineSeconds: number;
  /** Wall clock, milliseconds since 1970. */
  readonly now: number;
}

export interface Progress {
  readonly phase: Phase;
  readonly lastProgressTime: string | undefined;
  /** Milliseconds until the deadline, while it runs. */
  readonly requeueAfter: number | undefined;
}

/** Phase and clock. The clock runs while progressing only, and begins anew with every step forward. */
export function judgeProgress(input: ProgressInput): Progress {
  const { previous, complete, held, paused, deadlineSeconds, now } = input;
  const last = previous?.rollout?.lastProgressTime;
  if (complete) {
    const came = previous?.rollout?.phase !== 'Idle' || last === undefined;
    return { phase: 'Idle', lastProgressTime: came ? toRfc3339(now) : last, requeueAfter: undefined };
  }
  if (paused) {
    const began = input.timed === true && previous?.rollout?.phase !== 'Paused';
    return { phase: 'Paused', lastProgressTime: began ? toRfc3339(now) : last, requeueAfter: undefined };
  }
  if (held !== undefined) return { phase: held, lastProgressTime: last, requeueAfter: undefined };

  const since = hasMoved(input) || last === undefined ? now : Date.parse(last);
  const deadline = deadlineSeconds * 1000;
  const elapsed = Math.max(0, now - since);
  // Bytes on their way stop the clock. It is set anew at half time only, so that waiting costs no stream of writes.
  if (input.bytesMoving && elapsed >= deadline / 2) {
    return { phase: 'Progressing', lastProgressTime: toRfc3339(now), requeueAfter: deadline / 2 };
  }
  const lastProgressTime = toRfc3339(since);
  if (elapsed >= deadline) return { phase: 'Stalled', lastProgressTime, requeueAfter: undefined };
  // One second more, because times in status have no fractions.
  const rest = (input.bytesMoving ? deadline / 2 : deadline) - elapsed + 1000;
  return { phase: 'Progressing', lastProgressTime, requeueAfter: rest };
}

/** A new goal, or a pod that came or went as planned, since the last status. */
function hasMoved({ previous, counts, updateRevision, generation, away }: ProgressInput): boolean {
  if (previous === undefined) return true;
  const phase = previous.rollout?.phase;
  if (phase !== 'Progressing' && phase !== 'Stalled') return true;
  if (previous.updateRevision !== updateRevision || previous.observedGeneration !== generation) return true;
  const oldBefore = (previous.replicas ?? 0) - (previous.updatedReplicas ?? 0);
  if (away === true && counts.updatedReplicas < (previous.updatedReplicas ?? 0)) return true;
  return (
    (away !== true && counts.updatedReplicas > (previous.updatedReplicas ?? 0)) ||
    counts.readyReplicas > (previous.readyReplicas ?? 0) ||
    counts.availableReplicas > (previous.availableReplicas ?? 0) ||
    (away !== true && counts.replicas - counts.updatedReplicas < oldBefore)
  );
}
