import { expect, test } from 'vitest';
import { ApiError } from '../kube/errors.ts';
import type { KubeObject, ObjectRef, ResourceType } from '../kube/resource.ts';
import { ensureIdentity, type IdentityOptions } from './identity.ts';

const DAY = 86_400_000;

/** As much of an API server as two replicas need. */
function makeServer() {
  const objects = new Map<string, KubeObject>();
  const writes: string[] = [];
  const key = (type: ResourceType, name: string) => `${type.kind} ${name}`;
  const refuse = (status: number, reason: string) => new ApiError({ status, reason, message: reason, request: 'test' });
  let version = 0;
  const put = (id: string, verb: string, object: KubeObject) => {
    writes.push(`${verb} ${id}`);
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++version) } };
    objects.set(id, stored);
    return stored;
  };
  const client = {
    find: (type: ResourceType, ref: ObjectRef) => Promise.resolve(objects.get(key(type, ref.name))),
    create: (type: ResourceType, object: KubeObject) => {
      const id = key(type, object.metadata?.name ?? '');
      return objects.has(id)
        ? Promise.reject(refuse(409, 'AlreadyExists'))
        : Promise.resolve(put(id, 'create', object));
    },
    update: (type: ResourceType, object: KubeObject) => {
      const id = key(type, object.metadata?.name ?? '');
      const same = objects.get(id)?.metadata?.resourceVersion === object.metadata?.resourceVersion;
      return same ? Promise.resolve(put(id, 'update', object)) : Promise.reject(refuse(409, 'Conflict'));
    },
  } as unknown as IdentityOptions['client'];
  return { client, writes };
}

const options = (client: IdentityOptions['client'], now: number): IdentityOptions => ({
  client,
  namespace: 'slm-system',
  hosts: ['slm-operator'],
  now: () => now,
});
const START = Date.parse('2026-01-01T00:00:00Z');

test('it is made once, published, and found again', async () => {
  const { client, writes } = makeServer();
  const first = await ensureIdentity(options(client, START));
  const second = await ensureIdentity(options(client, START + DAY));
  expect(second.serving).toEqual(first.serving);
  expect(second.renewed).toEqual([]);
  expect(writes).toEqual(['create Secret slm-operator-tls', 'create ConfigMap slm-operator-ca']);
});

test('two replicas that start together end with the same one', async () => {
  const { client } = makeServer();
  const [one, two] = await Promise.all([
    ensureIdentity(options(client, START)),
    ensureIdentity(options(client, START)),
  ]);
  expect(one.serving).toEqual(two.serving);
  expect(one.caBundle).toBe(two.caBundle);
});

test('the serving certificate is renewed before it ends; the authority stays', async () => {
  const { client } = makeServer();
  const first = await ensureIdentity(options(client, START));
  const later = await ensureIdentity(options(client, START + 70 * DAY));
  expect(later.renewed).toEqual([expect.stringMatching(/^serving certificate: it ends at/)]);
  expect(later.serving.cert).not.toBe(first.serving.cert);
  expect(later.caBundle).toBe(first.caBundle);
});

test('a new authority is published beside the old one', async () => {
  const { client } = makeServer();
  const first = await ensureIdentity(options(client, START));
  const later = await ensureIdentity(options(client, START + 2600 * DAY));
  expect(later.renewed).toHaveLength(2);
  expect(later.caBundle.endsWith(first.caBundle)).toBe(true);
  expect(later.caBundle.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  // What comes after takes the new one for its own, and drops the oldest in time.
  expect((await ensureIdentity(options(client, START + 2601 * DAY))).renewed).toEqual([]);
});
