/**
 * What a failed HTTP exchange with a source means: a reason out of the closed union, a sentence that says what to change,
 * and whether trying again can help. Pure, and the same in operator and agent. Never puts a query string, user or
 * credential into a message.
 */
import type { Reason } from '@slm-operator/crds';

/** Why a source could not be used. `message` is for status, events and logs alike. */
export interface SourceFailure {
  readonly reason: Reason;
  /** Names the address, the cause and what to do. */
  readonly message: string;
  /** True when only a change (of the spec, a Secret, the server's content) helps, so that quick retries are of no use. */
  readonly terminal: boolean;
  /** Milliseconds that the server asked us to wait. */
  readonly retryAfterMs?: number;
}

/** A {@link SourceFailure} as an error. */
export class SourceError extends Error {
  override readonly name: string = 'SourceError';
  readonly failure: SourceFailure;

  constructor(failure: SourceFailure, options?: ErrorOptions) {
    super(failure.message, options);
    this.failure = failure;
  }
}

/** What is known of the exchange that failed. */
export interface FailureContext {
  /** Address that was asked; the message shows it without user, query and fragment. */
  readonly url: string;
  /** Whether a credential was sent. */
  readonly hasCredential: boolean;
  /** Wall clock in milliseconds, for a Retry-After that is a date. Default: now. */
  readonly now?: number;
}

/** An answer with a status that is no success. Header names are in lower case. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

/** Longest wait that a server's Retry-After is believed: an hour. */
const MAX_RETRY_AFTER_MS = 3_600_000;

/**
 * Says what a failure means. `failure` is what `fetch` or undici threw, or the answer with its status.
 * A {@link SourceError} is handed back as it is.
 */
export function classifyHttpFailure(failure: unknown, context: FailureContext): SourceFailure {
  if (failure instanceof SourceError) return failure.failure;
  if (failure instanceof Error && failure.cause instanceof SourceError) return failure.cause.failure;
  if (isAnswer(failure)) return classifyAnswer(failure, context);
  return classifyError(failure, context);
}

/** Scheme, host and path of an address: what may stand in a message. */
export function displayUrl(url: string): string {
  try {
    const { protocol, host, pathname } = new URL(url);
    const shown = `${protocol}//${host}${pathname}`;
    return shown.length <= 300 ? shown : `${shown.slice(0, 299)}…`;
  } catch {
    return 'the source';
  }
}

function isAnswer(failure: unknown): failure is HttpAnswer {
  return (
    typeof failure === 'object' &&
    failure !== null &&
    !(failure instanceof Error) &&
    typeof (failure as { status?: unknown }).status === 'number'
  );
}

function classifyAnswer({ status, headers }: HttpAnswer, context: FailureContext): SourceFailure {
  const where = displayUrl(context.url);
  // The Hub says in this header what the status alone does not: it answers 401 also for what does not exist.
  const code = headerOf(headers, 'x-error-code');
  if (code === 'RepoNotFound') {
    return {
      reason: 'NotFound',
      terminal: true,
      message: `${where} answers ${status}: there is no such repository, or it is private. Check the spelling of source.uri; for a private repository ${giveCredential(context, 'HF_TOKEN')}`,
    };
  }
  if (status === 401 || status === 403) return classifyRefusal(status, code, where, context);
  if (status === 404 || status === 410) {
    const what =
      code === 'RevisionNotFound'
        ? 'the repository has no such branch, tag or commit'
        : code === 'EntryNotFound'
          ? 'the repository has no such file'
          : 'there is nothing at this address';
    return {
      reason: 'NotFound',
      terminal: true,
      message: `${where} answers ${status}: ${what}. Correct source.uri`,
    };
  }
  if (status === 416) {
    return {
      reason: 'Truncated',
      terminal: true,
      message: `${where} answers 416: the file there is shorter than it was when it was resolved. Upload the whole file, or correct source.uri`,
    };
  }
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    const retryAfterMs = retryAfterOf(headers, context.now ?? Date.now());
    const what = status === 429 ? 'too many requests from here' : 'the server cannot answer now';
    return {
      reason: 'SourceUnavailable',
      terminal: false,
      message: `${where} answers ${status}: ${what}. It is tried again by itself`,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    };
  }
  return {
    reason: 'SourceInvalid',
    terminal: true,
    message: `${where} answers ${status}, which is neither the file nor a known error. Check that source.uri is the address of the file itself`,
  };
}

function classifyRefusal(status: number, code: string | undefined, where: string, context: FailureContext) {
  let message: string;
  if (code === 'GatedRepo') {
    message = context.hasCredential
      ? `${where} answers ${status}: the repository is gated and the account of this token has no access. Accept its licence on the web page of the repository with that account`
      : `${where} answers ${status}: the repository is gated. Accept its licence on its web page, then ${giveCredential(context, 'HF_TOKEN')}`;
  } else if (context.hasCredential) {
    message = `${where} answers ${status}: the credential of source.secretRef is not accepted. Put one that is valid and may read this file into that Secret`;
  } else {
    message = `${where} answers ${status}: it wants a credential. To give one, ${giveCredential(context, 'HF_TOKEN, bearer, or username and password')}`;
  }
  return { reason: 'Unauthorized', terminal: true, message } as const;
}

