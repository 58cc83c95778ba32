/** What happens with a release of node-llama-cpp whose insides nobody has looked at. */
import { smollm2 } from '@slm-operator/test/fixtures/models';
import { expect, test, vi } from 'vitest';
import { readConfig } from '../config.ts';
import { StartupError } from '../failures.ts';
import type * as EngineModule from './llama-cpp/engine.ts';
import { loadEngine } from './select.ts';

vi.mock('./llama-cpp/engine.ts', async (original) => ({
  ...(await original<typeof EngineModule>()),
  loadLlamaCpp: () => Promise.reject(new StartupError('EngineMismatch', 'this server was made for another release.')),
}));

test("the library's public API takes over, with a warning", { timeout: 120_000 }, async () => {
  const { path } = await smollm2();
  const log: string[] = [];
  const config = readConfig({ SLM_MODEL_PATH: path, SLM_CONTEXT_LENGTH: '256', SLM_THREADS: '1' });
  const engine = await loadEngine(config, {
    progress: () => undefined,
    log: (level, line) => log.push(`${level} ${line}`),
  });
  expect(engine.info.engine).toBe('llama-cpp-public');
  expect(log.find((line) => line.startsWith('warn this server was made for another release.'))).toMatch(/public API/);
  await engine.close();
});

test('a broken file is no reason to take the other way', async () => {
  const config = readConfig({ SLM_MODEL_PATH: '/nowhere/model.gguf' });
  const observer = { progress: () => undefined, log: () => undefined };
  await expect(loadEngine(config, observer)).rejects.toMatchObject({ reason: 'ModelNotFound' });
});
