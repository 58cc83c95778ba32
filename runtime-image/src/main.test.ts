/** The server as a process: what it prints, how it ends, what it leaves for the kubelet. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { makeGguf } from '../../test/fixtures/gguf.ts';
import { StartupError, writeTerminationMessage } from './failures.ts';
import { VERSION } from './version.ts';

vi.setConfig({ testTimeout: 60_000 });

let folder: string;
const running: ChildProcess[] = [];
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-main-'));
});
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function start(env: Record<string, string>) {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'main.ts')], {
    // Nothing of ours: a pod has neither HOME nor a PATH that matters.
    env: { SLM_MODEL_PATH: '/nowhere', SLM_HOST: '127.0.0.1', SLM_PORT: '0', SLM_OPENAI_PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  let output = '';
  child.stdout.on('data', (data: Buffer) => {
    output += data.toString();
  });
  let errors = '';
  child.stderr.on('data', (data: Buffer) => {
    errors += data.toString();
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', resolve);
  });
  const lines = () =>
    output
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  const line = async (message: string) => {
    await expect.poll(() => lines().some((one) => one['msg'] === message), { timeout: 30_000 }).toBe(true);
    return lines().find((one) => one['msg'] === message) ?? {};
  };
  return { child, ended, lines, line, output: () => output + errors };
}

test('it serves, logs JSON without prompts or keys, and ends with 0 when asked to', async () => {
  await writeFile(path.join(folder, 'primary'), 'very-secret-key');
  const server = start({ SLM_ENGINE: 'fake', SLM_API_KEYS_DIR: folder, SLM_LOG_LEVEL: 'trace' });
  const { ports } = (await server.line('listening')) as { ports: number[] };
  await server.line('ready');
  const answers = await Promise.all(
    ports.map(async (port) => {
      const response = await fetch(`http://127.0.0.1:${port}/api/generate`, {
        method: 'POST',
        headers: { authorization: 'Bearer very-secret-key' },
        body: JSON.stringify({ model: 'nowhere', prompt: 'private words', stream: false }),
      });
      return ((await response.json()) as { response: string }).response;
    }),
  );
  expect(answers).toEqual(['You said: private words', 'You said: private words']);
  server.child.kill('SIGTERM');
  expect(await server.ended).toBe(0);
  expect(server.lines().map((line) => line['msg'])).toEqual(
    expect.arrayContaining(['API keys read', 'stopping', 'draining', 'stopped']),
  );
  expect(server.output()).not.toMatch(/private words|very-secret-key/);
});

test("a folder of models, under Ollama's names of the settings", async () => {
  const models = await mkdtemp(path.join(folder, 'models-'));
  await writeFile(path.join(models, 'one.gguf'), makeGguf());
  await writeFile(path.join(models, 'two.Modelfile'), 'FROM one\nSYSTEM Be brief.');
  const server = start({
    SLM_MODEL_PATH: '',
    SLM_ENGINE: 'fake',
    SLM_PRELOAD: 'two',
    OLLAMA_MODELS: models,
    OLLAMA_KEEP_ALIVE: '1h',
    OLLAMA_MAX_LOADED_MODELS: '1',
  });
  const { ports } = (await server.line('listening')) as { ports: number[] };
  expect(await server.line('ready')).toMatchObject({ models: ['one', 'two'] });
  const url = `http://127.0.0.1:${ports[0]}`;
  const loaded = async () => {
    const { models: running } = (await (await fetch(`${url}/api/ps`)).json()) as { models: { name: string }[] };
    return running.map((model) => model.name);
  };
  expect(await loaded()).toEqual(['two:latest']);
  const answer = await fetch(`${url}/api/generate`, {
    method: 'POST',
    body: JSON.stringify({ model: 'one', prompt: 'hi', stream: false }),
  });
  expect(await answer.json()).toMatchObject({ response: 'You said: hi' });
  expect(await loaded()).toEqual(['one:latest']);
  server.child.kill('SIGTERM');
  expect(await server.ended).toBe(0);
});

describe('it ends with one clear line', () => {
  const cases: [string, Record<string, string>, number, string, RegExp][] = [
    ['for bad settings', { SLM_THREADS: 'many' }, 2, 'InvalidConfiguration', /SLM_THREADS=many must be a whole number/],
    [
      'for a folder that is not there',
      { SLM_POD_DIR: '/nowhere/pod' },
      2,
      'InvalidConfiguration',
      /^SLM_POD_DIR=\/nowhere\/pod is not there: set it to a folder\.$/,
    ],
    ['for a missing model', {}, 3, 'ModelNotFound', /there is no model at \/nowhere/],
    ['for what is no model', { SLM_MODEL_PATH: import.meta.filename }, 3, 'NotAModel', /is no GGUF file/],
  ];
  test.each(cases)('%s', async (_, env, code, reason, message) => {
    const server = start(env);
    expect(await server.ended).toBe(code);
    const last = server.lines().at(-1);
    expect(last).toMatchObject({ level: 'fatal', reason });
    expect(last?.['msg']).toMatch(message);
    expect(last).not.toHaveProperty('stack');
  });
});

test('the termination message goes where the kubelet reads it, and nowhere else', async () => {
  const error = new StartupError('NotAModel', 'x'.repeat(5000));
  const file = path.join(folder, 'termination-log');
  writeTerminationMessage(error, file);
  expect(() => readFileSync(file)).toThrow('ENOENT');
  await writeFile(file, '');
  writeTerminationMessage(error, file);
  const written = readFileSync(file, 'utf8');
  expect([written.length, written.slice(0, 20)]).toEqual([4096, 'NotAModel: xxxxxxxxx']);
});

test('the version is that of the package', () => {
  const file = path.join(import.meta.dirname, '..', 'package.json');
  expect(VERSION).toBe((JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version);
});
