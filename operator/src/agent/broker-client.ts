/**
 * Asks the operator's broker for what one download needs. Owns the agent's side of that exchange: TLS against the
 * operator's own authority, the node-bound token, and how long a grant is used. Never stores or logs a grant.
 */
import { readFile } from 'node:fs/promises';
import type { DownloadGrant, Reason } from '@slm-operator/crds';
import { broker } from '@slm-operator/crds/contract';
import { reasons } from '@slm-operator/crds/reasons';
import { Agent } from 'undici';
import { SourceError, type SourceFailure } from '../sources/http-errors.ts';
import { isMissing } from './durable-files.ts';

export interface BrokerClientOptions {
  /** For example `https://slm-operator.slm-system.svc:9443`. */
  readonly url: string;
  /** PEM of the authority; may appear after the start. Read on each use. */
  readonly caFile: string;
  /** Token with the broker's audience; the kubelet renews it. Read on each use. */
  readonly tokenFile: string;
  /** Milliseconds for one exchange: the operator asks the source in it. Default 35 000. */
  readonly timeoutMs?: number | undefined;
}

export interface BrokerClient {
  /** Rejects with SourceError, with a sentence that says what is missing. */
  grant(digest: string, signal?: AbortSignal): Promise<DownloadGrant>;
}

/** Largest answer that is believed to be a grant: 256 files with long signed addresses and a CA bundle. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export function makeBrokerClient(options: BrokerClientOptions): BrokerClient {
  return { grant: (digest, signal) => requestGrant(options, digest, signal) };
}

async function requestGrant(
  options: BrokerClientOptions,
  digest: string,
  signal: AbortSignal | undefined,
): Promise<DownloadGrant> {
  const ca = await readOrWait(options.caFile, 'the certificate authority of the operator');
  const token = await readOrWait(options.tokenFile, 'the token of this agent');
  const timeoutMs = options.timeoutMs ?? 35_000;
  const timeout = AbortSignal.timeout(timeoutMs);
  const agent = new Agent({ connect: { ca, timeout: timeoutMs }, connections: 1 });
  let status: number;
  let text: string;
  try {
    const answer = await agent.request({
      origin: options.url,
      path: broker.path,
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({ digest }),
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    status = answer.statusCode;
    text = await readLimited(answer.body);
  } catch (error) {
    signal?.throwIfAborted();
    throw transient(`the operator at ${options.url} gives no download grant: ${describe(error)}`, error);
  } finally {
    await agent.destroy();
  }
  if (status !== 200) throw new SourceError(refusalOf(status, text));
  return parseGrant(text);
}

async function readOrWait(file: string, what: string): Promise<string> {
  try {
    const text = (await readFile(file, 'utf8')).trim();
    if (text !== '') return text;
  } catch (error) {
    if (!isMissing(error)) throw transient(`${what} cannot be read from ${file}: ${describe(error)}`, error);
  }
  throw transient(`${what} is not there yet (${file}): it appears once the operator runs`);
}

async function readLimited(body: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.byteLength;
    if (length > MAX_ANSWER_BYTES) throw new Error(`the answer is longer than ${MAX_ANSWER_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

/** A broker's refusal speaks for itself when it carries reason and message. */
function refusalOf(status: number, text: string): SourceFailure {
  const said = parseJson(text) as
    | { reason?: unknown; message?: unknown; terminal?: unknown; retryAfterMs?: unknown }
    | undefined;
  const message = typeof said?.message === 'string' && said.message !== '' ? said.message : undefined;
  const reason =
    typeof said?.reason === 'string' && Object.hasOwn(reasons, said.reason) ? (said.reason as Reason) : 'PullFailed';
  const transientStatus = status >= 500 || status === 429 || status === 408 || status === 404;
  return {
    reason,
    message: message ?? `the operator refuses a download grant with status ${status}`,
    terminal: typeof said?.terminal === 'boolean' ? said.terminal : !transientStatus,
    ...(typeof said?.retryAfterMs === 'number' ? { retryAfterMs: said.retryAfterMs } : {}),
  };
}

function parseGrant(text: string): DownloadGrant {
  const grant = parseJson(text) as Partial<DownloadGrant> | undefined;
  const valid =
    Array.isArray(grant?.files) &&
    grant.files.every((file) => typeof file?.path === 'string' && URL.canParse(file.url)) &&
    typeof grant.expiresAt === 'string' &&
    Number.isFinite(Date.parse(grant.expiresAt));
  if (!valid) throw transient('the operator answered a request for a download grant with something else');
  return grant as DownloadGrant;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function transient(message: string, cause?: unknown): SourceError {
  return new SourceError({ reason: 'PullFailed', message, terminal: false }, { cause });
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = (error as NodeJS.ErrnoException).code;
  return code === undefined || error.message.includes(code) ? error.message : `${error.message} (${code})`;
}
