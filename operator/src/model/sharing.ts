/**
 * Who may use a model of another namespace: what `spec.allowedNamespaces` says, against the labels of namespaces. Pure. Where the
 * labels are not known, nobody is let in. Owns the sentences that tell people why not.
 */
import type { SLMModel } from '@slm-operator/crds';
import { type Labels, matchesLabels, selectorText } from '../kube/label-selector.ts';

/** Labels of a namespace; undefined of one that is not known, or not yet. */
export type NamespaceLabels = (namespace: string) => Labels | undefined;

/** `unknown`: it depends on labels that nobody has seen yet. */
export type Sharing = 'allowed' | 'refused' | 'unknown';

/** Whether deployments of a namespace may serve the model. */
export function sharingOf({ metadata, spec }: SLMModel, namespace: string, labelsOf: NamespaceLabels): Sharing {
  if (namespace === metadata.namespace) return 'allowed';
  const { from = 'Same', selector } = spec.allowedNamespaces ?? {};
  if (from === 'All') return 'allowed';
  if (from !== 'Selector' || selector === undefined) return 'refused';
  const labels = labelsOf(namespace);
  if (labels === undefined) return 'unknown';
  return matchesLabels(selector, labels) ? 'allowed' : 'refused';
}

/** Why deployments of a namespace may not serve the model, and who can change that. */
export function refusalOf({ metadata, spec }: SLMModel, namespace: string): string {
  const name = `SLMModel ${metadata.namespace}/${metadata.name}`;
  const { from = 'Same', selector } = spec.allowedNamespaces ?? {};
  if (from === 'Selector' && selector !== undefined) {
    const who = `namespace ${metadata.namespace} and namespaces with the labels ${selectorText(selector)}`;
    return `${name} may be used from ${who} only, and namespace ${namespace} does not have them: label it, or have the model’s owner change spec.allowedNamespaces`;
  }
  return `${name} may be used from namespace ${metadata.namespace} only; its owner can let namespace ${namespace} in with spec.allowedNamespaces`;
}

/** Whether two models let the same namespaces in, whatever else differs. */
export function sharesAlike(a: SLMModel, b: SLMModel): boolean {
  return JSON.stringify(a.spec.allowedNamespaces) === JSON.stringify(b.spec.allowedNamespaces);
}
