/**
 * Metrics of what deployments run on, read from their status at each scrape: nothing to keep, and every replica of the operator
 * tells the same. Owns names and labels.
 */
import type { SLMDeployment } from '@slm-operator/crds';
import { Gauge, type Registry } from 'prom-client';
import { findCondition } from '../runtime/conditions.ts';

/** @param deployments all there are */
export function registerHardwareMetrics(registry: Registry, deployments: () => Iterable<SLMDeployment>): void {
  const degraded = new Gauge({
    name: 'slm_deployment_hardware_degraded',
    help: '1 while pods run on other hardware than spec.hardware.preferred, or wait for it. Deployments that name no hardware have none.',
    labelNames: ['namespace', 'name', 'reason'],
    registers: [],
    collect() {
      this.reset();
      for (const { metadata, status } of deployments()) {
        const condition = findCondition(status?.conditions, 'HardwareDegraded');
        if (condition === undefined) continue;
        const { namespace = '', name } = metadata;
        this.set({ namespace, name, reason: condition.reason }, condition.status === 'True' ? 1 : 0);
      }
    },
  });
  const perTier = (name: string, help: string, field: 'replicas' | 'readyReplicas') =>
    new Gauge({
      name,
      help,
      labelNames: ['namespace', 'name', 'tier', 'class'],
      registers: [],
      collect() {
        this.reset();
        for (const { metadata, status } of deployments()) {
          for (const tier of status?.hardware?.tiers ?? []) {
            const { namespace = '' } = metadata;
            this.set({ namespace, name: metadata.name, tier: tier.name, class: tier.class }, tier[field]);
          }
        }
      },
    });
  for (const metric of [
    degraded,
    perTier('slm_deployment_tier_replicas', 'Pods that are meant to be on a kind of hardware.', 'replicas'),
    perTier('slm_deployment_tier_ready_replicas', 'Pods on a kind of hardware that are ready.', 'readyReplicas'),
  ])
    registry.registerMetric(metric);
}
