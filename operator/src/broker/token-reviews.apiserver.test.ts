/**
 * Real tokens of real ServiceAccounts, reviewed by a real API server for a real inference server's authenticator: pod →
 * broker → API server.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { broker, type SLMDeployment } from '@slm-operator/crds';
import { BrokerClient } from '@slm-operator/runtime-image/plugins/broker-client';
import { ServiceAccounts } from '@slm-operator/runtime-image/plugins/service-accounts';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest';
import { makeOperatorAccess } from '../deployment/analysis/operator-access.ts';
import { accessFrom, loadKubeConfig } from '../kube/config.ts';
import { makeKubeClient } from '../kube/http-client.ts';
import { ConfigMap, type KubeObject, Namespace, Node, Pod, ServiceAccount } from '../kube/resource.ts';
import type { Logger } from '../runtime/log.ts';
import { type Broker, makeBroker } from './server.ts';

const id = randomBytes(4).toString('hex');
const namespace = `reviews-${id}`;
const elsewhere = `${namespace}-2`;
const node = `node-${id}`;
const audience = `chat.${namespace}.svc`;

const client = makeKubeClient({
  access: accessFrom(loadKubeConfig({ file: inject('kubeconfig') })),
  userAgent: 'slm-operator/test',
});
const stop = new AbortController();
const logged: string[] = [];
const write = (fields: object, message: string) => void logged.push(`${message} ${JSON.stringify(fields)}`);
const log: Logger = { debug: write, info: write, warn: write, error: write, child: () => log };
const serverLog = pino({ level: 'trace' }, { write: (line: string) => void logged.push(line) });

const deployment = (auth: SLMDeployment['spec']['auth']): SLMDeployment => ({
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMDeployment',
  metadata: { name: 'chat', namespace },
  spec: { modelRef: { name: 'm' }, ...(auth === undefined ? {} : { auth }) },
});
let served: SLMDeployment;

let running: Promise<void>;
let brokerServer: Broker;
let folder: string;
beforeAll(async () => {
  await client.create(Node, { metadata: { name: node } });
  for (const name of [namespace, elsewhere]) {
    await client.create(Namespace, { metadata: { name } });
    await client.create(ServiceAccount, { metadata: { namespace: name, name: 'app' } });
    await addPod(name, 'client', 'app');
  }
  for (const name of ['server', 'other', 'operator'])
    await client.create(ServiceAccount, { metadata: { namespace, name } });
  await addPod(namespace, 'chat-1', 'server', { 'slm.dev/deployment': 'chat' });
  await addPod(namespace, 'stranger', 'server');
  await addPod(namespace, 'other', 'other');

  brokerServer = makeBroker({
    client,
    findModel: () => undefined,
    findCache: () => undefined,
    findPod: (key) => pods.get(key),
    findDeployment: (key) => (key === `${namespace}/chat` ? served : undefined),
    namespace,
    agentServiceAccount: 'agent',
    serviceAccount: 'operator',
    hosts: ['slm-operator'],
    hfEndpoint: 'https://huggingface.co',
    host: '127.0.0.1',
    port: 0,
    log,
  });
  running = brokerServer.run(stop.signal);
  await vi.waitFor(() => brokerServer.check(), { timeout: 20_000, interval: 50 });
  folder = await mkdtemp(path.join(tmpdir(), 'slm-reviews-'));
  const ca = (await client.get(ConfigMap, { namespace, name: broker.caConfigMap })).data?.['ca.crt'] ?? '';
  await writeFile(path.join(folder, 'ca.crt'), ca);
  await writeFile(path.join(folder, 'host'), 'slm-operator');
});
afterAll(async () => {
  stop.abort();
  await running;
  await client.delete(Node, { name: node });
  for (const name of [namespace, elsewhere]) await client.delete(Namespace, { name });
  await client.close();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  served = deployment({ type: 'ServiceAccount' });
  await writeFile(path.join(folder, 'address'), `127.0.0.1:${brokerServer.port}`);
  await writeFile(path.join(folder, 'token'), await tokenOf('server', 'chat-1', broker.audience));
});

const pods = new Map<string, KubeObject>();
async function addPod(namespace: string, name: string, account: string, labels = {}): Promise<void> {
  const spec = { nodeName: node, serviceAccountName: account, containers: [{ name: 'c', image: 'none' }] };
  pods.set(`${namespace}/${name}`, await client.create(Pod, { metadata: { namespace, name, labels }, spec }));
}

/** A token as the kubelet projects it into a pod. */
async function tokenOf(account: string, pod: string, forWhom = audience, space = namespace): Promise<string> {
  const uid = pods.get(`${space}/${pod}`)?.metadata?.uid;
  const answer = await client.request<{ status: { token: string } }>({
    method: 'POST',
    path: `/api/v1/namespaces/${space}/serviceaccounts/${account}/token`,
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { audiences: [forWhom], boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: pod, uid } },
    },
  });
  return answer.status.token;
}

