/** What the placement planner is told and what it answers. Types only. */
import type { Reason } from '@slm-operator/crds';

/** Why something does not run, for status. */
export interface Obstacle {
  readonly reason: Reason;
  readonly message: string;
}

/** Times that the planner keeps in `status.hardware.tiers`, in milliseconds since 1970. */
export interface TierClocks {
  /** Since when pods that would rather be here find no room. */
  readonly waitingSince?: number | undefined;
  /** Since when fewer pods can run here than were meant to: some are stuck, or their devices went to somebody else. */
  readonly shortSince?: number | undefined;
  /** Since when there is room here for pods that run on worse hardware and may come back. */
  readonly freeSince?: number | undefined;
  /** Since when one of them is on its way. */
  readonly promotingSince?: number | undefined;
  /** Since when no pod is sent here, because those that were could not run. */
  readonly failedSince?: number | undefined;
  /** What `inventory` was then. */
  readonly failedOn?: string | undefined;
}

/** A kind of hardware that pods of the deployment may run on, with what is there of them. */
export interface TierState extends TierClocks {
  readonly name: string;
  /**
   * Place of the entry of `[preferred, ...fallback]` that it stands for, from 0. Between tiers of one entry nobody waits:
   * `gpu` is any GPU.
   */
  readonly rank: number;
  /**
   * Pods that could be placed now in addition to all that the deployment has here or was promised: the larger of `desired`
   * and `current`, and `oldPods` and `goingPods`. Undefined: nobody can tell, the scheduler decides.
   */
  readonly room: number | undefined;
  /** Why there is no more room, in words that begin with "needs". */
  readonly blocked?: Obstacle | undefined;
  /** Sizes of the wanted revision's set here. */
  readonly desired: number;
  readonly current: number;
  readonly available: number;
  /** Pods of other revisions here that nobody has told to go; their devices come free as they do. */
  readonly oldPods: number;
  /** Pods of any revision here that were told to go and still hold their devices. */
  readonly goingPods: number;
  /** Pods that were meant to be here, as the last status says; 0 without one. */
  readonly planned: number;
  /** Pods of the wanted revision here that cannot run for want of the device: not scheduled, refused, found none, too slow. */
  readonly stuck?: (Obstacle & { readonly pods: number }) | undefined;
  /** Hash of the devices that nodes have, of the wanted revision, and of nothing else: another one is worth another try. */
  readonly inventory: string;
  /** What the last status said of the tier. */
  readonly message?: string | undefined;
  /** Pods of the wanted revision here that serve nobody at the moment; undefined: nobody knows. */
  readonly idlePods?: number | undefined;
}

export interface PlacementInput {
  readonly replicas: number;
  /** The best first, ordered by rank. */
  readonly tiers: readonly TierState[];
  readonly fallbackAfterMs: number;
  readonly policy: 'Fallback' | 'Never';
  readonly promoteBack: 'Never' | 'WhenIdle';
  /** No `spec.hardware`: the best that is there at once, without waiting for better. */
  readonly auto: boolean;
  /** Other revisions still have pods. */
  readonly rolling: boolean;
  /** Pods that may exist beyond `replicas`. With none a pod that moves is away until it is there. Default 1. */
  readonly maxSurge?: number | undefined;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** What becomes of a tier. */
export interface TierPlan extends TierClocks {
  /** Why no more pods are here, or what they wait for. Changes only when something happens, never with the time. */
  readonly message?: string | undefined;
}

export interface PlacementPlan {
  /** Pods of the wanted revision by tier; every tier of the input is there. Together at most `replicas`. */
  readonly targets: ReadonlyMap<string, number>;
  /** Pods that have no place yet. */
  readonly waiting: number;
  readonly tiers: ReadonlyMap<string, TierPlan>;
  /** Tiers whose pods above their target must stay for now, and why. */
  readonly hold: ReadonlyMap<string, string>;
  /** A pod is on its way to better hardware. */
  readonly promoting: { readonly from: string; readonly to: string } | undefined;
  /** Why pods wait; empty when none does. */
  readonly blocked: readonly Obstacle[];
  /** Milliseconds after which time alone changes the plan. */
  readonly requeueAfter: number | undefined;
  /** Every decision in a sentence. */
  readonly notes: readonly string[];
}
