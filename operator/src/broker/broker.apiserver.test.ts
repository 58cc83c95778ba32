import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { broker, type DownloadGrant, type SLMModel, type SLMNodeCache } from '@slm-operator/crds';
import { type FileServer, startFileServer } from '@slm-operator/test/fixtures/file-server';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest';
import { accessFrom, loadKubeConfig } from '../kube/config.ts';
import { makeKubeClient } from '../kube/http-client.ts';
import { ConfigMap, Namespace, Node, Pod, Secret, ServiceAccount } from '../kube/resource.ts';
import type { Logger } from '../runtime/log.ts';
import { type Broker, makeBroker } from './server.ts';

const id = randomBytes(4).toString('hex');
const namespace = `broker-${id}`;
const node = `node-${id}`;
const DIGEST = `sha256:${'a'.repeat(64)}`;
const files = [{ path: 'tiny.gguf', size: 1, digest: DIGEST }];

const client = makeKubeClient({
  access: accessFrom(loadKubeConfig({ file: inject('kubeconfig') })),
  userAgent: 'slm-operator/test',
});
const stop = new AbortController();
const logged: string[] = [];
const write = (fields: object, message: string) => void logged.push(`${message} ${JSON.stringify(fields)}`);
const log: Logger = { debug: write, info: write, warn: write, error: write, child: () => log };

let root: string;
let source: FileServer;
let server: Broker;
let running: Promise<void>;
let ca: string;

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'slm-broker-'));
  await mkdir(path.join(root, 'files'));
  await writeFile(path.join(root, 'files/tiny.gguf'), 'x');
  source = await startFileServer({ root, token: 'long-lived' });
  await client.create(Namespace, { metadata: { name: namespace } });
  await client.create(Node, { metadata: { name: node } });
  for (const name of ['agent', 'other']) await client.create(ServiceAccount, { metadata: { namespace, name } });
  for (const [name, account] of [
    ['agent', 'agent'],
    ['other', 'other'],
  ] as const) {
    const spec = { nodeName: node, serviceAccountName: account, containers: [{ name: 'c', image: 'none' }] };
    await client.create(Pod, { metadata: { namespace, name }, spec });
  }
  const data = { token: Buffer.from('long-lived').toString('base64') };
  await client.create(Secret, { metadata: { namespace, name: 'hub' }, data });

  const url = `${source.url}/files/tiny.gguf`;
  const sources = [{ url, needsGrant: true }];
  const model: SLMModel = {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { name: 'tiny', namespace },
    spec: { source: { uri: url, insecure: true, secretRef: { name: 'hub' } } },
    status: { revisions: [{ name: 'a', digest: DIGEST, size: 1, resolvedAt: '2026-01-01T00:00:00Z', files, sources }] },
  };
  const models = [`${namespace}/tiny`];
  const cache: SLMNodeCache = {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMNodeCache',
    metadata: { name: node },
    spec: { wanted: [{ digest: DIGEST, size: 1, files, sources, models, namespaces: [namespace] }] },
  };
  server = makeBroker({
    client,
    findModel: (key) => (key === models[0] ? model : undefined),
    findCache: (name) => (name === node ? cache : undefined),
    findPod: () => undefined,
    findDeployment: () => undefined,
    namespace,
    agentServiceAccount: 'agent',
    serviceAccount: 'operator',
    hosts: ['slm-operator', 'localhost'],
    hfEndpoint: 'https://huggingface.co',
    host: '127.0.0.1',
    port: 0,
    log,
  });
  running = server.run(stop.signal);
  await vi.waitFor(() => server.check(), { timeout: 20_000, interval: 50 });
  ca = (await client.get(ConfigMap, { namespace, name: broker.caConfigMap })).data?.['ca.crt'] ?? '';
});

afterAll(async () => {
  stop.abort();
  await running;
  await client.delete(Node, { name: node }).catch(() => undefined);
  await client.delete(Namespace, { name: namespace }).catch(() => undefined);
  await client.close();
  await source.close();
  await rm(root, { recursive: true, force: true });
});

/** A token as the kubelet projects it into the agent's pod. */
async function tokenOf(account: string, audience: string = broker.audience, pod = account): Promise<string> {
  const uid = pod === '' ? undefined : (await client.get(Pod, { namespace, name: pod })).metadata?.uid;
  const answer = await client.request<{ status: { token: string } }>({
    method: 'POST',
    path: `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`,
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        audiences: [audience],
        ...(pod === '' ? {} : { boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: pod, uid } }),
      },
    },
  });
  return answer.status.token;
}

async function ask(token: string | undefined, digest = DIGEST): Promise<{ status: number; body: unknown }> {
  const agent = new Agent({ connect: { ca, servername: 'slm-operator' } });
  try {
    const response = await request(`https://127.0.0.1:${server.port}${broker.path}`, {
      method: 'POST',
      dispatcher: agent,
      headers: {
        'content-type': 'application/json',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify({ digest }),
    });
    return { status: response.statusCode, body: await response.body.json() };
  } finally {
    await agent.close();
  }
}

test('the agent of a node gets a grant for what the node is to hold', async () => {
  const { status, body } = await ask(await tokenOf('agent'));
  expect(status).toBe(200);
  expect((body as DownloadGrant).files).toEqual([
    { path: 'tiny.gguf', url: `${source.url}/files/tiny.gguf`, headers: { authorization: 'Bearer long-lived' } },
  ]);
});

test.each<[string, () => Promise<string | undefined>, string, number]>([
  ['for what the node is not to hold', () => tokenOf('agent'), `sha256:${'b'.repeat(64)}`, 403],
  ['to another ServiceAccount', () => tokenOf('other'), DIGEST, 403],
  ['for a token that is bound to no pod', () => tokenOf('agent', broker.audience, ''), DIGEST, 403],
  ['for a token of another audience', () => tokenOf('agent', 'https://kubernetes.default.svc'), DIGEST, 401],
  ['without a token', () => Promise.resolve(undefined), DIGEST, 401],
  ['for a token that nobody made', () => Promise.resolve('abc'), DIGEST, 401],
  ['for something that is no digest', () => tokenOf('agent'), 'latest', 400],
])('there is no grant %s', async (_, token, digest, expected) => {
  const { status, body } = await ask(await token(), digest);
  expect(status).toBe(expected);
  expect(JSON.stringify(body)).not.toContain('long-lived');
});

test('a Secret that is gone is named', async () => {
  await client.delete(Secret, { namespace, name: 'hub' });
  const { status, body } = await ask(await tokenOf('agent'));
  expect(status).toBe(502);
  expect(body).toMatchObject({
    reason: 'SecretNotFound',
    terminal: false,
    message: expect.stringContaining('hub') as string,
  });
});

test('no log line holds a credential or a token', async () => {
  const token = await tokenOf('agent');
  await ask(token);
  expect(logged.length).toBeGreaterThan(5);
  expect(logged.join('\n')).not.toContain('long-lived');
  expect(logged.join('\n')).not.toContain(token);
});
