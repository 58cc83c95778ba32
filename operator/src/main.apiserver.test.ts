import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { API_VERSION } from '@slm-operator/crds';
import { type FileServer, startFileServer } from '@slm-operator/test/fixtures/file-server';
import { makeGguf } from '@slm-operator/test/fixtures/gguf';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { SLMModel } from './execution/kinds.ts';
import { accessFrom, loadKubeConfig } from './kube/config.ts';
import { makeKubeClient } from './kube/http-client.ts';
import { Lease, Namespace, Secret } from './kube/resource.ts';

const namespace = `main-${randomBytes(4).toString('hex')}`;
const access = accessFrom(loadKubeConfig({ file: inject('kubeconfig') }));
const client = makeKubeClient({ access, userAgent: 'test' });
const patient = { timeout: 30_000, interval: 100 };
let root: string;
let hub: FileServer;
const processes: Replica[] = [];

interface Replica {
  readonly name: string;
  readonly process: ChildProcess;
  readonly port: number;
  output: string;
}

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'slm-main-'));
  for (const name of ['one', 'two']) {
    const folder = path.join(root, 'hf/acme', name);
    await mkdir(folder, { recursive: true });
    await writeFile(path.join(folder, `${name}.gguf`), makeGguf());
  }
  hub = await startFileServer({ root });
  await client.create(Namespace, { metadata: { name: namespace } });
});

afterAll(async () => {
  for (const { process } of processes) process.kill('SIGKILL');
  await client.delete(Namespace, { name: namespace }).catch(() => undefined);
  await client.close();
  await hub.close();
  await rm(root, { recursive: true, force: true });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}

async function startReplica(name: string): Promise<Replica> {
  const port = await freePort();
  const env = {
    PATH: process.env['PATH'],
    KUBECONFIG: inject('kubeconfig'),
    SLM_NAMESPACE: namespace,
    SLM_IDENTITY: name,
    SLM_SERVER_IMAGE: 'slm.dev/server:test',
    SLM_HF_ENDPOINT: hub.url,
    SLM_HF_ENDPOINT_INSECURE: 'true',
    SLM_LEASE_DURATION_SECONDS: '3',
    SLM_LEASE_RENEW_SECONDS: '2',
    SLM_LEASE_RETRY_SECONDS: '0.5',
    SLM_METRICS_PORT: String(port),
    SLM_BROKER_PORT: String(await freePort()),
  };
  const main = new URL('main.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [main], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const replica: Replica = { name, process: child, port, output: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      replica.output += text;
    });
  }
  processes.push(replica);
  return replica;
}

async function isReady({ port }: Replica): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
  return response === undefined ? 'no answer' : `${response.status}`;
}

async function resolves(name: string): Promise<void> {
  const model = {
    apiVersion: API_VERSION,
    kind: 'SLMModel',
    metadata: { namespace, name },
    spec: { source: { uri: `hf://acme/${name}` } },
  };
  await client.apply(SLMModel, model, { fieldManager: 'user' });
  const condition = async () =>
    (await client.get(SLMModel, { namespace, name })).status?.conditions?.find(({ type }) => type === 'Resolved')
      ?.status;
  await expect.poll(condition, patient).toBe('True');
}

const holder = async () => (await client.find(Lease, { namespace, name: 'slm-operator' }))?.spec?.holderIdentity;

test('two replicas: both ready, one leads, the other goes on when it is killed, and SIGTERM ends cleanly', async () => {
  const first = await startReplica('first');
  await expect.poll(holder, patient).toBe('first');
  const second = await startReplica('second');
  for (const replica of [first, second]) await expect.poll(() => isReady(replica), patient).toBe('200');
  await resolves('one');
  const identity = await client.get(Secret, { namespace, name: 'slm-operator-tls' });
  expect(Object.keys(identity.data ?? {}).toSorted()).toEqual(['ca.crt', 'ca.key', 'tls.crt', 'tls.key']);

  first.process.kill('SIGKILL');
  await resolves('two');
  expect(await holder()).toBe('second');

  const metrics = await (await fetch(`http://127.0.0.1:${second.port}/metrics`)).text();
  expect(metrics).toContain('controller_runtime_reconcile_total{controller="model"');

  second.process.kill('SIGTERM');
  const [code] = (await once(second.process, 'exit')) as [number | null];
  expect(code, second.output).toBe(0);
  expect(await holder()).toBe('');
  expect(second.output).toContain('operator stopped');
}, 90_000);
