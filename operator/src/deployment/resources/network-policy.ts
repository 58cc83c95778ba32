/** The NetworkPolicy of the serving pods. Pure. */
import { broker, ports, type SLMDeployment } from '@slm-operator/crds';
import type { KubeObject } from '../../execution/plan.ts';
import { networkPolicyName, podSelector } from '../names.ts';
import type { BrokerAccess } from './broker-config.ts';
import { childMetadata } from './owner.ts';

const SERVED = [
  { port: ports.ollama, protocol: 'TCP' },
  { port: ports.openai, protocol: 'TCP' },
];

/**
 * In: the two ports, from anywhere. Out: nothing, not even DNS, unless the spec allows it; a server has its weights and its
 * keys on disk, so a model or a prompt that went astray can send nothing away.
 * @param access of pods that have tokens reviewed: they reach the operator's broker, by its address, and nothing else
 * @param peers whether pods pass requests on to each other
 */
export function makeNetworkPolicy(
  deployment: SLMDeployment,
  access?: Pick<BrokerAccess, 'namespace'>,
  peers = false,
): KubeObject {
  const { metadata, spec } = deployment;
  const denyEgress = spec.isolation?.denyEgress !== false;
  const egress = [
    ...(access === undefined ? [] : [toBroker(access.namespace)]),
    ...(peers ? [{ to: [{ podSelector: { matchLabels: podSelector(metadata.name) } }], ports: SERVED }] : []),
  ];
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: childMetadata(deployment, networkPolicyName(metadata.name)),
    spec: {
      podSelector: { matchLabels: podSelector(metadata.name) },
      // Listing Egress without a rule for it is what denies it.
      policyTypes: denyEgress ? ['Ingress', 'Egress'] : ['Ingress'],
      ...(denyEgress && egress.length > 0 ? { egress } : {}),
      ingress: [{ ports: SERVED }],
    },
  } as KubeObject;
}

function toBroker(namespace: string): object {
  return {
    to: [
      {
        // Every namespace carries its name as this label.
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
        podSelector: { matchLabels: broker.podLabels },
      },
    ],
    ports: [{ port: broker.port, protocol: 'TCP' }],
  };
}
