/**
 * When a request is worth another try, and how long to wait before it. Owns the policy; sends nothing.
 *
 * 429 and 503 are waited out as long as the server asks (bounded); reads are repeated after a lost connection; writes are
 * not, because nobody knows whether they happened.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ApiError, ConnectionError } from './errors.ts';

/** A server that wants more patience than this gets its 429 passed on: the work queue waits better than a call does. */
const MAX_RETRY_AFTER_MS = 30_000;
/** Pauses before a read is repeated after a lost connection; jittered to half. */
const READ_RETRY_MS = [100, 500];

/** All waiting of one call together. */
export const MAX_WAIT_MS = 60_000;

/** Milliseconds to wait before another try, or undefined when the error is final. */
export function pauseBefore(error: unknown, method: string, attempt: number): number | undefined {
  if (error instanceof ApiError) {
    const asked = error.retryAfterSeconds ?? (error.status === 429 ? 1 : undefined);
    // 429 and 503 are said before anything happens; another 5xx may come after the object was stored.
    const unprocessed = error.status === 429 || error.status === 503 || (error.status >= 500 && method === 'GET');
    if (asked === undefined || !unprocessed) return undefined;
    // Never early, and not all at the same moment.
    const pause = asked * 1000 * (1 + 0.2 * Math.random());
    return asked * 1000 > MAX_RETRY_AFTER_MS ? undefined : Math.max(50, pause);
  }
  if (!(error instanceof ConnectionError) || method !== 'GET' || isTimeout(error.cause)) return undefined;
  const pause = READ_RETRY_MS[attempt];
  return pause === undefined ? undefined : pause * (0.5 + 0.5 * Math.random());
}

/** A server that hung once has used up the caller's patience. */
function isTimeout(cause: unknown): boolean {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  return code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT' || code === 'UND_ERR_CONNECT_TIMEOUT';
}

/** Rejects with the signal's reason when it is aborted. */
export async function pauseFor(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await delay(milliseconds, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw signal?.aborted ? reasonOf(signal) : error;
  }
}

/** Why a signal was aborted, as an Error. */
export function reasonOf(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new Error(`aborted: ${String(reason)}`);
}
