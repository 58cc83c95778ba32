/** A real model that embeds, all-MiniLM-L6-v2 with int8 weights, against ONNX Runtime's Python package. */

import { minilmOnnx } from '@slm-operator/test/fixtures/onnx/minilm';
import { genaiPython, runPython } from '@slm-operator/test/fixtures/onnx/python';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { GREEDY } from '../../scheduling/decoder.ts';
import { warmUp } from '../../warm-up.ts';
import { type Engine, PromptTooLongError, UnsupportedError } from '../engine.ts';
import { loadOnnx } from './engine.ts';

vi.setConfig({ testTimeout: 120_000 });

/** Texts and their tokens, as BERT's own tokenizer gives them. */
const TEXTS: readonly (readonly [string, readonly number[]])[] = [
  ['Hello world', [101, 7592, 2088, 102]],
  ['The cat sleeps on the sofa.', [101, 1996, 4937, 25126, 2006, 1996, 10682, 1012, 102]],
  ['A kitten naps on the couch.', [101, 1037, 18401, 18996, 2015, 2006, 1996, 6411, 1012, 102]],
  ['', [101, 102]],
];

const REFERENCE = `
import json, sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1] + "/onnx/model_quantized.onnx", options)
vectors = []
for tokens in json.loads(sys.argv[2]):
    ids = np.array([tokens], dtype=np.int64)
    hidden = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})[0]
    mean = hidden[0].mean(axis=0)
    vectors.append((mean / np.linalg.norm(mean)).tolist())
print(json.dumps(vectors))
`;

let folder: string;
let engine: Engine;
beforeAll(async () => {
  folder = await minilmOnnx();
  engine = await loadOnnx(
    { modelPath: folder, contextLength: 4096, parallelRequests: 4, batchSize: 512, threads: 1, maxQueue: 8 },
    { progress: () => undefined, log: () => undefined },
  );
}, 600_000);
afterAll(() => engine.close());

const near = (a: Float32Array | undefined, b: ArrayLike<number> | undefined) =>
  (a ?? new Float32Array()).reduce((sum: number, value, index) => sum + value * (b?.[index] ?? 0), 0);

test('it says that it only embeds, and refuses to write', async () => {
  expect(engine.info).toMatchObject({
    contextLength: 256,
    capabilities: { generate: false, embed: true },
    model: { format: 'onnx', architecture: 'bert', embeddingLength: 384, quantization: 'INT8' },
  });
  const sampling = GREEDY;
  expect(() => engine.generate({ prompt: [5], maxTokens: 1, sampling, stop: [] })).toThrow(UnsupportedError);
  expect(await warmUp(engine)).toBe(0);
});

test('vectors are those of the reference', async () => {
  const tokens = JSON.stringify(TEXTS.map(([, ids]) => ids));
  const said = await runPython(await genaiPython(), ['-c', REFERENCE, folder, tokens]);
  const references = JSON.parse(said) as number[][];
  const { embeddings, promptTokens } = await engine.embed(TEXTS.map(([text]) => text));
  expect(promptTokens).toBe(TEXTS.reduce((sum, [, ids]) => sum + ids.length, 0));
  expect(embeddings.length).toBe(TEXTS.length);
  embeddings.forEach((vector, index) => {
    expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    expect(near(vector, references[index])).toBeCloseTo(1, 5);
  });
});

test('nearer texts have nearer vectors; tokens are as good as their text', async () => {
  const cat = TEXTS[1]?.[0] ?? '';
  const { embeddings } = await engine.embed([
    cat,
    TEXTS[2]?.[0] ?? '',
    'SELECT id FROM users;',
    engine.tokenize(cat, false),
  ]);
  const [first, kitten, query, again] = embeddings;
  expect(near(first, kitten)).toBeGreaterThan(near(first, query) + 0.2);
  expect(again).toEqual(first);
});

test('special tokens in a text stay text', async () => {
  expect(engine.tokenize('[SEP]', false).length).toBeGreaterThan(1);
  expect(engine.tokenize('[SEP]', true)).toEqual([102]);
});

test('what is longer than the model sees is refused or cut, and the cut text keeps its end', async () => {
  const long = 'cat '.repeat(300);
  await expect(engine.embed([long])).rejects.toThrow(PromptTooLongError);
  const cut = await engine.embed([long], { truncate: true });
  expect(cut.promptTokens).toBe(256);
  expect(cut.embeddings).toEqual((await engine.embed(['cat '.repeat(254)])).embeddings);
  await expect(engine.embed(['a'], { signal: AbortSignal.abort() })).rejects.toThrow('aborted');
  const raw = (await engine.embed(['Hi'], { normalize: false })).embeddings[0];
  expect(near(raw, raw)).not.toBeCloseTo(1, 1);
});
