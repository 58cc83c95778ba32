/**
 * Our server against llama-server on the same file: at temperature 0 both write the same. Templates, tokenizers, special tokens,
 * samplers and the decoder are all in it. Both have one slot and reuse nothing, and compute batches of the same size, because
 * the order in which floats are added depends on it.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { peerSide, type RunningServer, type Side, startServer } from '../bench/serving-servers.ts';
import { repoRoot } from '../cache.ts';
import { smollm2 } from '../fixtures/models.ts';
import { whyNoCompiler } from './compile.ts';
import { linkLlamaServer } from './llama-server.ts';

vi.setConfig({ testTimeout: 120_000 });

const TOKENS = 48;
/** Our scheduler feeds prompts in chunks that depend on the machine's speed, but in none smaller than this. */
const BATCH = 32;
const setup = { threads: 1, slots: 1, contextPerSlot: 2048, promptCacheBytes: 0 };

const whyNot = await whyNoCompiler();

let ours: RunningServer;
let theirs: RunningServer;
const running = new AsyncDisposableStack();

beforeAll(async () => {
  if (whyNot !== undefined) return;
  const { path: model } = await smollm2();
  const folder = await mkdtemp(path.join(tmpdir(), 'slm-same-tokens-'));
  running.defer(() => rm(folder, { recursive: true, force: true }));
  ours = await start(ourSide, model);
  // Compiled apart, even from the same source, the last bits differ, and before long the words do.
  const peer = peerSide(await linkLlamaServer(await ggmlLibraries(ours), folder));
  theirs = await start({ ...peer, command: (at, port) => withBatch(peer.command(at, port)) }, model);
}, 1_800_000);

// Also when it did not come so far.
afterAll(() => running.disposeAsync());

/** The server as it runs from the source tree. */
const ourSide: Side = {
  name: 'ours',
  readyPath: '/readyz',
  keepAlive: false,
  command: (at, port) => ({
    file: process.execPath,
    args: [path.join(repoRoot, 'runtime-image/src/main.ts')],
    env: {
      HOME: tmpdir(),
      SLM_MODEL_PATH: at.model,
      SLM_SERVED_NAMES: '["model"]',
      SLM_HOST: '127.0.0.1',
      SLM_PORT: String(port),
      SLM_OPENAI_PORT: 'none',
      SLM_THREADS: String(at.threads),
      SLM_PARALLEL_REQUESTS: String(at.slots),
      SLM_CONTEXT_LENGTH: String(at.contextPerSlot),
      SLM_BATCH_SIZE: String(BATCH),
    },
  }),
};

function withBatch<T extends { readonly args: readonly string[] }>(command: T): T {
  return { ...command, args: [...command.args, '--batch-size', String(BATCH), '--ubatch-size', String(BATCH)] };
}

async function start(side: Side, model: string): Promise<RunningServer> {
  const server = running.use(await startServer(side, { ...setup, model }));
  await Promise.race([isReady(server), server.died]);
  return server;
}

/** What our server has loaded of llama.cpp. */
async function ggmlLibraries(server: RunningServer): Promise<string[]> {
  const maps = await Promise.all((await server.pids()).map((pid) => readFile(`/proc/${pid}/maps`, 'utf8')));
  const libraries = new Set(maps.join('').match(/\/\S*\/lib(?:llama|ggml)[\w.-]*\.so\S*/g));
  return [...libraries].filter((library) => !path.basename(library).startsWith('libllama-common'));
}

function isReady({ target, side }: RunningServer): Promise<void> {
  return vi.waitFor(
    async () => {
      const { status } = await fetch(`http://127.0.0.1:${target.port}${side.readyPath}`);
      if (status !== 200) throw new Error(`${side.name} says ${status}`);
    },
    { timeout: 60_000 },
  );
}

interface Written {
  readonly text: string;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly reason: string;
}

