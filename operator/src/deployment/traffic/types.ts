/**
 * What planning traffic takes and gives, as plain data: which revisions get requests from the Service, and what part of them is
 * passed on to a candidate. Types alone.
 */
import type { SLMDeployment } from '@slm-operator/crds';
import type { KubeObject, ObjectRef, PatchIntent } from '../../execution/plan.ts';
import type { PodObject, ReplicaSetObject, ServiceObject } from '../observed.ts';
import type { PodReport } from '../pod-reports.ts';

/** Where requests shall go. */
export interface TrafficDecision {
  /** Revisions whose pods get nothing from the Service. Empty: all pods get requests, which costs nothing. */
  readonly closed: ReadonlySet<string>;
  /** The part of the requests that the open pods pass on. Absent: each answers what the Service gives it. */
  readonly weight?: TrafficWeight | undefined;
}

export interface TrafficWeight {
  /** Revision that gets them. Open pods of any other revision pass them on. */
  readonly candidate: string;
  /** Of a hundred requests, 0 to 100; fractions are kept too. */
  readonly percent: number;
}

/** All pods get requests, and nothing is passed on. */
export const ALL_OPEN: TrafficDecision = { closed: new Set() };

export interface TrafficInput {
  readonly deployment: SLMDeployment;
  /** Those that the deployment controls. */
  readonly sets: readonly ReplicaSetObject[];
  /** All pods of the deployment, those that are going included. */
  readonly pods: readonly PodObject[];
  /** As they are; undefined when there is none, or it was not seen yet. */
  readonly services: TrafficServices;
  readonly decision: TrafficDecision;
  /** By uid of the pod. */
  readonly reports: ReadonlyMap<string, PodReport>;
}

export interface TrafficServices {
  /** The deployment's own. */
  readonly main: ServiceObject | undefined;
  /** The one that leads to the candidate alone. */
  readonly candidate: ServiceObject | undefined;
}

/** What a ReplicaSet that is made now says about traffic, in its pod template. */
export interface TemplateTraffic {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface TrafficPlan {
  /** Objects beside the deployment's own Service and NetworkPolicy. */
  readonly apply: readonly KubeObject[];
  /** Of ReplicaSets' templates and of pods; to be put together with other patches by `mergePatches`. */
  readonly patch: readonly PatchIntent[];
  readonly remove: readonly ObjectRef[];
  /** Labels that the deployment's Service selects by besides what all its pods have. */
  readonly selector: Readonly<Record<string, string>>;
  /** Serving pods must reach each other. */
  readonly egressToPeers: boolean;
  /** For ReplicaSets that are made now. */
  template(revision: string): TemplateTraffic;
  /**
   * Pods of closed revisions get nothing from the Service, as far as the API server knows: only then may a closed revision have
   * pods. True when nothing is closed.
   */
  readonly separated: boolean;
  /** Every serving open pod said that it passes on what `decision.weight` asks for, or nothing where it asks for nothing. */
  readonly effective: boolean;
  /** Why not `separated` or not `effective` yet, in a clause for people. */
  readonly why: string | undefined;
  /**
   * Why open pods can never pass anything on, in a sentence that says what to do; undefined: they can. Does not depend on
   * whether the decision has a weight, so that a strategy may ask before it begins.
   */
  readonly unable: string | undefined;
}
