/**
 * As whom the operator asks a deployment's pods: its API key, or a token of the operator's own ServiceAccount made for that deployment,
 * and which certificate the pods must present. Reads Secrets one by one when they are needed; keeps tokens until shortly before
 * they end, and nothing else.
 */
import type { SLMDeployment } from '@slm-operator/crds';
import type { KubeClient } from '../../kube/client.ts';
import { Secret } from '../../kube/resource.ts';
import type { Clock } from '../../runtime/clock.ts';
import { decodeSecret } from '../../sources/credentials.ts';
import { apiKeySecretName, tlsSecretName, tokenAudience } from '../names.ts';
import { AskError } from './model-client.ts';

/** The shortest that the API server gives. */
const TOKEN_SECONDS = 600;
/** A token is used no longer than this before its end, milliseconds. */
const MARGIN_MS = 60_000;

/** What to present, and what to expect. */
export interface Access {
  readonly key: string | undefined;
  /** PEM. */
  readonly certificate: string | undefined;
}

export interface OperatorAccessOptions {
  readonly client: Pick<KubeClient, 'find' | 'request'>;
  /** The operator's own ServiceAccount. */
  readonly serviceAccount: { readonly namespace: string; readonly name: string };
  readonly clock: Pick<Clock, 'now'>;
}

/** Answers a function that throws {@link AskError} when there is no way in yet. */
export function makeOperatorAccess({ client, serviceAccount, clock }: OperatorAccessOptions) {
  const tokens = new Map<string, { readonly token: string; readonly until: number }>();

  const tokenFor = async (audience: string, signal: AbortSignal | undefined): Promise<string> => {
    const now = clock.now();
    for (const [known, { until }] of tokens) if (until <= now) tokens.delete(known);
    const kept = tokens.get(audience);
    if (kept !== undefined) return kept.token;
    const { namespace, name } = serviceAccount;
    const { status } = await client.request<{ status?: { token?: string; expirationTimestamp?: string } }>({
      method: 'POST',
      path: `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`,
      verb: 'create',
      resource: 'serviceaccounts/token',
      body: {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: { audiences: [audience], expirationSeconds: TOKEN_SECONDS },
      },
      signal,
    });
    if (!status?.token) throw new AskError('unreachable', 'the API server gave no token');
    const ends = Date.parse(status.expirationTimestamp ?? '') || now + TOKEN_SECONDS * 1000;
    tokens.set(audience, { token: status.token, until: ends - MARGIN_MS });
    return status.token;
  };

  return async (deployment: SLMDeployment, signal?: AbortSignal): Promise<Access> => {
    const secretOf = async (name: string) => {
      const { namespace } = deployment.metadata;
      const secret = await client.find(Secret, { name, ...(namespace === undefined ? {} : { namespace }) }, { signal });
      if (secret === undefined) throw new AskError('unreachable', `there is no Secret ${name}`);
      return decodeSecret(secret.data);
    };
    const keys = apiKeySecretName(deployment);
    const tls = tlsSecretName(deployment);
    let key: string | undefined;
    if (keys !== undefined) {
      key = Object.values(await secretOf(keys))
        .map((value) => value.trim())
        .find((value) => value !== '');
      if (key === undefined) throw new AskError('unreachable', `the Secret ${keys} has no API key`);
    } else if (deployment.spec.auth?.type === 'ServiceAccount') key = await tokenFor(tokenAudience(deployment), signal);
    const certificate = tls === undefined ? undefined : (await secretOf(tls))['tls.crt'];
    if (tls !== undefined && !certificate) throw new AskError('unreachable', `the Secret ${tls} has no tls.crt`);
    return { key, certificate };
  };
}

export type OperatorAccess = ReturnType<typeof makeOperatorAccess>;
