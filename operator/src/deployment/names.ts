/**
 * Names and labels of everything that an SLMDeployment makes. The only place where a child's name is put together; part of
 * the upgrade contract. Pure.
 */
import { annotations, labels, MANAGED_BY, type SLMDeployment } from '@slm-operator/crds';
import { type KubeObject, makeKey } from '../kube/resource.ts';

/** Every child that is watched carries this, so that the caches hold nothing else. */
export const managedSelector = `${labels.managedBy}=${MANAGED_BY}`;

/** The tier whose ReplicaSets are named and selected as all were before there were tiers. */
export const CPU_TIER = 'cpu';

/** True when each matching node has a pod, and `replicas` says nothing. */
export function isPerNode({ spec }: SLMDeployment): boolean {
  return spec.placement?.mode === 'PerNode';
}

/** One ReplicaSet for each revision and kind of hardware. */
export function replicaSetName(deployment: string, revision: string, tier: string = CPU_TIER): string {
  return tier === CPU_TIER ? `${deployment}-${revision}` : `${deployment}-${revision}-${tier}`;
}

export function serviceName(deployment: string): string {
  return deployment;
}

/** The Service that leads to the candidate's pods alone, while requests are passed on to them. */
export function candidateServiceName(deployment: string): string {
  return `${deployment}-candidate`;
}

export function disruptionBudgetName(deployment: string): string {
  return deployment;
}

export function networkPolicyName(deployment: string): string {
  return deployment;
}

/** The Secret with generated keys. */
export function generatedKeysName(deployment: string): string {
  return `${deployment}-api-keys`;
}

/** The Secret with the keys that clients may use; undefined when nobody needs one. */
export function apiKeySecretName({ metadata, spec }: SLMDeployment): string | undefined {
  if ((spec.auth?.type ?? 'APIKey') !== 'APIKey') return undefined;
  return spec.auth?.secretRef?.name ?? generatedKeysName(metadata.name);
}

/** True when the keys are made here rather than brought by the user. */
export function keysAreGenerated({ spec }: SLMDeployment): boolean {
  return (spec.auth?.type ?? 'APIKey') === 'APIKey' && spec.auth?.secretRef === undefined;
}

/** The audience of tokens for a deployment's clients: a token for one is worth nothing at another. */
export function tokenAudience({ metadata }: SLMDeployment): string {
  return `${metadata.name}.${metadata.namespace}.svc`;
}

/** The ConfigMap with what serving pods need to ask the broker. */
export function brokerConfigName(deployment: string): string {
  return `${deployment}-broker`;
}

/** The Secret with the certificate; undefined for plain HTTP. */
export function tlsSecretName({ spec }: SLMDeployment): string | undefined {
  return spec.tls?.secretRef.name;
}

/** The SLMModel that is served: the one named, or the one made for an inline source. */
export function modelNameOf({ metadata, spec }: SLMDeployment): string {
  return spec.modelRef?.name ?? metadata.name;
}

/** Namespace of the SLMModel that is served, where it is another than the deployment's own. */
export function foreignNamespaceOf({ metadata, spec }: SLMDeployment): string | undefined {
  const namespace = spec.modelRef?.namespace;
  return namespace === metadata.namespace ? undefined : namespace;
}

/** Key of the SLMModel that a deployment serves. */
export function modelKeyOf(deployment: SLMDeployment): string {
  return makeKey(foreignNamespaceOf(deployment) ?? deployment.metadata.namespace, modelNameOf(deployment));
}

/** The SLMModel as people of the deployment's namespace call it: by its name, or `namespace/name` of one elsewhere. */
export function modelTextOf(deployment: SLMDeployment): string {
  const namespace = foreignNamespaceOf(deployment);
  return namespace === undefined ? modelNameOf(deployment) : `${namespace}/${modelNameOf(deployment)}`;
}

/** Key of the SLMModel that a ReplicaSet's pods mount; undefined of a ReplicaSet of somebody else. */
export function modelKeyOfSet({ metadata }: KubeObject): string | undefined {
  const model = metadata?.labels?.[labels.model];
  if (model === undefined) return undefined;
  return makeKey(metadata?.annotations?.[annotations.modelNamespace] ?? metadata?.namespace, model);
}

/** Namespace of a deployment or ReplicaSet whose model is in another one: what indexes find those by. */
export function borrowerOf(deployment: SLMDeployment): string | undefined {
  return foreignNamespaceOf(deployment) === undefined ? undefined : deployment.metadata.namespace;
}

/** The same of a ReplicaSet. */
export function borrowerOfSet({ metadata }: KubeObject): string | undefined {
  return metadata?.annotations?.[annotations.modelNamespace] === undefined ? undefined : metadata.namespace;
}

/** Names that clients use in `model`, the canonical one first. */
export function servedNamesOf(deployment: SLMDeployment): readonly string[] {
  return deployment.spec.servedNames ?? [...new Set([deployment.metadata.name, modelNameOf(deployment)])];
}

/** What all pods of a deployment have in common, whatever their revision. */
export function podSelector(deployment: string): Record<string, string> {
  return { [labels.managedBy]: MANAGED_BY, [labels.deployment]: deployment };
}

/** The same as text, for the scale subresource. */
export function podSelectorText(deployment: string): string {
  return Object.entries(podSelector(deployment))
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}

/**
 * What the pods of one ReplicaSet have in common. The selector of tier cpu matches the pods of the others too; those have a
 * controller already, so no ReplicaSet takes them for its own.
 */
export function revisionSelector(
  deployment: string,
  revision: string,
  tier: string = CPU_TIER,
): Record<string, string> {
  const selector = { [labels.deployment]: deployment, [labels.revision]: revision };
  return tier === CPU_TIER ? selector : { ...selector, [labels.tier]: tier };
}

/** Labels of every child. */
export function childLabels(deployment: string): Record<string, string> {
  return {
    [labels.name]: 'slm-server',
    [labels.instance]: deployment,
    [labels.component]: 'server',
    ...podSelector(deployment),
  };
}

/** Labels of a ReplicaSet and of its pods. */
export function revisionLabels(
  deployment: string,
  revision: string,
  model: string,
  tier: string = CPU_TIER,
): Record<string, string> {
  return { ...childLabels(deployment), [labels.revision]: revision, [labels.model]: model, [labels.tier]: tier };
}
