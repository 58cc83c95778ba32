import { describe, expect, test } from 'vitest';
import { readConfig } from './config.ts';
import { withAliases } from './config-aliases.ts';
import { StartupError } from './failures.ts';

const MODEL = { SLM_MODEL_PATH: '/model' };

test('settings in the names of Ollama and Foundry Local', () => {
  expect(
    readConfig({
      FOUNDRY_MODEL: '/models/phi4.gguf',
      FOUNDRY_HARDWARE: 'cpu',
      OLLAMA_HOST: 'http://127.0.0.1:9000',
      OLLAMA_NUM_PARALLEL: '2',
      OLLAMA_CONTEXT_LENGTH: '8192',
      OLLAMA_NUM_THREAD: '3',
      OLLAMA_FLASH_ATTENTION: '1',
      OLLAMA_KV_CACHE_TYPE: 'q8_0',
      OLLAMA_MAX_QUEUE: '512',
      OLLAMA_DEBUG: 'true',
      OLLAMA_MAX_LOADED_MODELS: '2',
      OLLAMA_KEEP_ALIVE: '10m',
      OLLAMA_LOAD_TIMEOUT: '1m30s',
      OLLAMA_MODELS: '/models',
    }),
  ).toMatchObject({
    modelPath: '/models/phi4.gguf',
    servedNames: ['phi4'],
    host: '127.0.0.1',
    port: 9000,
    parallelRequests: 2,
    contextLength: 8192,
    threads: 3,
    flashAttention: 'Enabled',
    kvCacheType: 'Q8_0',
    maxQueue: 512,
    logLevel: 'debug',
    models: { dir: '/models', maxLoaded: 2, keepAliveMs: 600_000, loadTimeoutMs: 90_000 },
  });
});

test('ours win, unless they are empty', () => {
  const env = { ...MODEL, OLLAMA_NUM_PARALLEL: '2', OLLAMA_MAX_QUEUE: '5' };
  expect(readConfig({ ...env, SLM_PARALLEL_REQUESTS: '8', SLM_MAX_QUEUE: ' ' })).toMatchObject({
    parallelRequests: 8,
    maxQueue: 5,
  });
});

test('hosts as Ollama writes them', () => {
  const hosts = ['0.0.0.0', '0.0.0.0:1234', ':1234', '[::1]:1234', 'localhost', 'http://[::]/'].map((OLLAMA_HOST) => {
    const { host, port } = readConfig({ ...MODEL, OLLAMA_HOST });
    return [OLLAMA_HOST, host, port];
  });
  expect(hosts).toEqual([
    ['0.0.0.0', undefined, 11434],
    ['0.0.0.0:1234', undefined, 1234],
    [':1234', undefined, 1234],
    ['[::1]:1234', '::1', 1234],
    ['localhost', 'localhost', 11434],
    ['http://[::]/', undefined, 11434],
  ]);
});

test('Foundry Local’s model is a path or a name, and its hardware an order of preference', () => {
  const translated = (FOUNDRY_MODEL: string) => withAliases({ FOUNDRY_MODEL, FOUNDRY_HARDWARE: 'npu, gpu,cpu' });
  expect(translated('./models')).toMatchObject({ env: { SLM_MODEL_PATH: './models' }, problems: [] });
  expect(translated('microsoft/phi-4-mini')).toMatchObject({
    env: { SLM_SERVED_NAMES: '["microsoft/phi-4-mini"]' },
    problems: [],
  });
});

test('layers and devices in other servers’ words', () => {
  const read = (env: Record<string, string>) => {
    const { devices, gpuLayers } = readConfig({ ...MODEL, ...env });
    return [devices.words.join(), gpuLayers];
  };
  expect(read({})).toEqual(['gpu,cpu', undefined]);
  expect(read({ FOUNDRY_HARDWARE: 'npu, gpu,cpu' })).toEqual(['npu,gpu,cpu', undefined]);
  expect(read({ FOUNDRY_HARDWARE: 'auto' })).toEqual(['gpu,cpu', undefined]);
  expect(read({ OLLAMA_GPU_LAYERS: '35' })).toEqual(['gpu,cpu', 35]);
  expect(read({ OLLAMA_GPU_LAYERS: '-1' })).toEqual(['gpu,cpu', undefined]);
  expect(read({ OLLAMA_NUM_GPU: '1' })).toEqual(['gpu,cpu', undefined]);
  expect(read({ OLLAMA_NUM_GPU: '0' })).toEqual(['gpu,cpu', 0]);
});

test('how much of a GPU’s memory Ollama may plan with is a size', () => {
  expect(withAliases({ OLLAMA_MAX_VRAM: '8G' }).problems).toEqual([]);
  expect(withAliases({ OLLAMA_MAX_VRAM: 'much' }).problems).toHaveLength(1);
});

describe('what cannot be honoured is refused with a sentence', () => {
  const cases: [Record<string, string>, string][] = [
    [
      { OLLAMA_KEEP_ALIVE: 'long' },
      'SLM_KEEP_ALIVE=long must be a number of seconds or a duration such as 5m; -1 for ever, 0 to unload at once.',
    ],
    [{ OLLAMA_LOAD_TIMEOUT: 'long' }, 'OLLAMA_LOAD_TIMEOUT=long must be a duration such as 5m.'],
    [
      { FOUNDRY_HARDWARE: 'tpu,cpu' },
      'SLM_DEVICE=tpu,cpu has "tpu": write npu, gpu, cpu, cuda, vulkan, webgpu or auto, with commas, the best first.',
    ],
    [{ OLLAMA_NUM_GPU: 'all' }, 'OLLAMA_NUM_GPU=all must be a number of GPUs; 0 for none.'],
    [{ OLLAMA_GPU_LAYERS: 'most' }, 'SLM_GPU_LAYERS=most must be a whole number from 0 to 100000.'],
    [{ SLM_MIN_TOKENS_PER_SECOND: '0' }, 'SLM_MIN_TOKENS_PER_SECOND=0 must be a number above 0, such as 20.'],
    [{ OLLAMA_KV_CACHE_TYPE: 'q5_1' }, 'OLLAMA_KV_CACHE_TYPE=q5_1 must be one of f16, q8_0, q4_0.'],
    [{ OLLAMA_HOST: 'a b:c' }, 'OLLAMA_HOST=a b:c must be a host with or without a port, such as 0.0.0.0:11434.'],
    [{ OLLAMA_SPEED: '1' }, 'OLLAMA_SPEED is not a setting of this server: remove it.'],
  ];
  test.each(cases)('%j', (env, message) => {
    let refusal: unknown;
    try {
      readConfig({ ...MODEL, ...env });
    } catch (error) {
      refusal = error;
    }
    expect(refusal instanceof StartupError ? refusal.message : refusal).toBe(message);
  });
});

test('a Service named ollama is no setting', () => {
  expect(() =>
    readConfig({ ...MODEL, OLLAMA_SERVICE_HOST: '10.96.0.7', OLLAMA_PORT: 'tcp://10.96.0.7:11434' }),
  ).not.toThrow();
});
