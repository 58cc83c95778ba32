/** Objects for tests of waves, as short as a test can say them. Pure. */
import type { SLMDeployment, SLMRollout, SLMRolloutSpec, SLMRolloutStatus } from '@slm-operator/crds';

/** One with waves dev, staging and prod, by label `wave`. */
export function rollout(spec: Partial<SLMRolloutSpec> = {}, status?: SLMRolloutStatus, name = 'fleet'): SLMRollout {
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMRollout',
    metadata: { name, uid: `${name}-uid`, generation: 1 },
    spec: {
      waves: ['dev', 'staging', 'prod'].map((wave) => ({ name: wave, selector: { matchLabels: { wave } } })),
      ...spec,
    },
    ...(status === undefined ? {} : { status }),
  };
}

/** One of the wave, in namespace team, with the wave's name. */
export function deployment(wave: string, change: Partial<SLMDeployment> = {}): SLMDeployment {
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment',
    metadata: { name: wave, namespace: 'team', uid: `${wave}-uid`, generation: 1, labels: { wave } },
    spec: { modelRef: { name: 'm' } },
    ...change,
  };
}
