/**
 * Looks for what pods need to let clients in: keys, certificate, the broker's address. Asks for single objects, because
 * Secrets are not watched; decides and writes nothing.
 */
import { broker, type SLMDeployment as Deployment } from '@slm-operator/crds';
import type { KubeClient } from '../kube/client.ts';
import { ConfigMap, controllerOf, Secret, Service } from '../kube/resource.ts';
import { apiKeySecretName, keysAreGenerated, tlsSecretName } from './names.ts';
import type { ApiKeys, Broker, TlsSecret } from './observed.ts';
import { KEY_PREFIX, type KeyPair } from './resources/api-keys.ts';

type Finder = Pick<KubeClient, 'find'>;

/** Where the operator's own Service is. */
export interface BrokerPlace {
  readonly namespace: string;
  readonly service: string;
}

/** The Secret with API keys; keys for it when it is to be made. */
export async function lookForKeys(
  client: Finder,
  deployment: Deployment,
  random: (size: number) => Uint8Array,
  signal: AbortSignal | undefined,
): Promise<ApiKeys> {
  const name = apiKeySecretName(deployment);
  if (name === undefined) return { state: 'unneeded' };
  const secret = await client.find(Secret, refIn(deployment, name), { signal });
  const generated = keysAreGenerated(deployment);
  // A generated Secret that belongs to somebody else is planned to be made, and the executor refuses with the reason.
  if (secret !== undefined && (!generated || controllerOf(secret)?.uid === deployment.metadata.uid)) {
    return { state: 'present' };
  }
  if (!generated) return { state: 'missing' };
  return { state: 'to-make', keys: [newKey(random), newKey(random)] satisfies KeyPair };
}

function newKey(random: (size: number) => Uint8Array): string {
  return KEY_PREFIX + Buffer.from(random(32)).toString('base64url');
}

/** The Secret with the certificate. */
export async function lookForTls(client: Finder, deployment: Deployment, signal?: AbortSignal): Promise<TlsSecret> {
  const name = tlsSecretName(deployment);
  if (name === undefined) return { state: 'unneeded' };
  const secret = await client.find(Secret, refIn(deployment, name), { signal });
  if (secret === undefined) return { state: 'missing' };
  const lacks = ['tls.crt', 'tls.key'].filter((key) => !secret.data?.[key]);
  return lacks.length === 0 ? { state: 'present' } : { state: 'unusable', lacks };
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
