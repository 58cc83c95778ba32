/** Without a registry: `test/reference/registry.clients.test.ts` has a real one. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeGguf, tinyLlama } from '../../../../test/fixtures/gguf.ts';
import { createFakeEngine } from '../../engines/fake.ts';
import { Lifecycle } from '../../lifecycle.ts';
import { makeLoadedModel } from '../../models/loaded-model.ts';
import { ModelRegistry } from '../../models/registry.ts';
import { modelsIn } from '../../models/sources.ts';
import { ModelStore } from '../../models/store/store.ts';
import { makeApp } from '../../server.ts';
import { call } from '../testing.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'slm-manage-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const FILE = makeGguf({ tensors: [{ name: 'token_embd.weight', dimensions: [64, 4] }] });
const digestOf = (bytes: Buffer | string) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const DIGEST = digestOf(FILE);

/** A server over an empty folder, or one with `file.gguf`. */
async function start(withFile = false) {
  const dir = await mkdtemp(path.join(root, 'case-'));
  if (withFile) await writeFile(path.join(dir, 'file.gguf'), FILE);
  const store = new ModelStore(dir);
  const problems: string[] = [];
  const report = (problem: string) => void problems.push(problem);
  const refresh = async () => [...(await modelsIn(dir, report)), ...(await store.specs(report))];
  const models = new ModelRegistry(await refresh(), {
    load: async (spec) => makeLoadedModel(spec, createFakeEngine(), { tokensPerSecond: 1, loadedAt: new Date(0) }),
    refresh,
  });
  const lifecycle = new Lifecycle(models);
  lifecycle.started();
  const app = makeApp({
    lifecycle,
    auth: undefined,
    log: pino({ level: 'silent' }),
    management: { store, registries: ['models.internal:5000'] },
  });
  const post = (url: string, body: unknown) => call(app, 'POST', url, body);
  const send = async (digest: string, bytes: Buffer) => {
    const headers = { 'content-type': 'application/octet-stream' };
    const response = await app.inject({ method: 'POST', url: `/api/blobs/${digest}`, payload: bytes, headers });
    return [response.statusCode, response.body === '' ? '' : (JSON.parse(response.body) as unknown)];
  };
  const names = async () => {
    const { body } = await call(app, 'GET', '/api/tags');
    return (body as { models: { name: string }[] }).models.map((one) => one.name);
  };
  const blobs = async () => (await readdir(path.join(dir, 'blobs')).catch((): string[] => [])).sort();
  return { app, dir, models, post, send, names, blobs, problems };
}

test('a file is sent, kept under its digest, and made a model, which serves, is copied and removed', async () => {
  const { app, post, send, names, blobs, models } = await start();
  expect((await app.inject({ method: 'HEAD', url: `/api/blobs/${DIGEST}` })).statusCode).toBe(404);
  expect(await send(DIGEST, FILE)).toEqual([201, '']);
  expect((await app.inject({ method: 'HEAD', url: `/api/blobs/${DIGEST}` })).statusCode).toBe(200);

  const created = await post('/api/create', {
    model: 'mario',
    files: { 'tiny.gguf': DIGEST },
    system: 'You are Mario.',
    template: '{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>',
    parameters: { temperature: 0, stop: ['@', '#'] },
    messages: [{ role: 'user', content: 'hi' }],
    license: ['MIT', 'other'],
  });
  const lines = String(created.body)
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { status: string }).status);
  expect([created.status, lines[0], lines.slice(-2), lines.length]).toEqual([
    200,
    `using existing layer ${DIGEST}`,
    ['writing manifest', 'success'],
    9,
  ]);
  expect(await names()).toEqual(['mario:latest']);
  const shown = (await post('/api/show', { model: 'mario' })).body as Record<string, unknown>;
  expect(shown).toMatchObject({
    system: 'You are Mario.',
    license: 'MIT\nother',
    parameters:
      'temperature                    0\nstop                           "@"\nstop                           "#"',
    messages: [{ role: 'user', content: 'hi' }],
    details: { format: 'gguf', family: 'llama', parameter_size: '256' },
  });
  const chat = { model: 'mario', stream: false, messages: [{ role: 'user', content: 'you' }] };
  expect((await post('/api/chat', chat)).body).toMatchObject({ message: { content: 'You said: hi\n\nyou' } });

  expect((await post('/api/copy', { source: 'mario', destination: 'me/luigi:v1' })).status).toBe(200);
  expect(
    await post('/api/create', { model: 'bros', from: 'me/luigi:v1', system: 'Both.', stream: false }),
  ).toMatchObject({
    status: 200,
    body: { status: 'success' },
  });
  expect((await names()).sort()).toEqual(['bros:latest', 'mario:latest', 'me/luigi:v1']);
  expect(((await post('/api/show', { model: 'bros' })).body as { system: string }).system).toBe('Both.');

  const before = await blobs();
  expect((await call(app, 'DELETE', '/api/delete', { model: 'mario' })).status).toBe(200);
  expect([await blobs(), models.loaded]).toEqual([before, []]);
  for (const name of ['bros', 'me/luigi:v1']) await call(app, 'DELETE', '/api/delete', { name });
  expect([await names(), await blobs()]).toEqual([[], []]);
  expect((await call(app, 'DELETE', '/api/delete', { model: 'mario' })).status).toBe(404);
  await app.close();
});

