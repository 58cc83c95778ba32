/**
 * Whether the bytes of an older revision of a deployment can still be had: from the model that lists them, or from nodes that hold
 * them. Pure. What lies nowhere any more must not get pods: they would wait for ever.
 */
import type { SLMNodeCache } from '@slm-operator/crds';
import type { KubeObject } from '../kube/resource.ts';
import { isFrom, pastUseOf } from './history.ts';
import { MAX_REVISIONS } from './revisions.ts';

export interface LostInput {
  /** Of the deployment. */
  readonly namespace: string;
  /** As people of that namespace call it. */
  readonly modelText: string;
  /** Undefined: there is none any more. */
  readonly model: { readonly status?: { readonly revisions?: readonly Parameters<typeof isFrom>[0][] } } | undefined;
  /** ReplicaSets of the revision. */
  readonly sets: readonly KubeObject[];
  readonly nodes: readonly { readonly name: string }[];
  readonly caches: { get(node: string): SLMNodeCache | undefined };
}

/** Why the revision can get no pods any more, for a person; undefined where it can. */
export function lostBytes({ namespace, modelText, model, sets, nodes, caches }: LostInput): string | undefined {
  const uses = sets.flatMap((set) => pastUseOf(set) ?? []);
  const [use] = uses;
  if (use === undefined) return undefined;
  if (model?.status?.revisions?.some((revision) => uses.some((one) => isFrom(revision, one)))) return undefined;
  const digests = new Set(uses.map(({ digest }) => digest));
  if (nodes.some(({ name }) => holds(caches.get(name), digests, namespace))) return undefined;
  const why =
    model === undefined
      ? `there is no SLMModel ${modelText} any more`
      : `model ${modelText} does not list it any more (it keeps ${MAX_REVISIONS} revisions)`;
  const name = use.revision ?? use.digest.slice(0, 'sha256:'.length + 10);
  return `its bytes, revision ${name} of the model, are on no node, and ${why}: put that version back into the model’s source`;
}

function holds(cache: SLMNodeCache | undefined, digests: ReadonlySet<string>, namespace: string): boolean {
  const entries = cache?.status?.entries ?? [];
  const ready = entries.filter(({ digest, state }) => state === 'Ready' && digests.has(digest));
  return ready.some(({ digest }) =>
    cache?.spec?.wanted?.some((wanted) => wanted.digest === digest && wanted.namespaces.includes(namespace)),
  );
}
