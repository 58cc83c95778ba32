/**
 * Looks for what pods need to let clients in: keys, certificate, the broker's address. Asks for single objects, because
 * Secrets are not watched; decides and writes nothing.
 */
import { broker, type SLMDeployment as Deployment } from '@slm-operator/crds';
import type { KubeClient } from '../kube/client.ts';
import { ConfigMap, controllerOf, keyOf, Secret, Service } from '../kube/resource.ts';
import type { Clock } from '../runtime/clock.ts';
import { apiKeySecretName, keysAreGenerated, tlsSecretName } from './names.ts';
import type { ApiKeys, Broker, TlsSecret } from './observed.ts';
import { KEY_PREFIX, type KeyPair } from './resources/api-keys.ts';

type Finder = Pick<KubeClient, 'find'>;

/** How long a Secret that was there counts as there, milliseconds. One that lacks is looked for each time. */
const PRESENT_MS = 60_000;

/** Secrets that were seen a moment ago, so that not every event of a deployment costs a question to the API server. */
export interface SeenSecrets {
  has(deployment: Deployment, name: string): boolean;
  /** It is there now. */
  note(deployment: Deployment, name: string): void;
  /** @param key `namespace/name` of a deployment */
  forget(key: string): void;
}

export function makeSeenSecrets(clock: Pick<Clock, 'monotonic'>): SeenSecrets {
  const seen = new Map<string, Map<string, number>>();
  const nameOf = ({ metadata }: Deployment, name: string) => `${metadata.uid} ${name}`;
  return {
    has(deployment, name) {
      const at = seen.get(keyOf(deployment))?.get(nameOf(deployment, name));
      return at !== undefined && clock.monotonic() - at < PRESENT_MS;
    },
    note(deployment, name) {
      const key = keyOf(deployment);
      const mine = seen.get(key) ?? new Map<string, number>();
      seen.set(key, mine.set(nameOf(deployment, name), clock.monotonic()));
    },
    forget: (key) => void seen.delete(key),
  };
}

/** Where the operator's own Service is. */
export interface BrokerPlace {
  readonly namespace: string;
  readonly service: string;
}

/** The Secret with API keys; keys for it when it is to be made. */
export async function lookForKeys(
  client: Finder,
  deployment: Deployment,
  seen: SeenSecrets,
  random: (size: number) => Uint8Array,
  signal: AbortSignal | undefined,
): Promise<ApiKeys> {
  const name = apiKeySecretName(deployment);
  if (name === undefined) return { state: 'unneeded' };
  if (seen.has(deployment, name)) return { state: 'present' };
  const generated = keysAreGenerated(deployment);
  const toMake = (): ApiKeys => ({ state: 'to-make', keys: [newKey(random), newKey(random)] satisfies KeyPair });
  // Of a new deployment there is most likely none, and making one that is there changes nothing.
  if (generated && deployment.status === undefined) return toMake();
  const secret = await client.find(Secret, refIn(deployment, name), { signal });
  // A generated Secret that belongs to somebody else is planned to be made, and the executor refuses with the reason.
  if (secret !== undefined && (!generated || controllerOf(secret)?.uid === deployment.metadata.uid)) {
    seen.note(deployment, name);
    return { state: 'present' };
  }
  return generated ? toMake() : { state: 'missing' };
}

function newKey(random: (size: number) => Uint8Array): string {
  return KEY_PREFIX + Buffer.from(random(32)).toString('base64url');
}

/** The Secret with the certificate. */
export async function lookForTls(
  client: Finder,
  deployment: Deployment,
  seen: SeenSecrets,
  signal?: AbortSignal,
): Promise<TlsSecret> {
  const name = tlsSecretName(deployment);
  if (name === undefined) return { state: 'unneeded' };
  if (seen.has(deployment, name)) return { state: 'present' };
  const secret = await client.find(Secret, refIn(deployment, name), { signal });
  if (secret === undefined) return { state: 'missing' };
  const lacks = ['tls.crt', 'tls.key'].filter((key) => !secret.data?.[key]);
  if (lacks.length > 0) return { state: 'unusable', lacks };
  seen.note(deployment, name);
  return { state: 'present' };
}

/** How pods reach the broker, where they need to. */
export async function lookForBroker(
  client: Finder,
  deployment: Deployment,
  place: BrokerPlace,
  signal?: AbortSignal,
): Promise<Broker> {
  if (deployment.spec.auth?.type !== 'ServiceAccount') return { state: 'unneeded' };
  const { namespace, service } = place;
  const [map, found] = await Promise.all([
    client.find(ConfigMap, { namespace, name: broker.caConfigMap }, { signal }),
    client.find(Service, { namespace, name: service }, { signal }),
  ]);
  const ca = map?.data?.['ca.crt'];
  const ip = found?.spec?.clusterIP;
  const where = `namespace ${namespace}`;
  if (!ca)
    return { state: 'missing', why: `the operator has not made ConfigMap ${broker.caConfigMap} in ${where} yet` };
  if (!ip || ip === 'None')
    return { state: 'missing', why: `there is no Service ${service} with an address in ${where}` };
  const address = `${ip.includes(':') ? `[${ip}]` : ip}:${broker.port}`;
  return { state: 'ready', access: { namespace, address, host: `${service}.${namespace}.svc`, ca } };
}

function refIn(deployment: Deployment, name: string): { name: string; namespace?: string } {
  const { namespace } = deployment.metadata;
  return namespace === undefined ? { name } : { name, namespace };
}
