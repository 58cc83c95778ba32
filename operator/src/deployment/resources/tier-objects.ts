/** What a revision needs on one kind of hardware: its ReplicaSet, and the template of its claim where devices are claimed. Pure. */
import { modelDefaultsOf } from '@slm-operator/crds';
import type { KubeObject, ObjectRef } from '../../execution/plan.ts';
import { nodeAffinity } from '../../hardware/affinity.ts';
import { CLAIM_API_VERSION } from '../../hardware/claims.ts';
import type { Fit } from '../../hardware/fit.ts';
import type { Tier } from '../../hardware/tiers.ts';
import type { ModelState } from '../model-state.ts';
import { isPerNode, replicaSetName } from '../names.ts';
import type { Observed, ReplicaSetObject } from '../observed.ts';
import { imageOf, type WantedRevision } from '../revision.ts';
import type { TemplateTraffic } from '../traffic/types.ts';
import { makeClaimTemplate } from './claim-template.ts';
import { oneEachNode, STAYS } from './each-node.ts';
import { makeReplicaSet } from './replica-set.ts';

export interface TierObjectsInput {
  readonly observed: Observed;
  readonly model: Extract<ModelState, { readonly usable: true }>;
  readonly wanted: WantedRevision;
  readonly tier: Tier;
  readonly fit: Pick<Fit, 'eligible'>;
  /** Nodes that better hardware has, where each node has one pod. */
  readonly avoid?: readonly string[] | undefined;
  readonly replicas: number;
  /** Number of the rollout. */
  readonly number: number;
  readonly traffic?: TemplateTraffic | undefined;
  readonly config: { readonly serverImagePullPolicy: string };
}

/** In the order in which they are made. */
export function makeTierObjects({
  observed,
  model,
  wanted,
  tier,
  fit,
  avoid,
  replicas,
  number,
  traffic,
  config,
}: TierObjectsInput): KubeObject[] {
  const { deployment, nodes } = observed;
  const perNode = isPerNode(deployment);
  const nodeTerms = nodeAffinity(tier, fit.eligible, nodes, perNode ? (avoid ?? []) : undefined);
  const affinity = {
    ...(nodeTerms === undefined ? {} : { nodeAffinity: nodeTerms }),
    ...(perNode ? { podAntiAffinity: oneEachNode(deployment.metadata.name, wanted.revision) } : {}),
  };
  const { profile, claim, bytes } = tier;
  const name = replicaSetName(deployment.metadata.name, wanted.revision, tier.name);
  const template = claim === undefined ? undefined : 'templateName' in claim ? claim.templateName : name;
  const set = makeReplicaSet({
    deployment,
    wanted,
    hardware: {
      tier: tier.name,
      device: tier.device ?? profile.device,
      claimTemplate: template,
      tolerations: perNode ? [...profile.tolerations, ...STAYS] : profile.tolerations,
      runtimeClassName: profile.runtimeClassName,
      supplementalGroups: profile.supplementalGroups,
      affinity: Object.keys(affinity).length === 0 ? undefined : affinity,
      spread: !perNode,
      env: profile.env,
    },
    image: imageOf(wanted, tier.image) ?? wanted.image,
    number,
    replicas,
    model: bytes,
    modelRevision: model.revision.name,
    defaults: modelDefaultsOf(model.model.spec),
    engine: tier.engine,
    promptCacheBytes: tier.memory.promptCache,
    resources: tier.resources,
    traffic,
    imagePullPolicy: config.serverImagePullPolicy,
  });
  if (claim === undefined || 'templateName' in claim) return [set];
  return [makeClaimTemplate(deployment, name, claim.deviceClasses, tier.count), set];
}

/** What goes with a ReplicaSet: the template that was made for it. */
export function tierChildrenOf(set: ReplicaSetObject): (ObjectRef & { readonly resourceVersion: undefined })[] {
  const { name, namespace } = set.metadata ?? {};
  const claims = set.spec?.template?.spec?.resourceClaims ?? [];
  if (name === undefined || !claims.some((claim) => claim.resourceClaimTemplateName === name)) return [];
  return [
    { apiVersion: CLAIM_API_VERSION, kind: 'ResourceClaimTemplate', name, namespace, resourceVersion: undefined },
  ];
}