function giveCredential(context: FailureContext, keys: string): string {
  return context.hasCredential
    ? `check that the credential of source.secretRef may read it`
    : `create a Secret with the key ${keys} and name it in source.secretRef`;
}

const TLS_CODES: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is self-signed',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate comes from a private authority',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    'its certificate comes from an unknown authority, or the server leaves out a part of the chain',
  UNABLE_TO_GET_ISSUER_CERT: 'the authority of its certificate is unknown',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'the authority of its certificate is unknown',
  CERT_UNTRUSTED: 'its certificate is not trusted',
  CERT_SIGNATURE_FAILURE: 'the signature of its certificate is wrong',
};

function classifyError(failure: unknown, context: FailureContext): SourceFailure {
  const where = displayUrl(context.url);
  const code = codeOf(failure);
  const untrusted = TLS_CODES[code];
  if (untrusted !== undefined) {
    return {
      reason: 'TLSUntrusted',
      terminal: true,
      message: `${where}: the server is not trusted: ${untrusted} (${code}). Put the certificate of its authority into a ConfigMap and name that in source.caBundleRef`,
    };
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    const when = code === 'CERT_HAS_EXPIRED' ? 'has expired' : 'is not valid yet';
    return {
      reason: 'TLSUntrusted',
      terminal: true,
      message: `${where}: the server is not trusted: its certificate ${when} (${code}). Renew it on the server; source.caBundleRef helps where another authority signed the new one`,
    };
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return {
      reason: 'TLSUntrusted',
      terminal: true,
      message: `${where}: the server is not trusted: its certificate is for another host name (${code}). Use the name that the certificate has in source.uri or source.endpoint; source.caBundleRef cannot help here`,
    };
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN' || code === 'EAI_NODATA' || code === 'EAI_NONAME') {
    return {
      reason: 'NameResolutionFailed',
      terminal: false,
      message: `${where}: the host name has no address (${code}). Correct the host in source.uri or source.endpoint, or the DNS of the cluster; it is tried again by itself`,
    };
  }
  if (code.startsWith('ERR_SSL') || code === 'EPROTO') {
    return {
      reason: 'TLSUntrusted',
      terminal: true,
      message: `${where}: no TLS connection came about (${code}). Check that the port speaks https; where the server has its own authority, name it in source.caBundleRef`,
    };
  }
  return {
    reason: 'ConnectionFailed',
    terminal: false,
    message: `${where}: ${CONNECTION_CODES[code] ?? `no answer (${code})`}. Check the address, the server and the network between; it is tried again by itself`,
  };
}

const CONNECTION_CODES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'the connection is refused (ECONNREFUSED)',
  ECONNRESET: 'the connection was cut (ECONNRESET)',
  EPIPE: 'the connection was cut (EPIPE)',
  UND_ERR_SOCKET: 'the connection was cut (UND_ERR_SOCKET)',
  ETIMEDOUT: 'no connection within the time allowed (ETIMEDOUT)',
  UND_ERR_CONNECT_TIMEOUT: 'no connection within the time allowed (UND_ERR_CONNECT_TIMEOUT)',
  UND_ERR_HEADERS_TIMEOUT: 'no answer within the time allowed (UND_ERR_HEADERS_TIMEOUT)',
  UND_ERR_BODY_TIMEOUT: 'the answer stopped half-way (UND_ERR_BODY_TIMEOUT)',
  EHOSTUNREACH: 'the host cannot be reached (EHOSTUNREACH)',
  ENETUNREACH: 'the network cannot be reached (ENETUNREACH)',
};

/** The most telling code in a chain of causes. An AggregateError (several addresses tried) speaks by its first member. */
function codeOf(failure: unknown): string {
  let current = failure;
  let found = '';
  for (let depth = 0; depth < 8 && typeof current === 'object' && current !== null; depth++) {
    const { code, cause, errors } = current as { code?: unknown; cause?: unknown; errors?: unknown };
    if (typeof code === 'string' && code !== '') found = code;
    if (cause !== undefined) current = cause;
    else if (Array.isArray(errors) && errors.length > 0) current = errors[0];
    else break;
  }
  if (found !== '') return found;
  return failure instanceof Error ? failure.name : 'unknown';
}

function headerOf(headers: HttpAnswer['headers'], name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? value : value?.[0];
}

function retryAfterOf(headers: HttpAnswer['headers'], now: number): number | undefined {
  const value = headerOf(headers, 'retry-after');
  if (value === undefined || value.trim() === '') return undefined;
  const seconds = Number(value);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - now;
  return Number.isFinite(ms) && ms >= 0 ? Math.min(ms, MAX_RETRY_AFTER_MS) : undefined;
}
