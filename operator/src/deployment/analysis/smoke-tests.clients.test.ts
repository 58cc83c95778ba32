/** Smoke tests asked of real servers as processes, with real models, as the operator asks a candidate's pod. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { SLMDeployment, SLMDeploymentSpec, SmokeTest } from '@slm-operator/crds';
import { makeTinyBert } from '@slm-operator/runtime-image/engines/llama-cpp/tiny-bert';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunningServer, startServer } from '../../../../test/clients/server.ts';
import { makeAuthority, makeServingCertificate } from '../../broker/certificates.ts';
import { systemClock } from '../../runtime/clock.ts';
import { deployment } from '../testing/objects.ts';
import { AskError, makeModelClient } from './model-client.ts';
import { growth, quantile } from './numbers.ts';
import { makeOperatorAccess } from './operator-access.ts';
import { makeAskMetrics } from './pod-metrics.ts';
import { type AskedPod, runSmokeTests } from './smoke-tests.ts';

const KEY = 'sk-slm-the-key-of-this-test';
const servers: RunningServer[] = [];
const secrets = new Map<string, Record<string, string>>();
let folder: string;

/** One deployment each, by its name; all on this machine. */
const pods = new Map<string, AskedPod>();
const pod = (name: string) => pods.get(name) ?? expect.unreachable(name);

async function serve(spec: Partial<SLMDeploymentSpec>, name: string, options: Parameters<typeof startServer>[0]) {
  const server = await startServer({ names: [name], ...options });
  servers.push(server);
  const served: SLMDeployment = deployment(spec);
  pods.set(name, {
    deployment: { ...served, metadata: { ...served.metadata, name } },
    ip: '127.0.0.1',
    port: Number(new URL(server.url).port),
  });
}

const run = {
  client: makeModelClient(),
  access: makeOperatorAccess({
    client: {
      find: (_type, { name }) => {
        const data = secrets.get(name);
        const encoded = Object.entries(data ?? {}).map(([key, value]) => [key, Buffer.from(value).toString('base64')]);
        const secret = { metadata: { name }, data: Object.fromEntries(encoded) as Record<string, string> };
        return Promise.resolve(data === undefined ? undefined : (secret as never));
      },
      request: () => Promise.reject(new Error('no token is asked for here')),
    },
    serviceAccount: { namespace: 'slm-system', name: 'slm-operator' },
    clock: systemClock,
  }),
  embedderOf: (_deployment: SLMDeployment, name: string) => {
    const found = pods.get(name);
    if (found === undefined) throw new AskError('unreachable', `there is no SLMDeployment ${name}`);
    return found;
  },
  clock: systemClock,
};

const system = 'Answer in one word.';
const city =
  '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}';

async function ask(name: string, test: Partial<SmokeTest>, at = pod(name)) {
  const full = { name: 'capital', prompt: 'What is the capital of France?', maxTokens: 24, ...test };
  const [outcome] = await runSmokeTests(run, at, [full]);
  return outcome;
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-smoke-'));
  const bert = path.join(folder, 'bert.gguf');
  await writeFile(bert, makeTinyBert());
  const now = Date.now();
  const certificate = await makeServingCertificate(await makeAuthority(now), ['secure.demo.svc'], now);
  const other = await makeServingCertificate(await makeAuthority(now), ['secure.demo.svc'], now);
  const [certFile, keyFile] = ['tls.crt', 'tls.key'].map((file) => path.join(folder, file)) as [string, string];
  await writeFile(certFile, certificate.cert);
  await writeFile(keyFile, certificate.key);
  secrets.set('chat-api-keys', { 'key-1': `${KEY}\n` });
  secrets.set('secure-api-keys', { 'key-1': KEY });
  secrets.set('secure-tls', { 'tls.crt': certificate.cert, 'tls.key': certificate.key });
  secrets.set('other-tls', { 'tls.crt': other.cert });
  await Promise.all([
    serve({}, 'chat', { key: KEY }),
    serve({ auth: { type: 'None' } }, 'embed', { model: bert, env: { SLM_CONTEXT_LENGTH: '24' } }),
    serve({ tls: { secretRef: { name: 'secure-tls' } }, api: { openai: false } }, 'secure', {
      key: KEY,
      env: { SLM_TLS_CERT_FILE: certFile, SLM_TLS_KEY_FILE: keyFile, SLM_OPENAI_API: 'false' },
    }),
  ]);
});
afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop()));
  await rm(folder, { recursive: true, force: true });
});

