/** Which revisions a model keeps, and who uses them. Pure. */
import { createHash } from 'node:crypto';
import {
  type ModelRevision,
  revisionName,
  type SLMDeployment,
  type SLMModelSpec,
  type SLMModelStatus,
} from '@slm-operator/crds';
import type { RevisionUse } from '../nodecache/views.ts';
import type { Resolution } from '../sources/resolve.ts';

const MAX_REVISIONS = 10;
const MAX_USERS = 64;

/** Hash of what decides which bytes a source gives: a change of it, and of nothing else, resolves anew. */
export function sourceHash({ source, integrity }: SLMModelSpec): string {
  return createHash('sha256').update(stableJson({ source, integrity })).digest('hex').slice(0, 16);
}

/** The revision that a source was resolved to. */
export function makeRevision(resolution: Resolution, now: number): ModelRevision {
  const { digest, sourceRevision, size, files, sources } = resolution;
  return {
    name: revisionName(digest),
    digest,
    ...(sourceRevision === undefined ? {} : { sourceRevision }),
    size,
    resolvedAt: new Date(now).toISOString().replace(/\.\d+Z$/, 'Z'),
    files: [...files],
    sources: [...sources],
  };
}

/**
 * The latest revision, and older ones as long as something runs on them. The one before stays, too, until a ReplicaSet of the
 * latest exists: one of the older may just be coming into being, and would otherwise find no bytes.
 */
export function keepRevisions(
  latest: ModelRevision,
  previous: SLMModelStatus | undefined,
  uses: readonly RevisionUse[],
  deployments: readonly SLMDeployment[],
): ModelRevision[] {
  const isUsed = (digest: string) => uses.some((use) => use.digest === digest);
  const rolling = deployments.length > 0 && !isUsed(latest.digest);
  const older = (previous?.revisions ?? []).filter(({ digest }) => digest !== latest.digest);
  const kept = older.filter(({ digest }, index) => isUsed(digest) || (rolling && index === 0));
  return [latest, ...kept].slice(0, MAX_REVISIONS).map((revision) => withUsers(revision, uses));
}

function withUsers(revision: ModelRevision, uses: readonly RevisionUse[]): ModelRevision {
  const users = uses.filter(({ digest }) => digest === revision.digest).map(({ deployment }) => deployment);
  const copy = { ...revision };
  delete copy.usedBy;
  return users.length === 0 ? copy : { ...copy, usedBy: [...new Set(users)].sort().slice(0, MAX_USERS) };
}

/** JSON with sorted keys and without absent ones: the API server gives keys back in another order. */
export function stableJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
