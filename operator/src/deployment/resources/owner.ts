/** Metadata that all children share. Pure. */
import { API_VERSION, type SLMDeployment } from '@slm-operator/crds';
import type { KubeObject } from '../../execution/plan.ts';
import { childLabels } from '../names.ts';

/** Name, namespace, labels and the controller reference of a child; the child goes when the deployment goes. */
export function childMetadata(deployment: SLMDeployment, name: string): KubeObject['metadata'] {
  const { metadata } = deployment;
  if (metadata.uid === undefined) throw new Error('only a stored SLMDeployment can own objects');
  return {
    name,
    ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
    labels: childLabels(metadata.name),
    ownerReferences: [
      {
        apiVersion: API_VERSION,
        kind: 'SLMDeployment',
        name: metadata.name,
        uid: metadata.uid,
        controller: true,
        blockOwnerDeletion: true,
      },
    ],
  };
}
