/**
 * Servers that compute on a device, as processes: for real on Vulkan devices that are programs, since few machines have a GPU, and
 * against the device that is not there. What such a server says of itself is what the operator shows.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ReadyReport } from '@slm-operator/crds/contract';
import { type TinyOptions, tinyLanguageModel, tinyTokenizer } from '@slm-operator/runtime-image/engines/onnx/tiny-onnx';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { smollm2 } from '../fixtures/models.ts';
import { nativePackage } from '../fixtures/native-packages.ts';
import { hasSoftwareGpu, lavapipe, swiftShader } from '../fixtures/software-gpu.ts';
import { MODEL, type RunningServer, startServer } from './server.ts';

/** Software devices are slow: little context, one thread, one stream. */
const SMALL = { SLM_CONTEXT_LENGTH: '256', SLM_PARALLEL_REQUESTS: '1', SLM_THREADS: '1' };

async function readiness(server: RunningServer): Promise<{ status: number; report: ReadyReport }> {
  const response = await fetch(`${server.url}/readyz`);
  return { status: response.status, report: (await response.json()) as ReadyReport };
}

async function complete(server: RunningServer, prompt: string, tokens: number): Promise<string> {
  const options = { temperature: 0, num_predict: tokens };
  const body = JSON.stringify({ model: MODEL, prompt, raw: true, stream: false, options });
  const response = await fetch(`${server.url}/api/generate`, { method: 'POST', body });
  return ((await response.json()) as { response: string }).response;
}

/** The last words of a server that ends before it is ready. */
function lastWords(env: Readonly<Record<string, string>>): Promise<unknown> {
  return startServer({ env: { ...SMALL, ...env } }).then(
    async (server) => {
      await server.stop();
      return 'it was ready';
    },
    (error: unknown) => String(error),
  );
}

describe.runIf(hasSoftwareGpu)('GGUF by Vulkan', () => {
  let env: Readonly<Record<string, string>>;
  beforeAll(async () => {
    env = { ...SMALL, ...(await lavapipe()), NODE_PATH: await nativePackage('linux-x64-vulkan') };
  });

  test('every layer is computed there, the answer is right, and the device is called by its name', async () => {
    const server = await startServer({ env: { ...env, SLM_DEVICE: 'gpu' } });
    expect(await readiness(server)).toMatchObject({
      status: 200,
      report: {
        device: {
          class: 'gpu',
          backend: 'Vulkan',
          name: expect.stringContaining('llvmpipe'),
          layersOffloaded: 31,
          layers: 31,
          memoryBytes: expect.any(Number),
        },
        tokensPerSecond: expect.any(Number),
        running: 0,
      },
    });
    expect(await complete(server, 'The capital of France is', 2)).toBe(' Paris.');
    const { models } = (await (await fetch(`${server.url}/api/ps`)).json()) as {
      models: { size: number; size_vram: number }[];
    };
    // Ollama's clients divide these: all of it is on the GPU.
    expect(models[0]?.size_vram).toBe(models[0]?.size);
    expect(models[0]?.size).toBeGreaterThan((await smollm2()).size);
    expect(await server.metric('slm_device_info', { backend: 'Vulkan', class: 'gpu' })).toBe(1);
    expect(await server.metric('slm_device_layers_offloaded')).toBe(31);
    expect(await server.metric('slm_device_used_bytes')).toBeGreaterThan(90_000_000);
    expect(await server.stop()).toBe(0);
  });

  test('as many layers as asked for', async () => {
    const server = await startServer({ env: { ...env, SLM_DEVICE: 'vulkan', SLM_GPU_LAYERS: '10' } });
    expect((await readiness(server)).report.device).toMatchObject({ class: 'gpu', layersOffloaded: 10, layers: 31 });
    expect(await complete(server, 'The capital of France is', 2)).toBe(' Paris.');
    expect(await server.stop()).toBe(0);
  });

  test('a model that the device’s memory does not hold ends with what to change', async () => {
    expect(await lastWords({ ...env, SLM_DEVICE: 'gpu', GGML_VK_FORCE_MAX_BUFFER_SIZE: '10000000' })).toMatch(
      /InsufficientDeviceMemory.*lower engine.contextLength, engine.parallelRequests or engine.gpuLayers/,
    );
  });

  test('where Vulkan sees no device, a pod that was promised one says so and ends; one that may do without computes, loudly', async () => {
    const none = { ...env, GGML_VK_VISIBLE_DEVICES: '' };
    expect(await lastWords({ ...none, SLM_DEVICE: 'gpu' })).toMatch(
      /"reason":"DeviceNotFound","msg":"promised a gpu \(SLM_DEVICE=gpu\).*Vulkan sees no device.*runtimeClassName/,
    );
    const server = await startServer({ env: { ...none, SLM_DEVICE: 'npu,gpu,cpu' } });
    const { status, report } = await readiness(server);
    expect([status, report.device?.class]).toEqual([200, 'cpu']);
    expect(report.message).toMatch(
      /^computes on the CPU, because an npu or a gpu .* was not found: .*Vulkan sees no device/,
    );
    expect(server.output()).toContain(report.message);
    expect(await server.metric('slm_device_fallback')).toBe(1);
    expect(await server.stop()).toBe(0);
  });
});

