import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeGguf } from '../../../test/fixtures/gguf.ts';
import { readConfig } from '../config.ts';
import { readFacts } from './facts.ts';
import { estimateBytes, memoryLimit } from './memory.ts';
import { firstModel, modelsIn } from './sources.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'slm-models-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function write(files: Record<string, string | Buffer>): Promise<string> {
  const folder = await mkdtemp(path.join(dir, 'case-'));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name), content);
  }
  return folder;
}

test('a folder of models: files, split files, folders, links, Modelfiles', async () => {
  const folder = await write({
    'phi4:mini.gguf': '',
    'big-00001-of-00002.gguf': '',
    'big-00002-of-00002.gguf': '',
    'mmproj-x.gguf': '',
    'README.md': '',
    '.hidden.gguf': '',
    'minilm/onnx/model.onnx': '',
    'chat/Modelfile': 'FROM ./weights.gguf\nSYSTEM Be brief.',
    'chat/weights.gguf': '',
    'pirate.Modelfile': 'FROM chat\nPARAMETER temperature 0\nADAPTER lora.gguf',
    'again.Modelfile': 'FROM pirate:latest\nSYSTEM Arr.',
    'lost.Modelfile': 'FROM nothing',
    'broken.Modelfile': 'FORM x',
  });
  await symlink(path.join(folder, 'minilm'), path.join(folder, 'linked'));
  const problems: string[] = [];
  const specs = await modelsIn(folder, (problem) => problems.push(problem.replaceAll(folder, '')));
  expect(
    specs.map(({ names, path: file, defaults }) => [names[0], file.replace(folder, ''), defaults.system ?? '']),
  ).toEqual([
    ['big', '/big-00001-of-00002.gguf', ''],
    ['linked', '/linked', ''],
    ['minilm', '/minilm', ''],
    ['phi4:mini', '/phi4:mini.gguf', ''],
    ['chat', '/chat/weights.gguf', 'Be brief.'],
    ['pirate', '/chat/weights.gguf', 'Be brief.'],
    ['again', '/chat/weights.gguf', 'Arr.'],
  ]);
  expect(specs.at(-1)?.defaults).toMatchObject({
    parameters: { temperature: 0 },
    adapters: [path.join(folder, 'lora.gguf')],
  });
  expect(problems).toEqual([
    '/broken.Modelfile is left out: line 1 of the Modelfile: "FORM" is no instruction: FROM, PARAMETER, TEMPLATE, SYSTEM, ADAPTER, MESSAGE, LICENSE, REQUIRES, RENDERER, PARSER are',
    '/lost.Modelfile is left out: its FROM nothing is neither a file nor a model of this folder',
  ]);
});

test("the first model's defaults come from a Modelfile and from fields, which win", async () => {
  const folder = await write({ Modelfile: 'PARAMETER seed 1\nPARAMETER top_k 3\nSYSTEM a' });
  const config = (env: Record<string, string>) => readConfig({ SLM_MODEL_PATH: '/model', ...env });
  const [spec] = await firstModel(
    config({
      SLM_MODELFILE: path.join(folder, 'Modelfile'),
      SLM_MODEL_DEFAULTS: '{"parameters":{"seed":2},"system":"b"}',
    }),
  );
  expect(spec).toMatchObject({
    names: ['model'],
    resident: true,
    defaults: { parameters: { seed: 2, top_k: 3 }, system: 'b' },
  });
  expect((await firstModel(config({ SLM_KEEP_ALIVE: '10m' })))[0]?.resident).toBe(false);
  expect((await firstModel(config({ SLM_KEEP_ALIVE: '-1' })))[0]?.resident).toBe(true);
  await expect(firstModel(config({ SLM_MODELFILE: '/nowhere' }))).rejects.toThrow(
    'SLM_MODELFILE: /nowhere: there is no such file.',
  );
  await expect(firstModel(config({ SLM_MODEL_DEFAULTS: '{"parameters":{"x":1}}' }))).rejects.toThrow(
    'SLM_MODEL_DEFAULTS: x is not a parameter: check its spelling.',
  );
});

test("what a file's header says before it is loaded, and the memory that it will take", async () => {
  const tensors = [{ name: 'token_embd.weight', dimensions: [64, 4] }];
  const folder = await write({ 'tiny.gguf': makeGguf({ tensors }) });
  const facts = await readFacts(path.join(folder, 'tiny.gguf'));
  expect(facts).toMatchObject({
    format: 'gguf',
    architecture: 'llama',
    parameters: 256,
    quantization: 'F32',
    trainedContextLength: 2048,
    embeddingLength: 64,
    // Two layers with two heads of 16 numbers, for keys and for values.
    kvValuesPerToken: 2 * 2 * (16 + 16),
    chatTemplate: '{{ messages }}',
  });
  expect(facts.header).toMatchObject({ 'llama.block_count': 2, 'general.parameter_count': 256 });
  const bytes = (kvCacheType: 'F16' | 'Q8_0') =>
    estimateBytes({ size: 1_000_000_000, kvValuesPerToken: 128 }, { tokens: 10_000, kvCacheType });
  expect([bytes('F16'), bytes('Q8_0')]).toEqual([1_119_668_864, 1_118_468_864]);
  await expect(readFacts(path.join(folder, 'nothing.gguf'))).rejects.toThrow('ENOENT');
});

test("memory: the tightest limit of the process's groups", async () => {
  const folder = await write({
    'v2/self': '0::/kube/pod\n',
    'v2/fs/kube/memory.max': '2000000\n',
    'v2/fs/kube/pod/memory.max': 'max\n',
    'v1/self': '5:cpu:/a\n4:memory:/a\n',
    'v1/fs/memory/a/memory.limit_in_bytes': '3000000\n',
  });
  const limit = (version: string) => memoryLimit(path.join(folder, version, 'fs'), path.join(folder, version, 'self'));
  expect([await limit('v2'), await limit('v1')]).toEqual([2_000_000, 3_000_000]);
  expect(await limit('none')).toBeGreaterThan(3_000_000);
});
