/**
 * A server of this repository as a process, on a real model, for tests that speak to it as its users do: over a socket.
 * Owns the process and its folder of keys; knows no client.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { repoRoot } from '../cache.ts';
import { lastLines } from '../cluster/errors.ts';
import { smollm2 } from '../fixtures/models.ts';

/** The name under which tests ask for the model, unless they set others. */
export const MODEL = 'smollm2';

export interface ServerOptions {
  /** Settings besides the ports, the model and its names. */
  readonly env?: Readonly<Record<string, string>>;
  /** Names that clients use. Default: {@link MODEL}. */
  readonly names?: readonly string[];
  /** With one, every request needs it. Default: none. */
  readonly key?: string;
  /** Default: SmolLM2-135M-Instruct. */
  readonly model?: string;
  /** Program and arguments. Default: the source. */
  readonly command?: readonly [string, ...string[]];
}

export interface RunningServer {
  /** Address of the listener that is Ollama's 11434, without a slash at the end. */
  readonly url: string;
  /** Address of the listener that is Foundry Local's 8080. */
  readonly secondUrl: string;
  readonly pid: number;
  /** A value of `/metrics`: the sum over every series of that name whose labels include these. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  /** What it has printed so far. */
  output(): string;
  /** Ends it as the kubelet would. @returns its exit code */
  stop(): Promise<number | null>;
}

/** Starts a server and waits until it is ready, or says that it will not be. @throws Error with what it said when it ends before */
export async function startServer(options: ServerOptions = {}): Promise<RunningServer> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slm-clients-'));
  if (options.key !== undefined) await writeFile(path.join(folder, 'primary'), options.key);
  const [program, ...args] = options.command ?? [
    process.execPath,
    path.join(repoRoot, 'runtime-image', 'src', 'main.ts'),
  ];
  const child = spawn(program, args, {
    env: {
      PATH: process.env['PATH'],
      SLM_MODEL_PATH: options.model ?? (await smollm2()).path,
      SLM_SERVED_NAMES: JSON.stringify(options.names ?? [MODEL]),
      SLM_HOST: '127.0.0.1',
      SLM_PORT: '0',
      SLM_OPENAI_PORT: '0',
      SLM_CONTEXT_LENGTH: '1024',
      ...(options.key === undefined ? {} : { SLM_API_KEYS_DIR: folder }),
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let ports: readonly number[] | undefined;
  let loaded = false;
  const ready = Promise.withResolvers<void>();
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', (code) => {
      ready.reject(new Error(`the server ended before it was ready: ${lastLines(output)}`));
      void rm(folder, { recursive: true, force: true }).then(() => resolve(code));
    });
  });
  child.once('error', ready.reject);
  child.stderr.on('data', (data: Buffer) => (output += data.toString()));
  createInterface({ input: child.stdout }).on('line', (line) => {
    output += `${line}\n`;
    const said = messageOf(line);
    if (said.msg === 'listening' && said.ports) ports = said.ports;
    if (said.msg === 'ready' || said.msg === 'loaded, and not ready') loaded = true;
    // A model may be loaded before the ports are open.
    if (ports && loaded) ready.resolve();
  });
  await ready.promise;
  const [first, second] = ports ?? [];
  const url = `http://127.0.0.1:${first}`;
  return {
    url,
    secondUrl: `http://127.0.0.1:${second}`,
    pid: child.pid ?? 0,
    output: () => output,
    async metric(name, labels = {}) {
      const text = await (await fetch(`${url}/metrics`)).text();
      return sumOf(text, name, labels);
    },
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      return ended;
    },
  };
}

function messageOf(line: string): { readonly msg?: string; readonly ports?: readonly number[] } {
  try {
    return JSON.parse(line) as ReturnType<typeof messageOf>;
  } catch {
    return {};
  }
}

/** Adds up the series of Prometheus's text format. */
export function sumOf(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  let sum = 0;
  for (const line of text.split('\n')) {
    const [, series, set = '', value] = /^([\w:]+)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
    if (series === name && wanted.every((one) => set.includes(one))) sum += Number(value);
  }
  return sum;
}
