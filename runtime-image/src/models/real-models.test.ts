/** Several models of a folder, with the real library: loaded, answering, unloaded, loaded again. */
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { smollm2 } from '@slm-operator/test/fixtures/models';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { readConfig } from '../config.ts';
import { Lifecycle } from '../lifecycle.ts';
import { call } from '../routes/testing.ts';
import { makeApp } from '../server.ts';
import { openModels, startModels } from './start.ts';

vi.setConfig({ testTimeout: 60_000 });

const log = pino({ level: 'silent' });
let dir: string;
let app: FastifyInstance;
let lifecycle: Lifecycle;

beforeAll(async () => {
  const { path: file } = await smollm2();
  dir = await mkdtemp(path.join(tmpdir(), 'slm-real-'));
  await symlink(file, path.join(dir, 'plain.gguf'));
  await mkdir(path.join(dir, 'other'));
  await symlink(file, path.join(dir, 'other', 'weights.gguf'));
  await writeFile(
    path.join(dir, 'brief.Modelfile'),
    'FROM plain\nPARAMETER num_ctx 256\nPARAMETER temperature 0\nPARAMETER num_predict 6\n' +
      'TEMPLATE """{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"""\n' +
      'SYSTEM You are a helpful AI assistant named SmolLM, trained by Hugging Face\n',
  );
  await copyFile(import.meta.filename, path.join(dir, 'broken.gguf'));
  const config = readConfig({
    SLM_MODELS_DIR: dir,
    SLM_MAX_LOADED_MODELS: '1',
    SLM_CONTEXT_LENGTH: '512',
    SLM_PARALLEL_REQUESTS: '2',
    SLM_BATCH_SIZE: '64',
    SLM_THREADS: '1',
  });
  lifecycle = new Lifecycle(await openModels(config, log));
  await startModels(config, lifecycle, log, 0);
  app = makeApp({ lifecycle, auth: undefined, log });
}, 60_000);
afterAll(async () => {
  await lifecycle.models.close();
  await app.close();
  await rm(dir, { recursive: true, force: true });
});

const ask = async (model: string, more: object = {}) => {
  const messages = [{ role: 'user', content: 'Name the capital of France.' }];
  const options = model === 'brief' ? {} : { temperature: 0, num_predict: 6 };
  const { body } = await call(app, 'POST', '/api/chat', { model, stream: false, messages, options, ...more });
  return body as { message?: { content: string }; error?: string };
};

test("Go's template and the model's own give the same prompt, so the same answer, however often models change places", async () => {
  const answers = [];
  for (const model of ['plain', 'brief', 'other', 'plain', 'brief']) answers.push((await ask(model)).message?.content);
  expect(new Set(answers).size).toBe(1);
  expect(answers[0]).toContain('Paris');
  expect(lifecycle.models.loaded.map((one) => [one.name, one.loaded?.engine.info.contextLength])).toEqual([
    ['brief', 256],
  ]);
});

test('all at once: each gets its turn', async () => {
  const answers = await Promise.all(['plain', 'brief', 'other', 'plain', 'brief', 'other'].map((model) => ask(model)));
  expect(answers.map((one) => one.message?.content.includes('Paris'))).toEqual([true, true, true, true, true, true]);
});

test('a file that is no model is said so, and the others go on', async () => {
  expect((await ask('broken')).error).toMatch(/^model 'broken' cannot be loaded: .*broken\.gguf/);
  const { body } = await call(app, 'GET', '/api/tags');
  const names = (body as { models: { name: string }[] }).models.map((one) => one.name);
  expect(names).toEqual(['other:latest', 'plain:latest', 'brief:latest']);
  expect((await ask('plain', { keep_alive: 0 })).message?.content).toContain('Paris');
  await expect.poll(() => lifecycle.models.loaded.length).toBe(0);
});
