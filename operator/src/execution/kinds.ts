/**
 * Which resource a kind is. Owns the resource types of this API and the table from `apiVersion` and `kind` to what the
 * client needs for a URL; holds no logic.
 */
import {
  API_VERSION,
  type SLMDeployment as Deployment,
  GROUP,
  type Kind,
  type SLMModel as Model,
  type SLMNodeCache as NodeCache,
  type SLMRollout as Rollout,
  slmDeploymentKind,
  slmModelKind,
  slmNodeCacheKind,
  slmRolloutKind,
  VERSION,
} from '@slm-operator/crds';
import {
  apiVersionOf,
  ConfigMap,
  defineResource,
  type KubeObject,
  NetworkPolicy,
  Pod,
  PodDisruptionBudget,
  ReplicaSet,
  ResourceClaimTemplate,
  type ResourceType,
  Secret,
  Service,
} from '../kube/resource.ts';

function custom<T extends KubeObject>(kind: Kind): ResourceType<T> {
  return defineResource<T>({
    group: GROUP,
    version: VERSION,
    plural: kind.plural,
    kind: kind.kind,
    namespaced: kind.namespaced,
  });
}

export const SLMModel = custom<Model>(slmModelKind);
export const SLMDeployment = custom<Deployment>(slmDeploymentKind);
export const SLMNodeCache = custom<NodeCache>(slmNodeCacheKind);
export const SLMRollout = custom<Rollout>(slmRolloutKind);

const known = new Map<string, ResourceType>(
  [
    SLMModel,
    SLMDeployment,
    SLMNodeCache,
    SLMRollout,
    ReplicaSet,
    Pod,
    Service,
    Secret,
    ConfigMap,
    PodDisruptionBudget,
    NetworkPolicy,
    ResourceClaimTemplate,
  ].map((type: ResourceType) => [`${apiVersionOf(type)}/${type.kind}`, type]),
);

/** The resource of a kind. Throws when a plan names a kind that nobody taught the executor. */
export function resourceTypeOf(object: { readonly apiVersion: string; readonly kind: string }): ResourceType {
  const type = known.get(`${object.apiVersion}/${object.kind}`);
  if (type === undefined) {
    throw new Error(`no resource is known for ${object.apiVersion} ${object.kind}: add it to execution/kinds.ts`);
  }
  return type;
}

/** `apiVersion` of every kind of this API. */
export const apiVersion = API_VERSION;
