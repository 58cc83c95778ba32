/** Several models in one server, and what their Modelfiles say, through every API. */
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import type { GenerateRequest } from '../engines/engine.ts';
import { createFakeEngine } from '../engines/fake.ts';
import { Lifecycle } from '../lifecycle.ts';
import { readModelfile } from '../modelfile/modelfile.ts';
import { makeLoadedModel } from '../models/loaded-model.ts';
import { type ModelSpec, makeSpec } from '../models/model-spec.ts';
import { ModelRegistry, type RegistryOptions } from '../models/registry.ts';
import { makeApp } from '../server.ts';
import { call } from './testing.ts';

const MODELFILE = `FROM x
PARAMETER temperature 0.1
PARAMETER top_k 7
PARAMETER top_p 0.5
PARAMETER min_p 0.2
PARAMETER seed 9
PARAMETER repeat_penalty 1.5
PARAMETER num_predict 11
PARAMETER stop "!"
PARAMETER stop "?"
SYSTEM Be brief.
MESSAGE user one
MESSAGE assistant two
LICENSE MIT
`;

/** Models that are loaded when asked for; `plain` has no Modelfile, `tuned` has, `go` has a template in Go's syntax. */
function start(options: Partial<RegistryOptions> = {}) {
  const requests: GenerateRequest[] = [];
  const specs = [
    makeSpec({ names: ['plain', 'alias'], path: '/nowhere/plain' }),
    makeSpec({ names: ['tuned'], path: '/nowhere/tuned', defaults: readModelfile(MODELFILE).defaults }),
    makeSpec({
      names: ['go'],
      path: '/nowhere/go',
      defaults: readModelfile(
        'TEMPLATE """{{ if .Suffix }}{{ .Prompt }}~{{ .Suffix }}{{ else }}{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>{{ end }}"""',
      ).defaults,
    }),
  ];
  const load = async (spec: ModelSpec) => {
    const engine = createFakeEngine({ contextLength: 2000 });
    const generate = engine.generate.bind(engine);
    engine.generate = (request) => {
      requests.push(request);
      return generate(request);
    };
    return makeLoadedModel(spec, engine, { tokensPerSecond: 1, loadedAt: new Date(Date.UTC(2026, 0, 1)) });
  };
  const now = () => Date.UTC(2026, 10, 23);
  const models = new ModelRegistry(specs, { load, now, ...options });
  const lifecycle = new Lifecycle(models);
  lifecycle.started();
  const app = makeApp({ lifecycle, log: pino({ level: 'silent' }), now, auth: undefined });
  return { app, models, requests };
}

const messages = [{ role: 'user', content: 'three' }];
const textOf = (request: GenerateRequest | undefined) =>
  (request?.prompt ?? []).map((token) => (token < 256 ? String.fromCharCode(token) : `<${token}>`)).join('');

describe("a Modelfile's settings hold in every API, and a request's own win", () => {
  const settings = {
    maxTokens: 11,
    stop: ['!', '?'],
    sampling: { temperature: 0.1, topK: 7, topP: 0.5, minP: 0.2, seed: 9, repeatPenalty: 1.5 },
  };
  const prompt = '<257><258>Be brief.<256><259>one<256><260>two<256><259>three<256><260>';
  const cases: [string, string, Record<string, unknown>, object][] = [
    ['Ollama chat', '/api/chat', { messages, stream: false }, settings],
    ['Ollama generate', '/api/generate', { prompt: 'three', stream: false }, settings],
    ['OpenAI chat', '/v1/chat/completions', { messages }, settings],
    ['OpenAI responses', '/v1/responses', { input: 'three' }, settings],
    ['Anthropic', '/v1/messages', { messages, max_tokens: 5 }, { ...settings, maxTokens: 5 }],
  ];
  test.each(cases)('%s', async (_, url, body, expected) => {
    const { app, requests } = start();
    const { status } = await call(app, 'POST', url, { model: 'tuned', ...body });
    expect([status, requests[0], textOf(requests[0]).replace(/^(?!<257>)/, '<257>')]).toMatchObject([
      200,
      expected,
      prompt,
    ]);
    await app.close();
  });

  test("a request's own", async () => {
    const { app, requests } = start();
    const own = { model: 'tuned', stream: false, messages: [{ role: 'system', content: 'S' }, ...messages] };
    await call(app, 'POST', '/api/chat', { ...own, options: { temperature: 1, stop: ['x'], num_predict: -1 } });
    await call(app, 'POST', '/v1/chat/completions', { ...own, temperature: 0.7, stop: 'y', max_tokens: 3 });
    expect(requests).toMatchObject([
      { maxTokens: Number.POSITIVE_INFINITY, stop: ['x'], sampling: { temperature: 1, topK: 7 } },
      { maxTokens: 3, stop: ['y'], sampling: { temperature: 0.7, topK: 7 } },
    ]);
    expect(textOf(requests[0])).toContain('<258>S<256><259>one');
    await app.close();
  });
});

