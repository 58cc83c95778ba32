/**
 * What a model's spec has to be resolved in: its source, and each of its variants. Each part has a hash of the fields that decide
 * over its bytes, so that a change of one leaves what the others were resolved to as it is. Pure; asks nobody.
 */
import { createHash } from 'node:crypto';
import type { ModelRevision, ModelVariant, SLMModel, SLMModelSpec } from '@slm-operator/crds';
import { originOf } from '../sources/http.ts';
import type { SourceFailure } from '../sources/http-errors.ts';
import type { Resolution } from '../sources/resolve.ts';
import { invalidSource, type SourceCredentials, type SourceSpec } from '../sources/source.ts';
import { stableJson } from './stable-json.ts';

/** A variant as the spec has it. */
export type VariantSpec = NonNullable<SLMModelSpec['variants']>[number];

/** What a model was resolved to: its source, and its variants in the order of the spec. */
export interface ModelResolution extends Resolution {
  /** Absent without variants. */
  readonly variants?: readonly ModelVariant[];
}

/** One thing to ask a source for. */
export interface Part {
  /** Undefined: `spec.source` itself. */
  readonly variant: VariantSpec | undefined;
  /** Of what decides over its bytes. */
  readonly hash: string;
  readonly spec: SourceSpec;
  /** Whether the Secret of `spec.source` is for its host, too. */
  readonly mayHaveCredential: boolean;
}

/**
 * Hash of what decides which bytes a model gives, and for which hardware: a change of it, and of nothing else, resolves anew. Its
 * first part is that of the source alone.
 */
export function sourceHash({ source, integrity, variants }: Pick<SLMModelSpec, 'source' | 'integrity' | 'variants'>) {
  const own = hashOf({ source, integrity });
  return variants === undefined || variants.length === 0 ? own : `${own}-${hashOf(variants)}`;
}

/** The source first, then the variants. */
export function partsOf({ spec }: Pick<SLMModel, 'spec'>, hfEndpoint: string): readonly [Part, ...Part[]] {
  const { source, integrity, variants = [] } = spec;
  const { endpoint, insecure, secretRef, caBundleRef } = source;
  const host = hostOf(source.uri, endpoint, hfEndpoint);
  const own: Part = {
    variant: undefined,
    hash: hashOf({ source, integrity }),
    spec: {
      uri: source.uri,
      files: source.files,
      endpoint,
      insecure,
      hasSecretRef: secretRef !== undefined,
      hasCaBundleRef: caBundleRef !== undefined,
      digest: integrity?.digest,
    },
    mayHaveCredential: true,
  };
  const others = variants.map((variant): Part => {
    const { uri, files, digest, format } = variant;
    const mayHaveCredential = hostOf(uri, endpoint, hfEndpoint) === host;
    return {
      variant,
      // Not its name and accelerators: they say nothing about bytes.
      hash: hashOf({ uri, files, digest, format, endpoint, insecure, secretRef, caBundleRef }),
      spec: {
        uri,
        files,
        endpoint: uri.startsWith('hf://') ? endpoint : undefined,
        insecure,
        hasSecretRef: secretRef !== undefined && mayHaveCredential,
        hasCaBundleRef: caBundleRef !== undefined,
        digest,
      },
      mayHaveCredential,
    };
  });
  return [own, ...others];
}

/** The credentials of a model as they may be used for a part: a Secret is for the host of `spec.source` alone. */
export function credentialsFor(part: Pick<Part, 'mayHaveCredential'>, all: SourceCredentials): SourceCredentials {
  return part.mayHaveCredential ? all : { ...all, headers: {} };
}

/** Scheme, host and port that a uri is asked at. */
export function hostOf(uri: string, endpoint: string | undefined, hfEndpoint: string): string {
  return originOf(uri.startsWith('hf://') ? (endpoint ?? hfEndpoint) : uri);
}

/**
 * What the status knows already of these parts, by hash. A reference that can move (a branch, a tag) is resolved once: whoever adds a
 * variant does not get another commit of the source.
 */
