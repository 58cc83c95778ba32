/** Files as exporters write them, and files that cannot be served: with ONNX Runtime and models of a few thousand bytes. */

import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readConfig } from '../../config.ts';
import { StartupError } from '../../failures.ts';
import { GREEDY as greedy } from '../../scheduling/decoder.ts';
import type { Engine, SamplingParams } from '../engine.ts';
import { loadEngine } from '../select.ts';
import { TINY_WEIGHTS, type TinyOptions, tinyLanguageModel, tinyTokenizer } from './tiny-onnx.ts';

vi.setConfig({ testTimeout: 60_000 });

let root: string;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'slm-onnx-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const CONFIG = { model_type: 'tiny', max_position_embeddings: 64, vocab_size: 31, eos_token_id: 30, hidden_size: 16 };
const GENAI = {
  model: {
    type: 'tiny',
    context_length: 64,
    vocab_size: 31,
    eos_token_id: [30],
    decoder: {
      filename: 'decoder.onnx',
      head_size: 8,
      hidden_size: 16,
      num_key_value_heads: 1,
      inputs: { past_key_names: 'past_key_values.%d.key', past_value_names: 'past_key_values.%d.value' },
      outputs: { present_key_names: 'present.%d.key', present_value_names: 'present.%d.value' },
    },
  },
};

/** A folder with these files; undefined leaves one of the usual ones out. */
async function folder(files: Readonly<Record<string, Buffer | object | string | undefined>>): Promise<string> {
  const at = path.join(root, String(folders++));
  await mkdir(at);
  const all = { 'config.json': CONFIG, 'tokenizer.json': tinyTokenizer(), ...files };
  for (const [name, content] of Object.entries(all)) {
    if (content === undefined) continue;
    await mkdir(path.dirname(path.join(at, name)), { recursive: true });
    const plain = typeof content === 'string' || Buffer.isBuffer(content);
    await writeFile(path.join(at, name), plain ? content : JSON.stringify(content));
  }
  return at;
}

const start = (modelPath: string, env: Record<string, string> = {}): Promise<Engine> =>
  loadEngine(readConfig({ SLM_MODEL_PATH: modelPath, SLM_THREADS: '1', SLM_PARALLEL_REQUESTS: '2', ...env }), {
    progress: () => undefined,
    log: () => undefined,
  });

/** Why a model is not served. */
async function refusal(modelPath: string, env: Record<string, string> = {}): Promise<string> {
  try {
    const engine = await start(modelPath, env);
    await engine.close();
    return 'loaded';
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    return `${error.exitCode} ${error.reason}: ${error.message.replaceAll(root, '')}`;
  }
}

async function write(engine: Engine, text: string, more: Partial<SamplingParams> = {}): Promise<string> {
  const prompt = engine.tokenize(text, true);
  const sampling = { ...greedy, ...more };
  let said = '';
  for await (const part of engine.generate({ prompt, maxTokens: 12, sampling, stop: [], ignoreEos: true }))
    if (part.type === 'text') said += part.text;
  return said;
}

