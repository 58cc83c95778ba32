/**
 * The two servers that the benchmark `serving` compares, as processes: ours as it lies in its image, and llama-server. Owns their
 * settings, their start and end, their memory, and the generator that asks them. Measures nothing.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { open, readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { serverEnv } from '@slm-operator/crds/contract';
import { estimateMemory } from '@slm-operator/operator/deployment/memory';
import { MAX_HEADER_BYTES, parseGgufHeader } from '@slm-operator/operator/sources/gguf-header';
import { cacheDir } from '../cache.ts';
import { lastLines } from '../cluster/errors.ts';
import { layOut } from '../images/entries.ts';
import { makeRecipe } from '../images/recipe.ts';
import { freePort } from './operator-process.ts';
import { childrenOf } from './other-load.ts';
import type { Answer, Reply, Target, Task } from './serving-load.ts';

/** How both sides serve. */
export interface Setup {
  /** A GGUF file. */
  readonly model: string;
  readonly threads: number;
  /** Answers that are computed together. */
  readonly slots: number;
  /** Tokens of context for each of them. */
  readonly contextPerSlot: number;
  /** Memory in which ours keeps prompts whose slot is gone. */
  readonly promptCacheBytes: number;
}

/** What it takes to start one side. */
export interface Side {
  readonly name: string;
  /** Says 200 once the model can answer. */
  readonly readyPath: string;
  readonly keepAlive: boolean;
  command(setup: Setup, port: number): Command;
}

interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Bytes of a server's processes. */
export interface Memory {
  /** Their own, and what they keep in memory files. */
  readonly anonymous: number;
  /** With the pages of mapped files, such as the model's. */
  readonly total: number;
}

/** A process that serves. */
export interface RunningServer extends AsyncDisposable {
  readonly target: Target;
  /** Milliseconds since 1970, just before the process came to be. */
  readonly spawned: number;
  readonly side: Side;
  /** Rejects when the process ends by itself; never resolves. */
  readonly died: Promise<never>;
  /** The last lines that it printed. */
  log(): string;
  memory(): Promise<Memory>;
  /** The process and all that it started. */
  pids(): Promise<readonly number[]>;
}

const MODEL = 'model';
/** Where our image is laid out, in a folder for each benchmark that runs. */
const IMAGE_FOLDER = path.join(cacheDir, 'bench');
const IMAGE_PREFIX = 'server-';
/** Where our server keeps prompts, see state-files.ts there. */
const MEMORY_FILES = '/dev/shm';
const LOG_BYTES = 16_384;
const STOP_MS = 10_000;

/**
 * Lays our image out as plain files and says how to start it: the same files and start command as in a container. The files go when
 * the side is disposed of.
 */
export async function ourSide(): Promise<Side & AsyncDisposable> {
  const { layers, config } = await makeRecipe('server');
  await removeLeftOvers();
  const root = path.join(IMAGE_FOLDER, `${IMAGE_PREFIX}${process.pid}`);
  await layOut(
    layers.flatMap((layer) => layer.entries),
    root,
  );
  // Nothing is chrooted: what the image calls /app lies elsewhere here.
  const moved = (value: string) => (value.startsWith('/') && existsSync(path.join(root, value)) ? root + value : value);
  const [file = '', ...args] = config.entrypoint.map(moved);
  const imageEnv = Object.entries(config.env ?? {}).map(([name, value]) => [
    name,
    name === 'HOME' ? value : moved(value),
  ]);
  return {
    name: 'ours',
    readyPath: '/readyz',
    keepAlive: true,
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
    command: (setup, port) => ({
      file,
      args,
      env: {
        ...(Object.fromEntries(imageEnv) as Record<string, string>),
        [serverEnv.modelPath]: setup.model,
        [serverEnv.servedNames]: JSON.stringify([MODEL]),
        [serverEnv.host]: '127.0.0.1',
        [serverEnv.port]: String(port),
        [serverEnv.openaiPort]: 'none',
        [serverEnv.auth]: 'None',
        [serverEnv.threads]: String(setup.threads),
        [serverEnv.parallelRequests]: String(setup.slots),
        [serverEnv.contextLength]: String(setup.contextPerSlot),
        [serverEnv.promptCacheBytes]: String(setup.promptCacheBytes),
      },
    }),
  };
}

/** Takes away what benchmarks left that were killed. */
async function removeLeftOvers(): Promise<void> {
  for (const name of await readdir(IMAGE_FOLDER).catch((): string[] => []))
    if (name.startsWith(IMAGE_PREFIX) && !existsSync(`/proc/${name.slice(IMAGE_PREFIX.length)}`))
      await rm(path.join(IMAGE_FOLDER, name), { recursive: true, force: true });
}

/** llama-server with its defaults but for what both sides share. */
export function peerSide(binary: string): Side {
  return {
    name: 'llama-server',
    readyPath: '/health',
    // It closes idle connections without waiting for whoever is about to use one.
    keepAlive: false,
    command: ({ model, threads, slots, contextPerSlot }, port) => ({
      file: binary,
      args: [
        ['--model', model, '--host', '127.0.0.1', '--port', port],
        ['--threads', threads, '--threads-batch', threads],
        ['--parallel', slots, '--ctx-size', slots * contextPerSlot],
      ]
        .flat()
        .map(String),
      env: { HOME: '/tmp' },
    }),
  };
}

