/**
 * Which revision a spec asks for. A revision is the model's bytes, the settings and the image under one hash; its ReplicaSet
 * never changes but for its size. Hashes what people wrote, never what was computed from it, so that a new operator with
 * other defaults makes no new revision. Pure.
 */
import { createHash } from 'node:crypto';
import type { ModelDefaults, SLMDeployment } from '@slm-operator/crds';
import { apiKeySecretName, modelNameOf, servedNamesOf } from './names.ts';

/** What is known of a ReplicaSet that was made for a revision. */
export interface KnownRevision {
  /** The ten hex digits. */
  readonly revision: string;
  readonly settingsHash: string;
  readonly image: string;
  /** Grows with every rollout. */
  readonly number: number;
}

export interface WantedRevision {
  readonly revision: string;
  readonly settingsHash: string;
  readonly image: string;
}

/**
 * The revision that this spec and these bytes ask for. With the settings of a revision that exists, its image is kept
 * when the spec names none: the newest such one. So an operator that comes with another default image restarts nothing,
 * and going back to old settings brings back exactly what ran with them.
 * @param modelDigest digest of the model's revision
 * @param defaultImage server image for settings that are new
 * @param defaults what the model says of requests
 */
export function wantedRevision(
  deployment: SLMDeployment,
  modelDigest: string,
  known: readonly KnownRevision[],
  defaultImage: string,
  defaults?: ModelDefaults,
): WantedRevision {
  const settings = { ...settingsOf(deployment, modelDigest), defaults };
  const settingsHash = shortHash(settings);
  const existing = known
    .filter((candidate) => candidate.settingsHash === settingsHash)
    .reduce<KnownRevision | undefined>((a, b) => (a === undefined || b.number > a.number ? b : a), undefined);
  if (existing !== undefined) return { revision: existing.revision, settingsHash, image: existing.image };
  const image = deployment.spec.image ?? defaultImage;
  return { revision: shortHash({ settings, image }), settingsHash, image };
}

/** Everything of the spec that ends up in a pod. What is not here can change without a rollout. */
function settingsOf(deployment: SLMDeployment, modelDigest: string): object {
  const { spec } = deployment;
  return {
    modelDigest,
    model: modelNameOf(deployment),
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
