/** What a revision of a deployment is made of: read from what is wanted, and from the ReplicaSets of what there is. Pure. */
import { annotations, digestsOf, type ModelRevision, type SLMDeployment } from '@slm-operator/crds';
import { knownRevision, numberOf, type ReplicaSetObject, revisionOf } from '../deployment/observed.ts';
import type { WantedRevision } from '../deployment/revision.ts';
import type { Adoption, Makings } from './permission.ts';

/** @param sets those of the deployment */
export function adoptionOf(
  deployment: SLMDeployment,
  model: ModelRevision,
  wanted: WantedRevision,
  sets: readonly ReplicaSetObject[],
): Adoption {
  const current = deployment.status?.currentRevision;
  return {
    wanted: {
      revision: wanted.revision,
      model: model.name,
      digests: digestsOf(model),
      ...(deployment.spec.image === undefined ? { images: wanted.images } : {}),
    },
    current: current === undefined ? undefined : makingsOf(current, sets),
  };
}

/** Undefined when there is no set of the revision. */
function makingsOf(revision: string, sets: readonly ReplicaSetObject[]): Makings | undefined {
  const own = sets.filter((set) => revisionOf(set) === revision);
  const [newest] = own.toSorted((a, b) => numberOf(b) - numberOf(a));
  if (newest === undefined) return undefined;
  const notes = own.map((set) => set.metadata?.annotations ?? {});
  return {
    revision,
    model: notes.find((known) => known[annotations.modelRevision] !== undefined)?.[annotations.modelRevision],
    digests: notes.flatMap((known) => known[annotations.modelDigest] ?? []),
    // With an image of the spec's there is no map: a person chose it.
    images: knownRevision(newest).images,
  };
}
