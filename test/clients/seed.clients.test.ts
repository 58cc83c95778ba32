/**
 * The examples that people come with: scripts, a web application, curl, settings and monitoring as written for Ollama and
 * for Foundry Local, without a change but the address.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../cluster/command.ts';
import { runChecks } from './checks.ts';
import { pythonClients } from './python.ts';
import { type RunningServer, startServer, sumOf } from './server.ts';

const examples = path.join(import.meta.dirname, 'seed');
const environment = (more: Readonly<Record<string, string>>) => ({ PATH: process.env['PATH'], ...more });
const json = async (url: string, body?: unknown) => {
  const response = await fetch(url, body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};

describe('written for Ollama', () => {
  let server: RunningServer;
  beforeAll(async () => {
    server = await startServer({
      names: ['phi4:mini', 'qwen2.5:3b', 'nomic-embed-text'],
      env: {
        SLM_PORT: '',
        OLLAMA_HOST: '127.0.0.1:0',
        OLLAMA_NUM_PARALLEL: '4',
        OLLAMA_MAX_LOADED_MODELS: '2',
        OLLAMA_FLASH_ATTENTION: '1',
        OLLAMA_MAX_VRAM: '8G',
        OLLAMA_KEEP_ALIVE: '10m',
      },
    });
    await pythonClients();
  });
  afterAll(async () => {
    expect(await server.stop()).toBe(0);
  });

  test('the settings are in force', async () => {
    await json(`${server.url}/api/generate`, { model: 'phi4:mini' });
    expect(await server.metric('slm_slots')).toBe(4);
    const { models } = (await json(`${server.url}/api/ps`)).body as { models: { expires_at: string }[] };
    const minutes = (Date.parse(models[0]?.expires_at ?? '') - Date.now()) / 60_000;
    expect(minutes).toBeGreaterThan(9);
    expect(minutes).toBeLessThanOrEqual(10);
  });

  test('Python with requests', async () => {
    const options = { env: environment({ ENDPOINT: server.url, PYTHONPATH: await pythonClients() }) };
    expect(await runChecks(['python3', path.join(examples, 'generate.py')], options)).toEqual([
      { name: 'one piece', ok: true },
      { name: 'stream', ok: true },
    ]);
  });

  test('axios in an Express application', async () => {
    const app = spawn(process.execPath, [path.join(examples, 'app.cjs')], {
      env: environment({ ENDPOINT: server.url }),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const [port] = (await once(app.stdout, 'data')) as [Buffer];
      const ask = async (body: unknown) => {
        const response = await fetch(`http://127.0.0.1:${port.toString().trim()}/api/chat`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        });
        return response.json();
      };
      expect(await ask({ message: 'Name the capital of France.' })).toEqual({ response: expect.stringMatching(/\w/) });
      expect(await ask({ message: 'hi', model: 'llama3' })).toMatchObject({
        error: 'No answer could be generated',
        reason: expect.stringContaining('phi4:mini'),
      });
    } finally {
      app.kill('SIGKILL');
    }
  });

  test('curl: text, a conversation, a vector', async () => {
    const output = await runCommand(['sh', path.join(examples, 'calls.sh')], {
      env: environment({ ENDPOINT: server.url }),
    });
    const answers = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(answers).toEqual([
      expect.objectContaining({ model: 'phi4:mini', response: expect.stringMatching(/\w/), done: true }),
      expect.objectContaining({
        model: 'qwen2.5:3b',
        message: { role: 'assistant', content: expect.stringMatching(/\w/) },
        done: true,
      }),
      { embedding: expect.objectContaining({ length: 576 }) },
    ]);
  });

  test('a health check, and what Prometheus scrapes', async () => {
    expect(await json(`${server.url}/api/health`)).toEqual({ status: 200, body: { status: 'ok' } });
    const text = await (await fetch(`${server.url}/metrics`)).text();
    expect(sumOf(text, 'slm_generated_tokens_total')).toBeGreaterThan(10);
  });
});

describe('written for Foundry Local', () => {
  let server: RunningServer;
  beforeAll(async () => {
    server = await startServer({
      env: { SLM_SERVED_NAMES: '', FOUNDRY_MODEL: 'microsoft/phi-4-mini', FOUNDRY_HARDWARE: 'npu,gpu,cpu' },
    });
  });
  afterAll(async () => {
    expect(await server.stop()).toBe(0);
  });

  test('the second port has OpenAI’s API, under the name of the settings', async () => {
    const { body } = await json(`${server.secondUrl}/v1/chat/completions`, {
      model: 'microsoft/phi-4-mini',
      messages: [{ role: 'user', content: 'Name the capital of France.' }],
      temperature: 0,
    });
    expect(body).toMatchObject({ choices: [{ message: { content: 'The capital of France is Paris.' } }] });
    const models = await json(`${server.secondUrl}/v1/models/microsoft/phi-4-mini`);
    expect(models).toMatchObject({ status: 200, body: { id: 'microsoft/phi-4-mini' } });
  });

  test('health and metrics, where its monitoring looks for them', async () => {
    expect((await json(`${server.secondUrl}/api/health`)).status).toBe(200);
    const text = await (await fetch(`${server.secondUrl}/api/metrics`)).text();
    expect(sumOf(text, 'slm_requests_total')).toBeGreaterThan(0);
  });
});