describe('what exporters write is served', () => {
  const LAYOUTS: readonly (readonly [string, Record<string, Buffer | object | undefined>, TinyOptions])[] = [
    ['with attention that writes into the past', { 'onnx/model.onnx': undefined }, {}],
    ['with attention that gives back a longer past', { 'onnx/model.onnx': undefined }, { shared: false }],
    ['for onnxruntime-genai', { 'decoder.onnx': undefined, 'genai_config.json': GENAI, 'config.json': undefined }, {}],
    ['with ids of 32 bits', { 'model.onnx': undefined }, { ids: 'int32' }],
    ['with half precision', { 'onnx/model_fp16.onnx': undefined }, { floats: 'float16' }],
    ['with half precision and a longer past', { 'model_fp16.onnx': undefined }, { floats: 'float16', shared: false }],
  ];

  test.each(LAYOUTS)('%s', async (_, files, options) => {
    const name = Object.keys(files).find((one) => one.endsWith('.onnx')) ?? '';
    const engine = await start(await folder({ ...files, [name]: tinyLanguageModel(options) }));
    const half = options.floats === 'float16';
    expect(engine.info).toMatchObject({
      contextLength: 64,
      model: { architecture: 'tiny', vocabularySize: 31, embeddingLength: 16, quantization: half ? 'FP16' : 'FP32' },
    });
    const said = await write(engine, 'the cat sleeps on');
    expect(said).toHaveLength(12);
    // Cut to the common beginning, gone on with, and computed anew: the same answer.
    await write(engine, 'the cat eats');
    await write(engine, 'a dog barks');
    expect(await write(engine, 'the cat sleeps on')).toBe(said);
    const [first, second] = await Promise.all([write(engine, 'the cat sleeps on'), write(engine, 'the cat sleeps on')]);
    expect([first, second]).toEqual([said, said]);
    expect(new Set([said, await write(engine, 'the cat sleeps up'), await write(engine, 'on')]).size).toBe(3);
    await engine.close();
  });

  test('all of these ways compute the same', async () => {
    const answers: string[] = [];
    for (const options of [{}, { shared: false }, { ids: 'int32' }] as const) {
      const engine = await start(await folder({ 'model.onnx': tinyLanguageModel(options) }));
      answers.push(await write(engine, 'once upon a time'), await write(engine, 'stop', { temperature: 1 }));
      await engine.close();
    }
    expect(answers.slice(2)).toEqual([...answers.slice(0, 2), ...answers.slice(0, 2)]);
  });

  test('of several variants that with eight bits, else the plain one', async () => {
    const half = tinyLanguageModel({ floats: 'float16' });
    const variants = { 'onnx/model_fp16.onnx': half, 'onnx/model_q4.onnx': half };
    for (const name of ['onnx/model_quantized.onnx', 'onnx/model.onnx']) {
      const engine = await start(await folder({ ...variants, [name]: tinyLanguageModel() }));
      expect(engine.info.model.quantization).toBe('FP32');
      await engine.close();
    }
    expect(await refusal(await folder(variants))).toContain(
      'several ONNX files (onnx/model_fp16.onnx, onnx/model_q4.onnx)',
    );
  });

  test('a file by its name, weights beside it, and a chat template wherever it is', async () => {
    const weights = Buffer.alloc(TINY_WEIGHTS, 1);
    const at = await folder({
      'onnx/model.onnx': tinyLanguageModel({ weights: 'model.onnx_data' }),
      'onnx/model.onnx_data': weights,
      'onnx/model_other.onnx': tinyLanguageModel(),
      'tokenizer_config.json': {
        chat_template: [{ name: 'default', template: 'one' }],
        eos_token: { content: '<|end|>' },
      },
    });
    const engine = await start(path.join(at, 'onnx/model.onnx'));
    expect(engine.info.model).toMatchObject({ chatTemplate: 'one', eosToken: '<|end|>', architecture: 'tiny' });
    expect(engine.info.model.size).toBeGreaterThan(TINY_WEIGHTS);
    await engine.close();
  });
});

