/**
 * Owns the operator as a plain process of this machine, bundled as it is shipped and told by its environment as the chart tells it:
 * so its processor time and memory can be read exactly, and nothing of a node is measured along.
 */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isInstalled } from '../cluster/command.ts';
import { makeBundle, productVersion } from '../images/bundle.ts';

/** Writes the bundle of the image to a folder. Answers the operator's file. */
export async function bundleOperator(folder: string): Promise<string> {
  const programs = { operator: 'operator/src/main.ts', agent: 'operator/src/agent/main.ts' };
  const { files } = await makeBundle(programs, await productVersion());
  await mkdir(folder, { recursive: true });
  for (const [name, code] of Object.entries(files)) await writeFile(path.join(folder, name), code);
  return path.join(folder, 'operator.mjs');
}

/** What a process has taken so far. */
export interface Usage {
  /** Seconds of processor time, of all its threads. */
  readonly cpuSeconds: number;
  /** Bytes now, and at most since it started. */
  readonly rss: number;
  readonly peakRss: number;
  /** Bytes of its own now: what a container's limit counts and cannot take back, without the files of the program. */
  readonly anonymous: number;
}

export interface OperatorProcess {
  readonly pid: number;
  usage(): Promise<Usage>;
  /** Sum of the samples of a metric, over those whose labels hold all of these words. */
  metric(name: string, ...words: readonly string[]): Promise<number>;
  /** SIGTERM; resolves when it has ended. */
  stop(): Promise<void>;
}

export interface OperatorOptions {
  /** The bundle's file. */
  readonly file: string;
  readonly kubeconfig: string;
  readonly env: Readonly<Record<string, string>>;
  /** For Node. */
  readonly flags: readonly string[];
  /** Its output is appended here. */
  readonly log: string;
  /** Folder for a processor profile of each process, written when it ends. Default: none is made. */
  readonly profile?: string | undefined;
}

const READY_TIMEOUT_MS = 60_000;

/** Starts it; does not wait for anything. */
export async function startOperator(options: OperatorOptions): Promise<OperatorProcess> {
  const port = await freePort();
  const log = createWriteStream(options.log, { flags: 'a' });
  const profiling = options.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${options.profile}`];
  // The kernel ends it when this process dies, so that even a killed benchmark leaves none.
  const tether = (await isInstalled('setpriv')) ? ['setpriv', '--pdeathsig', 'SIGKILL'] : [];
  const [program, ...args] = [...tether, process.execPath, ...options.flags, ...profiling, options.file];
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      ...options.env,
      KUBECONFIG: options.kubeconfig,
      SLM_METRICS_PORT: String(port),
      SLM_BROKER_PORT: '0',
    },
  });
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  let stopping = false;
  const ended = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => {
      // As a pod it would be started again; here whatever is waited for never comes.
      if (!stopping) console.error(`the operator ended by itself (${signal ?? code}); see ${options.log}`);
      resolve();
    });
    child.once('error', () => resolve());
  });
  const { pid } = child;
  if (pid === undefined) throw new Error(`${options.file} could not be started`);
  return {
    pid,
    usage: () => usageOf(pid),
    async metric(name, ...words) {
      const response = await fetch(`http://127.0.0.1:${port}/metrics`, { signal: AbortSignal.timeout(5000) });
      return sumOf(await response.text(), name, words);
    },
    async stop() {
      stopping = true;
      child.kill('SIGTERM');
      const killed = setTimeout(() => child.kill('SIGKILL'), 30_000);
      await ended;
      clearTimeout(killed);
      log.end();
    },
  };
}

/** Waits until it leads and its controllers run. */
export async function waitUntilLeading(operator: OperatorProcess, log: string): Promise<void> {
  const end = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    const leads = await operator.metric('leader_election_master_status').catch(() => 0);
    if (leads === 1) return;
    if (performance.now() > end) throw new Error(`the operator does not lead after 60 s; see ${log}`);
    await sleep(20);
  }
}

/** Sum of the samples of one metric in a Prometheus exposition. Exported for its test. */
export function sumOf(exposition: string, name: string, words: readonly string[]): number {
  let sum = 0;
  for (const line of exposition.split('\n')) {
    if (!line.startsWith(name)) continue;
    const rest = line.slice(name.length);
    if (rest[0] !== '{' && rest[0] !== ' ') continue;
    if (words.every((word) => rest.includes(word))) sum += Number(line.slice(line.lastIndexOf(' ') + 1));
  }
  return sum;
}

/** Ticks of processor time in a second, the same on every Linux that there is. */
const TICKS = 100;

/** What a process of this machine has taken so far. */
export async function usageOf(pid: number): Promise<Usage> {
  const [stat, status] = await Promise.all([
    readFile(`/proc/${pid}/stat`, 'utf8'),
    readFile(`/proc/${pid}/status`, 'utf8'),
  ]);
  // The second field is the program's name in brackets, and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const kilobytes = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS,
    rss: kilobytes('VmRSS') * 1024,
    peakRss: kilobytes('VmHWM') * 1024,
    anonymous: kilobytes('RssAnon') * 1024,
  };
}

/** A port of this machine that nobody listens on at the moment. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (typeof address !== 'object' || address === null) throw new Error('no port is free');
  return address.port;
}
