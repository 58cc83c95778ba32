import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { registerHardwareMetrics } from './hardware-metrics.ts';
import { ago, deployment } from './testing/objects.ts';

it('tells of every deployment what its status says, and forgets one that is gone', async () => {
  const registry = new Registry();
  const condition = { type: 'HardwareDegraded', status: 'True' as const, reason: 'FellBack', message: '' };
  const degraded = deployment(
    {},
    {
      conditions: [{ ...condition, lastTransitionTime: ago(1) }],
      hardware: {
        degraded: true,
        summary: '',
        message: '',
        tiers: [
          { name: 'nvidia', class: 'gpu', profile: 'nvidia', replicas: 2, readyReplicas: 1 },
          { name: 'cpu', class: 'cpu', profile: 'cpu', replicas: 3, readyReplicas: 3 },
        ],
      },
    },
  );
  let all = [degraded, deployment()];
  registerHardwareMetrics(registry, () => all);
  const lines = async () => (await registry.metrics()).split('\n').filter((line) => line.startsWith('slm_'));
  expect(await lines()).toEqual([
    'slm_deployment_hardware_degraded{namespace="demo",name="chat",reason="FellBack"} 1',
    'slm_deployment_tier_replicas{namespace="demo",name="chat",tier="nvidia",class="gpu"} 2',
    'slm_deployment_tier_replicas{namespace="demo",name="chat",tier="cpu",class="cpu"} 3',
    'slm_deployment_tier_ready_replicas{namespace="demo",name="chat",tier="nvidia",class="gpu"} 1',
    'slm_deployment_tier_ready_replicas{namespace="demo",name="chat",tier="cpu",class="cpu"} 3',
  ]);
  all = [deployment()];
  expect(await lines()).toEqual([]);
});
