import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterAll, describe, expect, test } from 'vitest';
import type { SchedulerStats } from '../engines/engine.ts';
import { createFakeEngine } from '../engines/fake.ts';
import { KeyStore } from '../plugins/auth.ts';
import { call, makeTestServer } from './testing.ts';

describe('probes', () => {
  test('a server that loads is alive, not ready, and says how far it is', async () => {
    const { app, lifecycle } = makeTestServer({ loading: true });
    lifecycle.progress = 0.4217;
    expect([
      await call(app, 'GET', '/healthz'),
      await call(app, 'GET', '/readyz'),
      await call(app, 'POST', '/api/chat', { model: 'chat', messages: [{ role: 'user', content: 'a' }] }),
      (await call(app, 'GET', '/v1/models')).status,
    ]).toMatchInlineSnapshot(`
      [
        {
          "body": {
            "status": "ok",
          },
          "status": 200,
          "type": "application/json; charset=utf-8",
        },
        {
          "body": {
            "idleSeconds": 0,
            "message": "the model is being loaded",
            "progress": 0.42,
            "reason": "loading",
            "running": 0,
            "status": "loading",
          },
          "status": 503,
          "type": "application/json; charset=utf-8",
        },
        {
          "body": {
            "error": "the model is loading (42 %): try again in a moment",
          },
          "status": 503,
          "type": "application/json; charset=utf-8",
        },
        200,
      ]
    `);
    lifecycle.ready(createFakeEngine(), 50, new Date());
    expect((await call(app, 'GET', '/readyz')).status).toBe(200);
    await app.close();
  });

  test('a ready server says what it runs', async () => {
    const { app } = makeTestServer();
    expect(await call(app, 'GET', '/readyz')).toMatchInlineSnapshot(`
      {
        "body": {
          "backend": "fake 1",
          "contextLength": 512,
          "device": {
            "backend": "CPU",
            "class": "cpu",
            "name": "fake",
          },
          "digest": "sha256:abababababababababababababababababababababababababababababababab",
          "engine": "fake",
          "idleSeconds": 0,
          "model": "chat",
          "parallelRequests": 2,
          "running": 0,
          "status": "ready",
          "threads": 1,
          "tokensPerSecond": 50,
        },
        "status": 200,
        "type": "application/json; charset=utf-8",
      }
    `);
    await app.close();
  });

  test('how long nobody has asked, from the start and from the last answer on', async () => {
    let now = 5000;
    const { app, lifecycle } = makeTestServer({ clock: () => now });
    const idle = async () => {
      const { running, idleSeconds } = (await call(app, 'GET', '/readyz')).body as Record<string, number>;
      return [running, idleSeconds];
    };
    now += 2500;
    const before = await idle();
    const end = lifecycle.begin();
    const during = await idle();
    now += 1000;
    end();
    now += 400;
    expect([before, during, await idle()]).toEqual([
      [0, 2.5],
      [1, undefined],
      [0, 0.4],
    ]);
    await app.close();
  });

  test('a server that is too slow for its minimum answers who asks it, and is not ready', async () => {
    const { app, lifecycle } = makeTestServer();
    lifecycle.refuse({ reason: 'too-slow', message: 'generates 3.0 tokens a second' });
    expect(await call(app, 'GET', '/readyz')).toMatchObject({
      status: 503,
      body: {
        status: 'too-slow',
        reason: 'too-slow',
        message: 'generates 3.0 tokens a second',
        tokensPerSecond: 50,
        device: { class: 'cpu' },
      },
    });
    expect((await call(app, 'GET', '/healthz')).status).toBe(200);
    expect((await call(app, 'POST', '/api/generate', { model: 'chat', prompt: 'a', stream: false })).status).toBe(200);
    await app.close();
  });

  test('a draining server answers what still comes, ends the connection with it, and is not ready', async () => {
    const { app, lifecycle } = makeTestServer();
    lifecycle.drain();
    const answer = await app.inject({ method: 'GET', url: '/api/version' });
    expect([answer.statusCode, answer.headers.connection]).toEqual([200, 'close']);
    expect([await call(app, 'GET', '/readyz'), await call(app, 'GET', '/healthz')]).toMatchInlineSnapshot(`
      [
        {
          "body": {
            "backend": "fake 1",
            "contextLength": 512,
            "device": {
              "backend": "CPU",
              "class": "cpu",
              "name": "fake",
            },
            "digest": "sha256:abababababababababababababababababababababababababababababababab",
            "engine": "fake",
            "idleSeconds": 0,
            "message": "the server ends when its running requests have ended",
            "model": "chat",
            "parallelRequests": 2,
            "reason": "draining",
            "running": 0,
            "status": "draining",
            "threads": 1,
            "tokensPerSecond": 50,
          },
          "status": 503,
          "type": "application/json; charset=utf-8",
        },
        {
          "body": {
            "status": "ok",
          },
          "status": 200,
          "type": "application/json; charset=utf-8",
        },
      ]
    `);
    await app.close();
  });

  test('an engine that broke makes the server unhealthy, so that it is restarted', async () => {
    const { app, lifecycle } = makeTestServer({ loading: true });
    const stats = { queued: 0, slotsBusy: 1, slotsTotal: 1, maxQueue: 0, stepAgeMs: 1000 };
    const health = async (change: Partial<SchedulerStats>) => {
      lifecycle.ready({ ...createFakeEngine(), stats: { ...stats, ...change } }, 50, new Date());
      const { status, body } = await call(app, 'GET', '/healthz');
      return [status, body];
    };
    expect([
      await health({}),
      await health({ stepAgeMs: 130_000 }),
      await health({ broken: new Error('the device is gone') }),
    ]).toEqual([
      [200, { status: 'ok' }],
      [503, { status: 'stuck', message: 'one batch has been computing for 130 s' }],
      [503, { status: 'broken', message: 'the device is gone' }],
    ]);
    await app.close();
  });
});

