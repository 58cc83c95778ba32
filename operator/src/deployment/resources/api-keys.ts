/** The Secret with generated API keys. Pure: the keys come from outside. */
import type { SLMDeployment } from '@slm-operator/crds';
import type { KubeObject } from '../../execution/plan.ts';
import { generatedKeysName } from '../names.ts';
import { childMetadata } from './owner.ts';

/** Two keys, so that clients can move to one while the other is replaced. */
export type KeyPair = readonly [string, string];

/** A key is this and 32 random bytes as base64url: recognisable in logs and by secret scanners. */
export const KEY_PREFIX = 'sk-slm-';

/** Made once; what people change in it afterwards stays. */
export function makeApiKeysSecret(deployment: SLMDeployment, keys: KeyPair): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: childMetadata(deployment, generatedKeysName(deployment.metadata.name)),
    type: 'Opaque',
    stringData: { 'key-1': keys[0], 'key-2': keys[1] },
  } as KubeObject;
}
