/** The Services in front of the pods. Pure. */
import { labels, ports, type SLMDeployment } from '@slm-operator/crds';
import type { KubeObject } from '../../execution/plan.ts';
import { candidateServiceName, podSelector, serviceName, tlsSecretName } from '../names.ts';
import { childMetadata } from './owner.ts';

/**
 * Both ports lead to the same pods: each serves both APIs. Pods get requests only while they are ready.
 * @param selector labels of the pods besides those that all have
 */
export function makeService(deployment: SLMDeployment, selector: Readonly<Record<string, string>> = {}): KubeObject {
  const { metadata, spec } = deployment;
  const annotations = spec.service?.annotations;
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      ...childMetadata(deployment, serviceName(metadata.name)),
      ...(annotations === undefined ? {} : { annotations }),
    },
    spec: {
      type: spec.service?.type ?? 'ClusterIP',
      selector: { ...podSelector(metadata.name), ...selector },
      ports: portsOf(deployment),
    },
  } as KubeObject;
}

/** Leads to one revision alone, whether the deployment's own Service leads there or not. For its other pods, not for clients. */
export function makeCandidateService(deployment: SLMDeployment, revision: string): KubeObject {
  const { name } = deployment.metadata;
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: childMetadata(deployment, candidateServiceName(name)),
    spec: {
      type: 'ClusterIP',
      selector: { ...podSelector(name), [labels.revision]: revision },
      ports: portsOf(deployment),
    },
  } as KubeObject;
}

function portsOf(deployment: SLMDeployment): object[] {
  const appProtocol = tlsSecretName(deployment) === undefined ? 'http' : 'https';
  return [
    { name: 'ollama', port: ports.ollama, targetPort: 'ollama', protocol: 'TCP', appProtocol },
    { name: 'openai', port: ports.openai, targetPort: 'openai', protocol: 'TCP', appProtocol },
  ];
}
