/** What a deployment can know of its model: a revision to serve, or why there is none. Pure. */
import type { ModelRevision, Reason, SLMDeployment, SLMModel } from '@slm-operator/crds';
import { controllerOf } from '../kube/resource.ts';
import { modelNameOf } from './names.ts';

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
      readonly reason: Extract<Reason, 'ModelNotFound' | 'ModelNotReady' | 'ModelConflict'>;
      readonly message: string;
      /** Only a person can help. */
      readonly stalled: boolean;
    };

/** @param model the SLMModel of the name that the spec gives, if there is one */
export function modelStateOf(deployment: SLMDeployment, model: SLMModel | undefined): ModelState {
  const name = modelNameOf(deployment);
  const inline = deployment.spec.model !== undefined;
  if (model === undefined) {
    return inline
      ? { usable: false, reason: 'ModelNotReady', message: `model ${name} is being made`, stalled: false }
      : {
          usable: false,
          reason: 'ModelNotFound',
          message: `there is no SLMModel ${name} in namespace ${deployment.metadata.namespace}; create it, or correct spec.modelRef.name`,
          stalled: false,
        };
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
  const latest = status?.latestRevision;
  const revision = status?.revisions?.find((candidate) => candidate.name === latest?.name);
  if (revision === undefined) {
    const ready = status?.conditions?.find((condition) => condition.type === 'Ready');
    const why = ready === undefined || ready.status === 'True' ? 'its source is being resolved' : ready.message;
    const stalled = status?.conditions?.some(
      (condition) => condition.type === 'Stalled' && condition.status === 'True',
    );
    return { usable: false, reason: 'ModelNotReady', message: `model ${name}: ${why}`, stalled: stalled ?? false };
  }
  const seen = status?.observedGeneration ?? 0;
  return { usable: true, model, revision, settling: seen < (model.metadata.generation ?? 0) };
}
