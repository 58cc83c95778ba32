/**
 * Errors of the Kubernetes API, typed. Owns the reading of `Status` answers; never decides whether to retry.
 */

/** One field that the server found wrong. */
export interface StatusCause {
  /** For example `FieldValueInvalid` or `FieldManagerConflict`. */
  readonly reason?: string;
  readonly message?: string;
  /** JSON path of the field. */
  readonly field?: string;
}

/** The server answered, and refused. */
export class ApiError extends Error {
  override readonly name: string = 'ApiError';
  /** HTTP status. */
  readonly status: number;
  /** `NotFound`, `Conflict`, `Invalid`, …; empty when the answer was no `Status` object. */
  readonly reason: string;
  readonly causes: readonly StatusCause[];
  /** Seconds that the server asked us to wait, when it did. */
  readonly retryAfterSeconds: number | undefined;
  /** What was asked, for example `PATCH /api/v1/namespaces/a/pods/b`. */
  readonly request: string;

  constructor(details: {
    readonly status: number;
    readonly reason?: string;
    readonly message: string;
    readonly causes?: readonly StatusCause[];
    readonly retryAfterSeconds?: number | undefined;
    readonly request: string;
  }) {
    super(details.message);
    this.status = details.status;
    this.reason = details.reason ?? '';
    this.causes = details.causes ?? [];
    this.retryAfterSeconds = details.retryAfterSeconds;
    this.request = details.request;
  }
}

/** No usable answer: refused, reset, timed out, TLS failure. `cause` holds the underlying error. */
export class ConnectionError extends Error {
  override readonly name: string = 'ConnectionError';
  readonly request: string;

  constructor(request: string, cause: unknown) {
    super(`${request}: no answer from the API server: ${describe(cause)}`, { cause });
    this.request = request;
  }
}

function describe(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
  // An AggregateError of several addresses has no message of its own.
  const text = cause.message === '' && cause instanceof AggregateError ? String(cause.errors[0]) : cause.message;
  return code === undefined || text.includes(code) ? text : `${text} (${code})`;
}

function hasStatus(error: unknown, status: number): error is ApiError {
  return error instanceof ApiError && error.status === status;
}

/** 404: the object, or its whole resource, is not there. */
export function isNotFound(error: unknown): error is ApiError {
  return hasStatus(error, 404);
}

/** 409 because somebody else changed or owns it: read again. False for {@link isAlreadyExists}. */
export function isConflict(error: unknown): error is ApiError {
  return hasStatus(error, 409) && error.reason !== 'AlreadyExists';
}

/** 409 on create: the name is taken. */
export function isAlreadyExists(error: unknown): error is ApiError {
  return hasStatus(error, 409) && error.reason === 'AlreadyExists';
}

/**
 * The object itself is wrong, and stays wrong however often it is sent: 422, 400 from strict field validation, and the
 * 500 with which servers refuse to apply a field that their schema lacks.
 */
export function isInvalid(error: unknown): error is ApiError {
  if (!(error instanceof ApiError)) return false;
  if (error.status === 422 || (error.status === 400 && error.reason === 'BadRequest')) return true;
  return error.status === 500 && error.message.includes('failed to create typed patch object');
}

/** 403: RBAC or an admission policy refused. */
export function isForbidden(error: unknown): error is ApiError {
  return hasStatus(error, 403);
}

/** 401: the credentials are missing, wrong or expired. */
export function isUnauthorized(error: unknown): error is ApiError {
  return hasStatus(error, 401);
}

/** 410, or a list or watch from a resource version that the server no longer (or not yet) has: list again. */
export function isExpired(error: unknown): error is ApiError {
  if (!(error instanceof ApiError)) return false;
  if (error.status === 410 || error.reason === 'Expired' || error.reason === 'Gone') return true;
  return error.causes.some((cause) => cause.reason === 'ResourceVersionTooLarge');
}

/** 429: the server asks for patience. */
export function isTooManyRequests(error: unknown): error is ApiError {
  return hasStatus(error, 429);
}

interface StatusBody {
  readonly kind?: unknown;
  readonly reason?: unknown;
  readonly message?: unknown;
  readonly code?: unknown;
  readonly details?: { readonly causes?: unknown; readonly retryAfterSeconds?: unknown };
}

/**
 * Makes the error for an answer.
 * @param body parsed JSON, or the text when it was none
 */
export function apiErrorFrom(
  request: string,
  status: number,
  body: unknown,
  retryAfterHeader: string | undefined,
): ApiError {
  const answer: StatusBody = typeof body === 'object' && body !== null ? body : {};
  const text = typeof body === 'string' ? body.trim().slice(0, 500) : '';
  const said = typeof answer.message === 'string' && answer.message !== '' ? answer.message : text;
  const fromBody = answer.details?.retryAfterSeconds;
  const fromHeader = retryAfterHeader === undefined ? Number.NaN : Number(retryAfterHeader);
  let retryAfterSeconds: number | undefined;
  if (Number.isFinite(fromHeader) && fromHeader >= 0) retryAfterSeconds = fromHeader;
  else if (typeof fromBody === 'number' && fromBody > 0) retryAfterSeconds = fromBody;
  return new ApiError({
    status: typeof answer.code === 'number' && answer.code > 0 ? answer.code : status,
    reason: typeof answer.reason === 'string' ? answer.reason : '',
    message: `${request}: ${said === '' ? `HTTP ${status}` : said}`,
    causes: Array.isArray(answer.details?.causes) ? (answer.details.causes as StatusCause[]) : [],
    retryAfterSeconds,
    request,
  });
}
