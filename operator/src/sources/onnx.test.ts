/** ONNX repositories behind a Hub, as people publish them: which files are taken, what is known of them, and what is said when one lacks. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type FileServer, startFileServer } from '@slm-operator/test/fixtures/file-server';
import { makeGguf } from '@slm-operator/test/fixtures/gguf';
import { makeOnnx } from '@slm-operator/test/fixtures/onnx/graph';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SourceError } from './http-errors.ts';
import { type Resolution, resolveSource } from './resolve.ts';
import type { SourceSpec } from './source.ts';

type Repository = Readonly<Record<string, string | Uint8Array | object>>;

/** 2 layers, 3 heads of 64, in half precision. */
const caches = [0, 1].flatMap((layer) =>
  ['key', 'value'].map((kind) => ({
    name: `past_key_values.${layer}.${kind}`,
    type: 'float16' as const,
    shape: ['batch', 3, 'past', 64],
  })),
);
const graph = (location?: string) =>
  makeOnnx({
    inputs: [{ name: 'input_ids', type: 'int64', shape: ['batch', 'tokens'] }, ...caches],
    outputs: ['logits'],
    weights: [
      { name: 'w', type: 'float32', shape: [25, 40], bytes: 4000, ...(location === undefined ? {} : { location }) },
    ],
  });
const embedder = makeOnnx({
  inputs: [{ name: 'input_ids', type: 'int64', shape: ['batch', 'tokens'] }],
  outputs: ['last_hidden_state'],
  weights: [{ name: 'w', type: 'int8', shape: [1000], bytes: 1000 }],
});
const data = Buffer.alloc(4000, 7);

const tokenizer = { 'tokenizer.json': {}, 'tokenizer_config.json': { chat_template: '{{ messages }}' } };
const genaiConfig = {
  model: {
    type: 'llama',
    context_length: 8192,
    decoder: { filename: 'model.onnx', num_hidden_layers: 2, num_key_value_heads: 3, head_size: 64 },
  },
};
const genai: Repository = {
  'genai_config.json': genaiConfig,
  'model.onnx': graph('model.onnx.data'),
  'model.onnx.data': data,
  ...tokenizer,
};
const config = {
  model_type: 'llama',
  max_position_embeddings: 2048,
  num_hidden_layers: 2,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  hidden_size: 576,
};
const documents: Repository = { 'README.md': '# x', LICENSE: 'x', 'logo.png': 'x', 'model.safetensors': 'x' };
const within = (folder: string, repository: Repository): Repository =>
  Object.fromEntries(Object.entries(repository).map(([name, content]) => [`${folder}/${name}`, content]));

const repositories: Readonly<Record<string, Repository>> = {
  genai: { ...genai, ...documents },
  export: {
    'config.json': config,
    'generation_config.json': {},
    ...tokenizer,
    'onnx/model.onnx': graph('model.onnx_data'),
    'onnx/model.onnx_data': data,
    'onnx/model_fp16.onnx': graph(),
    'onnx/model_quantized.onnx': graph(),
    ...documents,
  },
  whole: {
    'config.json': config,
    ...tokenizer,
    'onnx/model.onnx': graph('model.onnx_data'),
    'onnx/model.onnx_data': data,
  },
  embed: {
    'config.json': { model_type: 'bert', max_position_embeddings: 512, num_hidden_layers: 6 },
    'tokenizer.json': {},
    'modules.json': [],
    'sentence_bert_config.json': { max_seq_length: 256 },
    '1_Pooling/config.json': {},
    'onnx/model_quantized.onnx': embedder,
    'openvino/openvino_model.xml': 'x',
  },
  variants: { ...within('cpu/int4', genai), ...within('cuda/fp16', genai), 'README.md': '# x' },
  odd: { 'config.json': config, ...tokenizer, 'onnx/model_a.onnx': graph(), 'onnx/model_b.onnx': graph() },
  both: { ...genai, 'model-q4.gguf': makeGguf({ tensors: [{ name: 't', dimensions: [32] }] }) },
  nodata: { ...genai, 'model.onnx.data': undefined },
  cut: { ...genai, 'model.onnx.data': data.subarray(0, 100) },
  nograph: { ...genai, 'model.onnx': undefined },
  notokenizer: { ...genai, 'tokenizer.json': undefined },
  pipeline: { ...genai, 'genai_config.json': { model: { decoder: { pipeline: [] } } } },
  escape: { ...genai, 'model.onnx': graph('../../secret') },
  page: { ...genai, 'model.onnx': '<!DOCTYPE html><html>' },
  json: { ...genai, 'genai_config.json': '{"model":' },
  speech: {
    'config.json': {},
    ...tokenizer,
    'onnx/encoder_model.onnx': graph(),
    'onnx/decoder_model_merged.onnx': graph(),
  },
} as unknown as Readonly<Record<string, Repository>>;

