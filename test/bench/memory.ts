/**
 * Benchmark `memory`: what a server takes at most while every request is at its longest and more prompts come than it has slots,
 * beside what the operator computes for it. The operator's number is a limit: a server must never take more, and a node should not be
 * held for much less. Owns the settings and the load.
 */
import { open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { estimateMemory, type ResolvedEngine } from '@slm-operator/operator/deployment/memory';
import { MAX_HEADER_BYTES, parseGgufHeader } from '@slm-operator/operator/sources/gguf-header';
import { largeModel } from '../fixtures/large-model.ts';
import { smollm2 } from '../fixtures/models.ts';
import { minilmOnnx } from '../fixtures/onnx/minilm.ts';
import { smollm2Onnx } from '../fixtures/onnx/smollm2.ts';
import type { Bench } from './main.ts';
import type { Samples } from './report.ts';
import { makePrompts } from './serving-prompts.ts';
import { ourSide, type RunningServer, startServer } from './serving-servers.ts';

/** For `--only`. */
export const memoryParts = ['gguf', 'large', 'onnx', 'embedding'];

const MiB = 2 ** 20;
const READY_MS = 120_000;
const SAMPLE_MS = 200;
/** Nearly all words are one token; the rest of the context is for those that are two, and for the answer. */
const WORDS_PER_TOKEN = 0.9;
const ANSWER_TOKENS = 16;
/** Prompts for each slot, so that those that are put aside come to be. */
const ROUNDS = 3;

interface Case {
  readonly part: string;
  readonly name: string;
  readonly model: () => Promise<Weights>;
  readonly engine: ResolvedEngine;
}

/** A model as the operator knows it. */
interface Weights {
  readonly path: string;
  readonly size: number;
  readonly facts: Parameters<typeof estimateMemory>[1];
}

const engine = (parallelRequests: number, contextLength: number): ResolvedEngine => ({
  parallelRequests,
  contextLength,
  kvCacheType: 'F16',
});

const cases: readonly Case[] = [
  {
    part: 'gguf',
    name: '135 M weights, GGUF',
    model: async () => gguf((await smollm2()).path),
    engine: engine(1, 512),
  },
  {
    part: 'gguf',
    name: '135 M weights, GGUF',
    model: async () => gguf((await smollm2()).path),
    engine: engine(4, 1024),
  },
  {
    part: 'gguf',
    name: '135 M weights, GGUF',
    model: async () => gguf((await smollm2()).path),
    engine: engine(2, 4096),
  },
  { part: 'large', name: '1.1 G weights, GGUF', model: async () => gguf(await largeModel()), engine: engine(2, 512) },
  {
    part: 'onnx',
    name: '135 M weights, ONNX',
    model: async () => onnx(await smollm2Onnx('genai')),
    engine: engine(1, 512),
  },
  {
    part: 'onnx',
    name: '135 M weights, ONNX',
    model: async () => onnx(await smollm2Onnx('genai')),
    engine: engine(2, 1024),
  },
  {
    part: 'onnx',
    name: '135 M weights, ONNX',
    model: async () => onnx(await smollm2Onnx('genai')),
    engine: engine(4, 1024),
  },
  {
    part: 'embedding',
    name: 'MiniLM, ONNX',
    model: async () => onnx(await minilmOnnx(), true),
    engine: engine(2, 256),
  },
];

/** The benchmark. */
export const memory: Bench = async ({ runs, threads = [2], only, progress }) => {
  const side = await ourSide();
  try {
    const rows: Samples[] = [];
    for (const one of cases.filter(({ part }) => only?.includes(part) ?? true)) {
      const weights = await one.model();
      const computed = estimateMemory(weights.size, weights.facts, one.engine);
      const { parallelRequests, contextLength } = one.engine;
      const name = `${one.name}, ${parallelRequests} × ${contextLength} tokens`;
      const peaks: number[] = [];
      let filled = 0;
      for (let run = 0; run < runs; run++) {
        const step = progress.step(`${name}, run ${run + 1} of ${runs}`);
        await using server = await startServer(side, {
          model: weights.path,
          threads: threads[0] ?? 2,
          slots: parallelRequests,
          contextPerSlot: contextLength,
          promptCacheBytes: computed.promptCache,
        });
        const { peak, tokens } = await fill(server, one.engine, weights, `${name} ${run}`);
        peaks.push(peak / MiB);
        filled = tokens;
        step.done();
      }
      rows.push({
        name,
        unit: 'MiB',
        ours: peaks,
        peer: [computed.total / MiB],
        goal: { ratioBetween: [0.8, 1] },
        note: `peer: computed, of it weights ${mib(weights.size)}, KV cache ${mib(computed.kvCache)}, prompt cache ${mib(computed.promptCache)}; longest prompt ${filled} tokens`,
      });
    }
    return rows;
  } finally {
    await side[Symbol.asyncDispose]();
  }
};

function mib(bytes: number): string {
  return `${Math.round(bytes / MiB)}`;
}

/** Sends prompts that fill the context, as many at a time as there are slots, and watches the memory. */
async function fill(
  server: RunningServer,
  { parallelRequests, contextLength }: ResolvedEngine,
  { facts, path: file }: Weights,
  seed: string,
): Promise<{ peak: number; tokens: number }> {
  await ready(server);
  await forgetReferences(server);
  let anonymous = 0;
  const done = new AbortController();
  const watching = (async () => {
    while (!done.signal.aborted) {
      anonymous = Math.max(anonymous, (await server.memory()).anonymous);
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
    }
  })();
  const prompts = makePrompts(seed);
  const words = Math.floor((contextLength - ANSWER_TOKENS) * WORDS_PER_TOKEN);
  const embeds = facts.estimate?.kvCachePer1kTokens === 0;
  let tokens = 0;
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const asked = Array.from({ length: parallelRequests }, (_, index) => prompts.words(`${round} ${index}`, words));
      const counts = await Promise.race([server.died, Promise.all(asked.map((text) => ask(server, text, embeds)))]);
      tokens = Math.max(tokens, ...counts);
    }
  } finally {
    done.abort();
    await watching;
  }
  return { peak: anonymous + (await usedFiles(server, file)), tokens };
}

