/** Files that cannot be served, with the real library: each must end in a reason and a sentence. */
import { mkdir, mkdtemp, open, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { smollm2 } from '@slm-operator/test/fixtures/models';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readConfig } from '../../config.ts';
import { StartupError } from '../../failures.ts';
import { loadEngine } from '../select.ts';
import { quantizationOf } from './model-file.ts';

vi.setConfig({ testTimeout: 60_000 });

let folder: string;
let model: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-models-'));
  model = (await smollm2()).path;
}, 300_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Tries to serve what lies at a path. */
async function load(file: string, env: Record<string, string> = {}): Promise<string> {
  try {
    const config = readConfig({ SLM_MODEL_PATH: file, SLM_THREADS: '1', SLM_CONTEXT_LENGTH: '256', ...env });
    const engine = await loadEngine(config, { progress: () => undefined, log: () => undefined });
    await engine.close();
    return 'loaded';
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    return `${error.exitCode} ${error.reason}: ${error.message.replaceAll(folder, '')}`;
  }
}

/** The first bytes of the real model, changed by `edit`. */
async function part(name: string, bytes: number, edit?: (buffer: Buffer) => void): Promise<string> {
  const source = await open(model);
  const buffer = Buffer.alloc(bytes);
  await source.read(buffer, 0, bytes, 0);
  await source.close();
  edit?.(buffer);
  const file = path.join(folder, name);
  await writeFile(file, buffer);
  return file;
}

describe('refused with a reason', () => {
  test('nothing there', async () => {
    expect(await load('/nowhere/model.gguf')).toMatchInlineSnapshot(
      `"3 ModelNotFound: there is no model at /nowhere/model.gguf: check SLM_MODEL_PATH."`,
    );
  });

  test('an empty file', async () => {
    await writeFile(path.join(folder, 'empty.gguf'), '');
    expect(await load(path.join(folder, 'empty.gguf'))).toMatchInlineSnapshot(
      `"3 NotAModel: empty.gguf is empty: the source must give a GGUF file."`,
    );
  });

  test('a page instead of a model', async () => {
    await writeFile(path.join(folder, 'page.gguf'), '<!DOCTYPE html><html>Sign in</html>');
    expect(await load(path.join(folder, 'page.gguf'))).toMatchInlineSnapshot(
      `"3 NotAModel: page.gguf is no GGUF file: it begins with "<!DOCTYPE html>". Point source.uri at a .gguf file."`,
    );
  });

  test('a version from the future', async () => {
    const file = await part('future.gguf', 1000, (buffer) => buffer.writeUInt32LE(9, 4));
    expect(await load(file)).toMatchInlineSnapshot(
      `"3 NotAModel: future.gguf has GGUF version 9; this server reads 2 and 3. Convert the model again."`,
    );
  });

  test('a copy that ends in the magic, in the header, and in the weights', async () => {
    expect(await load(await part('magic.gguf', 10))).toMatchInlineSnapshot(
      `"3 ModelTruncated: magic.gguf ends too early (10 bytes): the copy is incomplete. Fetch it again, and set integrity.digest."`,
    );
    expect(await load(await part('header.gguf', 100_000))).toMatchInlineSnapshot(
      `"3 ModelTruncated: header.gguf ends too early (100000 bytes): the copy is incomplete. Fetch it again, and set integrity.digest."`,
    );
    expect(await load(await part('weights.gguf', 20_000_000))).toMatchInlineSnapshot(
      `"3 ModelTruncated: weights.gguf ends too early (20000000 bytes): the copy is incomplete. Fetch it again, and set integrity.digest."`,
    );
  });

  test('an architecture that nobody knows', async () => {
    const file = await part('unknown.gguf', 20_000_000, (buffer) => {
      const key = buffer.indexOf('general.architecture');
      buffer.write('zzzzz', key + 'general.architecture'.length + 4 + 8);
    });
    expect(await load(file)).toMatchInlineSnapshot(
      `"3 UnsupportedArchitecture: unknown.gguf has the architecture "zzzzz", which this server's llama.cpp does not know: use a newer server image or another model."`,
    );
  });

  test('ONNX without a model, a folder without any, and GGUF for the other engine', async () => {
    const onnx = path.join(folder, 'onnx');
    await mkdir(onnx);
    await writeFile(path.join(onnx, 'genai_config.json'), '{}');
    const empty = path.join(folder, 'readme');
    await mkdir(empty);
    await writeFile(path.join(empty, 'README.md'), '');
    expect([await load(onnx), await load(empty), await load(model, { SLM_ENGINE: 'onnx' })]).toMatchInlineSnapshot(`
      [
        "3 NotAModel: genai_config.json names no model.decoder.filename: it is no language model, or its export is not complete.",
        "3 NotAModel: /readme holds no GGUF file and no ONNX model (found: README.md): check source.uri and source.files.",
        "3 NotAModel: SmolLM2-135M-Instruct.Q4_1.gguf is no ONNX model: point source.uri at one.",
      ]
    `);
  });

  test('several files where one is meant', async () => {
    const many = path.join(folder, 'many');
    await mkdir(many);
    for (const name of ['b.gguf', 'a.gguf']) await writeFile(path.join(many, name), '');
    expect(await load(many)).toMatchInlineSnapshot(
      `"3 NotAModel: the model has several GGUF files (a.gguf, b.gguf): name one in source.files."`,
    );
  });

  test('a context beyond what the model was trained for', async () => {
    expect(await load(model, { SLM_CONTEXT_LENGTH: '100000' })).toMatchInlineSnapshot(
      `"2 ContextTooLong: a context of 100000 tokens is more than the 8192 that the model was trained for: set engine.contextLength to 8192 or less."`,
    );
  });
});

test('a folder with one model is that model', async () => {
  const one = path.join(folder, 'one');
  await mkdir(one);
  await symlink(model, path.join(one, path.basename(model)));
  expect(await load(one)).toBe('loaded');
});

test('the quantisation in the words of its users', () => {
  const said = [
    'llama 256M Q4_1',
    'gemma3 270M Q4_K - Medium',
    'llama 1B all F32',
    'phi3 3B mostly Q4_1, some F16',
    'bert',
  ];
  expect(said.map(quantizationOf)).toEqual(['Q4_1', 'Q4_K_M', 'F32', 'Q4_1', 'unknown']);
});
