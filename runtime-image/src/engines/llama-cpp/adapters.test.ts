/** LoRA adapters made of random numbers, with the real library and a real model. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { makeGguf } from '@slm-operator/test/fixtures/gguf';
import { smollm2 } from '@slm-operator/test/fixtures/models';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Adapter } from './adapters.ts';
import { answerTo, loadSmolLm2, question } from './testing.ts';

vi.setConfig({ testTimeout: 60_000 });

const RANK = 4;
const WIDTH = 576;
const LAYERS = 30;

/** An adapter of every layer's queries. */
function randomLora(more: { architecture?: string; width?: number; type?: string } = {}): Buffer {
  const { architecture = 'llama', width = WIDTH, type = 'adapter' } = more;
  let seed = 1;
  const random = (count: number) =>
    Float32Array.from({ length: count }, () => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return seed / 2 ** 32 - 0.5;
    });
  return makeGguf({
    values: {
      'general.type': type,
      'general.architecture': architecture,
      'adapter.type': 'lora',
      // Not a whole number, so that it is written as a float.
      'adapter.lora.alpha': 8.5,
    },
    tensors: Array.from({ length: LAYERS }, (_, layer) => [
      { name: `blk.${layer}.attn_q.weight.lora_a`, dimensions: [width, RANK], data: random(width * RANK) },
      { name: `blk.${layer}.attn_q.weight.lora_b`, dimensions: [RANK, width], data: random(width * RANK) },
    ]).flat(),
  });
}

let folder: string;
let file: string;
const write = async (name: string, content: Buffer | string) => {
  await writeFile(path.join(folder, name), content);
  return path.join(folder, name);
};
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-lora-'));
  file = await write('style.gguf', randomLora());
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('an adapter changes what is said and what texts mean; one of scale 0 changes nothing', async () => {
  const say = async (adapters: readonly Adapter[]) => {
    const engine = await loadSmolLm2({ adapters });
    const { text } = await answerTo(engine, question(engine, 'What is the capital of France?'));
    const { embeddings } = await engine.embed(['A cat sleeps.']);
    await engine.close();
    return { text, vector: [...(embeddings[0] ?? [])].slice(0, 8) };
  };
  const plain = await say([]);
  const adapted = await say([{ path: file, scale: 1 }]);
  expect(plain.text).toContain('Paris');
  expect(adapted.text).not.toBe(plain.text);
  expect(adapted.vector).not.toEqual(plain.vector);
  expect(await say([{ path: file, scale: 0 }])).toEqual(plain);
  expect(await say([{ path: file, scale: 1 }])).toEqual(adapted);
  // As much of it as is taken away again.
  const both = await say([
    { path: file, scale: 1 },
    { path: await write('again.gguf', randomLora()), scale: -1 },
  ]);
  expect(both.text).toBe(plain.text);
});

describe('what does not fit is refused with what to do', () => {
  const refusal = (adapters: readonly Adapter[]) =>
    loadSmolLm2({ adapters }).then(
      () => 'loaded',
      (error: { reason?: string; message: string }) => `${error.reason}: ${error.message}`,
    );

  test('another architecture, another width', async () => {
    expect(await refusal([{ path: await write('gemma.gguf', randomLora({ architecture: 'gemma3' })), scale: 1 }])).toBe(
      'ModelLoadFailed: the adapter gemma.gguf was made for another model (architecture gemma3) than this one (llama 256M Q4_1): use one that was trained on it.',
    );
    expect(await refusal([{ path: await write('wide.gguf', randomLora({ width: 640 })), scale: 1 }])).toMatch(
      /^ModelLoadFailed: the adapter wide\.gguf was made for another model/,
    );
  });

  test('no file, no GGUF, no adapter', async () => {
    expect(await refusal([{ path: '/nowhere/style.gguf', scale: 1 }])).toBe(
      'ModelNotFound: there is no adapter at /nowhere/style.gguf: check its path.',
    );
    expect(await refusal([{ path: await write('text.gguf', 'no adapter at all'), scale: 1 }])).toMatch(
      /^NotAModel: the adapter text\.gguf is no GGUF file/,
    );
    expect(await refusal([{ path: (await smollm2()).path, scale: 1 }])).toMatch(/^NotAModel: .* is no LoRA adapter/);
  });
});