export function knownParts({ status }: Pick<SLMModel, 'status'>): ReadonlyMap<string, Resolution> {
  const known = new Map<string, Resolution>();
  const latest = latestOf(status);
  if (latest === undefined) return known;
  const [own] = (status?.resolvedSource ?? '').split('-');
  if (own !== undefined && own !== '' && status?.metadata !== undefined && status.estimate !== undefined) {
    known.set(own, resolutionOf(latest, status.metadata, status.estimate));
  }
  for (const variant of latest.variants ?? []) {
    const { resolvedSource, metadata, estimate } = variant;
    if (resolvedSource === undefined || metadata === undefined || estimate === undefined) continue;
    known.set(resolvedSource, resolutionOf(variant, metadata, estimate));
  }
  return known;
}

/** The latest revision with its files, as the status has it. */
export function latestOf(status: SLMModel['status']): ModelRevision | undefined {
  const name = status?.latestRevision?.name;
  return name === undefined ? undefined : status?.revisions?.find((revision) => revision.name === name);
}

function resolutionOf(
  { digest, sourceRevision, size, files, sources }: ModelRevision | ModelVariant,
  metadata: Resolution['metadata'],
  estimate: Resolution['estimate'],
): Resolution {
  return {
    digest,
    ...(sourceRevision === undefined ? {} : { sourceRevision }),
    size,
    files,
    sources,
    metadata,
    estimate,
  };
}

/** What the parts were resolved to, together. `results` has one for each part, in the same order. */
export function joinParts(parts: readonly Part[], results: readonly Resolution[]): ModelResolution {
  const [own, ...others] = results as readonly [Resolution, ...Resolution[]];
  if (others.length === 0) return own;
  const variants = others.map((result, index): ModelVariant => {
    const { variant, hash } = parts[index + 1] as Part;
    const { digest, sourceRevision, size, files, sources, metadata, estimate } = result;
    return {
      name: variant?.name ?? '',
      accelerators: [...(variant?.accelerators ?? [])],
      digest,
      resolvedSource: hash,
      ...(sourceRevision === undefined ? {} : { sourceRevision }),
      size,
      files: [...files],
      sources: [...sources],
      metadata,
      estimate,
    };
  });
  return { ...own, variants };
}

/** Throws a SourceError when the bytes are of another format than the variant is to have. */
export function checkFormat({ variant, spec }: Part, { metadata }: Pick<Resolution, 'metadata'>): void {
  const wanted = variant?.format ?? 'Auto';
  if (wanted === 'Auto' || wanted === metadata.format) return;
  throw invalidSource(
    `${spec.uri} is ${metadata.format}, and the variant is to be ${wanted}: correct its uri or format`,
  );
}

/** A failure of a part, with the fields named that are to be corrected: the sentences of sources speak of `source`. */
export function failureOfPart({ variant, mayHaveCredential }: Part, failure: SourceFailure, hasSecret: boolean) {
  if (variant === undefined) return failure;
  const own = `spec.variants[${variant.name}]`;
  const message = failure.message
    .replaceAll('source.uri', `${own}.uri`)
    .replaceAll('source.files', `${own}.files`)
    .replaceAll('integrity.digest', `${own}.digest`);
  const withheld =
    failure.reason === 'Unauthorized' && hasSecret && !mayHaveCredential
      ? '. The Secret of source.secretRef is for the host of source.uri and was not sent'
      : '';
  return { ...failure, message: `variant ${variant.name}: ${message}${withheld}` };
}

/**
 * Most bytes of a revision as JSON. The API server keeps an object of 1.5 MiB at most, keeps who wrote each file beside the files,
 * and older revisions need room, too.
 */
const MAX_REVISION_BYTES = 384 * 1024;

/** Throws a SourceError when there are more files than a status can list. */
export function checkSize(resolution: ModelResolution): void {
  const bytes = Buffer.byteLength(stableJson([resolution.files, resolution.variants]));
  if (bytes <= MAX_REVISION_BYTES) return;
  const lists = [resolution, ...(resolution.variants ?? [])];
  const files = lists.reduce((sum, { files: one }) => sum + one.length, 0);
  throw invalidSource(
    `source and variants together have ${files} files, and their list of ${Math.ceil(bytes / 1024)} KiB is longer than the ${MAX_REVISION_BYTES / 1024} KiB that a status can hold: narrow source.files and the files of spec.variants to those that are served`,
  );
}

function hashOf(value: unknown): string {
  return createHash('sha256').update(stableJson(value)).digest('hex').slice(0, 16);
}
