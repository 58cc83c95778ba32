/** The SLMModel of a deployment that names its source in place. Pure. */
import { API_VERSION, type SLMDeployment, type SLMModelSpec } from '@slm-operator/crds';
import type { KubeObject } from '../../execution/plan.ts';
import { modelNameOf } from '../names.ts';
import { childMetadata } from './owner.ts';

/** Undefined when the deployment refers to a model instead. */
export function makeModel(deployment: SLMDeployment): (KubeObject & { readonly spec: SLMModelSpec }) | undefined {
  const inline = deployment.spec.model;
  if (inline === undefined) return undefined;
  const { uri, files, secretRef, digest } = inline;
  return {
    apiVersion: API_VERSION,
    kind: 'SLMModel',
    metadata: childMetadata(deployment, modelNameOf(deployment)),
    spec: {
      source: { uri, ...(files === undefined ? {} : { files }), ...(secretRef === undefined ? {} : { secretRef }) },
      ...(digest === undefined ? {} : { integrity: { digest } }),
    },
  };
}
