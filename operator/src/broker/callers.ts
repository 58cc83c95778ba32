/**
 * Who asks the broker: reads a bearer token into the name of a node or of a serving pod, by TokenReview. Remembers an answer
 * for half a minute; bounds how often each may ask. Never keeps a token, only its hash.
 */
import { createHash } from 'node:crypto';
import { broker } from '@slm-operator/crds';
import type { KubeClient } from '../kube/client.ts';

/** The name of the asking node, or why there is none. */
export type Caller = { readonly node: string } | { readonly status: 401 | 403 | 429; readonly message: string };

/** A deleted agent's token works this long after, at most. Milliseconds. */
const REMEMBER_MS = 30_000;
/** Nodes of a large cluster, with room for renewed tokens. */
const MAX_REMEMBERED = 10_000;

const NODE_CLAIM = 'authentication.kubernetes.io/node-name';
const POD_CLAIM = 'authentication.kubernetes.io/pod-name';

/** What the API server says of a token. */
export type Review = Awaited<ReturnType<KubeClient['reviewToken']>>;

export interface CallersOptions {
  readonly client: Pick<KubeClient, 'reviewToken'>;
  /** `system:serviceaccount:NAMESPACE:NAME` of the agents. */
  readonly username: string;
  /** Milliseconds that never go back. */
  readonly monotonic: () => number;
}

/** Answers a function from token to caller. It rejects when the API server does not answer. */
export function makeCallers({ client, username, monotonic }: CallersOptions) {
  const callers = makeRemembered<Caller>(client, monotonic, (review) => judge(review, username));
  return async (token: string | undefined, signal?: AbortSignal): Promise<Caller> => {
    if (token === undefined || token === '') {
      return { status: 401, message: 'send the ServiceAccount token of the node agent as Authorization: Bearer' };
    }
    return (await callers(token, signal)) ?? { status: 429, message: 'too many callers at this moment' };
  };
}

/** The serving pod that asks, or why there is none. */
export type ServingPod =
  | { readonly namespace: string; readonly pod: string }
  | { readonly status: 401 | 403 | 429; readonly message: string };

/** Answers a function from token to serving pod. It rejects when the API server does not answer. */
export function makeServingPods({ client, monotonic }: Pick<CallersOptions, 'client' | 'monotonic'>) {
  const pods = makeRemembered<ServingPod>(client, monotonic, servingPod);
  return async (token: string | undefined, signal?: AbortSignal): Promise<ServingPod> => {
    if (token === undefined || token === '') {
      return { status: 401, message: 'send the ServiceAccount token of the serving pod as Authorization: Bearer' };
    }
    return (await pods(token, signal)) ?? { status: 429, message: 'too many callers at this moment' };
  };
}

/** Reviews tokens made for the broker and remembers what they mean; undefined when there are too many new ones. */
function makeRemembered<T>(
  client: CallersOptions['client'],
  monotonic: () => number,
  meaning: (review: Review) => T,
): (token: string, signal: AbortSignal | undefined) => Promise<T | undefined> {
  const remembered = new Map<string, { readonly value: T; readonly until: number }>();
  const limit = makeRateLimit(REVIEW_RATE, monotonic);
  return async (token, signal) => {
    const key = createHash('sha256').update(token).digest('base64');
    const known = remembered.get(key);
    if (known !== undefined && known.until > monotonic()) return known.value;
    if (limit('') !== undefined) return undefined;
    const value = meaning(await client.reviewToken(token, [broker.audience], { signal, timeoutMs: 10_000 }));
    remembered.delete(key);
    remembered.set(key, { value, until: monotonic() + REMEMBER_MS });
    const oldest = remembered.keys().next().value;
    if (remembered.size > MAX_REMEMBERED && oldest !== undefined) remembered.delete(oldest);
    return value;
  };
}

/** Whose token it is, when it is good for this audience. */
export function usernameOf(review: Review, audience: string): string | undefined {
  const audiences: readonly string[] = review.audiences ?? [];
  return review.authenticated === true && audiences.includes(audience) ? review.user?.username : undefined;
}

/** Namespace and name of `system:serviceaccount:NAMESPACE:NAME`. */
export function serviceAccountOf(username: string): { readonly namespace: string; readonly name: string } | undefined {
  const [, namespace, name] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(username) ?? [];
  return namespace === undefined || name === undefined ? undefined : { namespace, name };
}

const notForUs = { status: 401, message: `the token is not valid for the audience ${broker.audience}` } as const;

function servingPod(review: Review): ServingPod {
  const account = serviceAccountOf(usernameOf(review, broker.audience) ?? '');
  if (account === undefined) return notForUs;
  const pod = review.user?.extra?.[POD_CLAIM]?.[0];
  if (pod === undefined || pod === '') return { status: 403, message: 'the token names no pod' };
  return { namespace: account.namespace, pod };
}

function judge(review: Review, username: string): Caller {
  const found = usernameOf(review, broker.audience);
  if (found === undefined) return notForUs;
  if (found !== username) return { status: 403, message: 'only the node agent may ask for grants' };
  const node = review.user?.extra?.[NODE_CLAIM]?.[0];
  if (node === undefined || node === '') {
    return {
      status: 403,
      message: 'the token names no node: it must be bound to a pod of the node agent (Kubernetes 1.30 or newer)',
    };
  }
  return { node };
}

/** How much a {@link makeRateLimit} lets through: `burst` at once, and one more each `refillMs` milliseconds. */
export interface Rate {
  readonly burst: number;
  readonly refillMs: number;
}

/** Grants that a node may ask for. */
export const GRANT_RATE: Rate = { burst: 30, refillMs: 1000 };
/** Tokens that are reviewed, over all callers: strangers must not be able to keep the API server busy. */
export const REVIEW_RATE: Rate = { burst: 200, refillMs: 20 };
/** Tokens of clients that one deployment's pods may have reviewed; they remember the answers themselves. */
export const CLIENT_RATE: Rate = { burst: 100, refillMs: 50 };

/** Answers a function that takes one of this key, or says after how many milliseconds there is one. */
export function makeRateLimit({ burst, refillMs }: Rate, monotonic: () => number) {
  const buckets = new Map<string, { tokens: number; at: number }>();
  return (key: string): number | undefined => {
    const now = monotonic();
    const bucket = buckets.get(key) ?? { tokens: burst, at: now };
    bucket.tokens = Math.min(burst, bucket.tokens + (now - bucket.at) / refillMs);
    bucket.at = now;
    buckets.set(key, bucket);
    if (bucket.tokens < 1) return Math.ceil((1 - bucket.tokens) * refillMs);
    bucket.tokens--;
    return undefined;
  };
}
