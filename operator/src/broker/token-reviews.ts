/**
 * Reviews the tokens of a deployment's clients for its pods. Owns who may use which deployment, by its spec as it is now; who
 * the pod is, is told before. Remembers nothing and never logs a token: the pods remember answers.
 */
import { type SLMDeployment as Deployment, labels, type TokenReviewAnswer } from '@slm-operator/crds';
import { tokenAudience } from '../deployment/names.ts';
import type { KubeClient } from '../kube/client.ts';
import type { KubeObject } from '../kube/resource.ts';
import { CLIENT_RATE, makeRateLimit, serviceAccountOf, usernameOf } from './callers.ts';

export interface TokenReviewsOptions {
  readonly client: Pick<KubeClient, 'reviewToken'>;
  /** By `namespace/name`. */
  readonly findPod: (key: string) => KubeObject | undefined;
  readonly findDeployment: (key: string) => Deployment | undefined;
  /** The operator's own ServiceAccount: it asks every deployment its smoke tests, whomever the spec lets in. */
  readonly operator: Account;
  /** Milliseconds that never go back. */
  readonly monotonic: () => number;
}

/** A ServiceAccount. */
export interface Account {
  readonly namespace: string;
  readonly name: string;
}

/** An answer, or why the pod gets none. */
export type ReviewResult =
  | { readonly answer: TokenReviewAnswer; readonly deployment: string }
  | { readonly status: 403 | 429; readonly message: string; readonly retryAfterMs?: number };

/** Answers a function that reviews a token for a pod. It rejects when the API server does not answer. */
export function makeTokenReviews({ client, findPod, findDeployment, operator, monotonic }: TokenReviewsOptions) {
  const limit = makeRateLimit(CLIENT_RATE, monotonic);
  return async (
    pod: { readonly namespace: string; readonly pod: string },
    token: string,
    signal?: AbortSignal,
  ): Promise<ReviewResult> => {
    const name = findPod(`${pod.namespace}/${pod.pod}`)?.metadata?.labels?.[labels.deployment];
    // A label is its author's to choose, but only within the namespace, which the token tells.
    const key = `${pod.namespace}/${name}`;
    const deployment = name === undefined ? undefined : findDeployment(key);
    if (deployment?.spec.auth?.type !== 'ServiceAccount') {
      return { status: 403, message: 'only pods of an SLMDeployment with auth.type: ServiceAccount may ask' };
    }
    const wait = limit(key);
    if (wait !== undefined)
      return { status: 429, message: 'too many tokens of this deployment are being reviewed', retryAfterMs: wait };
    const audience = tokenAudience(deployment);
    const review = await client.reviewToken(token, [audience], { signal, timeoutMs: 10_000 });
    return { answer: judge(usernameOf(review, audience), deployment, operator), deployment: key };
  };
}

function judge(username: string | undefined, deployment: Deployment, operator: Account): TokenReviewAnswer {
  if (username === undefined) {
    return {
      allowed: false,
      status: 401,
      message: `the token is not valid, or no longer: it must be of a ServiceAccount and a pod that exist, and made for the audience ${tokenAudience(deployment)}`,
    };
  }
  const account = serviceAccountOf(username);
  if (account === undefined) return { allowed: false, status: 403, message: 'only ServiceAccounts may ask here' };
  const serviceAccount = `${account.namespace}/${account.name}`;
  const isOperator = account.namespace === operator.namespace && account.name === operator.name;
  if (!isOperator && !mayUse(account, deployment)) {
    const { namespace, name } = deployment.metadata;
    return {
      allowed: false,
      status: 403,
      message: `ServiceAccount ${serviceAccount} may not use SLMDeployment ${namespace}/${name}: add it to spec.auth.allowedServiceAccounts`,
    };
  }
  return { allowed: true, serviceAccount };
}

/** Whether the spec lets this ServiceAccount in. */
export function mayUse(account: Account, { metadata, spec }: Deployment): boolean {
  return (spec.auth?.allowedServiceAccounts ?? [{}]).some(
    (allowed) =>
      (allowed.namespace ?? metadata.namespace) === account.namespace &&
      (allowed.name ?? account.name) === account.name,
  );
}
