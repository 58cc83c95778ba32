/** ONNX models from a repository to an answer: one that completes and one that embeds, and what a user reads when one cannot be served. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeOnnx } from '../fixtures/onnx/graph.ts';
import { minilmOnnx } from '../fixtures/onnx/minilm.ts';
import { smollm2Onnx } from '../fixtures/onnx/smollm2.ts';
import { lab, openHub, type TestHub } from './context.ts';
import { condition, type Forward, holds, type TestNamespace, until } from './harness.ts';

const DATA = 'model.onnx.data';
/** Models that are to answer, each by the name of its repository. */
const served = ['smollm2', 'export', 'minilm'];

let hub: TestHub;
let space: TestNamespace;
const forwards = new Map<string, Forward>();

/** A deployment with all defaults, memory among them, but for a context that fits small machines. */
const deployed = (name: string) => ({
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMDeployment',
  metadata: { namespace: space.name, name },
  spec: {
    modelRef: { name },
    engine: { contextLength: 512, parallelRequests: 2, threads: 1 },
    auth: { type: 'None' },
  },
});

const modelled = (name: string) => ({
  apiVersion: 'slm.dev/v1alpha1',
  kind: 'SLMModel',
  metadata: { namespace: space.name, name },
  spec: {
    source: { uri: `hf://acme/${name}`, endpoint: hub.url, insecure: true },
    // The first pod's node is enough for what one pod serves.
    ...(name === 'smollm2' ? {} : { prePull: { policy: 'None' } }),
  },
});

beforeAll(async () => {
  hub = await openHub();
  space = await lab.namespace('onnx');
  const smollm2 = await smollm2Onnx('genai');
  await hub.addRepository('smollm2', smollm2);
  await hub.addRepository('export', await smollm2Onnx('hugging-face'));
  await hub.addRepository('minilm', await minilmOnnx());
  await hub.addRepository('incomplete', smollm2, [DATA]);
  await hub.addRepository('too-new', smollm2, ['model.onnx', DATA]);
  await addGraphOfTomorrow();
  for (const name of [...served, 'incomplete', 'too-new']) await lab.apply(modelled(name));
  for (const name of [...served, 'too-new']) await lab.apply(deployed(name));
  for (const name of served) {
    await until(
      `${name} is Ready`,
      () => lab.deployment(space.name, name),
      (one) => holds(one, 'Ready'),
      { timeoutMs: 300_000 },
    );
    forwards.set(name, await lab.forward(space.name, name));
  }
});
afterAll(async () => {
  for (const forward of forwards.values()) await forward[Symbol.asyncDispose]();
  await space?.[Symbol.asyncDispose]();
  await hub?.[Symbol.asyncDispose]();
});

/** A language model, as far as its inputs and outputs go, of an ONNX version that no runtime knows. */
async function addGraphOfTomorrow(): Promise<void> {
  const cache = (kind: string) => ({
    name: `past_key_values.0.${kind}`,
    type: 'float32' as const,
    shape: ['batch', 3, 'past', 64],
  });
  const graph = makeOnnx({
    opset: 99,
    inputs: [{ name: 'input_ids', type: 'int64', shape: ['batch', 'tokens'] }, cache('key'), cache('value')],
    outputs: ['logits', 'present.0.key', 'present.0.value'],
  });
  const folder = path.join(hub.root, 'hf/acme/too-new');
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, 'model.onnx'), graph);
}

