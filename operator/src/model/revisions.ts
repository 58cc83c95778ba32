/** Which revisions a model keeps, and who uses them. Pure. */
import {
  digestsOf,
  type ModelRevision,
  revisionName,
  type SLMDeployment,
  type SLMModelStatus,
} from '@slm-operator/crds';
import type { RevisionUse } from '../nodecache/views.ts';
import type { ModelResolution } from './parts.ts';
import { stableJson } from './stable-json.ts';

const MAX_REVISIONS = 10;
const MAX_USERS = 64;

/**
 * Most bytes of all revisions as JSON, but for the latest, which is always there. The API server keeps an object of 1.5 MiB at most, and
 * keeps who wrote each file beside the files.
 */
const MAX_BYTES = 512 * 1024;

/** The revision that a source and its variants were resolved to. */
export function makeRevision(resolution: ModelResolution, now: number): ModelRevision {
  const { digest, sourceRevision, size, files, sources, variants } = resolution;
  return {
    name: revisionName(digest, variants),
    digest,
    ...(sourceRevision === undefined ? {} : { sourceRevision }),
    size,
    resolvedAt: new Date(now).toISOString().replace(/\.\d+Z$/, 'Z'),
    files: [...files],
    sources: [...sources],
    ...(variants === undefined ? {} : { variants: [...variants] }),
  };
}

/**
 * The latest revision, and older ones as long as something runs on bytes that no newer one has. The one before stays, too, until a
 * ReplicaSet of the latest exists: one of the older may just be coming into being, and would otherwise find no bytes. Where
 * the list gets too long, the oldest go; nodes keep what runs there all the same, but nobody gives credentials for it any more.
 */
export function keepRevisions(
  latest: ModelRevision,
  previous: SLMModelStatus | undefined,
  uses: readonly RevisionUse[],
  deployments: readonly SLMDeployment[],
): ModelRevision[] {
  const used = new Set(uses.map(({ digest }) => digest));
  const older = (previous?.revisions ?? []).filter(({ name }) => name !== latest.name);
  const covered = new Set(digestsOf(latest));
  const [before] = older;
  const shared = new Set(before === undefined ? [] : digestsOf(before));
  const begun = [...covered].some((digest) => used.has(digest) && !shared.has(digest));
  const rolling = deployments.length > 0 && !begun;
  const kept = [latest];
  let bytes = bytesOf(latest);
  for (const [index, revision] of older.entries()) {
    const isUsed = digestsOf(revision).some((digest) => used.has(digest) && !covered.has(digest));
    if (!isUsed && !(rolling && index === 0)) continue;
    bytes += bytesOf(revision);
    if (kept.length === MAX_REVISIONS || bytes > MAX_BYTES) break;
    kept.push(revision);
    for (const digest of digestsOf(revision)) covered.add(digest);
  }
  return withUsers(kept, uses);
}

/** Bytes that several revisions have count for the newest of them. */
function withUsers(revisions: readonly ModelRevision[], uses: readonly RevisionUse[]): ModelRevision[] {
  const newer = new Set<string>();
  return revisions.map((revision) => {
    const own = new Set(digestsOf(revision).filter((digest) => !newer.has(digest)));
    for (const digest of own) newer.add(digest);
    const users = uses.filter(({ digest }) => own.has(digest)).map(({ deployment }) => deployment);
    const copy = { ...revision };
    delete copy.usedBy;
    return users.length === 0 ? copy : { ...copy, usedBy: [...new Set(users)].sort().slice(0, MAX_USERS) };
  });
}

function bytesOf(revision: ModelRevision): number {
  return Buffer.byteLength(stableJson(revision));
}
