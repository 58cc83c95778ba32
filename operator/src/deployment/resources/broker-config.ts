/** The ConfigMap with what serving pods need to ask the operator's broker. Pure. */
import { brokerFiles, type SLMDeployment } from '@slm-operator/crds';
import type { KubeObject } from '../../execution/plan.ts';
import { brokerConfigName } from '../names.ts';
import { childMetadata } from './owner.ts';

/** How pods reach the broker. */
export interface BrokerAccess {
  /** Namespace of the operator. */
  readonly namespace: string;
  /** `IP:PORT`. */
  readonly address: string;
  /** Name that the broker's certificate is for. */
  readonly host: string;
  /** PEM bundle. */
  readonly ca: string;
}

/** Mounted into pods, which read it again: a new address or authority restarts nothing. */
export function makeBrokerConfig(deployment: SLMDeployment, access: BrokerAccess): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: childMetadata(deployment, brokerConfigName(deployment.metadata.name)),
    data: {
      [brokerFiles.address]: access.address,
      [brokerFiles.host]: access.host,
      [brokerFiles.ca]: access.ca,
    },
  } as KubeObject;
}
