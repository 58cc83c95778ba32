/** The Service in front of the pods. Pure. */
import { ports, type SLMDeployment } from '@slm-operator/crds';
import type { KubeObject } from '../../execution/plan.ts';
import { podSelector, serviceName, tlsSecretName } from '../names.ts';
import { childMetadata } from './owner.ts';

/** Both ports lead to the same pods: each serves both APIs. Pods get requests only while they are ready. */
export function makeService(deployment: SLMDeployment): KubeObject {
  const { metadata, spec } = deployment;
  const annotations = spec.service?.annotations;
  const appProtocol = tlsSecretName(deployment) === undefined ? 'http' : 'https';
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      ...childMetadata(deployment, serviceName(metadata.name)),
      ...(annotations === undefined ? {} : { annotations }),
    },
    spec: {
      type: spec.service?.type ?? 'ClusterIP',
      selector: podSelector(metadata.name),
      ports: [
        { name: 'ollama', port: ports.ollama, targetPort: 'ollama', protocol: 'TCP', appProtocol },
        { name: 'openai', port: ports.openai, targetPort: 'openai', protocol: 'TCP', appProtocol },
      ],
    },
  } as KubeObject;
}
