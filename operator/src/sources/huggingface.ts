/**
 * A repository behind the Hugging Face Hub API: resolves a branch or tag to a commit, lists its files with their digests
 * and chooses those that make up the model. Never downloads weights; small files without a known digest are read and hashed.
 */
import { createHash } from 'node:crypto';
import type { ModelFile } from '@slm-operator/crds';
import { fileUrl } from '@slm-operator/crds';
import { chooseFiles, type RepositoryFile } from './file-choice.ts';
import type { SourceClient } from './http.ts';
import { displayUrl } from './http-errors.ts';
import { openFile } from './https.ts';
import { readOnnxModel } from './onnx.ts';
import { invalidSource, type ResolvedSource, type SourceCredentials, type SourceSpec } from './source.ts';

/** A parsed `hf://ORG/REPO[@REVISION][/FILE]`. */
export interface HubAddress {
  readonly repository: string;
  readonly revision: string;
  readonly file?: string;
}

/** Most bytes of one answer of the API. */
const MAX_ANSWER = 16 * 1024 * 1024;
/** Most pages of a file list; a page has about 1000 entries. */
const MAX_PAGES = 50;
/** Most bytes of a file that is hashed here because the Hub knows no SHA-256 of it. */
const MAX_HASHED = 16 * 1024 * 1024;