async function write({ target, side }: RunningServer, route: string, body: object): Promise<Written> {
  const response = await fetch(`http://127.0.0.1:${target.port}${route}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    // What only llama-server knows, ours passes over: it has no other slot to reuse.
    body: JSON.stringify({ model: 'model', temperature: 0, max_tokens: TOKENS, cache_prompt: false, ...body }),
  });
  const answer = await response.text();
  if (!response.ok) throw new Error(`${route} said ${response.status}: ${answer}`);
  const { choices, usage } = JSON.parse(answer) as {
    choices: { text?: string; message?: { content: string }; finish_reason: string }[];
    usage: { prompt_tokens: number; completion_tokens: number };
  };
  const reason = choices[0]?.finish_reason ?? '';
  const text = choices[0]?.text ?? choices[0]?.message?.content ?? '';
  return {
    // Where the last token begins a character that the limit cuts off, llama-server writes U+FFFD, and ours nothing, as Ollama.
    text: side.name === 'ours' ? text : text.replace(/\ufffd+$/, ''),
    promptTokens: usage.prompt_tokens,
    // llama-server counts the token that ends an answer too.
    completionTokens: usage.completion_tokens - (side.name !== 'ours' && reason === 'stop' ? 1 : 0),
    reason,
  };
}

const repeat = (count: number, sentence: (index: number) => string) =>
  Array.from({ length: count }, (_, index) => sentence(index + 1)).join(' ');
const LOG = repeat(34, (line) => `Line ${line}: the pump in hall ${line % 7} ran at ${line * 13} turns a minute.`);
const STORY = repeat(40, (day) => `On day ${day} the ship sailed ${day * 3} miles north and met ${day % 5} whales.`);

const user = (content: string) => [{ role: 'user', content }];

describe.skipIf(whyNot !== undefined)(`a chat${whyNot === undefined ? '' : ` (skipped: ${whyNot})`}`, () => {
  test.each<[name: string, messages: readonly { role: string; content: string }[]]>([
    ['with a question', user('Name the capital of France.')],
    [
      'with a system message',
      [{ role: 'system', content: 'You answer in one word.' }, ...user('What colour is the sky?')],
    ],
    [
      'of several turns',
      [
        ...user('My name is Ada.'),
        { role: 'assistant', content: 'Hello Ada, how can I help?' },
        ...user('What is my name?'),
      ],
    ],
    ['in German', user('Erkläre in zwei Sätzen, warum der Himmel blau ist.')],
    ['in French', user("Écris une courte phrase sur l'été à la campagne.")],
    ['in Spanish', user('¿Cuál es la capital de España y por qué es famosa?')],
    ['in Chinese', user('请用一句话介绍北京。')],
    ['in Arabic', user('ما هي عاصمة مصر؟')],
    ['with emoji and joined characters', user('What do 👩‍👩‍👧‍👦, 🏳️‍🌈 and é mean? Answer with emoji 🎉.')],
    ['about code', user('Write a Python function that returns the n-th Fibonacci number.')],
    ['with line breaks, tabs and blanks', user('Repeat this:\n\n\tone\n  two   \r\n\u00a0three\n')],
    ['with a long log', user(`${LOG}\n\nWhich line has the fastest pump?`)],
  ])('%s', async (_, messages) => {
    expect(await write(ours, '/v1/chat/completions', { messages })).toEqual(
      await write(theirs, '/v1/chat/completions', { messages }),
    );
  });
});

describe.skipIf(whyNot !== undefined)('a raw prompt', () => {
  test.each<[name: string, prompt: string]>([
    ['of a few words', 'Once upon a time there was a'],
    ['of one character', 'A'],
    ['of code', 'def quicksort(items):\n    """Sorts a list."""\n    if len(items) < 2:\n'],
    ['of JSON', '{"name": "Ada", "age": 36, "languages": ["en", "fr"], "address": {'],
    ['of Japanese', '日本の首都は東京です。東京は'],
    ['of Russian', 'Столица России — Москва. Москва'],
    ['with special tokens', '<|im_start|>user\nCount from one to ten.<|im_end|>\n<|im_start|>assistant\n'],
    ['of a long story', `${STORY} On day 41`],
  ])('%s', async (_, prompt) => {
    expect(await write(ours, '/v1/completions', { prompt })).toEqual(
      await write(theirs, '/v1/completions', { prompt }),
    );
  });
});