/** A server's door, with a clock that stands still until it is moved. */
function door() {
  const clock = { now: Date.now() };
  const asking = new BrokerClient(folder, 500);
  const accounts = new ServiceAccounts({
    review: (token) => asking.review(token),
    audience,
    log: serverLog,
    now: () => clock.now,
  });
  const enter = (token: string) =>
    accounts.authenticate(token).then(
      (caller) => caller.name,
      (error: { status: number; message: string }) => `${error.status} ${error.message}`,
    );
  return { enter, clock };
}

test('a pod of the namespace comes in with its own token, and is known by its ServiceAccount', async () => {
  expect(await door().enter(await tokenOf('app', 'client'))).toBe(`${namespace}/app`);
});

const list = (...allowed: NonNullable<NonNullable<SLMDeployment['spec']['auth']>['allowedServiceAccounts']>) => allowed;

describe('who else is let in', () => {
  test.each<[string, ReturnType<typeof list> | undefined, string, string]>([
    ['without a list, nobody of another namespace', undefined, elsewhere, '403'],
    ['with a list, those on it', list({ namespace: elsewhere, name: 'app' }), elsewhere, `${elsewhere}/app`],
    ['with a namespace on it, all of that', list({ namespace: elsewhere }), elsewhere, `${elsewhere}/app`],
    ['with a list, nobody else of the own namespace', list({ namespace: elsewhere }), namespace, '403'],
    ['with a name alone, that of the own namespace', list({ name: 'app' }), namespace, `${namespace}/app`],
    ['with another name, not this one', list({ name: 'other' }), namespace, '403'],
  ])('%s', async (_, allowed, space, expected) => {
    served = deployment({
      type: 'ServiceAccount',
      ...(allowed === undefined ? {} : { allowedServiceAccounts: allowed }),
    });
    const said = await door().enter(await tokenOf('app', 'client', audience, space));
    expect(said).toBe(
      expected === '403'
        ? `403 ServiceAccount ${space}/app may not use SLMDeployment ${namespace}/chat: add it to spec.auth.allowedServiceAccounts`
        : expected,
    );
  });
});

test('the operator itself comes in to ask smoke tests, with a token for this deployment alone, whomever the list names', async () => {
  served = deployment({ type: 'ServiceAccount', allowedServiceAccounts: list({ name: 'other' }) });
  const requests: string[] = [];
  const counting: Pick<typeof client, 'find' | 'request'> = {
    find: (type, ref, options) => client.find(type, ref, options),
    request: (request) => {
      requests.push(request.path);
      return client.request(request);
    },
  };
  const access = makeOperatorAccess({ client: counting, serviceAccount: { namespace, name: 'operator' }, clock: Date });
  const { key = '', certificate } = await access(served);
  expect(certificate).toBeUndefined();
  expect(await door().enter(key)).toBe(`${namespace}/operator`);
  // The token is kept while it is good.
  expect((await access(served)).key).toBe(key);
  expect(requests).toHaveLength(1);
  const other = { ...served, metadata: { ...served.metadata, name: 'other' } };
  expect(await door().enter((await access(other)).key ?? '')).toMatch(/^401 the token is made for another audience/);
});

