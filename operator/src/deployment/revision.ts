/**
 * Which revision a spec asks for. A revision is the model's bytes, the settings and the image under one hash; its ReplicaSet
 * never changes but for its size. Hashes what people wrote, never what was computed from it, so that a new operator with
 * other defaults makes no new revision. Pure.
 */
import { createHash } from 'node:crypto';
import type { ModelDefaults, ModelRevision, ModelVariant, SLMDeployment } from '@slm-operator/crds';
import { isImageReference } from '../hardware/profiles.ts';
import { apiKeySecretName, foreignNamespaceOf, isPerNode, modelNameOf, servedNamesOf } from './names.ts';

/** Server images by image variant: `cpu`, `cuda`, `vulkan` and so on. */
export type ServerImages = Readonly<Record<string, string>>;

/** The image variant that every installation has; the one that a revision is named by. */
export const BASE_IMAGE = 'cpu';

/** What is known of a ReplicaSet that was made for a revision. */
export interface KnownRevision {
  /** The ten hex digits. */
  readonly revision: string;
  readonly settingsHash: string;
  /** Of variant {@link BASE_IMAGE}. */
  readonly image: string;
  /** All variants as they were when the revision was made; absent for one older than variants, or with `spec.image`. */
  readonly images?: ServerImages | undefined;
  /** Grows with every rollout. */
  readonly number: number;
}

export interface WantedRevision {
  readonly revision: string;
  readonly settingsHash: string;
  /** Of variant {@link BASE_IMAGE}. */
  readonly image: string;
  /** All variants, those of the operator that the revision does not have yet among them; undefined where `spec.image` is for every tier. */
  readonly images?: ServerImages | undefined;
}

export interface RevisionInput {
  readonly deployment: SLMDeployment;
  /** The model's bytes. */
  readonly model: Pick<ModelRevision, 'digest'> & {
    readonly variants?: readonly Pick<ModelVariant, 'accelerators' | 'digest'>[] | undefined;
  };
  /** What runs or ran; of a revision with several tiers once for each. */
  readonly known: readonly KnownRevision[];
  /** Server images for settings that are new. */
  readonly images: ServerImages;
  /** What the model says of requests. */
  readonly defaults?: ModelDefaults | undefined;
  /** Whether settings that exist move to other server images of the operator: only where an SLMRollout brings them in waves. */
  readonly adoptImages?: boolean | undefined;
}

/**
 * The revision that this spec and these bytes ask for. With the settings of a revision that exists, its images are kept
 * when the spec names none: the newest such one. So an operator that comes with other default images restarts nothing,
 * and going back to old settings brings back exactly what ran with them.
 */
export function wantedRevision(input: RevisionInput): WantedRevision {
  const { deployment, model, known, images, defaults, adoptImages = false } = input;
  const settings = { ...settingsOf(deployment, model), defaults };
  const settingsHash = shortHash(settings);
  const own = deployment.spec.image;
  const alike = known.filter((candidate) => candidate.settingsHash === settingsHash);
  if (adoptImages && own === undefined && alike.length > 0 && !alike.some((old) => hasImages(old, images))) {
    const image = images[BASE_IMAGE] ?? '';
    // Where only the image for other hardware is new, the name must still be another one.
    const same = alike.some((old) => old.image === image);
    return { revision: shortHash({ settings, image: same ? images : image }), settingsHash, image, images };
  }
  const existing = alike
    .filter((old) => !adoptImages || own !== undefined || hasImages(old, images))
    .reduce<KnownRevision | undefined>((a, b) => (a === undefined || b.number > a.number ? b : a), undefined);
  const image = existing?.image ?? own ?? images[BASE_IMAGE] ?? '';
  return {
    // Named by one image alone, as before there were variants.
    revision: existing?.revision ?? shortHash({ settings, image }),
    settingsHash,
    image,
    // Variants that came later are the operator's of today.
    ...(own === undefined ? { images: { ...images, ...existing?.images, [BASE_IMAGE]: image } } : {}),
  };
}

