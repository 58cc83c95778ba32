/**
 * A small HTTP client for sources: a CA bundle beside the public authorities, bounded redirects, timeouts, abort.
 * Owns the rule that a header given for one origin is never sent to another. Never writes to disk, never retries.
 */
import { lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { rootCertificates } from 'node:tls';
import { Agent, type Dispatcher } from 'undici';
import { classifyHttpFailure, displayUrl, SourceError } from './http-errors.ts';

export interface SourceClientOptions {
  /** PEM bundle to trust besides the public authorities. */
  readonly caBundle?: string | undefined;
  /** Whether http:// is allowed, also as the target of a redirect. Default false. */
  readonly insecure?: boolean | undefined;
  /** Milliseconds for the connection. Default 10 000. */
  readonly connectTimeoutMs?: number | undefined;
  /** Milliseconds until the headers of an answer. Default 30 000. */
  readonly headersTimeoutMs?: number | undefined;
  /** Milliseconds between two pieces of a body. Default 30 000. */
  readonly bodyTimeoutMs?: number | undefined;
}

export interface SourceRequest {
  readonly url: string;
  /** Default GET. */
  readonly method?: 'GET' | 'HEAD';
  /** Names in lower case. Those in `credential` too; they are dropped when a redirect leaves the origin. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Headers that prove who asks, for the origin of `url` alone. */
  readonly credential?: Readonly<Record<string, string>> | undefined;
  /** Redirects that are followed. Default 5; 0 hands a redirect back as the answer. */
  readonly maxRedirects?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface SourceResponse {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** Address that answered, after redirects. */
  readonly url: string;
  /** Whether `credential` was still sent to that address. */
  readonly sentCredential: boolean;
  /** The body's pieces. Leaving the loop early closes the connection. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** The body as bytes; rejects with SourceInvalid when it is longer than `maxBytes`. */
  bytes(maxBytes: number): Promise<Uint8Array>;
  /** Ends the answer without reading it. Always call this or read to the end. */
  discard(): Promise<void>;
}

/** Rejects with {@link SourceError} for everything but an abort, which rejects with the signal's reason. */
export interface SourceClient {
  request(request: SourceRequest): Promise<SourceResponse>;
  /** Like `request`, and a status other than 200 or 206 is an error too. */
  fetch(request: SourceRequest): Promise<SourceResponse>;
  close(): Promise<void>;
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** Makes a client; close it when the work is done. */
export function makeSourceClient(options: SourceClientOptions = {}): SourceClient {
  const agent = new Agent({
    connect: {
      timeout: options.connectTimeoutMs ?? 10_000,
      lookup: lookupPublic,
      ...(options.caBundle === undefined ? {} : { ca: [...rootCertificates, options.caBundle] }),
    },
    headersTimeout: options.headersTimeoutMs ?? 30_000,
    bodyTimeout: options.bodyTimeoutMs ?? 30_000,
    keepAliveTimeout: 4000,
    connections: 4,
  });
  const insecure = options.insecure ?? false;
  const request = (wanted: SourceRequest) => follow(agent, insecure, wanted);
  return {
    request,
    async fetch(wanted) {
      const response = await request(wanted);
      if (response.status === 200 || response.status === 206) return response;
      await response.discard();
      throw new SourceError(
        classifyHttpFailure(response, { url: response.url, hasCredential: response.sentCredential }),
      );
    },
    close: () => agent.destroy(),
  };
}

/** The origin of an address, as redirects compare it. */
export function originOf(url: string): string {
  return new URL(url).origin;
}

async function follow(agent: Agent, insecure: boolean, wanted: SourceRequest): Promise<SourceResponse> {
  const origin = originOf(wanted.url);
  let url = wanted.url;
  let sentCredential = wanted.credential !== undefined;
  for (let left = wanted.maxRedirects ?? 5; ; left--) {
    refuseUnsafe(url, wanted.url, insecure);
    const answer = await exchange(agent, url, sentCredential, wanted);
    const target = redirectOf(answer);
    if (target === undefined || wanted.maxRedirects === 0) return makeResponse(answer, url, sentCredential, wanted);
    await discard(answer.body);
    if (left <= 0) {
      throw invalid(
        `${displayUrl(wanted.url)}: more than ${wanted.maxRedirects ?? 5} redirects, the last to ${displayUrl(url)}`,
      );
    }
    url = new URL(target, url).href;
    // Once away, always away: a way back through a stranger must not carry the credential again.
    sentCredential &&= originOf(url) === origin;
  }
}

async function exchange(
  agent: Agent,
  url: string,
  withCredential: boolean,
  wanted: SourceRequest,
): Promise<Dispatcher.ResponseData> {
  wanted.signal?.throwIfAborted();
  const { origin, pathname, search } = new URL(url);
  try {
    return await agent.request({
      origin,
      path: `${pathname}${search}`,
      method: wanted.method ?? 'GET',
      // A compressed answer would have another length and another digest than the file.
      headers: { 'accept-encoding': 'identity', ...wanted.headers, ...(withCredential ? wanted.credential : {}) },
      ...(wanted.signal === undefined ? {} : { signal: wanted.signal }),
    });
  } catch (error) {
    throw failureOf(error, url, withCredential, wanted.signal);
  }
}

function makeResponse(
  answer: Dispatcher.ResponseData,
  url: string,
  sentCredential: boolean,
  wanted: SourceRequest,
): SourceResponse {
  async function* pieces() {
    try {
      for await (const chunk of answer.body) yield chunk as Uint8Array;
    } catch (error) {
      throw failureOf(error, url, sentCredential, wanted.signal);
    }
  }
  return {
    status: answer.statusCode,
    headers: answer.headers,
    url,
    sentCredential,
    chunks: { [Symbol.asyncIterator]: pieces },
    async bytes(maxBytes) {
      const parts: Uint8Array[] = [];
      let length = 0;
      for await (const part of pieces()) {
        length += part.byteLength;
        if (length > maxBytes) throw invalid(`${displayUrl(url)}: the answer is longer than ${maxBytes} bytes`);
        parts.push(part);
      }
      return Buffer.concat(parts, length);
    },
    discard: () => discard(answer.body),
  };
}

function failureOf(error: unknown, url: string, hasCredential: boolean, signal: AbortSignal | undefined): Error {
  if (error instanceof SourceError) return error;
  if (signal?.aborted) return signal.reason instanceof Error ? signal.reason : new Error('aborted');
  return new SourceError(classifyHttpFailure(error, { url, hasCredential }), { cause: error });
}

function redirectOf(answer: Dispatcher.ResponseData): string | undefined {
  if (!REDIRECTS.has(answer.statusCode)) return undefined;
  const location = answer.headers['location'];
  return typeof location === 'string' && location !== '' ? location : undefined;
}

function refuseUnsafe(url: string, first: string, insecure: boolean): void {
  const { protocol, hostname } = new URL(url);
  if (isForbidden(hostname.replace(/^\[|\]$/g, ''))) throw forbidden(url);
  if (protocol === 'https:' || (protocol === 'http:' && insecure)) return;
  if (protocol === 'http:') {
    throw invalid(
      url === first
        ? `${displayUrl(url)} is http://: write https://, or set source.insecure: true`
        : `${displayUrl(first)} redirects to ${displayUrl(url)}, which is not encrypted: set source.insecure: true to allow that`,
    );
  }
  throw invalid(`${displayUrl(first)} redirects to an address that is neither https:// nor http://`);
}

/**
 * Addresses that answer only to the machine that asks, cloud metadata with its credentials before all: whoever may write an
 * SLMModel must not reach them through the operator or a node.
 */
const linkLocal = new BlockList();
linkLocal.addSubnet('169.254.0.0', 16, 'ipv4');
linkLocal.addSubnet('fe80::', 10, 'ipv6');
linkLocal.addAddress('fd00:ec2::254', 'ipv6');

function isForbidden(address: string): boolean {
  const family = isIP(address);
  return family !== 0 && linkLocal.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

function forbidden(url: string): SourceError {
  return invalid(`${displayUrl(url)} is a link-local address, which no source may have: name a server of the network`);
}

/** Looks a name up and leaves out what {@link isForbidden}; a name with no other address ends in an error. */
const lookupPublic: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return callback(error, []);
    const usable = addresses.filter(({ address }) => !isForbidden(address));
    const [first] = usable;
    if (first === undefined) return callback(forbidden(`https://${hostname}/`), []);
    if (options.all === true) callback(null, usable);
    else callback(null, first.address, first.family);
  });
};

function invalid(message: string): SourceError {
  return new SourceError({ reason: 'SourceInvalid', message, terminal: true });
}

/** Reads a short rest so that the connection can serve again; cuts a long one off. */
async function discard(body: Dispatcher.ResponseData['body']): Promise<void> {
  await body.dump({ limit: 64 * 1024 }).catch(() => undefined);
}
