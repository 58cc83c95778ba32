/**
 * The broker's certificate: made once, kept in a Secret that all replicas share, renewed before it ends, and its authority
 * published in a ConfigMap for the agents. Whichever replica comes first writes; the others take what they find.
 */
import { broker } from '@slm-operator/crds';
import type { KubeClient } from '../kube/client.ts';
import { isAlreadyExists, isConflict } from '../kube/errors.ts';
import { ConfigMap, type ObjectOf, Secret } from '../kube/resource.ts';
import { decodeSecret } from '../sources/credentials.ts';
import { type KeyPair, makeAuthority, makeServingCertificate, whyRenew } from './certificates.ts';

/** Name of the Secret; part of the chart's RBAC. */
export const TLS_SECRET = 'slm-operator-tls';

export interface IdentityOptions {
  readonly client: Pick<KubeClient, 'find' | 'create' | 'update'>;
  readonly namespace: string;
  /** DNS names that the certificate is for. */
  readonly hosts: readonly string[];
  /** Wall clock, milliseconds since 1970. */
  readonly now: () => number;
}

/** What the server needs. */
export interface BrokerIdentity {
  /** Certificate and key to serve with. */
  readonly serving: KeyPair;
  /** Authorities that agents are to trust. */
  readonly caBundle: string;
  /** What was made anew, for the log; empty when nothing was. */
  readonly renewed: readonly string[];
}

type SecretObject = ObjectOf<typeof Secret>;

/**
 * Reads the Secret and makes what is missing or about to end; publishes the authority. Safe to call from several replicas at
 * once, and again at any time. Rejects when the API server does.
 */
export async function ensureIdentity(options: IdentityOptions, signal?: AbortSignal): Promise<BrokerIdentity> {
  // Each round that loses a race to another replica reads what that one wrote; five in a row do not happen.
  for (let round = 0; round < 5; round++) {
    const found = await options.client.find(Secret, { namespace: options.namespace, name: TLS_SECRET }, { signal });
    const { content, renewed } = await renew(found, options);
    if (renewed.length === 0 || (await store(found, content, options, signal))) {
      await publish(content['ca.crt'] ?? '', options, signal);
      return {
        serving: { cert: content['tls.crt'] ?? '', key: content['tls.key'] ?? '' },
        caBundle: content['ca.crt'] ?? '',
        renewed,
      };
    }
  }
  throw new Error(`Secret ${TLS_SECRET} keeps changing: is something else writing it?`);
}

async function renew(found: SecretObject | undefined, { hosts, now }: IdentityOptions) {
  const content = decodeSecret(found?.data);
  const renewed: string[] = [];
  let authority = pairOf(content, 'ca.crt', 'ca.key');
  const authorityReason = whyRenew(authority, { now: now() });
  if (authority === undefined || authorityReason !== undefined) {
    renewed.push(`certificate authority: ${authorityReason}`);
    const fresh = await makeAuthority(now());
    // Agents that have not read the new bundle yet still meet replicas with the old certificate, and the other way round.
    content['ca.crt'] = authority === undefined ? fresh.cert : `${fresh.cert}${firstCertificate(authority.cert)}`;
    content['ca.key'] = fresh.key;
    authority = fresh;
  }
  const issuer = firstCertificate(authority.cert);
  const serving = pairOf(content, 'tls.crt', 'tls.key');
  const servingReason = whyRenew(serving, { now: now(), issuer, hosts });
  if (servingReason !== undefined) {
    renewed.push(`serving certificate: ${servingReason}`);
    const fresh = await makeServingCertificate({ cert: issuer, key: authority.key }, hosts, now());
    content['tls.crt'] = fresh.cert;
    content['tls.key'] = fresh.key;
  }
  return { content, renewed };
}

function pairOf(content: Readonly<Record<string, string>>, cert: string, key: string): KeyPair | undefined {
  const pair = { cert: content[cert] ?? '', key: content[key] ?? '' };
  return pair.cert === '' || pair.key === '' ? undefined : pair;
}

/** The authority that signs is the first of the bundle; older ones follow. */
function firstCertificate(bundle: string): string {
  const end = '-----END CERTIFICATE-----\n';
  const at = bundle.indexOf(end);
  return at < 0 ? bundle : bundle.slice(0, at + end.length);
}

/** False when another replica was faster. */
async function store(
  found: SecretObject | undefined,
  content: Readonly<Record<string, string>>,
  { client, namespace }: IdentityOptions,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const data = Object.fromEntries(
    Object.entries(content).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
  );
  try {
    if (found === undefined) {
      const secret = {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { namespace, name: TLS_SECRET },
        type: 'Opaque',
        data,
      };
      await client.create(Secret, secret, { signal });
    } else {
      // The resource version of what was read makes the server refuse when it changed meanwhile.
      await client.update(Secret, { ...found, data }, { signal });
    }
    return true;
  } catch (error) {
    if (isAlreadyExists(error) || isConflict(error)) return false;
    throw error;
  }
}

async function publish(ca: string, options: IdentityOptions, signal: AbortSignal | undefined): Promise<void> {
  const { client, namespace } = options;
  const name = broker.caConfigMap;
  for (let round = 0; round < 5; round++) {
    const found = await client.find(ConfigMap, { namespace, name }, { signal });
    if (found?.data?.['ca.crt'] === ca) return;
    try {
      if (found === undefined) {
        const map = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace, name }, data: { 'ca.crt': ca } };
        await client.create(ConfigMap, map, { signal });
      } else {
        await client.update(ConfigMap, { ...found, data: { ...found.data, 'ca.crt': ca } }, { signal });
      }
      return;
    } catch (error) {
      if (!isAlreadyExists(error) && !isConflict(error)) throw error;
    }
  }
  throw new Error(`ConfigMap ${name} keeps changing: is something else writing it?`);
}