/** From now on the kernel notes anew which pages are looked at. */
async function forgetReferences(server: RunningServer): Promise<void> {
  for (const pid of await server.pids()) await writeFile(`/proc/${pid}/clear_refs`, '1');
}

/**
 * Bytes of mapped files: of weights only what was looked at since. Weights that were packed anew at the start are not looked at again,
 * and count against a limit only as long as nobody needs the memory.
 */
async function usedFiles(server: RunningServer, weights: string): Promise<number> {
  const files = new Map<string, number>();
  for (const pid of await server.pids()) {
    const own = new Map<string, number>();
    let file = '';
    for (const line of (await readFile(`/proc/${pid}/smaps`, 'utf8')).split('\n')) {
      const range = /^[\da-f]+-[\da-f]+ \S+ \S+ \S+ \d+ *(.*)$/.exec(line);
      if (range) file = range[1] ?? '';
      const [, field, kibibytes] = /^(Rss|Referenced|Anonymous): +(\d+) kB$/.exec(line) ?? [];
      const counted = file.startsWith(weights) ? 'Referenced' : 'Rss';
      if (!file.startsWith('/') || (field !== counted && field !== 'Anonymous')) continue;
      const bytes = Number(kibibytes) * 1024 * (field === 'Anonymous' ? -1 : 1);
      own.set(file, (own.get(file) ?? 0) + bytes);
    }
    // Processes share the pages of a file.
    for (const [name, bytes] of own) files.set(name, Math.max(files.get(name) ?? 0, bytes));
  }
  return [...files.values()].reduce((sum, bytes) => sum + bytes, 0);
}

/** @returns tokens of the prompt */
async function ask(server: RunningServer, prompt: string, embeds: boolean): Promise<number> {
  const { port, model } = server.target;
  const body = embeds
    ? { model, input: prompt, truncate: true }
    : { model, prompt, raw: true, stream: false, options: { num_predict: ANSWER_TOKENS } };
  const answer = await fetch(`http://127.0.0.1:${port}/api/${embeds ? 'embed' : 'generate'}`, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json' },
  });
  if (!answer.ok) throw new Error(`the server says ${answer.status}: ${await answer.text()}`);
  const { prompt_eval_count: count = 0 } = (await answer.json()) as { prompt_eval_count?: number };
  return count;
}

async function ready(server: RunningServer): Promise<void> {
  const end = performance.now() + READY_MS;
  const address = `http://127.0.0.1:${server.target.port}${server.side.readyPath}`;
  const isReady = () =>
    fetch(address).then(
      ({ ok }) => ok,
      () => false,
    );
  while (!(await Promise.race([isReady(), server.died]))) {
    if (performance.now() > end)
      throw new Error(`the server was not ready after ${READY_MS / 1000} s:\n${server.log()}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function gguf(file: string): Promise<Weights> {
  const { size } = await stat(file);
  await using handle = await open(file);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(Math.min(size, MAX_HEADER_BYTES)), 0);
  const parsed = parseGgufHeader(buffer.subarray(0, bytesRead));
  if (parsed.kind !== 'header') throw new Error(`${file} has a header that cannot be read`);
  const { kvCachePer1kTokens, contextLength } = parsed.header;
  return {
    path: file,
    size,
    facts: {
      metadata: { format: 'GGUF', ...(contextLength === undefined ? {} : { contextLength }) },
      estimate: { weights: size, ...(kvCachePer1kTokens === undefined ? {} : { kvCachePer1kTokens }) },
    },
  };
}

async function onnx(folder: string, embeds = false): Promise<Weights> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
  const size = sizes.reduce((sum, bytes) => sum + bytes, 0);
  const kvCachePer1kTokens = embeds ? 0 : await kvCache(folder);
  return {
    path: folder,
    size,
    facts: { metadata: { format: 'ONNX' }, estimate: { weights: size, kvCachePer1kTokens } },
  };
}

/** Of the layout of onnxruntime-genai, whose caches are float32 here. */
async function kvCache(folder: string): Promise<number> {
  const config = JSON.parse(await readFile(path.join(folder, 'genai_config.json'), 'utf8')) as {
    model: { decoder: { num_hidden_layers: number; num_key_value_heads: number; head_size: number } };
  };
  const { num_hidden_layers: layers, num_key_value_heads: heads, head_size: size } = config.model.decoder;
  return 2 * layers * heads * size * 4 * 1024;
}