async function post<T>(model: string, route: string, body: object): Promise<T> {
  const response = await fetch(`${forwards.get(model)?.url}${route}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, ...body }),
  });
  expect(response.status).toBe(200);
  return (await response.json()) as T;
}

const messages = [{ role: 'user', content: 'Name the capital of France.' }];

it('a language model as Hugging Face’s tools export it answers too', async () => {
  const answer = await post<{ choices: { message: { content: string } }[] }>('export', '/v1/chat/completions', {
    messages,
    temperature: 0,
    max_tokens: 32,
  });
  expect(answer.choices[0]?.message.content).toBe('The capital of France is Paris.');
  const model = await lab.model(space.name, 'export');
  expect(model?.status?.revisions?.[0]?.files.map((file) => file.path)).toContain('onnx/model.onnx_data');
});

describe('a language model in the layout of onnxruntime-genai', () => {
  it('answers in the APIs of OpenAI and of Ollama', async () => {
    const openai = await post<{ choices: { message: { content: string } }[] }>('smollm2', '/v1/chat/completions', {
      messages,
      temperature: 0,
      max_tokens: 32,
    });
    expect(openai.choices[0]?.message.content).toBe('The capital of France is Paris.');
    const ollama = await post<{ message: { content: string }; eval_count: number }>('smollm2', '/api/chat', {
      messages,
      stream: false,
      options: { temperature: 0, num_predict: 32 },
    });
    expect(ollama.message.content).toBe('The capital of France is Paris.');
    expect(ollama.eval_count).toBeGreaterThan(0);
  });

  it('shows what it is', async () => {
    const model = await lab.model(space.name, 'smollm2');
    expect(model?.status?.metadata).toMatchObject({
      format: 'ONNX',
      architecture: 'llama',
      parametersText: '135M',
      quantization: 'INT8',
      contextLength: 8192,
      layers: 30,
      hasChatTemplate: true,
    });
    expect(await lab.kubectl('-n', space.name, 'get', 'slmm')).toMatch(/smollm2 +True +ONNX +INT8 +135M/);
  });

  it('has its graph and the weights beside it as hard links, which ONNX Runtime follows', async () => {
    const [pod] = await lab.list<{ metadata: { name: string } }>(
      'pods',
      '-n',
      space.name,
      '-l',
      'slm.dev/deployment=smollm2',
    );
    const script = `const { lstatSync } = require('node:fs');
      for (const name of ['model.onnx', '${DATA}']) { const file = lstatSync('/model/' + name); console.log(file.isFile(), file.nlink > 1); }`;
    const said = await lab.kubectl('-n', space.name, 'exec', pod?.metadata.name ?? '', '--', 'node', '-e', script);
    expect(said.trim().split('\n')).toEqual(['true true', 'true true']);
  });

  it('stays within the memory that was computed for it, with every request at its longest', async () => {
    const prompt = 'The quick brown fox jumps over the lazy dog. '.repeat(45);
    await Promise.all(
      [1, 2].map((index) =>
        post('smollm2', '/api/generate', {
          prompt: `${index}. ${prompt}`,
          raw: true,
          stream: false,
          options: { num_predict: 24 },
        }),
      ),
    );
    const pods = await lab.list<{ status: { containerStatuses: { restartCount: number }[] } }>(
      'pods',
      '-n',
      space.name,
      '-l',
      'slm.dev/deployment=smollm2',
    );
    expect(pods.map((pod) => pod.status.containerStatuses[0]?.restartCount)).toEqual([0]);
  });
});

describe('an embedding model with weights of eight bits', () => {
  const texts = ['How old are you?', 'What is your age?', 'The train to Berlin leaves at noon.'];
  const cosine = (a: readonly number[] = [], b: readonly number[] = []) =>
    a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);

  it.each<[string, () => Promise<readonly (readonly number[])[]>]>([
    [
      '/v1/embeddings',
      async () =>
        (await post<{ data: { embedding: number[] }[] }>('minilm', '/v1/embeddings', { input: texts })).data.map(
          (one) => one.embedding,
        ),
    ],
    [
      '/api/embed',
      async () => (await post<{ embeddings: number[][] }>('minilm', '/api/embed', { input: texts })).embeddings,
    ],
  ])('%s gives vectors that lie close for what means the same', async (_route, embed) => {
    const [old, age, train] = await embed();
    expect([old, age, train].map((vector) => vector?.length)).toEqual([384, 384, 384]);
    expect(cosine(old, old)).toBeCloseTo(1, 4);
    expect(cosine(old, age)).toBeGreaterThan(0.7);
    expect(cosine(old, train)).toBeLessThan(0.3);
  });

  it('keeps no cache, and took only the files that it needs', async () => {
    const model = await lab.model(space.name, 'minilm');
    expect(model?.status?.estimate?.kvCachePer1kTokens).toBe(0);
    expect(model?.status?.revisions?.[0]?.files.map((file) => file.path)).toContain('1_Pooling/config.json');
  });
});

describe('what cannot be served says so', () => {
  it('weights that are not in the repository: on the model, before any node pulls', async () => {
    const failed = await until(
      'Resolved is False',
      () => lab.model(space.name, 'incomplete'),
      (one) => condition(one, 'Resolved')?.status === 'False',
    );
    expect(condition(failed, 'Ready')).toMatchObject({ status: 'False', reason: 'NotFound' });
    expect(condition(failed, 'Ready')?.message).toMatch(
      /^model\.onnx of acme\/incomplete@main keeps its weights in model\.onnx\.data, which is not there: upload/,
    );
    expect(failed?.status?.latestRevision).toBeUndefined();
  });

  it('an ONNX version that the runtime does not know: on the deployment, in the words of its server', async () => {
    const blocked = await until(
      'blockedBy names the cause',
      () => lab.deployment(space.name, 'too-new'),
      (one) => one?.status?.blockedBy?.some(({ reason }) => reason === 'ContainerFailed') ?? false,
    );
    const cause = blocked?.status?.blockedBy?.find(({ reason }) => reason === 'ContainerFailed');
    expect(cause?.message).toMatch(/UnsupportedFormat: model\.onnx uses opset 99 .*or use a newer server image/);
  });
});
