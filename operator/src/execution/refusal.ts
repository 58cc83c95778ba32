/**
 * Answers of the API server that no retry will change, as sentences for people. Owns the reading of refusals; decides
 * nothing about what to do next.
 */
import type { Reason } from '@slm-operator/crds';
import { ApiError } from '../kube/errors.ts';
import type { ObjectRef } from './plan.ts';

/** A write that was refused for good: until the spec, a quota, a policy or the other object changes. */
export interface Refusal {
  readonly reason: Extract<Reason, 'ChildConflict' | 'QuotaExceeded' | 'PodsRefused' | 'WriteRefused'>;
  /** What is refused and what to do. */
  readonly message: string;
  readonly target: ObjectRef;
}

/** Thrown by the executor when it must not touch an object. */
export class RefusedError extends Error {
  override readonly name: string = 'RefusedError';
  readonly refusal: Refusal;

  constructor(refusal: Refusal, cause?: unknown) {
    super(refusal.message, { cause });
    this.refusal = refusal;
  }
}

/** The refusal that this error stands for, or undefined when a retry may help. */
export function refusalOf(error: unknown, target: ObjectRef): Refusal | undefined {
  if (error instanceof RefusedError) return error.refusal;
  if (!(error instanceof ApiError) || isNamespaceGone(error)) return undefined;
  const what = `${target.kind} ${target.name}`;
  const said = serverSentence(error);
  if (error.status === 403) {
    if (/exceeded quota|limited to|must specify .*(limits|requests)/i.test(said)) {
      return { reason: 'QuotaExceeded', message: `a quota refuses ${what}: ${quotaSentence(said)}`, target };
    }
    return { reason: 'WriteRefused', message: `the API server refuses ${what}: ${said}`, target };
  }
  if (error.status === 422 || (error.status === 400 && error.reason === 'BadRequest')) {
    return { reason: 'WriteRefused', message: `the API server finds ${what} invalid: ${said}`, target };
  }
  return undefined;
}

/** True when the namespace is on its way out or gone: it takes the owner along, and there is nobody left to tell. */
export function isNamespaceGone(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  if (error.status === 403) return error.causes.some((cause) => cause.reason === 'NamespaceTerminating');
  return error.status === 404 && /namespaces "[^"]*" not found/.test(error.message);
}

/** What the server said, without the request line in front of it. */
function serverSentence(error: ApiError): string {
  const prefix = `${error.request}: `;
  return error.message.startsWith(prefix) ? error.message.slice(prefix.length) : error.message;
}

/**
 * `… is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3` as a sentence that says what to
 * raise. Other texts stay as they are.
 */
export function quotaSentence(said: string): string {
  const match = /exceeded quota: ([^,]+), requested: (.+), used: (.+), limited: (.+)$/.exec(said);
  if (!match) return said;
  const [, quota, requested, used, limited] = match;
  return `ResourceQuota ${quota} allows ${limited}, ${used} is used and ${requested} more is asked for; raise the quota or ask for less`;
}
