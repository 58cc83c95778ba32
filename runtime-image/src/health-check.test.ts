import { expect, test } from 'vitest';
import { healthUrl, isHealthy } from './health-check.ts';
import { listen } from './listeners.ts';
import { makeTestServer } from './routes/testing.ts';

const model = { SLM_MODEL_PATH: '/m.gguf' };

test.each<[Record<string, string>, string]>([
  [{}, 'http://127.0.0.1:11434/readyz'],
  [{ SLM_PORT: '9000' }, 'http://127.0.0.1:9000/readyz'],
  [{ OLLAMA_HOST: '0.0.0.0:9001' }, 'http://127.0.0.1:9001/readyz'],
  [{ SLM_HOST: '10.0.0.7' }, 'http://10.0.0.7:11434/readyz'],
  [{ SLM_HOST: '::1' }, 'http://[::1]:11434/readyz'],
  [{ SLM_TLS_CERT_FILE: '/c', SLM_TLS_KEY_FILE: '/k' }, 'https://127.0.0.1:11434/readyz'],
])('%j is asked at %s', (env, url) => {
  expect(healthUrl({ ...model, ...env })).toBe(url);
});

test('a server is healthy when it is ready', async () => {
  for (const loading of [false, true]) {
    const { app } = makeTestServer({ loading });
    const listeners = await listen(app, '127.0.0.1', [0]);
    const url = `http://127.0.0.1:${listeners.ports[0]}/readyz`;
    expect(await isHealthy(url)).toBe(!loading);
    await listeners.close();
    expect(await isHealthy(url)).toBe(false);
  }
});