describe('what cannot be served is refused with a reason', () => {
  test('files that are no models, or not all of one', async () => {
    const model = tinyLanguageModel();
    expect([
      await refusal(await folder({ 'model.onnx': '' })),
      await refusal(await folder({ 'model.onnx': '<!DOCTYPE html><html>Sign in</html>' })),
      await refusal(await folder({ 'model.onnx': model.subarray(0, model.length - 100) })),
      await refusal(await folder({ 'a/model.onnx': model, 'b/model.onnx': model })),
      await refusal('/nowhere/model.onnx'),
    ]).toMatchInlineSnapshot(`
      [
        "3 NotAModel: model.onnx is empty: the source must give an ONNX model.",
        "3 NotAModel: model.onnx is no ONNX model: point source.uri at one.",
        "3 ModelTruncated: model.onnx ends too early (11474 bytes): the copy is incomplete. Fetch it again, and set integrity.digest.",
        "3 NotAModel: the model has several ONNX files (a/model.onnx, b/model.onnx): name one in source.files, such as b/model.onnx.",
        "3 ModelNotFound: there is no model at /nowhere/model.onnx: check SLM_MODEL_PATH.",
      ]
    `);
  });

  test('files that are missing', async () => {
    const outside = tinyLanguageModel({ weights: 'model.onnx.data' });
    const linked = await folder({ 'elsewhere/weights': Buffer.alloc(TINY_WEIGHTS), 'model/model.onnx': outside });
    await symlink('../elsewhere/weights', path.join(linked, 'model/model.onnx.data'));
    expect([
      await refusal(await folder({ 'model.onnx': outside })),
      await refusal(await folder({ 'model.onnx': outside, 'model.onnx.data': Buffer.alloc(100) })),
      await refusal(linked),
      await refusal(await folder({ 'genai_config.json': GENAI })),
      await refusal(await folder({ 'model.onnx': tinyLanguageModel(), 'tokenizer.json': undefined })),
      await refusal(await folder({ 'model.onnx': tinyLanguageModel(), 'tokenizer.json': '{' })),
      await refusal(await folder({ 'model.onnx': tinyLanguageModel(), 'tokenizer.json': { model: { type: 'Odd' } } })),
    ]).toMatchInlineSnapshot(`
      [
        "3 ModelNotFound: model.onnx keeps its weights in model.onnx.data, which is not there: add model.onnx.data to source.files.",
        "3 ModelTruncated: model.onnx.data ends too early (100 of 1984 bytes): the copy is incomplete. Fetch it again, and set integrity.digest.",
        "3 ModelUnreadable: the weights of model.onnx are links that leave its folder, which ONNX Runtime refuses: put the files themselves there, or hard links.",
        "3 ModelNotFound: genai_config.json names decoder.onnx, which is not there: add it to source.files, with the files that hold its weights.",
        "3 NotAModel: the model has no tokenizer.json (nor vocab.txt): add it to source.files; one made with SentencePiece alone (tokenizer.model) must be converted.",
        "3 NotAModel: tokenizer.json is no JSON object: fetch the model again, and set integrity.digest.",
        "3 NotAModel: tokenizer.json cannot be used (Unknown TokenizerModel type: Odd): export the model's tokenizer again.",
      ]
    `);
  });

  test('models of another kind, or from the future', async () => {
    const of = async (options: TinyOptions) => refusal(await folder({ 'model.onnx': tinyLanguageModel(options) }));
    const genai = (more: object) => folder({ 'genai_config.json': { model: { ...GENAI.model, ...more } } });
    expect([
      await of({ opset: 99 }),
      await of({ irVersion: 99 }),
      await of({ operator: 'Frobnicate' }),
      await of({ ids: 'string' }),
      await of({ input: 'encoder_hidden_states' }),
      await of({ past: false }),
      await refusal(await genai({ vision: { filename: 'vision.onnx' } })),
      await refusal(await genai({ decoder: { pipeline: [] } })),
    ]).toMatchInlineSnapshot(`
      [
        "3 UnsupportedFormat: model.onnx uses opset 99 of ai.onnx, and this server's ONNX Runtime knows up to 26: export it with --opset 26, or use a newer server image.",
        "3 UnsupportedFormat: model.onnx has IR version 99, and this server's ONNX Runtime reads up to 13: export it with an older version of onnx, or use a newer server image.",
        "3 UnsupportedFormat: model.onnx uses the operator Frobnicate (opset 21), which this server's ONNX Runtime does not know: use another export of the model, or a newer server image.",
        "3 UnsupportedFormat: input_ids of model.onnx has the type 8, and this server feeds int64 and int32: use another variant of the model.",
        "3 UnsupportedArchitecture: model.onnx wants the input encoder_hidden_states, which this server does not know how to fill: use a text model with past_key_values of four dimensions, or a GGUF variant.",
        "3 UnsupportedArchitecture: model.onnx gives logits and keeps no past (inputs: input_ids, attention_mask, position_ids): export it with its key-value cache (text-generation-with-past).",
        "3 UnsupportedArchitecture: genai_config.json has a model.vision, and this server runs ONNX models of text alone: use another model.",
        "3 UnsupportedArchitecture: genai_config.json divides the decoder into several files (model.decoder.pipeline): use a variant of the model in one file.",
      ]
    `);
  });

  test('a context beyond which positions are computed anew', async () => {
    const scaling = { type: 'longrope', original_max_position_embeddings: 32 };
    const at = await folder({ 'config.json': { ...CONFIG, rope_scaling: scaling }, 'model.onnx': tinyLanguageModel() });
    const engine = await start(at);
    expect(engine.info.contextLength).toBe(32);
    await engine.close();
    expect(await refusal(at, { SLM_CONTEXT_LENGTH: '48' })).toBe(
      '2 ContextTooLong: this ONNX model computes positions anew beyond 32 tokens, which would spoil what was computed before: ' +
        'set engine.contextLength to 32 or less, or use a GGUF variant of the model.',
    );
  });

  test('settings that an ONNX model has no use for', async () => {
    const at = await folder({ 'model.onnx': tinyLanguageModel() });
    expect([
      await refusal(at, { SLM_CONTEXT_LENGTH: '128' }),
      await refusal(at, { SLM_KV_CACHE_TYPE: 'Q8_0' }),
      await refusal(at, { SLM_FLASH_ATTENTION: 'Enabled', SLM_ADAPTERS: '[{"path":"/style.gguf"}]' }),
    ]).toMatchInlineSnapshot(`
      [
        "2 ContextTooLong: a context of 128 tokens is more than the 64 that the model was trained for: set engine.contextLength to 64 or less.",
        "2 InvalidConfiguration: the KV cache type Q8_0 cannot be chosen for an ONNX model, whose file decides: leave it out, or use a GGUF variant of the model.",
        "2 InvalidConfiguration: flash attention and LoRA adapters cannot be chosen for an ONNX model, whose file decides: leave it out, or use a GGUF variant of the model.",
      ]
    `);
  });

  test('GGUF goes before ONNX where both are', async () => {
    expect(await refusal(await folder({ 'model.onnx': tinyLanguageModel(), 'model.gguf': 'no' }))).toContain(
      'model.gguf',
    );
  });
});
