/** One tier on its way from the pods that it has to those that it should have. Pure; decides nothing about other tiers. */
import { isFailed } from './placement-failures.ts';
import type { PlacementInput, TierState } from './placement-types.ts';

/**
 * Stores of pods, nodes and ReplicaSets are fed by watches of their own and disagree for a moment, and a device plugin that
 * restarts takes seconds: a loss that is younger than this is not believed, whatever `fallbackAfter` says.
 */
export const SETTLE_MS = 10_000;
/** Patience with pods that cannot run, of deployments that name no hardware: some tries to pull an image, or a restart. */
const AUTO_PATIENCE_MS = 60_000;

/** How long pods may be unable to run before they go elsewhere, milliseconds. */
export function patienceOf({ auto, fallbackAfterMs }: PlacementInput): number {
  return auto ? AUTO_PATIENCE_MS : Math.max(SETTLE_MS, fallbackAfterMs);
}

/** One tier on its way to a target. */
export class Slot {
  readonly state: TierState;
  /** Pods that fit here. */
  readonly capacity: number;
  /** Pods that may be here at most. */
  readonly limit: number;
  /** No new pods: those that were here could not run. */
  failed: boolean;
  /** Pods that are stuck, and that no going pod will make way for. */
  readonly stuck: number;
  readonly shortSince: number | undefined;
  /** It was short for so long that its pods may go elsewhere. */
  readonly givenUp: boolean;
  target: number;
  /** Stuck pods that were taken out of `target`. */
  withdrawn = 0;
  waitingSince: number | undefined;
  freeSince: number | undefined;
  promotingSince: number | undefined;

  constructor(state: TierState, input: PlacementInput) {
    const { now, replicas } = input;
    this.state = state;
    const { desired, current, oldPods, goingPods, room } = state;
    this.failed = isFailed(state, now);
    // Those that serve are not stuck, and of too many pods the stuck are the first that the ReplicaSet deletes.
    const idle = Math.max(0, desired - state.available);
    this.stuck = Math.max(0, Math.min(state.stuck?.pods ?? 0, idle) - goingPods);
    const planned = Math.min(state.planned, replicas);
    this.capacity = room === undefined ? Infinity : Math.max(desired, current) + oldPods + goingPods + room;
    const isShort = this.stuck > 0 || (this.capacity < planned && !this.failed);
    this.shortSince = isShort ? (state.shortSince ?? now) : undefined;
    this.givenUp = this.shortSince !== undefined && input.now - this.shortSince >= patienceOf(input);
    this.target = desired;
    // What was meant to be here keeps its place while it may only seem to be gone.
    const reserved = isShort && !this.givenUp ? planned : 0;
    const closed = this.failed || (this.givenUp && this.stuck > 0);
    this.limit = closed ? desired - this.stuck : Math.max(this.capacity, reserved);
  }

  get spare(): number {
    return Math.max(0, this.limit - this.target);
  }

  /** All pods that are meant to be here are, and serve. */
  get isSettled(): boolean {
    const { stuck, desired, current, available } = this.state;
    return stuck === undefined && desired === current && desired === available;
  }
}