test("older clients' Modelfiles, and models of a folder's files", async () => {
  const { app, post, send, names, blobs, dir } = await start(true);
  await send(DIGEST, FILE);
  const modelfile = `FROM @${DIGEST}\nPARAMETER top_k 3\nSYSTEM old`;
  expect((await post('/api/create', { name: 'old', modelfile, system: 'new', stream: false })).body).toEqual({
    status: 'success',
  });
  expect((await post('/api/show', { name: 'old' })).body).toMatchObject({
    system: 'new',
    parameters: `${'top_k'.padEnd(30)} 3`,
  });
  await post('/api/create', { model: 'from-file', from: 'file', stream: false });
  await post('/api/copy', { source: 'file', destination: 'copied' });
  expect((await names()).sort()).toEqual(['copied:latest', 'file:latest', 'from-file:latest', 'old:latest']);
  expect((await blobs()).filter((name) => name === DIGEST.replace(':', '-'))).toHaveLength(1);
  expect(await call(app, 'DELETE', '/api/delete', { model: 'file' })).toMatchObject({
    status: 400,
    body: { error: "model 'file' is a file that somebody put into the folder of models: remove it there" },
  });
  expect(await readFile(path.join(dir, 'file.gguf'))).toEqual(FILE);
  await app.close();
});