describe('nobody comes in', () => {
  test('with a token for another audience: neither the API server’s nor another deployment’s', async () => {
    for (const other of ['https://kubernetes.default.svc', `other.${namespace}.svc`])
      expect(await door().enter(await tokenOf('app', 'client', other))).toBe(
        `401 the token is made for another audience: ask for a projected token with audience ${audience}`,
      );
  });

  test('with a forged token', async () => {
    const [head = '', body = '', signature = ''] = (await tokenOf('app', 'client')).split('.');
    const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as object;
    const forged = Buffer.from(JSON.stringify({ ...claims, sub: `system:serviceaccount:${namespace}:other` }));
    expect(await door().enter(`${head}.${forged.toString('base64url')}.${signature}`)).toMatch(
      /^401 the token is not valid/,
    );
    expect(await door().enter('sk-slm-key')).toMatch(/^401 this is no ServiceAccount token/);
  });

  test('with a token whose ServiceAccount was deleted, from the next review on', async () => {
    const { enter, clock } = door();
    const token = await tokenOf('other', 'other');
    expect(await enter(token)).toBe(`${namespace}/other`);
    await client.delete(ServiceAccount, { namespace, name: 'other' });
    // Remembered, so no request waits for a review.
    expect(await enter(token)).toBe(`${namespace}/other`);
    // The API server remembers too, for some seconds.
    const aMinuteLater = () => {
      clock.now += 60_000;
      return enter(token);
    };
    await expect
      .poll(aMinuteLater, { timeout: 30_000, interval: 500 })
      .toMatch(/^401 the token is not valid, or no longer/);
  });

  test('with a token that has expired', async () => {
    const { enter, clock } = door();
    const token = await tokenOf('app', 'client');
    clock.now += 4_000_000;
    expect(await enter(token)).toMatch(/^401 the token has expired/);
  });
});

describe('the broker reviews only', () => {
  const unavailable = /^503 the token cannot be checked now/;

  test('for pods of a deployment, which show their own token', async () => {
    const token = await tokenOf('app', 'client');
    await writeFile(path.join(folder, 'token'), await tokenOf('server', 'stranger', broker.audience));
    expect(await door().enter(token)).toMatch(unavailable);
    await writeFile(path.join(folder, 'token'), 'made-up');
    expect(await door().enter(token)).toMatch(unavailable);
    await writeFile(path.join(folder, 'token'), await tokenOf('server', 'chat-1', audience));
    expect(await door().enter(token)).toMatch(unavailable);
  });

  test('for a deployment that wants it', async () => {
    served = deployment({ type: 'APIKey' });
    expect(await door().enter(await tokenOf('app', 'client'))).toMatch(unavailable);
  });
});

test('while the broker is away, whoever was known stays known for ten minutes, and strangers are told to wait', async () => {
  const { enter, clock } = door();
  const token = await tokenOf('app', 'client');
  expect(await enter(token)).toBe(`${namespace}/app`);
  await writeFile(path.join(folder, 'address'), '127.0.0.1:1');
  clock.now += 5 * 60_000;
  expect(await enter(token)).toBe(`${namespace}/app`);
  expect(await enter(await tokenOf('app', 'client', audience, elsewhere))).toMatch(/^503 .*try again$/);
  clock.now += 6 * 60_000;
  expect(await enter(token)).toMatch(/^503 /);
});

test('an authority that the pod does not trust is not asked', async () => {
  const { enter } = door();
  await writeFile(path.join(folder, 'host'), 'somebody-else');
  expect(await enter(await tokenOf('app', 'client'))).toMatch(/^503 /);
  await writeFile(path.join(folder, 'host'), 'slm-operator');
});

test('no log line holds a token', async () => {
  const token = await tokenOf('app', 'client');
  await door().enter(token);
  expect(logged.some((line) => line.includes('token reviewed'))).toBe(true);
  expect(logged.join('\n')).not.toMatch(/eyJ[\w-]{20}/);
});
