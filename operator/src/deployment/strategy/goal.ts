/**
 * The revision that the deployment is brought to, with all that pods of it are made from: its bytes, its settings, its images. An
 * older revision is read back from its ReplicaSets and from the history of the model. Pure.
 */
import { modelDefaultsOf } from '@slm-operator/crds';
import { modelAt, pastRevision } from '../../model/history.ts';
import { lostBytes } from '../../model/lost-bytes.ts';
import { adoptionOf } from '../../rollout/makings.ts';
import { adoptsImages, permissionOf } from '../../rollout/permission.ts';
import type { ModelState } from '../model-state.ts';
import { modelTextOf } from '../names.ts';
import {
  hasPods,
  knownRevision,
  numberOf,
  type Observed,
  type ReplicaSetObject,
  revisionOf,
  tierOf,
} from '../observed.ts';
import { type ServerImages, type WantedRevision, wantedRevision } from '../revision.ts';
import { chooseGoal, type GoalChoice } from './goal-revision.ts';
import type { LastRollback, RevisionState } from './types.ts';

export interface Goal {
  readonly choice: GoalChoice;
  /** Undefined: nobody knows which revision. */
  readonly wanted: WantedRevision | undefined;
  /** The model at that revision; undefined where the model does not list it any more, or has none. */
  readonly model: Extract<ModelState, { readonly usable: true }> | undefined;
  /** Hardware that it may have pods on; undefined: on any that the spec allows. */
  readonly only: ReadonlySet<string> | undefined;
}

/** @param last the revision that was taken back last */
export function goalOf(
  observed: Observed,
  model: ModelState,
  states: readonly RevisionState[],
  last: LastRollback | undefined,
  images: ServerImages,
): Goal {
  const { deployment, replicaSets, fleet } = observed;
  const wanted = model.usable
    ? wantedRevision({
        deployment,
        model: model.revision,
        known: replicaSets.map(knownRevision),
        images,
        defaults: modelDefaultsOf(model.model.spec),
        adoptImages: adoptsImages(fleet, deployment),
      })
    : undefined;
  const permission =
    model.usable && wanted !== undefined && fleet !== undefined
      ? permissionOf(fleet, deployment, adoptionOf(deployment, model.revision, wanted, replicaSets))
      : ({ allowed: true } as const);
  const choice = chooseGoal({
    deployment,
    wanted: wanted?.revision,
    revisions: states,
    lastRollback: last,
    permission,
    lost: (revision) => lostOf(observed, revision),
  });
  if (choice.revision === wanted?.revision) {
    return { choice, wanted, model: model.usable ? model : undefined, only: undefined };
  }
  const sets = replicaSets.filter((set) => revisionOf(set) === choice.revision);
  const [newest] = sets.toSorted((a, b) => numberOf(b) - numberOf(a));
  if (newest === undefined) return { choice, wanted: undefined, model: undefined, only: undefined };
  return { choice, ...pastGoal(observed, model, newest, sets, images) };
}

/** Why a revision that has no pods can get none any more. */
function lostOf(observed: Observed, revision: string): string | undefined {
  const { deployment, model, nodes, caches } = observed;
  const sets = observed.replicaSets.filter((set) => revisionOf(set) === revision);
  if (sets.some(hasPods)) return undefined;
  const { namespace = '' } = deployment.metadata;
  return lostBytes({ namespace, modelText: modelTextOf(deployment), model, sets, nodes, caches });
}

/** An older revision. With the settings of today it may have pods wherever these may be; else where it had some. */
function pastGoal(
  { deployment }: Observed,
  model: ModelState,
  newest: ReplicaSetObject,
  sets: readonly ReplicaSetObject[],
  images: ServerImages,
): Omit<Goal, 'choice'> {
  const { revision, settingsHash, image, images: own } = knownRevision(newest);
  const wanted: WantedRevision = {
    revision,
    settingsHash,
    image,
    ...(own === undefined ? {} : { images: { ...images, ...own } }),
  };
  const past = model.usable ? pastRevision(model.model, newest) : undefined;
  if (!model.usable || past === undefined) return { wanted, model: undefined, only: undefined };
  const at = modelAt(model.model, past);
  const today = wantedRevision({
    deployment,
    model: past,
    known: [],
    images,
    defaults: modelDefaultsOf(model.model.spec),
  });
  return {
    wanted,
    model: { ...model, model: at, revision: past },
    only: today.settingsHash === settingsHash ? undefined : new Set(sets.map(tierOf)),
  };
}
