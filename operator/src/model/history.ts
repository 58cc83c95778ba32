/**
 * Revisions of a model that are not its latest: those that deployments pin, and those that ReplicaSets of the history were made from.
 * Pure; says what a revision is, not who should serve it.
 */
import { annotations, digestsOf, type ModelRevision, type SLMDeployment, type SLMModel } from '@slm-operator/crds';
import type { KubeObject } from '../kube/resource.ts';
import { latestOf } from './parts.ts';

/** What a ReplicaSet says of the bytes that its pods mount, with pods or without. */
export interface PastUse {
  /** Of the files that its pods mount. */
  readonly digest: string;
  /** Name of the model's revision; undefined of a ReplicaSet made before that was written down. */
  readonly revision: string | undefined;
}

/** Undefined of a ReplicaSet that mounts no model. */
export function pastUseOf({ metadata }: KubeObject): PastUse | undefined {
  const digest = metadata?.annotations?.[annotations.modelDigest];
  return digest === undefined ? undefined : { digest, revision: metadata?.annotations?.[annotations.modelRevision] };
}

/** Whether a ReplicaSet was made from the revision. */
export function isFrom(revision: ModelRevision, use: PastUse): boolean {
  return use.revision === undefined ? digestsOf(revision).includes(use.digest) : use.revision === revision.name;
}

/**
 * The revision that a ReplicaSet was made from, as the model still lists it; undefined where it does not any more, so that its
 * bytes are to be had only from nodes that hold them.
 */
export function pastRevision(model: Pick<SLMModel, 'status'>, set: KubeObject): ModelRevision | undefined {
  const use = pastUseOf(set);
  return use === undefined ? undefined : model.status?.revisions?.find((revision) => isFrom(revision, use));
}

/** What a deployment asks for: the revision that it pins, else the latest; undefined while there is none. */
export function soughtRevision(deployment: SLMDeployment, { status }: SLMModel): ModelRevision | undefined {
  const pin = deployment.spec.modelRef?.revision;
  return pin === undefined ? latestOf(status) : status?.revisions?.find(({ name }) => name === pin);
}

/** The model as if the revision were its latest: its metadata and estimate are those of that revision, where they were kept. */
export function modelAt(model: SLMModel, revision: ModelRevision): SLMModel {
  const { status } = model;
  if (status === undefined || status.latestRevision?.name === revision.name) return model;
  const { metadata = status.metadata, estimate = status.estimate } = revision;
  return {
    ...model,
    status: {
      ...status,
      ...(metadata === undefined ? {} : { metadata }),
      ...(estimate === undefined ? {} : { estimate }),
    },
  };
}

/** Deployment revisions that are gone back to, by their ten hex digits: their bytes are pulled, even while they have no pods. */
export function revisionsAsked({ metadata, spec, status }: SLMDeployment): ReadonlySet<string> {
  const asked = [spec.rollbackTo?.revision, metadata.annotations?.[annotations.rollbackTo], status?.rollout?.revision];
  return new Set(asked.filter((revision) => revision !== undefined));
}