/** The prompt cache that the operator gives a server with these settings when its spec says nothing. */
export async function usualPromptCache({
  model,
  slots,
  contextPerSlot,
}: Omit<Setup, 'promptCacheBytes'>): Promise<number> {
  const { size } = await stat(model);
  await using file = await open(model);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(size, MAX_HEADER_BYTES)), 0);
  const parsed = parseGgufHeader(buffer.subarray(0, bytesRead));
  const kvCachePer1kTokens = parsed.kind === 'header' ? parsed.header.kvCachePer1kTokens : undefined;
  const facts = kvCachePer1kTokens === undefined ? {} : { estimate: { weights: size, kvCachePer1kTokens } };
  const engine = { contextLength: contextPerSlot, parallelRequests: slots, kvCacheType: 'F16' } as const;
  return estimateMemory(size, facts, engine).promptCache;
}

/** Starts one side on a free port; it is not ready yet. */
export async function startServer(side: Side, setup: Setup): Promise<RunningServer> {
  const port = await freePort();
  const { file, args, env } = side.command(setup, port);
  let log = '';
  const spawned = performance.timeOrigin + performance.now();
  const child = spawn(file, args, {
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const keep = (chunk: Buffer) => (log = (log + chunk.toString()).slice(-LOG_BYTES));
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  let stopping = false;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const died = new Promise<never>((_, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (!stopping) reject(new Error(`${side.name} ended (${signal ?? code}). It said last:\n${lastLines(log, 15)}`));
    });
  });
  died.catch(() => undefined);
  const { pid } = child;
  if (pid === undefined) return died;
  const kill = () => void child.kill('SIGKILL');
  process.once('exit', kill);
  return {
    target: { port, model: MODEL, keepAlive: side.keepAlive },
    spawned,
    side,
    died,
    log: () => lastLines(log, 15),
    memory: () => readMemory(pid),
    pids: () => family(pid),
    async [Symbol.asyncDispose]() {
      stopping = true;
      // Interrupted as by Ctrl-C: neither side waits for clients then.
      child.kill('SIGINT');
      const patience = setTimeout(kill, STOP_MS);
      await ended;
      clearTimeout(patience);
      process.off('exit', kill);
    },
  };
}

/** The generator's process. */
export interface Generator extends Disposable {
  /** @throws Error with the server's last lines when something fails or the server ends */
  perform(server: RunningServer, task: DistributiveOmit<Task, 'target'>): Promise<readonly Answer[]>;
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** Starts the load generator. */
export function startGenerator(): Generator {
  const child: ChildProcess = fork(path.join(import.meta.dirname, 'serving-load.ts'), { execArgv: [] });
  return {
    async perform(server, task) {
      const reply = new Promise<Reply>((resolve, reject) => {
        child.once('message', (message) => resolve(message as Reply));
        child.once('exit', () => reject(new Error('the load generator ended')));
        child.send({ ...task, target: server.target });
      });
      const result = await Promise.race([reply, server.died]);
      child.removeAllListeners('exit');
      if ('answers' in result) return result.answers;
      // A broken connection may be the first sign of an end: then the end is what to tell.
      await Promise.race([server.died, new Promise((resolve) => setTimeout(resolve, 200))]);
      throw new Error(`${server.side.name}, ${task.kind}: ${result.error}. It said last:\n${server.log()}`);
    },
    [Symbol.dispose]: () => void child.kill(),
  };
}

/** Of a process and all that it started. */
async function readMemory(pid: number): Promise<Memory> {
  let anonymous = 0;
  const mapped = new Map<string, number>();
  for (const one of await family(pid)) {
    // Files in memory count against a container's limit like anything else.
    anonymous += await memoryFiles(one);
    const own = new Map<string, number>();
    let file = '';
    for (const line of (await readFile(`/proc/${one}/smaps`, 'utf8')).split('\n')) {
      const range = /^[\da-f]+-[\da-f]+ \S+ \S+ \S+ \d+ *(.*)$/.exec(line);
      if (range) file = range[1] ?? '';
      const [, field, kibibytes] = /^(Rss|Anonymous): +(\d+) kB$/.exec(line) ?? [];
      if (field === 'Rss') own.set(file, (own.get(file) ?? 0) + Number(kibibytes) * 1024);
      if (field !== 'Anonymous') continue;
      anonymous += Number(kibibytes) * 1024;
      own.set(file, (own.get(file) ?? 0) - Number(kibibytes) * 1024);
    }
    // Processes share the pages of a file.
    for (const [name, bytes] of own) mapped.set(name, Math.max(mapped.get(name) ?? 0, bytes));
  }
  return { anonymous, total: anonymous + [...mapped.values()].reduce((sum, bytes) => sum + bytes, 0) };
}

async function family(pid: number): Promise<number[]> {
  return [pid, ...(await Promise.all((await childrenOf(pid)).map(family))).flat()];
}

async function memoryFiles(pid: number): Promise<number> {
  let sum = 0;
  for (const folder of await readdir(MEMORY_FILES).catch((): string[] => [])) {
    if (!folder.startsWith(`slm-prompts-${pid}-`)) continue;
    for (const name of await readdir(path.join(MEMORY_FILES, folder)))
      sum += (await stat(path.join(MEMORY_FILES, folder, name))).size;
  }
  return sum;
}
