/** From `kubectl apply -f samples/quickstart.yaml` to an answer, as a user goes through it. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repoRoot } from '../cache.ts';
import { lab, nodes } from './context.ts';
import { condition, type Forward, holds, until } from './harness.ts';

const namespace = 'demo';
let forward: Forward;
let key: string;
const seenProgress: string[] = [];

beforeAll(async () => {
  await lab.kubectl('delete', 'namespace', namespace, '--ignore-not-found', '--timeout=120s');
  await lab.applyYaml(await readFile(path.join(repoRoot, 'samples/quickstart.yaml'), 'utf8'));
  await until(
    'the deployment is Ready',
    async () => {
      const text = (await lab.model(namespace, 'smollm2'))?.status?.cache?.progress;
      if (text !== undefined && seenProgress.at(-1) !== text) seenProgress.push(text);
      return await lab.deployment(namespace, 'chat');
    },
    (deployment) => holds(deployment, 'Ready'),
    { timeoutMs: 180_000 },
  );
  key = await lab.apiKey(namespace, 'chat');
  forward = await lab.forward(namespace, 'chat');
});
afterAll(async () => forward?.[Symbol.asyncDispose]());

async function post(url: string, body: unknown, headers: Record<string, string> = { authorization: `Bearer ${key}` }) {
  return await fetch(`${forward.url}${url}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

describe('the model', () => {
  it('is resolved to a commit and a digest, and says what it is', async () => {
    const model = await lab.model(namespace, 'smollm2');
    expect(model?.status?.latestRevision).toMatchObject({
      digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      sourceRevision: expect.stringMatching(/^[0-9a-f]{40}$/),
      size: 98_362_432,
    });
    expect(model?.status?.metadata).toMatchObject({
      format: 'GGUF',
      architecture: 'llama',
      quantization: 'Q4_1',
      contextLength: 8192,
      layers: 30,
      hasChatTemplate: true,
    });
  });

  it('is on every node, verified', async () => {
    const model = await lab.model(namespace, 'smollm2');
    expect(model?.status?.cache).toMatchObject({ desiredNodes: nodes.length, readyNodes: nodes.length, percent: 100 });
    expect(['Ready', 'Resolved', 'Verified', 'Cached'].map((type) => condition(model, type)?.status)).toEqual(
      Array.from({ length: 4 }, () => 'True'),
    );
    expect(condition(model, 'Reconciling')).toBeUndefined();
  });

  it('showed how far the pull was', () => {
    expect(seenProgress.join('\n')).toMatch(/\d+%/);
  });
});

describe('the deployment', () => {
  it('answers in the OpenAI API', async () => {
    const response = await post('/v1/chat/completions', {
      model: 'chat',
      messages: [{ role: 'user', content: 'Name the capital of France.' }],
      temperature: 0,
      max_tokens: 32,
    });
    expect(response.status).toBe(200);
    const body = (await response.json()) as {
      choices: { message: { content: string } }[];
      usage: { completion_tokens: number };
    };
    expect(body.choices[0]?.message.content).toContain('Paris');
    expect(body.usage.completion_tokens).toBeGreaterThan(0);
  });

  it('streams in the Ollama API, under the name of the model', async () => {
    const response = await post('/api/chat', {
      model: 'smollm2',
      messages: [{ role: 'user', content: 'Name the capital of France.' }],
      options: { temperature: 0, num_predict: 32 },
    });
    const lines = (await response.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { done: boolean; message: { content: string } });
    expect(lines.length).toBeGreaterThan(2);
    expect(lines.map((line) => line.message.content).join('')).toContain('Paris');
    expect(lines.at(-1)).toMatchObject({ done: true, done_reason: expect.any(String), eval_count: expect.any(Number) });
  });

  it('wants a key', async () => {
    const response = await post('/v1/chat/completions', { model: 'chat', messages: [] }, {});
    expect(response.status).toBe(401);
    const secret = await lab.get<{ data: Record<string, string> }>('secret', 'chat-api-keys', namespace);
    expect(Object.keys(secret?.data ?? {})).toHaveLength(2);
  });

  it('takes a new key without a restart', async () => {
    const before = await lab.list<{ metadata: { uid: string } }>('pods', '-n', namespace);
    await lab.kubectl(
      '-n',
      namespace,
      'patch',
      'secret',
      'chat-api-keys',
      '-p',
      '{"stringData":{"key-2":"sk-rotated"}}',
    );
    await until(
      'the new key is taken',
      async () => (await fetch(`${forward.url}/v1/models`, { headers: { authorization: 'Bearer sk-rotated' } })).status,
      (status) => status === 200,
      { timeoutMs: 150_000, everyMs: 1000 },
    );
    const after = await lab.list<{ metadata: { uid: string } }>('pods', '-n', namespace);
    expect(after.map((pod) => pod.metadata.uid)).toEqual(before.map((pod) => pod.metadata.uid));
  });

  it('runs under Pod Security restricted with its weights read-only and no hostPath', async () => {
    const [pod] = await lab.list<{
      metadata: { name: string };
      spec: { volumes: Record<string, unknown>[]; automountServiceAccountToken: boolean };
    }>('pods', '-n', namespace);
    expect(pod?.spec.automountServiceAccountToken).toBe(false);
    expect(pod?.spec.volumes.flatMap((volume) => Object.keys(volume))).not.toContain('hostPath');
    await expect(
      lab.kubectl(
        '-n',
        namespace,
        'exec',
        pod!.metadata.name,
        '--',
        'node',
        '-e',
        "require('fs').writeFileSync('/model/x', '')",
      ),
    ).rejects.toThrow(/EROFS|read-only/);
  });

  it('shows itself in kubectl get', async () => {
    const text = await lab.kubectl('-n', namespace, 'get', 'slmm,slmd');
    expect(text).toMatch(new RegExp(`smollm2 +True +GGUF +Q4_1 +1\\d\\dM +${nodes.length}/${nodes.length} `));
    expect(text).toMatch(/chat +True +smollm2 +[0-9a-f]{10} +1\/1/);
  });

  it('scales with kubectl scale, to zero too', async () => {
    await lab.kubectl('-n', namespace, 'scale', 'slmd/chat', '--replicas=2');
    await until(
      'two pods are ready',
      () => lab.deployment(namespace, 'chat'),
      (one) => one?.status?.readyReplicas === 2 && holds(one, 'Ready'),
    );
    await lab.kubectl('-n', namespace, 'scale', 'slmd/chat', '--replicas=0');
    const idle = await until(
      'no pod is left',
      () => lab.deployment(namespace, 'chat'),
      (one) => (one?.status?.replicas ?? 0) === 0 && holds(one, 'Ready'),
    );
    expect(condition(idle, 'Ready')?.reason).toBe('ScaledToZero');
    await lab.kubectl('-n', namespace, 'scale', 'slmd/chat', '--replicas=1');
    await until(
      'one pod is ready',
      () => lab.deployment(namespace, 'chat'),
      (one) => one?.status?.readyReplicas === 1 && holds(one, 'Ready'),
    );
  });
});

describe('deletion', () => {
  it('of everything leaves no model on a node and no object behind', async () => {
    await lab.kubectl('delete', '-f', path.join(repoRoot, 'samples/quickstart.yaml'), '--timeout=120s');
    await until(
      'no node wants or holds it',
      () => lab.nodeCaches(),
      (caches) => caches.every((cache) => !cache.spec?.wanted?.length && !cache.status?.entries?.length),
    );
  });
});
