/**
 * What planning a strategy takes and gives, as plain data. Types alone: no Kubernetes object, no clock.
 */
import type { Reason, SLMDeploymentStatus, Strategy } from '@slm-operator/crds';
import type { GateState, SmokeState } from '../analysis/types.ts';
import type { TrafficDecision } from '../traffic/types.ts';

/** Where a rollout is, as status says it. */
export type RolloutStatus = NonNullable<SLMDeploymentStatus['rollout']>;
export type LastRollback = NonNullable<SLMDeploymentStatus['lastRollback']>;

/** All pods of one revision, on whatever hardware. */
export interface RevisionState {
  readonly revision: string;
  /** Number of its rollout: the larger, the newer. */
  readonly number: number;
  /** Pods that it is told to have. */
  readonly desired: number;
  /** Pods that it has. */
  readonly current: number;
  /** Pods of it that serve. */
  readonly available: number;
  /** What its ReplicaSets say of requests from the Service; undefined: nothing, so that it gets them. */
  readonly traffic: 'open' | 'closed' | undefined;
}

/** Why the deployment is brought to a revision. */
export type GoalKind =
  /** The spec asks for it, or a person asked for it by `rollbackTo`. */
  | 'wanted'
  /** The revision that the spec asks for was taken back. */
  | 'back'
  /** The revision that the spec asks for must wait. */
  | 'held'
  /** A revision that is neither old nor new has pods, and goes before the next one comes. */
  | 'clear';

/** What the strategy decides over. */
export interface StrategyInput {
  readonly strategy: Strategy | undefined;
  readonly replicas: number;
  /** Explicit `maxSurge` as a number of pods; undefined: Auto. */
  readonly surge: number | undefined;
  readonly maxUnavailable: number;
  readonly paused: boolean;
  /** The revision to bring pods to. */
  readonly goal: string;
  readonly kind: GoalKind;
  /** Steps and gates are skipped: a person asked to go back. */
  readonly undo: boolean;
  /** The revision to compare with and to go back to; undefined where there is none. */
  readonly stable: string | undefined;
  readonly revisions: readonly RevisionState[];
  /** Pods of the goal that could exist beside all that there is. */
  readonly capacity: number;
  /** Pods of the goal that could exist in the end. */
  readonly placeable: number;
  /** Why the pods of the goal end; undefined while they do not. */
  readonly crash: string | undefined;
  readonly previous: RolloutStatus | undefined;
  /** A revision that was given up in a step, and gets requests that the goal has too few pods for. */
  readonly carrying: string | undefined;
  /** `REVISION` or `REVISION:STEP`. */
  readonly approved: string | undefined;
  readonly smoke: SmokeState;
  readonly gates: GateState;
  /** What a decision over requests would be worth now. */
  readonly effectOf: (decision: TrafficDecision) => TrafficEffect;
  /** Wall clock, milliseconds since 1970. */
  readonly now: number;
}

/** How far a decision over requests is carried out. */
export interface TrafficEffect {
  /** Closed revisions get nothing from the Service, so they may have pods. */
  readonly separated: boolean;
  /** The weight is what the servers really do. */
  readonly effective: boolean;
  /** Why not yet. */
  readonly why?: string | undefined;
  /** Why never, and what to do. */
  readonly unable?: string | undefined;
}

/** Bounds of a rollout that stops on its way. */
export interface RolloutStage {
  /** Pods of the goal for now. */
  readonly target: number;
  /** Pods of the stable revision that stay. */
  readonly keep: number;
  /** Where no device is free, as many of them may go for pods of the goal. */
  readonly gives: number;
  /** Pods of the goal that count as serving. */
  readonly counts: number;
  /** Pods above `replicas`. */
  readonly surge: number;
}

/** What failed, for people and for status. */
export interface Verdict {
  readonly reason: Extract<
    Reason,
    'SmokeTestFailed' | 'AnalysisFailed' | 'CandidateCrashed' | 'ProgressDeadlineExceeded'
  >;
  readonly message: string;
}

export interface StrategyPlan {
  /** Undefined: on to `replicas`, pod by pod. */
  readonly stage: RolloutStage | undefined;
  /** All old pods go before the first new one comes. */
  readonly recreate: boolean;
  readonly decision: TrafficDecision;
  /** The goal failed. What follows from that is the caller's. */
  readonly verdict: Verdict | undefined;
  /** For `status.rollout`. */
  readonly fields: Partial<
    Pick<RolloutStatus, 'revision' | 'stableRevision' | 'step' | 'steps' | 'stepStartedAt' | 'weight' | 'analysis'>
  >;
  /** When it is not merely progressing: time that is not the rollout's. */
  readonly phase: Extract<RolloutStatus['phase'], 'Analyzing' | 'WaitingForApproval'> | undefined;
  /** What it waits for; undefined: pods. */
  readonly line: { readonly reason: Reason; readonly message: string } | undefined;
  /** Nothing is left to be judged. */
  readonly settled: boolean;
  /** Milliseconds after which time alone changes the plan. */
  readonly requeueAfter: number | undefined;
  readonly notes: readonly string[];
}
