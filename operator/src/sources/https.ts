/**
 * A plain file behind https://. Its digest comes from the spec, its size from the server, without reading the file where
 * that can be avoided. Never decides whether the bytes are right: the node that pulls them does.
 */

import { type ModelFile } from '@slm-operator/crds';
import { type SourceClient, type SourceResponse } from './http.ts';
import { displayUrl } from './http-errors.ts';
import { isOnnx } from './onnx-choice.ts';
import { fileNameOf, invalidSource, type ResolvedSource, type SourceCredentials, type SourceSpec } from './source.ts';

/** Most bytes that a request for a header asks for; the reader stops as soon as it has the header. */
const HEADER_RANGE = 64 * 1024 * 1024;

/** Resolves `spec.uri`. Rejects with a SourceError. */
export async function resolveHttps(
  client: SourceClient,
  spec: SourceSpec,
  credentials: SourceCredentials,
  signal?: AbortSignal,
): Promise<ResolvedSource> {
  // The hash of a URL never reaches the server, and a brace would be taken for the {path} of a template.
  const url = new URL(spec.uri).href.replaceAll('{', '%7B').replaceAll('}', '%7D');
  if (spec.digest === undefined) {
    throw invalidSource(`${displayUrl(url)} needs integrity.digest: sha256:HEX, what sha256sum prints for the file`);
  }
  if (isOnnx(new URL(url).pathname)) {
    throw invalidSource(
      `${displayUrl(url)} is an ONNX file alone, and a server needs the tokenizer beside it: use an hf:// repository, with source.endpoint where it lies on a server of your own`,
    );
  }
  const credential = Object.keys(credentials.headers).length === 0 ? undefined : credentials.headers;
  const size = await sizeOf(client, url, credential, signal);
  const file: ModelFile = { path: fileNameOf(url), size, digest: spec.digest };
  const needsGrant = spec.hasSecretRef || spec.hasCaBundleRef;
  return {
    files: [file],
    sources: [{ url, ...(needsGrant ? { needsGrant } : {}) }],
    mainFile: file,
    open: (wanted, openSignal) => openFile(client, url, wanted, credential, openSignal),
  };
}

/** Asks for one byte: a server that knows ranges answers with the whole size, another with the length of the whole. */
async function sizeOf(
  client: SourceClient,
  url: string,
  credential: Readonly<Record<string, string>> | undefined,
  signal?: AbortSignal,
): Promise<number> {
  const response = await client.request({ url, credential, headers: { range: 'bytes=0-0' }, signal });
  const known = sizeFromAnswer(response);
  await response.discard();
  if (known !== undefined) return known;
  // Throws for every status that is an error, with its sentence.
  const whole = await client.fetch({ url, credential, signal });
  const length = contentLength(whole);
  if (length !== undefined) {
    await whole.discard();
    return length;
  }
  let counted = 0;
  for await (const chunk of whole.chunks) counted += chunk.byteLength;
  return counted;
}

/** The size of the whole file, as an answer to a range request tells it. */
export function sizeFromAnswer(response: Pick<SourceResponse, 'status' | 'headers'>): number | undefined {
  if (response.status === 200) return contentLength(response);
  const range = response.headers['content-range'];
  if (typeof range !== 'string' || (response.status !== 206 && response.status !== 416)) return undefined;
  const total = /^bytes (?:\d+-\d+|\*)\/(\d+)$/.exec(range)?.[1];
  return total === undefined ? undefined : Number(total);
}

function contentLength(response: Pick<SourceResponse, 'headers'>): number | undefined {
  const value = response.headers['content-length'];
  // With a content encoding the length is that of other bytes than the file's.
  const encoding = response.headers['content-encoding'];
  if (typeof value !== 'string' || !/^\d+$/.test(value)) return undefined;
  return encoding === undefined || encoding === 'identity' ? Number(value) : undefined;
}

/** Streams a file from its beginning; rejects with Truncated when the server now has another size than `file`. */
export async function* openFile(
  client: SourceClient,
  url: string,
  file: Pick<ModelFile, 'size'>,
  credential: Readonly<Record<string, string>> | undefined,
  signal?: AbortSignal,
): AsyncIterable<Uint8Array> {
  if (file.size === 0) return;
  const last = Math.min(file.size, HEADER_RANGE) - 1;
  const response = await client.fetch({ url, credential, headers: { range: `bytes=0-${last}` }, signal });
  const size = sizeFromAnswer(response);
  if (size !== undefined && size !== file.size) {
    await response.discard();
    throw invalidSource(
      `${displayUrl(url)} now has ${size} bytes, and a moment ago it had ${file.size}: it changed while it was resolved`,
    );
  }
  yield* response.chunks;
}