describe('a model behind an API key', () => {
  const rows: [string, Partial<SmokeTest>, object][] = [
    ['passes by what its answer contains', { system, contains: 'paris' }, { passed: true, score: 1 }],
    ['passes by what its answer matches', { system, regex: '(?i)\\bparis\\b' }, { passed: true, score: 1 }],
    ['answers in the form of a JSON Schema', { jsonSchema: city, maxTokens: 64 }, { passed: true, score: 1 }],
    [
      'is compared with a golden answer by another deployment that embeds',
      { system, maxTokens: 4, similarity: { to: 'the cat sleeps', atLeast: 0.1, embedder: 'embed' } },
      { passed: true, score: expect.closeTo(0.6, 0) as number },
    ],
    [
      'fails with what was expected and what it said',
      { system, contains: 'Lyon' },
      {
        passed: false,
        score: 0,
        message: expect.stringMatching(/^the answer does not contain "Lyon": it says ".*Paris.*"$/) as string,
      },
    ],
    [
      'fails when it is too far from the golden answer',
      { system, similarity: { to: 'Apples are green.', atLeast: 0.999, embedder: 'chat' } },
      {
        passed: false,
        message: expect.stringMatching(/^similarity 0\.\d\d to the golden answer, and at least 0.999 /) as string,
      },
    ],
    [
      'fails by a JSON Schema that its server cannot ask for',
      { jsonSchema: '{"type":"array","uniqueItems":true,"contains":{"type":"string"},"items":{"type":"string"}}' },
      { passed: false, message: expect.stringMatching(/^the server answered 400: /) as string },
    ],
    [
      'fails by an answer that its embedder cannot read',
      { maxTokens: 64, similarity: { to: 'x', atLeast: 0.5, embedder: 'embed' } },
      {
        passed: false,
        message: expect.stringMatching(/^embedder embed: the server answered 400: .* tokens/) as string,
      },
    ],
  ];
  it.each(rows)('%s', async (_, test, outcome) => {
    expect(await ask('chat', test)).toMatchObject(outcome);
  });

  it('gives the same answer each time, which its signature shows and does not tell', async () => {
    const first = await ask('chat', { contains: 'a' });
    expect(first?.signature).toMatch(/^[0-9a-f]{64}$/);
    expect(await ask('chat', { contains: 'a' })).toEqual(first);
  });

  it('is no failure while the key is not taken, or is not there', async () => {
    const kept = secrets.get('chat-api-keys') ?? {};
    secrets.set('chat-api-keys', { 'key-1': 'sk-slm-another' });
    await expect(ask('chat', { contains: 'a' })).rejects.toMatchObject({
      kind: 'unreachable',
      message: expect.stringMatching(/^the server answered 401: .*; the operator's key is not taken$/) as string,
    });
    secrets.delete('chat-api-keys');
    await expect(ask('chat', { contains: 'a' })).rejects.toMatchObject({
      kind: 'unreachable',
      message: 'there is no Secret chat-api-keys',
    });
    secrets.set('chat-api-keys', kept);
  });

  it('is no failure while nobody listens', async () => {
    await expect(ask('chat', { contains: 'a' }, { ...pod('chat'), port: 1 })).rejects.toMatchObject({
      kind: 'unreachable',
      message: 'the pod cannot be asked (ECONNREFUSED)',
    });
  });
});

describe('a model that embeds, and lets everybody in', () => {
  const similarity = { to: 'a kitten naps', atLeast: 0.5 };
  it('is asked for the vectors of the prompt and of the golden text', async () => {
    expect(await ask('embed', { prompt: 'the cat sleeps', similarity })).toMatchObject({
      passed: true,
      score: expect.closeTo(0.67, 1) as number,
      signature: undefined,
    });
  });
  it('fails when they are too far apart', async () => {
    expect(await ask('embed', { prompt: 'number seven', similarity: { ...similarity, atLeast: 1 } })).toMatchObject({
      passed: false,
    });
  });
  it('cannot be asked for text', async () => {
    expect(await ask('embed', { contains: 'x' })).toMatchObject({
      passed: false,
      message: expect.stringMatching(/^the server answered 400: /) as string,
    });
  });
});

describe('a model behind TLS that has Ollama’s API alone', () => {
  it('is asked by its certificate, whatever its name', async () => {
    expect(await ask('secure', { system, contains: 'Paris' })).toMatchObject({ passed: true });
    expect(await ask('secure', { jsonSchema: city, maxTokens: 64 })).toMatchObject({ passed: true });
  });

  it('gets no key when it shows another certificate', async () => {
    const at = pod('secure');
    const spec = { ...at.deployment.spec, tls: { secretRef: { name: 'other-tls' } } };
    await expect(
      ask('secure', { contains: 'a' }, { ...at, deployment: { ...at.deployment, spec } }),
    ).rejects.toMatchObject({
      kind: 'unreachable',
      message: 'the pod cannot be asked (it presents another certificate than the Secret of spec.tls has)',
    });
  });

  it('tells what its answers took', async () => {
    const read = makeAskMetrics();
    const place = { ip: '127.0.0.1', port: pod('secure').port ?? 0, tls: true };
    const before = await read(place);
    await ask('secure', { system, contains: 'Paris' });
    const grown = growth(before, await read(place));
    expect(grown).toMatchObject({ answers: 1, failures: 0, firstToken: { count: 1 }, speed: { count: 1 } });
    expect(quantile(grown.firstToken, 0.95)).toBeGreaterThan(0.001);
  });
});
