/** What a deployment can know of its model: a revision to serve, or why there is none. Pure. */
import type { ModelRevision, Reason, SLMDeployment, SLMModel } from '@slm-operator/crds';
import { controllerOf } from '../kube/resource.ts';
import { modelAt } from '../model/history.ts';
import { refusalOf, type Sharing } from '../model/sharing.ts';
import { foreignNamespaceOf, modelNameOf, modelTextOf } from './names.ts';

export type ModelState =
  | {
      readonly usable: true;
      readonly model: SLMModel;
      readonly revision: ModelRevision;
      /** The model's spec has changed and nobody has looked at it yet: another revision may come. */
      readonly settling: boolean;
    }
  | {
      readonly usable: false;
      readonly reason: Extract<
        Reason,
        'ModelNotFound' | 'ModelNotReady' | 'ModelConflict' | 'ModelNotAllowed' | 'ModelRevisionNotFound'
      >;
      readonly message: string;
      /** Only a person can help. */
      readonly stalled: boolean;
    };

/**
 * @param model the SLMModel that the spec names, if there is one
 * @param sharing whether the deployment's namespace may use it; default: it may
 */
export function modelStateOf(
  deployment: SLMDeployment,
  model: SLMModel | undefined,
  sharing: Sharing = 'allowed',
): ModelState {
  const name = modelTextOf(deployment);
  const { namespace = '' } = deployment.metadata;
  const inline = deployment.spec.model !== undefined;
  if (model === undefined) {
    return inline
      ? { usable: false, reason: 'ModelNotReady', message: `model ${name} is being made`, stalled: false }
      : {
          usable: false,
          reason: 'ModelNotFound',
          message: notFound(deployment),
          stalled: false,
        };
  }
  if (sharing === 'refused') {
    return { usable: false, reason: 'ModelNotAllowed', message: refusalOf(model, namespace), stalled: true };
  }
  if (sharing === 'unknown') {
    const message = `model ${name}: the labels of namespace ${namespace} are being looked up`;
    return { usable: false, reason: 'ModelNotReady', message, stalled: false };
  }
  if (inline && controllerOf(model)?.uid !== deployment.metadata.uid) {
    return {
      usable: false,
      reason: 'ModelConflict',
      message: `SLMModel ${name} exists and does not belong to this deployment; refer to it with spec.modelRef.name: ${name} instead of spec.model, or give the deployment another name`,
      stalled: true,
    };
  }
  const { status } = model;
  const seen = status?.observedGeneration ?? 0;
  const settling = seen < (model.metadata.generation ?? 0);
  const latest = status?.latestRevision;
  const pin = deployment.spec.modelRef?.revision;
  const revision = status?.revisions?.find((candidate) => candidate.name === (pin ?? latest?.name));
  if (revision === undefined && pin !== undefined && latest !== undefined && !settling) {
    const known = status?.revisions?.map((one) => (one.name === latest.name ? `${one.name} (latest)` : one.name)) ?? [];
    const message = `model ${name} has no revision ${pin} to pin; it has ${known.join(', ')}: correct spec.modelRef.revision, or remove it to follow the latest`;
    return { usable: false, reason: 'ModelRevisionNotFound', message, stalled: true };
  }
  if (revision === undefined) {
    const ready = status?.conditions?.find((condition) => condition.type === 'Ready');
    const why = ready === undefined || ready.status === 'True' ? 'its source is being resolved' : ready.message;
    const stalled = status?.conditions?.some(
      (condition) => condition.type === 'Stalled' && condition.status === 'True',
    );
    return { usable: false, reason: 'ModelNotReady', message: `model ${name}: ${why}`, stalled: stalled ?? false };
  }
  // What is pinned stays, whatever the model's source is resolved to.
  return { usable: true, model: modelAt(model, revision), revision, settling: settling && pin === undefined };
}

function notFound(deployment: SLMDeployment): string {
  const elsewhere = foreignNamespaceOf(deployment);
  const field = elsewhere === undefined ? 'spec.modelRef.name' : 'spec.modelRef';
  const namespace = elsewhere ?? deployment.metadata.namespace;
  return `there is no SLMModel ${modelNameOf(deployment)} in namespace ${namespace}; create it, or correct ${field}`;
}
