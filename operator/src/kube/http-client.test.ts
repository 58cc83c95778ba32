import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { eventually } from '../runtime/testing/eventually.ts';
import { type FaultyApiServer, startFaultyApiServer } from '../runtime/testing/faulty-api-server.ts';
import type { KubeClient, RequestRecord } from './client.ts';
import type { ClusterAccess } from './config.ts';
import { ApiError, ConnectionError, isAlreadyExists, isConflict, isExpired, isNotFound } from './errors.ts';
import { makeKubeClient } from './http-client.ts';
import { ConfigMap, Node } from './resource.ts';

// Real sockets on a machine that may be busy with other things.
vi.setConfig({ testTimeout: 30_000 });

interface Setup extends AsyncDisposable {
  readonly server: FaultyApiServer;
  readonly client: KubeClient;
  readonly records: RequestRecord[];
}

async function setUp(access: (server: FaultyApiServer) => ClusterAccess = (server) => server.access): Promise<Setup> {
  const server = await startFaultyApiServer();
  const records: RequestRecord[] = [];
  const client = makeKubeClient({
    access: access(server),
    userAgent: 'widget-operator/1.2.3',
    timeoutMs: 5000,
    onRequest: (record) => records.push(record),
  });
  return {
    server,
    client,
    records,
    async [Symbol.asyncDispose]() {
      await client.close();
      await server.close();
    },
  };
}

const ref = { name: 'a', namespace: 'ns' };
const map = { metadata: ref, data: { key: 'value' } };