test("a template in Go's syntax: chat, text between, and one of a request's own", async () => {
  const { app, requests } = start();
  const generate = (body: object) => call(app, 'POST', '/api/generate', { model: 'go', stream: false, ...body });
  await call(app, 'POST', '/api/chat', { model: 'go', stream: false, messages });
  await generate({ prompt: 'a', suffix: 'b<|end|>' });
  await generate({ prompt: 'hi <|end|>', system: 'S', template: '{{ .System }}|{{ .Prompt }}<|end|><|assistant|>' });
  expect(requests.map(textOf).map((text) => text.replace(/^<257>/, ''))).toEqual([
    '<259>three<256><260>',
    'a~b<|end|>',
    'S|hi <|end|><256><260>',
  ]);
  expect((await generate({ prompt: 'a', template: '{{ .Prompt' })).body).toEqual({
    error: 'template cannot be used: line 1: an action is never closed with }}',
  });
  const shown = await call(app, 'POST', '/api/show', { model: 'go' });
  expect(shown.status).toBe(200);
  await app.close();
});

test('lists, what is loaded, until when, and unloading', async () => {
  const { app } = start({ maxLoaded: 2 });
  const ps = async () => {
    const { body } = await call(app, 'GET', '/api/ps');
    return (body as { models: { name: string; expires_at: string }[] }).models.map((one) => [one.name, one.expires_at]);
  };
  expect(await ps()).toEqual([]);
  const ids = ((await call(app, 'GET', '/v1/models')).body as { data: { id: string }[] }).data.map((one) => one.id);
  expect(ids).toEqual(['plain', 'alias', 'tuned', 'go']);
  await call(app, 'POST', '/api/chat', { model: 'alias:latest', stream: false, messages, keep_alive: '1h' });
  await call(app, 'POST', '/v1/embeddings', { model: 'tuned', input: 'x' });
  expect(await ps()).toEqual([
    ['plain:latest', '2026-11-23T01:00:00.000Z'],
    ['tuned:latest', '2026-11-23T00:05:00.000Z'],
  ]);
  await call(app, 'POST', '/api/generate', { model: 'go', keep_alive: -1, stream: false });
  expect((await ps()).at(-1)).toEqual(['go:latest', '2318-01-01T00:00:00Z']);
  const unloaded = await call(app, 'POST', '/api/generate', { model: 'go', keep_alive: 0 });
  expect([unloaded.body, (await ps()).map(([name]) => name)]).toMatchObject([
    { done_reason: 'unload' },
    ['tuned:latest'],
  ]);
  expect((await call(app, 'POST', '/api/chat', { model: 'other' })).body).toEqual({
    error: "model 'other' not found: this server has plain, alias, tuned, go",
  });
  expect((await call(app, 'POST', '/api/chat', { model: 'go', keep_alive: 'soon', messages })).status).toBe(400);
  expect((await call(app, 'GET', '/readyz')).body).toMatchObject({
    status: 'ready',
    models: [{ name: 'plain' }, {}, {}],
  });
  await app.close();
});

test('a model that cannot be loaded is a 500 that says why, in the words of each API', async () => {
  const { app } = start({ load: () => Promise.reject(new Error('the file ends too early')) });
  const message = "model 'plain' cannot be loaded: the file ends too early";
  expect(await call(app, 'POST', '/api/chat', { model: 'plain', messages })).toMatchObject({
    status: 500,
    body: { error: message },
  });
  expect(await call(app, 'POST', '/v1/chat/completions', { model: 'plain', messages })).toMatchObject({
    status: 500,
    body: { error: { message, code: 'model_load_failed' } },
  });
  await app.close();
});

test('a client that hangs up while its model loads waits no longer; the model is there for the next', async () => {
  const gate = Promise.withResolvers<void>();
  const { app, models } = start({
    load: async (spec) => {
      await gate.promise;
      return makeLoadedModel(spec, createFakeEngine(), { tokensPerSecond: 1, loadedAt: new Date(0) });
    },
  });
  const address = await app.listen({ port: 0, host: '127.0.0.1' });
  const leaving = new AbortController();
  const body = JSON.stringify({ model: 'plain', messages, stream: false });
  const answer = fetch(`${address}/api/chat`, { method: 'POST', body, signal: leaving.signal });
  await expect.poll(() => models.find('plain')?.waiting).toBe(1);
  leaving.abort();
  await expect(answer).rejects.toThrow('aborted');
  await expect.poll(() => models.find('plain')?.waiting).toBe(0);
  gate.resolve();
  await expect.poll(() => models.loaded.map((entry) => [entry.name, entry.uses])).toEqual([['plain', 0]]);
  expect((await fetch(`${address}/api/chat`, { method: 'POST', body })).status).toBe(200);
  await expect.poll(() => models.find('plain')?.uses).toBe(0);
  const metrics = (await app.inject('/metrics')).body;
  expect(metrics).toMatch(/slm_requests_total\{route="\/api\/chat",code="499".*\} 1/);
  await app.close();
});

test('the time that a model took to load is part of the answer', async () => {
  const { app } = start();
  const { body } = await call(app, 'POST', '/api/chat', { model: 'plain', stream: false, messages });
  expect(body).toMatchObject({ load_duration: 1, total_duration: 1 });
  await app.close();
});