const ADDRESS = /^hf:\/\/([A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*)(?:@([A-Za-z0-9][\w.-]*))?(?:\/([^@?#]+))?$/;

/** Parses an hf:// address; undefined when it is none. The revision is `main` by default. */
export function parseHubAddress(uri: string): HubAddress | undefined {
  const match = ADDRESS.exec(uri);
  if (match?.[1] === undefined) return undefined;
  const file = match[3];
  return { repository: match[1], revision: match[2] ?? 'main', ...(file === undefined ? {} : { file }) };
}

/** Resolves `spec.uri` at `endpoint` (no trailing slash). Rejects with a SourceError. */
export async function resolveHub(
  client: SourceClient,
  endpoint: string,
  spec: SourceSpec,
  credentials: SourceCredentials,
  signal?: AbortSignal,
): Promise<ResolvedSource> {
  const address = parseHubAddress(spec.uri);
  if (address === undefined) throw invalidSource(`${spec.uri} is no hf://ORG/REPO[@REVISION][/FILE]`);
  const credential = Object.keys(credentials.headers).length === 0 ? undefined : credentials.headers;
  const api = `${endpoint}/api/models/${address.repository}`;
  const hub: Hub = { client, credential, signal };

  const commit = await readCommit(hub, `${api}/revision/${encodeURIComponent(address.revision)}`);
  const listed = await readTree(hub, `${api}/tree/${commit}`);
  const where = `${address.repository}@${address.revision}`;
  const choice = chooseFiles(listed, { file: address.file, globs: spec.files, where });
  const template = `${endpoint}/${address.repository}/resolve/${commit}/{path}`;
  const onnx =
    choice.format === 'ONNX'
      ? await readOnnxModel(listed, choice, where, (file, most) =>
          readFile(hub, fileUrl(template, file.path), file, most),
        )
      : undefined;
  const files: ModelFile[] = [];
  for (const { path, size, sha256 } of onnx?.files ?? choice.files) {
    const digest = sha256 ?? (await hashFile(hub, fileUrl(template, path), size));
    files.push({ path, size, digest: `sha256:${digest}` });
  }
  const main = onnx?.main ?? choice.main;
  const mainFile = files.find(({ path }) => path === main) as ModelFile;
  const needsGrant = spec.hasSecretRef || spec.hasCaBundleRef;
  return {
    files,
    sourceRevision: commit,
    sources: [{ url: template, ...(needsGrant ? { needsGrant } : {}) }],
    mainFile,
    ...(onnx === undefined ? {} : { onnx: onnx.facts }),
    open: (file, openSignal) => openFile(client, fileUrl(template, file.path), file, credential, openSignal),
  };
}

interface Hub {
  readonly client: SourceClient;
  readonly credential: Readonly<Record<string, string>> | undefined;
  readonly signal: AbortSignal | undefined;
}

async function readJson(hub: Hub, url: string) {
  const response = await hub.client.fetch({ url, credential: hub.credential, signal: hub.signal });
  const bytes = await response.bytes(MAX_ANSWER);
  try {
    return { body: JSON.parse(Buffer.from(bytes).toString('utf8')) as unknown, headers: response.headers };
  } catch {
    throw invalidSource(
      `${displayUrl(url)} answers, but not with JSON: it is no Hugging Face Hub API. Check source.endpoint`,
    );
  }
}

async function readCommit(hub: Hub, url: string): Promise<string> {
  const { body } = await readJson(hub, url);
  const sha = isRecord(body) ? body['sha'] : undefined;
  if (typeof sha === 'string' && /^[0-9a-f]{40,64}$/.test(sha)) return sha;
  throw invalidSource(
    `${displayUrl(url)} names no commit in "sha": it is no Hugging Face Hub API. Check source.endpoint`,
  );
}

async function readTree(hub: Hub, url: string): Promise<RepositoryFile[]> {
  const files: RepositoryFile[] = [];
  let query: string | undefined = '?recursive=true';
  for (let page = 0; query !== undefined; page++) {
    if (page === MAX_PAGES) throw invalidSource(`${displayUrl(url)}: the repository has more files than can be listed`);
    const { body, headers } = await readJson(hub, `${url}${query}`);
    if (!Array.isArray(body)) {
      throw invalidSource(`${displayUrl(url)} answers with no list of files: check source.endpoint`);
    }
    for (const entry of body) {
      const file = readEntry(entry);
      if (file !== undefined) files.push(file);
    }
    query = nextQuery(headers['link']);
  }
  return files;
}

function readEntry(entry: unknown): RepositoryFile | undefined {
  if (!isRecord(entry) || entry['type'] !== 'file') return undefined;
  const { path, size, lfs } = entry;
  if (typeof path !== 'string' || typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) return undefined;
  const oid = isRecord(lfs) ? lfs['oid'] : undefined;
  // Some servers write the digest with its algorithm before it.
  const sha256 = typeof oid === 'string' ? /^(?:sha256:)?([0-9a-f]{64})$/.exec(oid)?.[1] : undefined;
  const large = isRecord(lfs) && typeof lfs['size'] === 'number' ? lfs['size'] : size;
  return { path, size: large, ...(sha256 === undefined ? {} : { sha256 }) };
}

/**
 * The query of the next page. Only the query is taken from the link: a mirror hands on links that name the host behind it,
 * and the credential must not follow them.
 */
function nextQuery(link: string | readonly string[] | undefined): string | undefined {
  const text = typeof link === 'string' ? link : link?.join(',');
  const target = text === undefined ? undefined : /<([^>]+)>\s*;\s*rel="?next"?/.exec(text)?.[1];
  if (target === undefined) return undefined;
  const { search } = new URL(target, 'https://hub.invalid');
  return search === '' ? undefined : search;
}

/** The beginning of a file, or all of it. */
async function readFile(hub: Hub, url: string, { size }: RepositoryFile, most: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of openFile(hub.client, url, { size }, hub.credential, hub.signal)) {
    chunks.push(chunk);
    length += chunk.byteLength;
    if (length >= most) break;
  }
  return Buffer.concat(chunks, length).subarray(0, most);
}

async function hashFile(hub: Hub, url: string, size: number): Promise<string> {
  if (size > MAX_HASHED) {
    throw invalidSource(
      `${displayUrl(url)} has ${size} bytes and the Hub gives no SHA-256 for it: only files kept with LFS may be larger than ${MAX_HASHED} bytes`,
    );
  }
  const response = await hub.client.fetch({ url, credential: hub.credential, signal: hub.signal });
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of response.chunks) {
    length += chunk.byteLength;
    if (length > size) break;
    hash.update(chunk);
  }
  if (length !== size) {
    throw invalidSource(`${displayUrl(url)} has another length than the ${size} bytes that the list of files says`);
  }
  return hash.digest('hex');
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
