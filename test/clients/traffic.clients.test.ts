/**
 * Three servers with the real model, as three pods of a deployment in the middle of a canary: two that serve and one that gets a part
 * of their requests. What OpenAI's own client sees of it, down to the death of the candidate.
 */
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { podFiles, serverHeaders, type TrafficSetting } from '@slm-operator/crds/contract';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MODEL, type RunningServer, startServer } from './server.ts';

const apiKey = 'key-of-the-test';
const messages = [{ role: 'user' as const, content: 'Name the capital of France.' }];

interface TestPod extends RunningServer {
  readonly client: OpenAI;
  /** Tells the pod what to pass on, as the kubelet does. */
  tell(setting: TrafficSetting | undefined): Promise<void>;
}

const folders: string[] = [];
const started: RunningServer[] = [];

async function startPod(revision: string): Promise<TestPod> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slm-pod-'));
  folders.push(folder);
  let writes = 0;
  const write = async (text: string) => {
    const data = `..${writes++}`;
    await mkdir(path.join(folder, data));
    await writeFile(path.join(folder, data, podFiles.traffic), text);
    await writeFile(path.join(folder, data, podFiles.revision), revision);
    await symlink(data, path.join(folder, '..data_tmp'));
    await rename(path.join(folder, '..data_tmp'), path.join(folder, '..data'));
  };
  await write('{}');
  for (const name of Object.values(podFiles)) await symlink(`..data/${name}`, path.join(folder, name));
  const server = await startServer({
    key: apiKey,
    env: { SLM_POD_DIR: folder, SLM_THREADS: '1', SLM_CONTEXT_LENGTH: '512' },
  });
  started.push(server);
  const traffic = async () =>
    ((await (await fetch(`${server.url}/readyz`)).json()) as { traffic?: { weight?: number } }).traffic?.weight;
  return {
    ...server,
    client: new OpenAI({ apiKey, baseURL: `${server.secondUrl}/v1`, maxRetries: 0 }),
    async tell(setting) {
      await write(JSON.stringify(setting ?? {}));
      await expect.poll(traffic, { timeout: 15_000 }).toBe(setting?.weight);
    },
  };
}

let stable: readonly [TestPod, TestPod];
let candidate: TestPod;
const to = (weight: number): TrafficSetting => ({ weight, address: new URL(candidate.url).host, revision: 'new' });

beforeAll(async () => {
  candidate = await startPod('new');
  stable = [await startPod('old'), await startPod('old')];
});
afterAll(async () => {
  await Promise.all(started.map((server) => server.stop()));
  await Promise.all(folders.map((folder) => rm(folder, { recursive: true })));
  for (const server of started) expect(server.output()).not.toContain(apiKey);
});

/** Revision that answered; the answer must be one. */
async function ask({ client }: TestPod): Promise<string | null> {
  const request = client.chat.completions.create({ model: MODEL, messages, temperature: 0, max_tokens: 1 });
  const { data, response } = await request.withResponse();
  expect(data.choices[0]?.message.content).toBe('The');
  return response.headers.get(serverHeaders.revision);
}

/** So many requests at both pods, unevenly and eight at a time. */
async function count(requests: number): Promise<Record<string, number>> {
  const by: Record<string, number> = {};
  let begun = 0;
  const worker = async () => {
    while (begun < requests) {
      const revision = await ask(stable[begun++ % 3 === 0 ? 1 : 0]);
      by[String(revision)] = (by[String(revision)] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return by;
}

describe('a candidate at 10 %', () => {
  test('gets a tenth of 1,000 requests to two servers, on connections that are kept', {
    timeout: 300_000,
  }, async () => {
    for (const one of stable) await one.tell(to(10));
    const by = await count(1000);
    expect((by['old'] ?? 0) + (by['new'] ?? 0)).toBe(1000);
    expect(by['new']).toBeGreaterThanOrEqual(94);
    expect(by['new']).toBeLessThanOrEqual(106);
    const chats = { route: '/v1/chat/completions', code: '200' };
    const answered = await Promise.all([...stable, candidate].map((one) => one.metric('slm_requests_total', chats)));
    expect(answered.reduce((sum, one) => sum + one)).toBe(1000);
    expect(answered[2]).toBe(by['new']);
  });

  test('keeps a stream that it has begun when the weight goes', async () => {
    await stable[0].tell(to(100));
    const story = { model: MODEL, messages, max_tokens: 120, ignore_eos: true, stream: true as const };
    const { data, response } = await stable[0].client.chat.completions.create(story).withResponse();
    expect(response.headers.get(serverHeaders.revision)).toBe('new');
    await stable[0].tell(undefined);
    expect(await ask(stable[0])).toBe('old');
    let pieces = 0;
    let end: string | null | undefined;
    for await (const { choices } of data) {
      pieces++;
      end = choices[0]?.finish_reason ?? end;
    }
    expect(pieces).toBeGreaterThan(50);
    expect(end).toBe('length');
  });
});

describe('a candidate that dies', () => {
  test('costs the stream that it had begun, and no other request', async () => {
    await stable[0].tell(to(100));
    const story = { model: MODEL, messages, max_tokens: 400, ignore_eos: true, stream: true as const };
    const stream = await stable[0].client.chat.completions.create(story);
    const parts = stream[Symbol.asyncIterator]();
    await parts.next();
    const rest = (async () => {
      while ((await parts.next()).done !== true);
    })();
    // Nobody restarts it: the supervisor goes too.
    process.kill(candidate.pid, 'SIGKILL');
    await expect(rest).rejects.toThrow();
    expect(await Promise.all(Array.from({ length: 20 }, () => ask(stable[0])))).toEqual(Array(20).fill('old'));
    // It is told after three connections in vain, of which there is one in a second unless several requests come at once.
    const later: (string | null)[] = [];
    const problem = async () => {
      later.push(await ask(stable[0]));
      const { traffic } = (await (await fetch(`${stable[0].url}/readyz`)).json()) as { traffic: { problem?: string } };
      return traffic.problem;
    };
    await expect.poll(problem).toMatch(/^revision new at 127\.0\.0\.1 port \d+: connect ECONNREFUSED/);
    expect(new Set(later)).toEqual(new Set(['old']));
  });
});
