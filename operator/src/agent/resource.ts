/** The kind that the agent reads and whose status it writes, without the schemas of all kinds in memory. */
import type { SLMNodeCache as NodeCache } from '@slm-operator/crds';
import { GROUP, VERSION } from '@slm-operator/crds/contract';
import { defineResource } from '../kube/resource.ts';

export const SLMNodeCache = defineResource<NodeCache>({
  group: GROUP,
  version: VERSION,
  plural: 'slmnodecaches',
  kind: 'SLMNodeCache',
  namespaced: false,
});
