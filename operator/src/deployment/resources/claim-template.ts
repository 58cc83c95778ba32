/** The ResourceClaimTemplate of a ReplicaSet whose pods claim devices (Dynamic Resource Allocation). Pure. */
import type { SLMDeployment } from '@slm-operator/crds';
import type { KubeObject } from '../../execution/plan.ts';
import { CLAIM_API_VERSION } from '../../hardware/claims.ts';
import { childMetadata } from './owner.ts';

/**
 * A claim of `count` devices of one class; of several classes, of the first that has them.
 * @param name of the ReplicaSet
 */
export function makeClaimTemplate(
  deployment: SLMDeployment,
  name: string,
  deviceClasses: readonly string[],
  count: number,
): KubeObject {
  const [only] = deviceClasses;
  const request =
    deviceClasses.length === 1
      ? { name: 'device', exactly: { deviceClassName: only, count } }
      : {
          name: 'device',
          firstAvailable: deviceClasses.map((deviceClassName, index) => ({
            name: `choice-${index + 1}`,
            deviceClassName,
            count,
          })),
        };
  return {
    apiVersion: CLAIM_API_VERSION,
    kind: 'ResourceClaimTemplate',
    metadata: childMetadata(deployment, name),
    spec: { spec: { devices: { requests: [request] } } },
  } as KubeObject;
}
