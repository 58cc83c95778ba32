/**
 * One file from the first of several origins that has it. Owns resuming by Range, what a server's answer means for bytes
 * already there, and that wrong bytes are thrown away. Never waits and never retries the same failure: that is the
 * puller's work.
 */
import type { ModelFile } from '@slm-operator/crds';
import type { SourceClient, SourceResponse } from '../sources/http.ts';
import { classifyHttpFailure, displayUrl, SourceError, type SourceFailure } from '../sources/http-errors.ts';
import { type BlobWriter, DigestMismatchError } from './blob-writer.ts';
import { formatBytes } from './text.ts';

/** Where a file can be had. */
export interface Origin {
  readonly url: string;
  readonly client: SourceClient;
  /** Headers for the origin of `url` alone. */
  readonly credential?: Readonly<Record<string, string>> | undefined;
  /** Present when this access was granted some time ago: a refusal may mean that the grant has run out. */
  readonly renew?: (() => Promise<void>) | undefined;
}

export interface FileDownload {
  readonly file: ModelFile;
  readonly writer: BlobWriter;
  /** Tried in this order. Each is asked for only when the one before has failed. */
  readonly origins: readonly (() => Promise<Origin>)[];
  readonly signal: AbortSignal;
  /** The first byte is about to come from this origin. */
  readonly onStart: (origin: Origin, offset: number) => void;
  /** Called with the number of bytes just written. */
  readonly onBytes: (bytes: number) => void;
  /** All bytes are there; flushing and comparing begins. */
  readonly onVerify: () => void;
}

/**
 * Downloads, verifies and commits. Rejects with a SourceError that tells of every origin; with the file system's own
 * error when writing fails; with the signal's reason when aborted.
 */
export async function downloadFile(download: FileDownload): Promise<void> {
  const failures: SourceFailure[] = [];
  for (const origin of download.origins) {
    const failure = await tryOrigin(download, origin);
    if (failure === undefined) return;
    failures.push(failure);
  }
  throw new SourceError(combineFailures(failures));
}

/** One failure out of those of several origins: the first one's reason, everybody's sentence. */
export function combineFailures(failures: readonly SourceFailure[]): SourceFailure {
  const [first] = failures;
  if (first === undefined) {
    return { reason: 'SourceInvalid', message: 'the revision names no source to pull from', terminal: true };
  }
  if (failures.length === 1) return first;
  const waits = failures.map((failure) => failure.retryAfterMs ?? 0);
  return {
    reason: first.reason,
    message: failures.map((failure, index) => `source ${index + 1}: ${failure.message}`).join('; '),
    terminal: failures.every((failure) => failure.terminal),
    retryAfterMs: Math.min(...waits),
  };
}

async function tryOrigin(
  download: FileDownload,
  makeOrigin: () => Promise<Origin>,
): Promise<SourceFailure | undefined> {
  const { writer, file, signal } = download;
  let origin: Origin | undefined;
  let renewed = false;
  let afresh = false;
  for (;;) {
    const before = writer.offset;
    try {
      if (!writer.complete) {
        origin = await makeOrigin();
        await fetchInto(download, origin);
      }
      download.onVerify();
      await writer.commit();
      return undefined;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof DigestMismatchError) {
        // Bytes of two answers may not belong together: only a copy from one answer proves the origin wrong.
        if (before > 0 && !afresh) {
          afresh = true;
          continue;
        }
        return mismatch(origin?.url, file, `has the digest ${error.actual}`);
      }
      if (!(error instanceof SourceError)) throw error;
      if (error.failure.reason === 'Unauthorized' && origin?.renew !== undefined && !renewed) {
        renewed = true;
        await origin.renew();
        continue;
      }
      return error.failure;
    }
  }
}