describe.runIf(hasSoftwareGpu)('ONNX by WebGPU', () => {
  let root: string;
  let gpu: Readonly<Record<string, string>>;
  beforeAll(async () => {
    root = await mkdtemp(path.join(tmpdir(), 'slm-devices-'));
    gpu = await swiftShader();
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  const CONFIG = { model_type: 'tiny', max_position_embeddings: 64, vocab_size: 31, eos_token_id: 30, hidden_size: 16 };
  const PROMPTS = ['the cat sleeps on', 'the cat eats', 'a dog'];

  async function tinyModel(options: TinyOptions): Promise<string> {
    const folder = await mkdtemp(path.join(root, 'tiny-'));
    await writeFile(path.join(folder, 'model.onnx'), tinyLanguageModel(options));
    await writeFile(path.join(folder, 'config.json'), JSON.stringify(CONFIG));
    await writeFile(path.join(folder, 'tokenizer.json'), JSON.stringify(tinyTokenizer()));
    return folder;
  }

  /** What a model says on a device, with prompts that begin alike, and twice at the same time. */
  async function answers(model: string, env: Readonly<Record<string, string>>) {
    const server = await startServer({
      model,
      env: { ...SMALL, SLM_CONTEXT_LENGTH: '64', SLM_PARALLEL_REQUESTS: '2', ...env },
    });
    const said: string[] = [];
    for (const prompt of PROMPTS) said.push(await complete(server, prompt, 6));
    said.push(...(await Promise.all(PROMPTS.slice(0, 2).map((prompt) => complete(server, prompt, 6)))));
    const { device } = (await readiness(server)).report;
    expect(await server.stop()).toBe(0);
    return { said, device };
  }

  test.each([
    ['attention that writes into the past', true],
    ['attention that gives back a longer past', false],
  ])(
    '%s: the same answers as on the CPU',
    async (_, shared) => {
      const folder = await tinyModel({ shared });
      const expected = await answers(folder, { SLM_DEVICE: 'cpu' });
      const found = await answers(folder, { ...gpu, SLM_DEVICE: 'webgpu' });
      expect(found.device).toMatchObject({
        class: 'gpu',
        backend: 'WebGPU',
        executionProvider: 'WebGpuExecutionProvider',
      });
      expect(found.said).toEqual(expected.said);
      expect(new Set(found.said).size).toBe(PROMPTS.length);
    },
    180_000,
  );

  test('a model that the device cannot compute ends with why', async () => {
    const env = { ...SMALL, ...gpu, SLM_CONTEXT_LENGTH: '64', SLM_DEVICE: 'webgpu' };
    // Half the precision is twice the speed, on devices that can.
    await expect(startServer({ model: await tinyModel({ floats: 'float16' }), env })).rejects.toThrow(
      /UnsupportedFormat","msg":"WebGPU \(GPU\) cannot compute this model: .*requires f16.*; use a variant of the model/,
    );
  });

  test('where WebGPU sees no device, the server says so and ends', async () => {
    const folder = await tinyModel({});
    const env = { ...SMALL, SLM_CONTEXT_LENGTH: '64', SLM_DEVICE: 'webgpu', VK_DRIVER_FILES: '/nowhere.json' };
    await expect(startServer({ model: folder, env })).rejects.toThrow(
      /DeviceNotFound.*WebGpuExecutionProvider sees no device.*runtimeClassName/,
    );
  });
});

test('CUDA that is not there ends the server with the reason', async () => {
  expect(await lastWords({ SLM_DEVICE: 'cuda' })).toMatch(
    /"reason":"DeviceNotFound","msg":"promised a gpu \(SLM_DEVICE=cuda\) and the engine found none, because this image .* cuda needs its variant cuda: set spec.image/,
  );
});

test('a server that is slower than its minimum stays, answers who asks, and is not ready', async () => {
  const server = await startServer({ env: { ...SMALL, SLM_MIN_TOKENS_PER_SECOND: '100000' } });
  const { status, report } = await readiness(server);
  expect([status, report.reason, report.device?.class]).toEqual([503, 'too-slow', 'cpu']);
  expect(report.message).toMatch(
    /^generates [\d.]+ tokens a second on CPU \(.*\), and hardware.minTokensPerSecond asks for 100000/,
  );
  expect(server.output()).toContain(report.message);
  expect(await complete(server, 'The capital of France is', 2)).toBe(' Paris.');
  expect(await server.stop()).toBe(0);
});
