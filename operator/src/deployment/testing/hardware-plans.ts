/** Plans of deployments that name hardware, and what of them tests compare. Pure. */
import type { SLMDeploymentSpec, SLMDeploymentStatus } from '@slm-operator/crds';
import type { Observed } from '../observed.ts';
import { type DeploymentPlan, planDeployment } from '../plan.ts';
import { type WantedRevision, wantedRevision } from '../revision.ts';
import { cache, config, deployment, digest, model, node, now, observed } from './objects.ts';

export const GPU = 'nvidia.com/gpu';
export const NPU = 'npu.intel.com/accel';
export type Spec = Partial<SLMDeploymentSpec>;

/** Bytes for NPUs beside those for all else. */
const npuDigest = `sha256:${'c0ffee'.padEnd(64, '0')}`;
export const withNpu = model({
  revisions: (model().status?.revisions ?? []).map((revision) => ({
    ...revision,
    variants: [
      {
        name: 'int4-npu',
        accelerators: ['npu'],
        digest: npuDigest,
        size: 1000,
        files: [{ path: 'genai_config.json', size: 1000, digest: npuDigest }],
        sources: [{ url: 'https://x/{path}' }],
        metadata: { format: 'ONNX' as const },
      },
    ],
  })),
});

export const wanted = (spec: Spec = {}): WantedRevision =>
  wantedRevision({
    deployment: deployment(spec),
    model: { digest },
    known: [],
    images: config.serverImages,
  });

export const caches = (...names: string[]) => new Map(names.map((name) => [name, cache(name)]));

export function plan(spec: Spec, change: Partial<Observed> = {}, status?: SLMDeploymentStatus): DeploymentPlan {
  const nodes = change.nodes ?? [node('n1'), node('n2')];
  const given = { caches: caches(...nodes.map(({ name }) => name)), nodes, ...change };
  return planDeployment(observed({ deployment: deployment(spec, status), ...given }), { now, config });
}

/** ReplicaSets that are made or get another size, as `nvidia 2`. */
export function sizes({ apply, patch = [], status }: DeploymentPlan): string[] {
  const tier = (name: string) => name.replace(`chat-${status?.updateRevision}`, '').replace(/^-/, '') || 'cpu';
  const of = (object: object) => (object as { spec?: { replicas?: number } }).spec?.replicas;
  return [
    ...apply.filter(({ kind }) => kind === 'ReplicaSet').map((set) => `${tier(set.metadata.name)} ${of(set)}`),
    ...patch
      .filter(({ patch: change }) => of(change) !== undefined)
      .map(({ target, patch: change }) => `${tier(target.name)} ${of(change)}`),
  ];
}

export const condition = ({ status }: DeploymentPlan, type: string) => {
  const found = status?.conditions?.find((candidate) => candidate.type === type);
  return found && `${found.status} ${found.reason}`;
};
export const said = (result: DeploymentPlan) => ({
  sizes: sizes(result),
  summary: result.status?.hardware?.summary,
  message: result.status?.hardware?.message,
  degraded: condition(result, 'HardwareDegraded'),
  blocked: result.status?.blockedBy?.map(({ reason }) => reason),
});
