/** Pull and push against a real registry, with a proxy between that breaks what can break. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createFakeEngine } from '../../runtime-image/src/engines/fake.ts';
import { Lifecycle } from '../../runtime-image/src/lifecycle.ts';
import { makeLoadedModel } from '../../runtime-image/src/models/loaded-model.ts';
import { ModelRegistry } from '../../runtime-image/src/models/registry.ts';
import { ModelStore } from '../../runtime-image/src/models/store/store.ts';
import { call } from '../../runtime-image/src/routes/testing.ts';
import { makeApp } from '../../runtime-image/src/server.ts';
import { isInstalled } from '../cluster/command.ts';
import { makeGguf } from '../fixtures/gguf.ts';
import { type RunningRegistry, startRegistry } from './registry.ts';

const FILE = Buffer.concat([
  makeGguf({ tensors: [{ name: 'token_embd.weight', dimensions: [64, 4] }] }),
  randomBytes(3_000_000),
]);
const DIGEST = `sha256:${createHash('sha256').update(FILE).digest('hex')}`;
const SHORT = DIGEST.slice(7, 19);

describe.skipIf(!(await isInstalled('go')))('a registry (needs Go on the PATH)', () => {
  let root: string;
  let registry: RunningRegistry;
  let proxy: Server;
  /** Bytes of a blob after which the connection breaks. */
  let breakAfter: number | undefined;
  /** Whether blobs arrive with a wrong byte. */
  let spoil = false;
  const ranges: (string | undefined)[] = [];

  beforeAll(async () => {
    root = await mkdtemp(path.join(tmpdir(), 'slm-registry-'));
    registry = await startRegistry();
    proxy = createServer((incoming, answer) => {
      const [host = '', port = ''] = registry.address.split(':');
      const { method, url, headers } = incoming;
      const isBlob = method === 'GET' && url?.includes(DIGEST) === true;
      if (isBlob) ranges.push(headers.range);
      const forward = httpRequest({ host, port, method, path: url, headers }, (response) => {
        answer.writeHead(response.statusCode ?? 500, response.headers);
        let sent = 0;
        response.on('data', (chunk: Buffer) => {
          const bytes = isBlob && spoil ? Buffer.alloc(chunk.length, 1) : chunk;
          sent += bytes.length;
          answer.write(bytes);
          if (isBlob && breakAfter !== undefined && sent > breakAfter) answer.destroy();
        });
        response.on('end', () => answer.end());
      });
      forward.on('error', () => answer.destroy());
      incoming.pipe(forward);
    });
    await new Promise<void>((resolve) => {
      proxy.listen(0, '127.0.0.1', resolve);
    });
  }, 600_000);
  afterAll(async () => {
    proxy.closeAllConnections();
    proxy.close();
    await registry.stop();
    await rm(root, { recursive: true, force: true });
  });

  const host = () => `127.0.0.1:${(proxy.address() as AddressInfo).port}`;

  async function start() {
    const dir = await mkdtemp(path.join(root, 'store-'));
    const store = new ModelStore(dir);
    const refresh = () => store.specs(() => undefined);
    const lifecycle = new Lifecycle(
      new ModelRegistry([], {
        load: async (spec) => makeLoadedModel(spec, createFakeEngine(), { tokensPerSecond: 1, loadedAt: new Date(0) }),
        refresh,
      }),
    );
    lifecycle.started();
    const management = { store, registries: [host()] };
    const app = makeApp({ lifecycle, auth: undefined, log: pino({ level: 'silent' }), management });
    const lines = async (url: string, body: object) =>
      String((await call(app, 'POST', url, body)).body)
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { status?: string; completed?: number; total?: number; error?: string });
    return { app, dir, store, lines };
  }

  /** A server that has the model under the registry's name. */
  async function withModel() {
    const server = await start();
    const file = path.join(root, 'model.gguf');
    await writeFile(file, FILE);
    await server.store.importFile(file);
    const body = { model: `${host()}/me/tiny:v1`, files: { 'a.gguf': DIGEST }, system: 'Be kind.', stream: false };
    expect((await call(server.app, 'POST', '/api/create', body)).body).toEqual({ status: 'success' });
    return server;
  }

  test('a model is pushed, pulled by another server, and answers there', async () => {
    const model = `${host()}/me/tiny:v1`;
    const first = await withModel();
    const pushed = await first.lines('/api/push', { model, insecure: true });
    expect(pushed.map((one) => one.status)).toEqual(
      expect.arrayContaining(['retrieving manifest', `pushing ${SHORT}`, 'pushing manifest', 'success']),
    );
    const second = await start();
    const pulled = await second.lines('/api/pull', { model, insecure: true });
    const mine = pulled.filter((one) => one.status === `pulling ${SHORT}`);
    expect([pulled[0], mine[0]?.total, mine.at(-1)?.completed, pulled.slice(-3).map((one) => one.status)]).toEqual([
      { status: 'pulling manifest' },
      FILE.length,
      FILE.length,
      ['verifying sha256 digest', 'writing manifest', 'success'],
    ]);
    expect(await readFile(second.store.blobPath(DIGEST))).toEqual(FILE);
    const chat = { model, stream: false, messages: [{ role: 'user', content: 'hi' }] };
    expect((await call(second.app, 'POST', '/api/chat', chat)).body).toMatchObject({
      message: { content: 'You said: hi' },
    });
    // The second time there is nothing to do.
    expect((await second.lines('/api/pull', { model, insecure: true })).at(-1)).toEqual({ status: 'success' });
    await Promise.all([first.app.close(), second.app.close()]);
  });

  test('a download that broke goes on where it was', async () => {
    const model = `${host()}/me/tiny:v1`;
    const { app, dir, lines, store } = await start();
    breakAfter = 1_000_000;
    expect((await lines('/api/pull', { model, insecure: true })).at(-1)?.error).toBeDefined();
    breakAfter = undefined;
    const partial = (await readdir(path.join(dir, 'blobs'))).find((name) => name.endsWith('-partial')) ?? '';
    const { size } = await stat(path.join(dir, 'blobs', partial));
    expect(size).toBeGreaterThan(0);
    expect((await lines('/api/pull', { model, insecure: true })).at(-1)).toEqual({ status: 'success' });
    expect(ranges.at(-1)).toBe(`bytes=${size}-`);
    expect(await readFile(store.blobPath(DIGEST))).toEqual(FILE);
    await app.close();
  });

  test('two who pull the same share the download', async () => {
    const model = `${host()}/me/tiny:v1`;
    const { app, lines, store } = await start();
    const before = ranges.length;
    const both = await Promise.all([1, 2].map(() => lines('/api/pull', { model, insecure: true })));
    expect([both.map((one) => one.at(-1)), ranges.length - before]).toEqual([
      [{ status: 'success' }, { status: 'success' }],
      1,
    ]);
    expect(await readFile(store.blobPath(DIGEST))).toEqual(FILE);
    await app.close();
  });

  test('bytes that are not those of the digest never get its name', async () => {
    const { app, dir, lines } = await start();
    spoil = true;
    const last = (await lines('/api/pull', { model: `${host()}/me/tiny:v1`, insecure: true })).at(-1);
    spoil = false;
    expect(last?.error).toMatch(/^what the registry sent has the digest sha256:[0-9a-f]{64}, not sha256:/);
    expect(await readdir(path.join(dir, 'blobs'))).toEqual([]);
    await app.close();
  });

  test('what there is not, and what is not reached', async () => {
    const { app } = await start();
    const error = async (model: string, insecure = true) =>
      (await call(app, 'POST', '/api/pull', { model, insecure, stream: false })).body;
    expect([await error(`${host()}/me/none`), await error(`${host()}/me/tiny:v2`)]).toEqual([
      { error: `${host()} has no such model: check the name and the tag` },
      { error: `${host()} has no such model: check the name and the tag` },
    ]);
    expect(await error(`${host()}/me/tiny:v1`, false)).toEqual({
      error: expect.stringMatching(/cannot be reached \(.*\): check its name, and insecure for plain HTTP$/),
    });
    await app.close();
  });
});