async function fetchInto(download: FileDownload, origin: Origin): Promise<void> {
  const { writer, signal, file } = download;
  let response = await ask(origin, writer.offset, signal);
  try {
    if (response.status === 416 && writer.offset > 0) {
      const total = unsatisfiedTotal(response);
      if (total !== undefined) checkLength(origin.url, total, file);
      // The server does not like our offset, although the file has the right length: from the beginning, then.
      await response.discard();
      await writer.restart();
      response = await ask(origin, 0, signal);
    }
    await prepare(origin, response, writer, file);
    download.onStart(origin, writer.offset);
    for await (const chunk of response.chunks) {
      if (writer.offset + chunk.byteLength > file.size) {
        await writer.restart();
        throw new SourceError(mismatch(origin.url, file, `sends more than the ${formatBytes(file.size)} it must have`));
      }
      await writer.write(chunk);
      download.onBytes(chunk.byteLength);
      signal.throwIfAborted();
    }
  } finally {
    await response.discard();
  }
  if (!writer.complete) {
    throw new SourceError({
      reason: 'ConnectionFailed',
      message: `${displayUrl(origin.url)}: the answer ended after ${writer.offset} of ${file.size} bytes. It is continued by itself`,
      terminal: false,
    });
  }
}

function ask(origin: Origin, offset: number, signal: AbortSignal): Promise<SourceResponse> {
  return origin.client.request({
    url: origin.url,
    headers: offset > 0 ? { range: `bytes=${offset}-` } : {},
    credential: origin.credential,
    signal,
  });
}

/** Brings the writer to the offset at which this answer begins, or refuses the answer before a byte of it is written. */
async function prepare(origin: Origin, response: SourceResponse, writer: BlobWriter, file: ModelFile): Promise<void> {
  const { status, headers } = response;
  if (status !== 200 && status !== 206) {
    throw new SourceError(
      classifyHttpFailure({ status, headers }, { url: response.url, hasCredential: response.sentCredential }),
    );
  }
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') {
    throw invalid(origin.url, `is sent as ${String(encoding)} although plain bytes were asked for`);
  }
  if (status === 200) {
    const length = numberOf(headers['content-length']);
    if (length !== undefined) checkLength(origin.url, length, file);
    // The server ignored the Range: these are the bytes from the first one on.
    if (writer.offset > 0) await writer.restart();
    return;
  }
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(String(headers['content-range'] ?? ''));
  if (range === null) throw invalid(origin.url, 'answers 206 without saying which bytes these are (Content-Range)');
  if (range[2] !== '*') checkLength(origin.url, Number(range[2]), file);
  if (Number(range[1]) !== writer.offset) {
    throw invalid(origin.url, `sends bytes from ${range[1]} on, asked for those from ${writer.offset} on`);
  }
}

function unsatisfiedTotal(response: SourceResponse): number | undefined {
  return numberOf(/^bytes \*\/(\d+)$/.exec(String(response.headers['content-range'] ?? ''))?.[1]);
}

function checkLength(url: string, length: number, file: ModelFile): void {
  if (length === file.size) return;
  if (length < file.size) {
    throw new SourceError({
      reason: 'Truncated',
      message: `${displayUrl(url)} has ${length} bytes, the file must have ${file.size}. Upload the whole file, or correct source.uri`,
      terminal: true,
    });
  }
  throw new SourceError(mismatch(url, file, `has ${length} bytes, the file must have ${file.size}`));
}

function mismatch(url: string | undefined, file: ModelFile, what: string): SourceFailure {
  return {
    reason: 'DigestMismatch',
    message: `${url === undefined ? file.path : displayUrl(url)} ${what}; expected ${file.digest}. Nothing of it was kept. Correct integrity.digest, or put the right file there`,
    terminal: true,
  };
}

function invalid(url: string, what: string): SourceError {
  return new SourceError({
    reason: 'SourceInvalid',
    message: `${displayUrl(url)} ${what}. Repair the server, or use another source`,
    terminal: true,
  });
}

function numberOf(header: unknown): number | undefined {
  return typeof header === 'string' && /^\d+$/.test(header) ? Number(header) : undefined;
}
