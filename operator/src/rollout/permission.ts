/**
 * Whether a deployment may take over the revision that its spec asks for, as the SLMRollouts say. Pure: the deployment's side of the
 * bargain; who is admitted when is the planner's. Nothing is held that no SLMRollout orders, and no first revision ever.
 */
import type { SLMDeployment, SLMRollout } from '@slm-operator/crds';
import { rolloutFor, type Selectable, selectableOf, waveIndexOf, waveNameOf } from './selectors.ts';

/** What there is of SLMRollouts, for one namespace. */
export interface Fleet {
  readonly rollouts: readonly SLMRollout[];
  /** Labels of the namespace; undefined while nobody knows them. */
  readonly namespaceLabels: Readonly<Record<string, string>> | undefined;
}

/** What a revision of a deployment is made of, as far as rollouts care. */
export interface Makings {
  readonly revision: string;
  /** Name of the revision of the SLMModel; undefined of sets made before it was written down. */
  readonly model?: string | undefined;
  /** Of the bytes that pods of the revision mount or may mount. */
  readonly digests: readonly string[];
  /** Server images by variant, when they are the operator's and not the spec's. */
  readonly images?: Readonly<Record<string, string>> | undefined;
}

/** From what to what a deployment would move. */
export interface Adoption {
  readonly wanted: Makings;
  /** Undefined while no rollout of the deployment was ever finished, and when its sets are gone. */
  readonly current: Makings | undefined;
}

export type Permission =
  | { readonly allowed: true }
  | {
      readonly allowed: false;
      /** Name of the SLMRollout. */
      readonly rollout: string;
      readonly wave: string;
      /** A sentence for status that does not change while others of the wave move. */
      readonly why: string;
      /** The revision was admitted and taken back: the deployment leaves it, even when all pods have it. */
      readonly withdrawn: boolean;
      /** Withdrawn: the revision to go back to. */
      readonly to?: string | undefined;
      /** Another revision that the deployment was admitted to before this one; it may go on to there meanwhile. */
      readonly admitted?: string | undefined;
    };

const allowed: Permission = { allowed: true };

/** @param fleet undefined: nobody looked, and everything is allowed */
export function permissionOf(fleet: Fleet | undefined, deployment: SLMDeployment, adoption: Adoption): Permission {
  if (fleet === undefined || fleet.rollouts.length === 0) return allowed;
  const selectable = selectableOf(deployment, fleet.namespaceLabels);
  const rollout = rolloutFor(fleet.rollouts, selectable);
  if (rollout === undefined) return allowed;
  const key = `${deployment.metadata.namespace}/${deployment.metadata.name}`;
  const { wanted, current } = adoption;
  const { admitted = [], withdrawn = [] } = rollout.status ?? {};
  const place = {
    rollout: rollout.metadata.name,
    wave: waveNameOf(rollout.spec, waveIndexOf(rollout.spec, selectable)),
  };

  const taken = withdrawn.find((entry) => entry.deployment === key && entry.revision === wanted.revision);
  if (taken !== undefined) {
    const why = `SLMRollout ${place.rollout} took revision ${wanted.revision} back, because too many deployments failed with it: change the model or the spec, or give the SLMRollout another value of annotation slm.dev/retry`;
    return { allowed: false, ...place, why, withdrawn: true, to: taken.to };
  }
  if (!isHeld(rollout, adoption)) return allowed;
  const entry = admitted.find((candidate) => candidate.deployment === key);
  if (entry?.revision === wanted.revision) return allowed;
  const earlier = entry === undefined || entry.revision === current?.revision ? {} : { admitted: entry.revision };
  return { allowed: false, ...place, why: whyHeld(rollout, selectable), withdrawn: false, ...earlier };
}

/** Whether such a move waits for its wave: by the rollout's sources, and never the first one of a deployment. */
export function isHeld({ spec }: Pick<SLMRollout, 'spec'>, { wanted, current }: Adoption): boolean {
  if (current === undefined || current.revision === wanted.revision) return false;
  const sources = spec.sources ?? ['ModelRevision'];
  return (
    (sources.includes('ModelRevision') && bringsOtherModel(wanted, current)) ||
    (sources.includes('RuntimeImage') && bringsOtherImage(wanted, current))
  );
}

/** Whether deployments take over the operator's server image, which they do by waves only. */
export function adoptsImages(fleet: Fleet | undefined, deployment: SLMDeployment): boolean {
  if (fleet === undefined || fleet.rollouts.length === 0 || deployment.spec.image !== undefined) return false;
  const rollout = rolloutFor(fleet.rollouts, selectableOf(deployment, fleet.namespaceLabels));
  return rollout?.spec.sources?.includes('RuntimeImage') ?? false;
}

export function bringsOtherModel(wanted: Makings, current: Makings): boolean {
  if (wanted.model !== undefined && current.model !== undefined) return wanted.model !== current.model;
  return current.digests.some((digest) => !wanted.digests.includes(digest));
}

/** A variant that only one of them has is no other image: pods of the revision have none of it. */
export function bringsOtherImage(wanted: Makings, current: Makings): boolean {
  return Object.entries(current.images ?? {}).some(([variant, image]) => {
    const next = wanted.images?.[variant];
    return next !== undefined && next !== image;
  });
}

/** Tells of the wave alone, never of how far it is: a thousand deployments that wait must not be written for each that moves. */
function whyHeld(rollout: SLMRollout, of: Selectable): string {
  const { spec, status, metadata } = rollout;
  const index = waveIndexOf(spec, of);
  const name = waveNameOf(spec, index);
  const wave = status?.waves?.find((candidate) => candidate.name === name);
  const said = `SLMRollout ${metadata.name}: wave ${name}`;
  switch (wave?.state) {
    case 'Paused':
      return `${said} waits, because spec.paused of the SLMRollout is true`;
    case 'WaitingForApproval':
      return `${said} waits for an approval: add the model’s revision to spec.approvedRevisions of the SLMRollout`;
    case 'WaitingForWindow':
      return `${said} waits for the window of the SLMRollout to open`;
    case 'Failed':
    case 'RolledBack':
      return `${said} has stopped, because too many of its deployments failed`;
    case 'Running':
      return `${said} is under way, and this deployment waits for its turn`;
    default:
      return index === 0 ? `${said} has not begun` : `${said} waits for wave ${waveNameOf(spec, index - 1)}`;
  }
}