let root: string;
let server: FileServer;

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'slm-onnx-'));
  for (const [name, files] of Object.entries(repositories)) {
    for (const [file, content] of Object.entries(files)) {
      if (content === undefined) continue;
      const target = path.join(root, 'hf/acme', name, file);
      await mkdir(path.dirname(target), { recursive: true });
      const isRaw = typeof content === 'string' || content instanceof Uint8Array;
      await writeFile(target, isRaw ? content : JSON.stringify(content));
    }
  }
  server = await startFileServer({ root });
});

afterAll(async () => {
  await server.close();
  await rm(root, { recursive: true, force: true });
});

const resolve = (uri: string, spec: Partial<SourceSpec> = {}): Promise<Resolution> =>
  resolveSource(
    { uri, hasSecretRef: false, hasCaBundleRef: false, insecure: true, ...spec },
    { headers: {} },
    { hfEndpoint: server.url, hfEndpointInsecure: true },
  );
const pathsOf = ({ files }: Resolution) => files.map((file) => file.path).toSorted();

describe('the files', () => {
  test('of the layout of onnxruntime-genai: the graph that its configuration names, and the weights that the graph names', async () => {
    expect(pathsOf(await resolve('hf://acme/genai'))).toEqual([
      'genai_config.json',
      'model.onnx',
      'model.onnx.data',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
  });

  test('of an export: eight bits where there are several variants, and the settings above its folder', async () => {
    const settings = ['config.json', 'generation_config.json'];
    const names = ['tokenizer.json', 'tokenizer_config.json'];
    expect(pathsOf(await resolve('hf://acme/export'))).toEqual([...settings, 'onnx/model_quantized.onnx', ...names]);
    const fp16 = [...settings, 'onnx/model_fp16.onnx', ...names];
    expect(pathsOf(await resolve('hf://acme/export/onnx/model_fp16.onnx'))).toEqual(fp16);
    expect(pathsOf(await resolve('hf://acme/export', { files: ['onnx/*fp16*'] }))).toEqual(fp16);
    expect(pathsOf(await resolve('hf://acme/export/onnx/model.onnx'))).toEqual([
      ...settings,
      'onnx/model.onnx',
      'onnx/model.onnx_data',
      ...names,
    ]);
    expect(pathsOf(await resolve('hf://acme/whole'))).toContain('onnx/model.onnx_data');
  });

  test('of an embedding model: with what says how to pool', async () => {
    expect(pathsOf(await resolve('hf://acme/embed'))).toEqual([
      '1_Pooling/config.json',
      'config.json',
      'modules.json',
      'onnx/model_quantized.onnx',
      'sentence_bert_config.json',
      'tokenizer.json',
    ]);
  });

  test('of a folder that the address names', async () => {
    const { metadata, ...resolution } = await resolve('hf://acme/variants/cuda/fp16');
    expect(pathsOf({ metadata, ...resolution })).toEqual(
      Object.keys(genai)
        .map((name) => `cuda/fp16/${name}`)
        .toSorted(),
    );
    expect(metadata.format).toBe('ONNX');
  });

  test('a GGUF goes before an ONNX model, unless the ONNX one is named', async () => {
    expect(pathsOf(await resolve('hf://acme/both'))).toEqual(['model-q4.gguf']);
    expect((await resolve('hf://acme/both', { files: ['*.onnx'] })).metadata.format).toBe('ONNX');
    expect((await resolve('hf://acme/both/genai_config.json')).metadata.format).toBe('ONNX');
  });
});

test('metadata and estimate of a language model', async () => {
  const { metadata, estimate, size } = await resolve('hf://acme/genai');
  expect(metadata).toEqual({
    format: 'ONNX',
    architecture: 'llama',
    parameters: 1000,
    parametersText: '1K',
    quantization: 'FP32',
    contextLength: 8192,
    layers: 2,
    hasChatTemplate: true,
  });
  expect(estimate).toEqual({
    weights: graph('model.onnx.data').length + data.length,
    kvCachePer1kTokens: 2 * 2 * 3 * 64 * 2 * 1024,
  });
  expect(size).toBeGreaterThan(estimate.weights);
});

test('an embedding model keeps no cache', async () => {
  const { metadata, estimate } = await resolve('hf://acme/embed');
  expect([metadata.architecture, metadata.contextLength, metadata.quantization]).toEqual(['bert', 256, 'INT8']);
  expect([metadata.hasChatTemplate, estimate.kvCachePer1kTokens]).toEqual([false, 0]);
});

test.each<[string, string, Partial<SourceSpec>, RegExp]>([
  [
    'weights that are not there',
    'nodata',
    {},
    /^NotFound: model\.onnx of acme\/nodata@main keeps its weights in model\.onnx\.data, which is not there: upload model\.onnx\.data beside it/,
  ],
  [
    'weights that are cut off',
    'cut',
    {},
    /^Truncated: model\.onnx\.data of .* has 100 bytes, and model\.onnx speaks of 4000/,
  ],
  [
    'weights outside of the folder',
    'escape',
    {},
    /^NotFound: .*keeps its weights in \.\.\/\.\.\/secret, which is not there/,
  ],
  [
    'a graph that is not there',
    'nograph',
    {},
    /^NotFound: genai_config\.json of .* names model\.onnx, which is not there/,
  ],
  ['no tokenizer', 'notokenizer', {}, /^NotAModel: .*holds no tokenizer\.json for model\.onnx/],
  [
    'a decoder in several graphs',
    'pipeline',
    {},
    /^NotAModel: genai_config\.json of .* names no model\.decoder\.filename/,
  ],
  ['a web page for a graph', 'page', {}, /^NotAModel: model\.onnx of .* is no ONNX model .*<!DOCTYPE html>/],
  ['settings that are cut off', 'json', {}, /^NotAModel: genai_config\.json of .* is no JSON object/],
  ['an encoder apart', 'speech', {}, /^NotAModel: .*has an encoder apart \(onnx\/encoder_model\.onnx\)/],
  [
    'several models',
    'variants',
    {},
    /^AmbiguousFiles: acme\/variants@main holds 2 ONNX models, in cpu\/int4, cuda\/fp16\. Put one of these folders into source\.uri/,
  ],
  [
    'unusual names',
    'odd',
    {},
    /^AmbiguousFiles: .*holds 2 ONNX files and none is the usual one: onnx\/model_a\.onnx, onnx\/model_b\.onnx/,
  ],
  [
    'a glob for several',
    'export',
    { files: ['onnx/*'] },
    /^AmbiguousFiles: source\.files chooses 3 ONNX models .*Make it match one/,
  ],
])('%s ends in a sentence', async (_, repository, spec, expected) => {
  const failure = await resolve(`hf://acme/${repository}`, spec).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(SourceError);
  const { reason, message } = (failure as SourceError).failure;
  expect(`${reason}: ${message}`).toMatch(expected);
});

test('a graph behind a plain address cannot be served', async () => {
  const failure = await resolve(`${server.url}/files/model.onnx`, { digest: `sha256:${'0'.repeat(64)}` }).catch(String);
  expect(failure).toMatch(
    /is an ONNX file alone, and a server needs the tokenizer beside it: use an hf:\/\/ repository/,
  );
});