describe('what is refused', () => {
  const other = `sha256:${'0'.repeat(64)}`;
  const cases: [string, string, unknown, number, string][] = [
    ['no name', '/api/create', { from: 'file' }, 400, 'model is required'],
    [
      'a way out of the folder',
      '/api/create',
      { model: '../../etc/x', from: 'file' },
      400,
      "'../../etc/x' is no name of a model",
    ],
    ['a way out by the tag', '/api/copy', { source: 'file', destination: 'a:../../b' }, 400, 'is no name of a model'],
    ['a hidden one', '/api/copy', { source: 'file', destination: '.a' }, 400, 'is no name of a model'],
    [
      'a digest that is none',
      '/api/create',
      { model: 'a', files: { x: '../../../etc/passwd' } },
      400,
      "'../../../etc/passwd' is no digest",
    ],
    [
      'a file that was not sent',
      '/api/create',
      { model: 'a', files: { x: other } },
      400,
      `the blob ${other} is missing: send it to /api/blobs/`,
    ],
    [
      'several files',
      '/api/create',
      { model: 'a', files: { x: other, y: other } },
      400,
      'a model is one GGUF file here',
    ],
    ['nothing to make it of', '/api/create', { model: 'a' }, 400, 'from or files is required'],
    ['an unknown base', '/api/create', { model: 'a', from: 'nothing' }, 404, "model 'nothing' not found"],
    ['quantizing', '/api/create', { model: 'a', from: 'file', quantize: 'q4_0' }, 400, 'this server does not quantize'],
    [
      'a path of the server',
      '/api/create',
      { model: 'a', path: '/etc/passwd' },
      400,
      'paths of the server are not read',
    ],
    [
      'a bad parameter',
      '/api/create',
      { model: 'a', from: 'file', parameters: { mirostat: 2 } },
      400,
      'mirostat cannot be 2',
    ],
    [
      'a bad template',
      '/api/create',
      { model: 'a', from: 'file', template: '{{ x }}' },
      400,
      'the template cannot be used: the function x is not defined',
    ],
    [
      'a bad Modelfile',
      '/api/create',
      { model: 'a', modelfile: 'FROM file\nX y' },
      400,
      'line 2 of the Modelfile: "X" is no instruction',
    ],
    [
      'an adapter of the client',
      '/api/create',
      { model: 'a', modelfile: 'FROM file\nADAPTER /etc/passwd' },
      400,
      'adapters of a Modelfile are paths of the client',
    ],
    [
      'another registry',
      '/api/pull',
      { model: 'evil.example/a/b', stream: false },
      403,
      'this server may not ask evil.example: add it to SLM_REGISTRIES (now models.internal:5000)',
    ],
    [
      'a push of nothing',
      '/api/push',
      { model: 'models.internal:5000/a/b', stream: false },
      404,
      "model 'models.internal:5000/a/b:latest' not found",
    ],
  ];
  test.each(cases)('%s', async (_, url, body, status, message) => {
    const { app, post, dir } = await start(true);
    const answer = await post(url, body);
    const text = typeof answer.body === 'string' ? answer.body : (answer.body as { error: string }).error;
    expect([answer.status, text]).toEqual([status, expect.stringContaining(message)]);
    expect((await readdir(dir)).sort()).toEqual(['file.gguf']);
    await app.close();
  });

  test('bytes with another digest, what is no model, and a half-sent file', async () => {
    const { app, post, send, blobs } = await start();
    expect(await send(other, FILE)).toEqual([
      400,
      { error: `the bytes have the digest ${DIGEST}, not ${other}: send the whole file` },
    ]);
    expect(await blobs()).toEqual([]);
    const text = Buffer.from('no model');
    await send(digestOf(text), text);
    expect((await post('/api/create', { model: 'a', files: { x: digestOf(text) }, stream: false })).body).toEqual({
      error: `${digestOf(text)} is no single GGUF file: models are made of one, so convert or merge it before`,
    });
    await app.close();
  });
});

test("a folder of Ollama's own is served as it is", async () => {
  const { app, dir, names, post, problems } = await start();
  const blob = async (bytes: Buffer | string) => {
    await mkdir(path.join(dir, 'blobs'), { recursive: true });
    await writeFile(path.join(dir, 'blobs', digestOf(bytes).replace(':', '-')), bytes);
    return { digest: digestOf(bytes), size: bytes.length };
  };
  const layer = async (kind: string, bytes: Buffer | string) => ({
    mediaType: `application/vnd.ollama.image.${kind}`,
    ...(await blob(bytes)),
  });
  const manifest = async (where: string, layers: unknown[]) => {
    const file = path.join(dir, 'manifests', where);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(
      file,
      JSON.stringify({ schemaVersion: 2, config: { mediaType: 'x', ...(await blob('{}')) }, layers }),
    );
  };
  const model = await layer('model', makeGguf({ values: tinyLlama }));
  await manifest('registry.ollama.ai/library/phi4/mini', [
    model,
    await layer('params', '{"stop":["<|end|>"],"temperature":0.5}'),
    await layer('template', '{{ .Prompt }}'),
    await layer('license', 'MIT'),
  ]);
  await manifest('hf.co/me/mine/Q4', [model]);
  await manifest('registry.ollama.ai/library/broken/latest', [await layer('params', '{}')]);
  await manifest('registry.ollama.ai/library/odd/latest', [model, await layer('params', '{"mirostat":2}')]);
  expect((await names()).sort()).toEqual(['hf.co/me/mine:Q4', 'phi4:mini']);
  expect((await post('/api/show', { model: 'phi4:mini' })).body).toMatchObject({
    license: 'MIT',
    template: '{{ .Prompt }}',
  });
  expect(problems.sort()).toEqual([
    'broken:latest is left out: its manifest names no model',
    'odd:latest is left out: mirostat cannot be 2: mirostat is not supported; leave it out',
  ]);
  await app.close();
});
