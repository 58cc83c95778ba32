/**
 * What an SLMRollout sees of the deployments that it orders. Works out what each wants from the objects themselves, as its own controller
 * does, because a status may not have heard of a new commit yet. Owns the memory of what was worked out; pure but for that.
 */
import {
  annotations,
  modelDefaultsOf,
  type SLMDeployment,
  type SLMDeploymentStatus,
  type SLMModel,
  type SLMRollout,
} from '@slm-operator/crds';
import { modelStateOf } from '../deployment/model-state.ts';
import { knownRevision, type ReplicaSetObject } from '../deployment/observed.ts';
import { BASE_IMAGE, type ServerImages, wantedRevision } from '../deployment/revision.ts';
import { type NamespaceLabels, sharingOf } from '../model/sharing.ts';
import { isConditionTrue } from '../runtime/conditions.ts';
import { adoptionOf } from './makings.ts';
import { bringsOtherImage, bringsOtherModel, isHeld, type Makings } from './permission.ts';
import { isOrdered, rolloutFor, type Selectable, selectableOf, waveIndexOf } from './selectors.ts';
import { type Member, shortFailure } from './wave-planner.ts';

export interface MembersInput {
  readonly rollout: SLMRollout;
  /** All that there are. */
  readonly rollouts: readonly SLMRollout[];
  /** Of the whole cluster. */
  readonly deployments: readonly SLMDeployment[];
  readonly modelOf: (deployment: SLMDeployment) => SLMModel | undefined;
  readonly setsOf: (deployment: SLMDeployment) => readonly ReplicaSetObject[];
  readonly namespaceLabels: NamespaceLabels;
  /** Server images of the operator. */
  readonly images: ServerImages;
}

export interface Members {
  readonly members: readonly Member[];
  /** How many match and belong to another SLMRollout, by its name. */
  readonly elsewhere: ReadonlyMap<string, number>;
}

/** Those that the rollout orders. One that a person keeps at a revision of its history is nobody's business here. */
export function membersOf(input: MembersInput): Members {
  const { rollout, rollouts } = input;
  const members: Member[] = [];
  const elsewhere = new Map<string, number>();
  for (const deployment of input.deployments) {
    const { metadata } = deployment;
    if (metadata.deletionTimestamp !== undefined || isKept(deployment)) continue;
    const selectable = selectableOf(deployment, input.namespaceLabels(metadata.namespace ?? ''));
    if (!isOrdered(rollout.spec, selectable)) continue;
    const owner = rollouts.length === 1 ? rollout : rolloutFor(rollouts, selectable);
    if (owner === undefined || owner.metadata.name === rollout.metadata.name) {
      members.push(memberOf(input, deployment, selectable));
    } else elsewhere.set(owner.metadata.name, (elsewhere.get(owner.metadata.name) ?? 0) + 1);
  }
  return { members, elsewhere };
}

function isKept({ spec, metadata }: SLMDeployment): boolean {
  return spec.rollbackTo !== undefined || (metadata.annotations?.[annotations.rollbackTo] ?? '') !== '';
}

function memberOf(input: MembersInput, deployment: SLMDeployment, selectable: Selectable): Member {
  const { metadata, status } = deployment;
  const { rollout } = input;
  const asked = wantOf(input, deployment);
  const wanted = asked?.adoption.wanted;
  const current = asked?.adoption.current;
  const says = status !== undefined && status.observedGeneration === metadata.generation;
  const isAbout = says && wanted !== undefined && status.updateRevision === wanted.revision;
  const failure = isAbout ? failureOf(status) : undefined;
  return {
    key: `${metadata.namespace}/${metadata.name}`,
    wave: waveIndexOf(rollout.spec, selectable),
    current: status?.currentRevision,
    wanted: wanted?.revision,
    held: asked !== undefined && isHeld(rollout, asked.adoption),
    approvals: wanted === undefined || current === undefined ? [] : approvalsFor(rollout, wanted, current),
    settling: asked?.settling ?? false,
    ready: isAbout && isConditionTrue(status.conditions, 'Ready'),
    failure: failure === undefined ? undefined : shortFailure(failure),
  };
}

/** What of spec.approvedRevisions such a move takes, by what the rollout brings. */
function approvalsFor({ spec }: SLMRollout, wanted: Makings, current: Makings): string[] {
  const { sources = ['ModelRevision'] } = spec;
  const image = wanted.images?.[BASE_IMAGE];
  return [
    ...(sources.includes('ModelRevision') && wanted.model !== undefined && bringsOtherModel(wanted, current)
      ? [wanted.model]
      : []),
    ...(sources.includes('RuntimeImage') && image !== undefined && bringsOtherImage(wanted, current) ? [image] : []),
  ];
}

/** Why a deployment that was let go says that its update revision cannot be had; what it says of another revision is no answer. */
function failureOf({ conditions, lastRollback, rollout, updateRevision }: SLMDeploymentStatus): string | undefined {
  if (isConditionTrue(conditions, 'RolledBack') && lastRollback?.revision === updateRevision) {
    return lastRollback?.message;
  }
  const isOther = rollout?.revision !== undefined && rollout.revision !== updateRevision;
  if (isOther || rollout?.phase === 'WaitingForWave' || !isConditionTrue(conditions, 'Stalled')) return undefined;
  return conditions?.find(({ type }) => type === 'Stalled')?.message;
}

interface Asked {
  readonly adoption: ReturnType<typeof adoptionOf>;
  readonly settling: boolean;
}

interface Remembered {
  readonly parts: readonly unknown[];
  readonly asked: Asked | undefined;
}

const remembered = new WeakMap<SLMDeployment, Remembered>();

/** What the deployment wants; undefined while its model has nothing for it. Stored objects are replaced when they change. */
function wantOf(input: MembersInput, deployment: SLMDeployment): Asked | undefined {
  const { rollout, images, namespaceLabels } = input;
  const model = input.modelOf(deployment);
  const sets = input.setsOf(deployment);
  const adoptImages = deployment.spec.image === undefined && rollout.spec.sources?.includes('RuntimeImage') === true;
  const { namespace = '' } = deployment.metadata;
  const parts = [model, images, adoptImages, namespaceLabels(namespace), ...sets];
  const known = remembered.get(deployment);
  if (known?.parts.length === parts.length && known.parts.every((part, index) => part === parts[index])) {
    return known.asked;
  }
  const sharing = model === undefined ? undefined : sharingOf(model, namespace, namespaceLabels);
  const state = modelStateOf(deployment, model, sharing);
  let asked: Asked | undefined;
  if (state.usable) {
    const wanted = wantedRevision({
      deployment,
      model: state.revision,
      known: sets.map(knownRevision),
      images,
      defaults: modelDefaultsOf(state.model.spec),
      adoptImages,
    });
    const resolved = model?.status?.conditions?.find(({ type }) => type === 'Resolved');
    const settling = state.settling || (resolved?.status === 'Unknown' && resolved.reason === 'Resolving');
    asked = { adoption: adoptionOf(deployment, state.revision, wanted, sets), settling };
  }
  remembered.set(deployment, { parts, asked });
  return asked;
}