describe('client', () => {
  it('creates, reads, replaces, patches and deletes', async () => {
    await using setup = await setUp();
    const { client } = setup;
    const made = await client.create(ConfigMap, map);
    expect(made.metadata?.uid).toBeDefined();
    await client.update(ConfigMap, { ...made, data: { key: 'other' } });
    const patched = await client.patch(ConfigMap, ref, 'merge', { data: { more: 'x' } });
    expect(patched.data).toEqual({ key: 'other', more: 'x' });
    expect((await client.get(ConfigMap, ref)).data).toEqual({ key: 'other', more: 'x' });
    await client.delete(ConfigMap, ref);
    expect(await client.find(ConfigMap, ref)).toBeUndefined();
  });

  it('tells refusals apart', async () => {
    await using setup = await setUp();
    const { client } = setup;
    const made = await client.create(ConfigMap, map);
    await client.update(ConfigMap, { ...made, data: {} });
    const refusals = await Promise.all(
      [
        client.get(ConfigMap, { ...ref, name: 'none' }),
        client.create(ConfigMap, map),
        client.update(ConfigMap, { ...made, data: { late: 'x' } }),
      ].map((call) => call.catch((error: unknown) => error)),
    );
    expect(refusals.map((error) => [isNotFound(error), isAlreadyExists(error), isConflict(error)])).toEqual([
      [true, false, false],
      [false, true, false],
      [false, false, true],
    ]);
    expect(String(refusals[0])).toBe(
      'ApiError: GET /api/v1/namespaces/ns/configmaps/none: configmaps "none" not found',
    );
  });

  it('names itself, asks for strict validation, and says in whose name it writes', async () => {
    await using setup = await setUp();
    await setup.client.create(ConfigMap, map);
    expect(setup.server.lastHeaders['user-agent']).toBe('widget-operator/1.2.3');
    expect(setup.server.lastQuery).toBe('?fieldManager=widget-operator&fieldValidation=Strict');
  });

  it('needs two sockets at most for a hundred calls in a row', async () => {
    await using setup = await setUp();
    setup.server.put(ConfigMap, map);
    for (let call = 0; call < 100; call++) await setup.client.get(ConfigMap, ref);
    expect(setup.server.socketsOpened).toBeLessThanOrEqual(2);
  });

  it('reads all pages of a list, with kinds filled in', async () => {
    await using setup = await setUp();
    for (let i = 0; i < 10; i++) setup.server.put(ConfigMap, { metadata: { name: `m${i}`, namespace: 'ns' } });
    const list = await setup.client.listAll(ConfigMap, { limit: 3 });
    expect(list.items.map((item) => item.metadata?.name)).toHaveLength(10);
    expect(list.items[0]).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap' });
    expect(setup.server.requests).toHaveLength(4);
  });

  it('keeps what it does not know: fields and microseconds survive read and write', async () => {
    await using setup = await setUp();
    const odd = { ...map, future: { field: [1, null, 'x'] }, at: '2030-01-01T00:00:00.123456Z' };
    await setup.client.create(ConfigMap, odd);
    const read = await setup.client.get(ConfigMap, ref);
    expect(await setup.client.update(ConfigMap, read)).toMatchObject(odd);
  });

  it('waits out 429 and 503 with Retry-After, also on writes', async () => {
    await using setup = await setUp();
    setup.server.fail('write', { kind: 'status', code: 429, retryAfterSeconds: 0 });
    setup.server.fail('write', { kind: 'status', code: 503, retryAfterSeconds: 0 });
    await setup.client.create(ConfigMap, map);
    expect(setup.records.map((record) => record.code)).toEqual(['429', '503', '201']);
  });

  it('passes on a 429 that asks for more patience than a call has', async () => {
    await using setup = await setUp();
    setup.server.fail('write', { kind: 'status', code: 429, retryAfterSeconds: 3600 });
    await expect(setup.client.create(ConfigMap, map)).rejects.toMatchObject({ status: 429, retryAfterSeconds: 3600 });
  });

  it('does not repeat a 500, nor a write whose answer was lost', async () => {
    await using setup = await setUp();
    setup.server.fail('write', { kind: 'status', code: 500 });
    await expect(setup.client.create(ConfigMap, map)).rejects.toThrow(ApiError);
    setup.server.fail('write', { kind: 'reset' });
    await expect(setup.client.create(ConfigMap, map)).rejects.toThrow(ConnectionError);
    expect(setup.records.map((record) => record.code)).toEqual(['500', '<error>']);
  });

  it('repeats a read after a lost connection', async () => {
    await using setup = await setUp();
    setup.server.put(ConfigMap, map);
    setup.server.fail('get', { kind: 'reset' });
    setup.server.fail('get', { kind: 'truncated' });
    expect(await setup.client.get(ConfigMap, ref)).toMatchObject(map);
    expect(setup.records).toHaveLength(3);
  });

  it('gives up on a server that does not answer, and says so', async () => {
    await using setup = await setUp();
    setup.server.fail('get', { kind: 'hang' });
    await expect(setup.client.get(ConfigMap, ref, { timeoutMs: 100 })).rejects.toThrow(
      /^GET \/api\/v1\/namespaces\/ns\/configmaps\/a: no answer from the API server: .*UND_ERR_HEADERS_TIMEOUT/,
    );
    expect(setup.records.map((record) => record.code)).toEqual(['<error>']);
  });

  it('says where it was refused when nothing listens', async () => {
    const access: ClusterAccess = {
      server: 'http://127.0.0.1:1',
      credentials: () => Promise.resolve({ headers: {}, tls: {} }),
    };
    const client = makeKubeClient({ access, userAgent: 'test/1' });
    await expect(client.get(Node, { name: 'n1' })).rejects.toThrow(/ECONNREFUSED/);
  });

  it('takes no proxy’s error page for an empty list', async () => {
    await using setup = await setUp();
    for (let i = 0; i < 3; i++) setup.server.fail('list', { kind: 'garbage' });
    await expect(setup.client.list(ConfigMap)).rejects.toThrow(
      'the answer is no JSON object: is there a proxy between?',
    );
  });

  it('rejects with the reason of its signal, before, during and between attempts', async () => {
    await using setup = await setUp();
    const reason = new Error('enough');
    await expect(setup.client.get(ConfigMap, ref, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    setup.server.fail('get', { kind: 'hang' });
    const during = new AbortController();
    const call = setup.client.get(ConfigMap, ref, { signal: during.signal });
    await eventually(() => setup.server.faultsMet === 1);
    during.abort(reason);
    await expect(call).rejects.toBe(reason);
    setup.server.fail('get', { kind: 'status', code: 429, retryAfterSeconds: 20 });
    const between = new AbortController();
    const waiting = setup.client.get(ConfigMap, ref, { signal: between.signal });
    await eventually(() => setup.server.faultsMet === 2);
    between.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });

  it('delivers events of a watch, bookmarks apart, and ends when the server does', async () => {
    await using setup = await setUp();
    const made = setup.server.put(ConfigMap, map);
    const seen: string[] = [];
    const options = { namespace: 'ns', resourceVersion: made.metadata?.resourceVersion, timeoutSeconds: 200 };
    for await (const event of setup.client.watch(ConfigMap, options)) {
      seen.push(event.type);
      if (seen.length === 1) setup.server.remove(ConfigMap, 'ns/a');
      if (event.type === 'BOOKMARK' && seen.length < 2) setup.server.tick();
    }
    expect(seen).toContain('DELETED');
  });

  it('throws what a watch says went wrong', async () => {
    await using setup = await setUp();
    const drain = async () => {
      for await (const event of setup.client.watch(ConfigMap, { resourceVersion: '1' })) void event;
    };
    setup.server.compact();
    expect(isExpired(await drain().catch((error: unknown) => error))).toBe(true);
    setup.server.fail('watch', { kind: 'reset' });
    await expect(drain()).rejects.toThrow(ConnectionError);
  });

  it('frees the socket of a watch that is left early', async () => {
    await using setup = await setUp();
    setup.server.tick();
    const options = { resourceVersion: '100', timeoutSeconds: 100_000 };
    for await (const event of setup.client.watch(ConfigMap, options)) if (event.type === 'BOOKMARK') break;
    await eventually(() => setup.server.openSockets === 0);
    expect(setup.server.socketsOpened).toBe(1);
  });

  it('takes a replaced token at once when the old one is refused', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'client-test-'));
    const file = path.join(folder, 'token');
    await writeFile(file, 'old\n');
    const { accessFrom, loadKubeConfig } = await import('./config.ts');
    let kubeconfig = '';
    await using setup = await setUp((server) => {
      kubeconfig = JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [{ name: 'c', cluster: { server: server.access.server, 'insecure-skip-tls-verify': true } }],
        users: [{ name: 'u', user: { 'auth-provider': { name: 'tokenFile', config: { tokenFile: file } } } }],
        contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'here' } }],
        'current-context': 'x',
      });
      return { server: server.access.server, credentials: async () => await access().credentials() };
    });
    const config = path.join(folder, 'config');
    await writeFile(config, kubeconfig);
    const access = () => accessFrom(loadKubeConfig({ file: config }));
    expect(access().namespace).toBe('here');
    setup.server.put(ConfigMap, map);
    setup.server.tokens = new Set(['old']);
    await setup.client.get(ConfigMap, ref);
    setup.server.tokens = new Set(['new']);
    await writeFile(file, 'new\n');
    await setup.client.get(ConfigMap, ref);
    expect(setup.records.map((record) => record.code)).toEqual(['200', '401', '200']);
    setup.server.tokens = new Set(['other']);
    await expect(setup.client.get(ConfigMap, ref)).rejects.toMatchObject({ status: 401 });
    await rm(folder, { recursive: true });
  });

  it('refuses to guess a namespace', async () => {
    await using setup = await setUp();
    await expect(setup.client.get(ConfigMap, { name: 'a' })).rejects.toThrow(
      'ConfigMap a: metadata.namespace is missing',
    );
  });
});
