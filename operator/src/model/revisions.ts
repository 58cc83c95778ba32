/** Which revisions a model keeps, and who uses them. Pure. */
import {
  digestsOf,
  type ModelRevision,
  revisionName,
  type SLMDeployment,
  type SLMModelStatus,
} from '@slm-operator/crds';
import type { RevisionUse } from '../nodecache/views.ts';
import { isFrom, type PastUse } from './history.ts';
import type { ModelResolution } from './parts.ts';
import { stableJson } from './stable-json.ts';

/** Bound of the schema. */
export const MAX_REVISIONS = 10;
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

export interface KeepInput {
  readonly latest: ModelRevision;
  readonly previous: SLMModelStatus | undefined;
  /** Namespace of the model. */
  readonly namespace: string | undefined;
  readonly uses: readonly RevisionUse[];
  /** What ReplicaSets without pods were made from. */
  readonly past?: readonly PastUse[] | undefined;
  readonly deployments: readonly SLMDeployment[];
}

/**
 * The latest revision, and older ones as long as something runs on bytes that no newer one has, a deployment pins them, or the history
 * of one may go back to them. The one before stays, too, until a ReplicaSet of the latest exists: one of the older may just be coming
 * into being, and would otherwise find no bytes. Where the list gets too long, those of the history go first, then the oldest;
 * nodes keep what runs there all the same, but nobody gives credentials for it any more.
 */
export function keepRevisions(input: KeepInput): ModelRevision[] {
  const { latest, previous, uses, past = [], deployments, namespace } = input;
  const used = new Set(uses.map(({ digest }) => digest));
  const pinned = new Set(deployments.map(({ spec }) => spec.modelRef?.revision));
  const older = (previous?.revisions ?? []).filter(({ name }) => name !== latest.name);
  const covered = new Set(digestsOf(latest));
  const [before] = older;
  const shared = new Set(before === undefined ? [] : digestsOf(before));
  const begun = [...covered].some((digest) => used.has(digest) && !shared.has(digest));
  const rolling = deployments.length > 0 && !begun;
  const isUsed = (revision: ModelRevision, index: number) => {
    const own = digestsOf(revision).some((digest) => used.has(digest) && !covered.has(digest));
    const needed = own || pinned.has(revision.name) || (rolling && index === 0);
    if (needed) for (const digest of digestsOf(revision)) covered.add(digest);
    return needed;
  };
  const room = makeRoom(latest);
  const kept = new Set(takeWhile(older.filter(isUsed), room));
  const history = older.filter((revision) => !kept.has(revision) && past.some((use) => isFrom(revision, use)));
  for (const revision of takeWhile(history, room)) kept.add(revision);
  const list = older.filter((revision) => kept.has(revision)).map((revision) => withFacts(revision, previous));
  return withUsers([latest, ...list], uses, namespace);
}

/** Answers whether one more revision may be listed, and counts it if so. */
function makeRoom(latest: ModelRevision): (revision: ModelRevision) => boolean {
  let bytes = bytesOf(latest);
  let count = 1;
  return (revision) => {
    const more = bytesOf(revision);
    if (count === MAX_REVISIONS || bytes + more > MAX_BYTES) return false;
    count++;
    bytes += more;
    return true;
  };
}

/** Newest first, as far as there is room: an old one is not kept where a newer one was not. */
function takeWhile(revisions: readonly ModelRevision[], room: (revision: ModelRevision) => boolean): ModelRevision[] {
  const end = revisions.findIndex((revision) => !room(revision));
  return revisions.slice(0, end < 0 ? revisions.length : end);
}

/** What the status says of the latest revision stays known of it when another one takes its place. */
function withFacts(revision: ModelRevision, previous: SLMModelStatus | undefined): ModelRevision {
  if (revision.name !== previous?.latestRevision?.name) return revision;
  const { metadata, estimate } = previous;
  return {
    ...revision,
    ...(metadata === undefined ? {} : { metadata }),
    ...(estimate === undefined ? {} : { estimate }),
  };
}

/** Bytes that several revisions have count for the newest of them. */
function withUsers(
  revisions: readonly ModelRevision[],
  uses: readonly RevisionUse[],
  namespace: string | undefined,
): ModelRevision[] {
  const newer = new Set<string>();
  return revisions.map((revision) => {
    const own = new Set(digestsOf(revision).filter((digest) => !newer.has(digest)));
    for (const digest of own) newer.add(digest);
    const users = uses
      .filter(({ digest }) => own.has(digest))
      .map((use) => (use.namespace === namespace ? use.deployment : `${use.namespace}/${use.deployment}`));
    const copy = { ...revision };
    delete copy.usedBy;
    return users.length === 0 ? copy : { ...copy, usedBy: [...new Set(users)].sort().slice(0, MAX_USERS) };
  });
}

function bytesOf(revision: ModelRevision): number {
  return Buffer.byteLength(stableJson(revision));
}