describe('API keys', () => {
  const folders: string[] = [];
  afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true }))));

  /** As the kubelet lays a Secret out: files are links through `..data`, which one rename swaps. */
  async function secret(keys: Record<string, string>) {
    const folder = await mkdtemp(path.join(tmpdir(), 'slm-keys-'));
    folders.push(folder);
    let version = 0;
    const write = async (next: Record<string, string>) => {
      const data = `..v${++version}`;
      await mkdir(path.join(folder, data));
      for (const [name, key] of Object.entries(next)) await writeFile(path.join(folder, data, name), key);
      await symlink(data, path.join(folder, '..data_tmp'));
      await rename(path.join(folder, '..data_tmp'), path.join(folder, '..data'));
    };
    await write(keys);
    for (const name of Object.keys(keys)) await symlink(path.join('..data', name), path.join(folder, name));
    return { folder, write };
  }

  test('every API needs one; probes and metrics do not', async () => {
    const { folder } = await secret({ primary: 'first-key\n', secondary: 'second-key' });
    const keys = new KeyStore(folder, pino({ level: 'silent' }));
    await keys.open();
    const { app } = makeTestServer({ auth: keys });
    const status = async (url: string, headers: Record<string, string>) =>
      (await call(app, 'GET', url, undefined, headers)).status;
    const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
    expect([
      await status('/v1/models', {}),
      await status('/v1/models', bearer('first-key')),
      await status('/v1/models', bearer('second-key')),
      await status('/v1/models', { 'x-api-key': 'second-key' }),
      await status('/v1/models', { 'api-key': 'second-key' }),
      await status('/v1/models', { 'api-key': 'third-key' }),
      await status('/v1/models', bearer('third-key')),
      await status('/v1/models', bearer('')),
      await status('/v1/models', { authorization: 'Basic first-key' }),
      await status('/api/tags', {}),
      await status('/made/up', {}),
      await status('/', {}),
    ]).toEqual([401, 200, 200, 200, 200, 401, 401, 401, 401, 401, 401, 401]);
    expect([await status('/healthz', {}), await status('/readyz', {}), await status('/metrics', {})]).toEqual([
      200, 200, 200,
    ]);
    expect([
      (await call(app, 'GET', '/v1/models')).body,
      (await call(app, 'GET', '/api/tags', undefined, bearer('third-key'))).body,
    ]).toMatchInlineSnapshot(`
      [
        {
          "error": {
            "code": "invalid_api_key",
            "message": "an API key is missing: send the header "Authorization: Bearer KEY"; the key is in the Secret of the SLMDeployment",
            "param": null,
            "type": "authentication_error",
          },
        },
        {
          "error": "the API key is not valid: take a current one from the Secret of the SLMDeployment",
        },
      ]
    `);
    await app.close();
    keys.close();
  });

  test('a rotated key works without a restart, and the old one no longer', async () => {
    const { folder, write } = await secret({ primary: 'old' });
    const keys = new KeyStore(folder, pino({ level: 'silent' }));
    await keys.open();
    expect([keys.find('old')?.name, keys.find('new')?.name]).toEqual(['primary', undefined]);
    await write({ primary: 'new' });
    await expect.poll(() => [keys.find('old')?.name, keys.find('new')?.name]).toEqual([undefined, 'primary']);
    // A folder that cannot be read is no reason to lock everybody out: the known keys stay.
    await rename(folder, `${folder}-gone`);
    folders.push(`${folder}-gone`);
    await keys.reload();
    expect(keys.find('new')?.name).toBe('primary');
    keys.close();
  });

  test('an empty folder refuses everybody', async () => {
    const { folder } = await secret({});
    const keys = new KeyStore(folder, pino({ level: 'silent' }));
    await keys.open();
    expect(keys.find('')).toBeUndefined();
    keys.close();
  });
});

test('the description lists every route and what it takes; health and metrics have a second name', async () => {
  const { app } = makeTestServer();
  const { body } = await call(app, 'GET', '/openapi.json');
  const { paths } = body as { paths: Record<string, Record<string, { requestBody?: unknown }>> };
  const routes = Object.entries(paths).flatMap(([url, methods]) =>
    Object.entries(methods).map(([method, { requestBody }]) => `${method} ${url}${requestBody ? ' +' : ''}`),
  );
  expect(routes.sort()).toEqual([
    'get /',
    'get /api/ps',
    'get /api/tags',
    'get /api/version',
    'get /openapi.json',
    'get /v1/models',
    'get /v1/models/{name}',
    'post /api/chat +',
    'post /api/embed +',
    'post /api/embeddings +',
    'post /api/generate +',
    'post /api/show +',
    'post /rerank +',
    'post /v1/chat/completions +',
    'post /v1/completions +',
    'post /v1/embeddings +',
    'post /v1/messages +',
    'post /v1/messages/count_tokens +',
    'post /v1/rerank +',
    'post /v1/responses +',
    'post /v2/rerank +',
  ]);
  expect((await call(app, 'GET', '/api/health')).body).toEqual({ status: 'ok' });
  expect((await call(app, 'GET', '/api/metrics')).body).toContain('slm_requests_total');
  await app.close();
});