/** Whether the images that the revision was made with are those, as far as both have them. */
function hasImages({ image, images = {} }: KnownRevision, others: ServerImages): boolean {
  return (
    image === others[BASE_IMAGE] &&
    Object.entries(images).every(([variant, own]) => others[variant] === undefined || others[variant] === own)
  );
}

/**
 * The server image of a revision for some hardware; undefined when the operator has none.
 * @param variant of the image, or a whole reference
 */
export function imageOf({ image, images }: WantedRevision, variant: string): string | undefined {
  if (images === undefined) return image;
  return isImageReference(variant) ? variant : images[variant];
}

/** Everything of the spec that ends up in a pod. What is not here can change without a rollout. */
function settingsOf(deployment: SLMDeployment, { digest: modelDigest, variants }: RevisionInput['model']): object {
  const { spec } = deployment;
  const { count, minTokensPerSecond } = spec.hardware ?? {};
  return {
    modelDigest,
    variants: variants?.length
      ? variants.map(({ accelerators, digest }) => ({ accelerators: accelerators.toSorted(), digest }))
      : undefined,
    // The rest of it says where pods go, not what they are.
    hardware: { count: count === 1 ? undefined : count, minTokensPerSecond },
    model: modelNameOf(deployment),
    modelNamespace: foreignNamespaceOf(deployment),
    servedNames: servedNamesOf(deployment),
    engine: spec.engine,
    resources: spec.resources,
    apiKeys: apiKeySecretName(deployment),
    // Who of them may ask is the broker's business; a change of that makes no new pods.
    tokens: spec.auth?.type === 'ServiceAccount' ? 'ServiceAccount' : undefined,
    tls: spec.tls,
    tracing: spec.tracing,
    api: spec.api,
    limits: spec.limits,
    audit: spec.audit,
    podTemplate: spec.podTemplate,
    // Pods that keep to one a node are others than those that do not.
    placement: isPerNode(deployment) ? 'PerNode' : undefined,
    drainTimeoutSeconds: spec.strategy?.drainTimeoutSeconds,
    image: spec.image,
  };
}

/** First ten hex digits of the SHA-256 of the value's stable JSON. */
export function shortHash(value: unknown): string {
  return createHash('sha256').update(stableJson(value)).digest('hex').slice(0, 10);
}

/** JSON with sorted keys and without what says nothing: undefined, and empty objects and lists inside objects. */
export function stableJson(value: unknown): string {
  return JSON.stringify(prune(value)) ?? 'null';
}

/** True when both have the same {@link stableJson}, and told much faster, since most differ early or are the same object. */
export function isAlike(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null) return false;
  if (Array.isArray(one) || Array.isArray(other)) {
    if (!Array.isArray(one) || !Array.isArray(other) || one.length !== other.length) return false;
    return one.every((inner, index) => isAlike(inner, other[index]));
  }
  const left = one as Readonly<Record<string, unknown>>;
  const right = other as Readonly<Record<string, unknown>>;
  for (const key of Object.keys(left)) if (!isAlikeEntry(left[key], right[key])) return false;
  for (const key of Object.keys(right)) if (!(key in left) && !saysNothing(right[key])) return false;
  return true;
}

function isAlikeEntry(one: unknown, other: unknown): boolean {
  return isAlike(one, other) || (saysNothing(one) && saysNothing(other));
}

/** True of what {@link prune} leaves out of an object, which is also what is empty after its own parts were left out. */
function saysNothing(value: unknown): boolean {
  const pruned = typeof value === 'object' && value !== null ? prune(value) : value;
  return pruned === undefined || isEmpty(pruned);
}

function prune(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(prune);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value)
    .map(([key, inner]) => [key, prune(inner)] as const)
    .filter(([, inner]) => inner !== undefined && !isEmpty(inner))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries);
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
