/**
 * Decides who gets what from the broker, and makes the grant. A node gets what one download needs, for a revision that its
 * SLMNodeCache lists, from a model that lists that revision; nothing else, whatever it asks for. Never logs a grant.
 */
import {
  type DownloadGrant,
  fileUrl,
  type ModelSource,
  type Reason,
  type SLMModel,
  type SLMNodeCache,
  type WantedModel,
} from '@slm-operator/crds';
import { credentialsFor, hostOf, partsOf } from '../model/parts.ts';
import { makeSourceClient, originOf, type SourceClient } from '../sources/http.ts';
import { classifyHttpFailure, SourceError } from '../sources/http-errors.ts';
import type { SourceCredentials } from '../sources/source.ts';

/** Why a grant is refused; goes to the agent as it is. */
export interface GrantRefusal {
  readonly status: 403 | 404 | 409 | 502;
  readonly reason: Reason;
  readonly message: string;
  readonly terminal: boolean;
}

/** Model and source that a grant is made from. */
export interface GrantBasis {
  readonly model: SLMModel;
  readonly source: ModelSource;
  readonly entry: WantedModel;
}

/** How long a grant may be used: a signed address lives an hour at the Hub. Milliseconds. */
const GRANT_MS = 50 * 60_000;
/** Files whose redirect is followed; beyond that the headers go out, so that one grant costs no flood of requests. */
const MAX_SIGNED = 16;

/** Which models may give the bytes of `digest` to the node, best first; or why none may. Pure. */
export function basesFor(
  digest: string,
  node: string,
  cache: SLMNodeCache | undefined,
  findModel: (key: string) => SLMModel | undefined,
): readonly GrantBasis[] | GrantRefusal {
  const entry = cache?.spec?.wanted?.find((candidate) => candidate.digest === digest);
  if (entry === undefined) {
    const message = `node ${node} is not to hold ${digest}: there is no grant for it`;
    return { status: 403, reason: 'PullFailed', message, terminal: false };
  }
  const bases = entry.models.flatMap((key) => {
    const model = findModel(key);
    const lists = model?.status?.revisions?.flatMap((revision) => [revision, ...(revision.variants ?? [])]);
    const files = lists?.find((candidate) => candidate.digest === digest && needsGrant(candidate) !== undefined);
    const source = files && needsGrant(files);
    if (model === undefined || source === undefined || model.metadata.deletionTimestamp !== undefined) return [];
    return [{ model, source, entry }];
  });
  if (bases.length > 0) return bases;
  const message = `no SLMModel gives a credential for ${digest} any more: ${entry.models.join(', ')} changed or are gone`;
  return { status: 409, reason: 'ModelNotFound', message, terminal: false };
}

function needsGrant({ sources }: Pick<WantedModel, 'sources'>): ModelSource | undefined {
  return sources.find((source) => source.needsGrant === true);
}

export function isRefusal(value: readonly GrantBasis[] | GrantRefusal): value is GrantRefusal {
  return !Array.isArray(value);
}

/**
 * What of a model's credentials may be used for where a revision lies: all of them at the host that the spec's source names now, the
 * certificates alone at that of a variant, and nothing elsewhere. Otherwise an author who may change source.uri but not read the
 * Secret could have it sent elsewhere by an old revision, and the other way round.
 */
export function usableCredentials(
  model: SLMModel,
  source: ModelSource,
  hfEndpoint: string,
): ((all: SourceCredentials) => SourceCredentials) | undefined {
  const host = originOf(fileUrl(source.url, 'x'));
  const part = partsOf(model, hfEndpoint).find(({ spec }) => hostOf(spec.uri, spec.endpoint, hfEndpoint) === host);
  return part && ((all) => credentialsFor(part, all));
}

/**
 * The grant itself. Where the source redirects to a signed address of another host, that address is handed out and the
 * credential stays here; elsewhere the credential goes along. Rejects with SourceError.
 */
export async function makeGrant(
  { source, entry }: GrantBasis,
  credentials: SourceCredentials,
  { now, signal, client }: { readonly now: number; readonly signal?: AbortSignal; readonly client?: SourceClient },
): Promise<DownloadGrant> {
  // Whether http:// is allowed was decided when the source was resolved.
  const http = client ?? makeSourceClient({ caBundle: credentials.caBundle, insecure: true });
  const files: DownloadGrant['files'][number][] = [];
  try {
    for (const { path } of entry.files) {
      const url = fileUrl(source.url, path);
      const signed = files.length < MAX_SIGNED ? await signedAddress(http, url, credentials, signal) : undefined;
      files.push({ path, url: signed ?? url, headers: signed === undefined ? { ...credentials.headers } : {} });
    }
  } finally {
    if (client === undefined) await http.close();
  }
  return {
    files,
    ...(credentials.caBundle === undefined ? {} : { caBundle: credentials.caBundle }),
    expiresAt: new Date(now + GRANT_MS).toISOString(),
  };
}

/** Where the source redirects to when that is another host, whose address carries its own permission. */
async function signedAddress(
  client: SourceClient,
  url: string,
  { headers }: SourceCredentials,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (Object.keys(headers).length === 0) return undefined;
  let at = url;
  for (let hop = 0; hop < 5; hop++) {
    const response = await client.request({
      url: at,
      credential: headers,
      headers: { range: 'bytes=0-0' },
      maxRedirects: 0,
      signal,
    });
    await response.discard();
    const { status, headers: answer } = response;
    const { location } = answer;
    if (status >= 300 && status < 400 && typeof location === 'string') {
      at = new URL(location, at).href;
      if (originOf(at) !== originOf(url)) return at;
      continue;
    }
    if (status === 200 || status === 206) return undefined;
    throw new SourceError(classifyHttpFailure({ status, headers: answer }, { url: at, hasCredential: true }));
  }
  return undefined;
}
