/**
 * Whether the cluster knows claims of devices (Dynamic Resource Allocation), and what becomes of profiles that need them where it does
 * not. Owns the question to the API server, which is asked once at start; everything else here is pure.
 */
import type { KubeClient } from '../kube/client.ts';
import { isNotFound } from '../kube/errors.ts';
import type { Profiles } from './profiles.ts';

/** The API that templates of claims are made in. */
export const CLAIM_API_VERSION = 'resource.k8s.io/v1';

/**
 * The profiles as this cluster can use them. Asks only when one of them claims devices. An API server that cannot answer now counts as
 * one that has claims: it says later, and then for good, what is wrong.
 */
export async function profilesHere(
  client: Pick<KubeClient, 'request'>,
  profiles: Profiles,
  signal?: AbortSignal,
): Promise<Profiles> {
  if (![...profiles.values()].some(({ claim }) => claim !== undefined)) return profiles;
  try {
    await client.request({
      method: 'GET',
      path: `/apis/${CLAIM_API_VERSION}`,
      ...(signal === undefined ? {} : { signal }),
    });
    return profiles;
  } catch (error) {
    return isNotFound(error) ? withoutClaims(profiles) : profiles;
  }
}

/** The profiles of a cluster without claims: those that need them say why nobody can use them. */
export function withoutClaims(profiles: Profiles): Profiles {
  return new Map(
    [...profiles].map(([name, profile]) => {
      if (profile.claim === undefined) return [name, profile];
      const unusable = `hardware profile ${name} claims its devices, and this cluster has no ${CLAIM_API_VERSION}, which comes with Kubernetes 1.34: name the device plugin's resources in the chart's hardware.profiles.${name}, or upgrade the cluster and restart the operator`;
      return [name, { ...profile, unusable }];
    }),
  );
}
