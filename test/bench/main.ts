/** `npm run bench -- NAME`: runs one benchmark. Owns the command line and the printing; what is measured stands in its own file. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { UserError } from '../cluster/errors.ts';
import { makeProgress, type Progress } from '../cluster/progress.ts';
import { describeMachine, makeReport, renderTable, type Samples } from './report.ts';

/** What every benchmark gets. */
export interface BenchOptions {
  /** How often each side runs; the sides take turns. */
  readonly runs: number;
  /** Seconds of doing nothing that are watched. */
  readonly idleSeconds: number;
  /** Numbers of threads to compute with, each measured by itself; undefined leaves it to the benchmark. */
  readonly threads?: readonly number[] | undefined;
  /** A model file instead of the benchmark's own. */
  readonly model?: string | undefined;
  /** Parts of the benchmark to run; undefined: all. */
  readonly only?: readonly string[] | undefined;
  /** Numbers of deployments, each measured by itself; undefined leaves it to the benchmark. */
  readonly deployments?: readonly number[] | undefined;
  /** Number of nodes; undefined leaves it to the benchmark. */
  readonly nodes?: number | undefined;
  /** A bundle of the operator to measure instead of this checkout's. */
  readonly operator?: string | undefined;
  /** Folder for processor profiles of the operator. */
  readonly profile?: string | undefined;
  /** Takes one line about how both sides were set up; it stands beside the machine. */
  readonly describe?: (setup: string) => void;
  readonly progress: Progress;
}

/** A benchmark: measures both sides and hands over all samples. */
export type Bench = (options: BenchOptions) => Promise<Samples[]>;

interface Known {
  readonly load: () => Promise<Bench>;
  /** Options that it takes beside --runs. */
  readonly options: readonly string[];
  /** What --only may name. */
  readonly parts?: () => Promise<readonly string[]>;
  /** Default 5. */
  readonly runs?: number;
  /** Default 120. */
  readonly idleSeconds?: number;
}

const benches: Record<string, Known> = {
  quickstart: { load: async () => (await import('./quickstart.ts')).quickstart, options: ['idle'] },
  serving: {
    load: async () => (await import('./serving.ts')).serving,
    options: ['threads', 'model', 'only'],
    parts: async () => (await import('./serving.ts')).servingParts,
  },
  memory: {
    load: async () => (await import('./memory.ts')).memory,
    options: ['threads', 'only'],
    parts: async () => (await import('./memory.ts')).memoryParts,
    runs: 1,
  },
  placement: {
    load: async () => (await import('./placement.ts')).placement,
    options: ['idle', 'deployments', 'nodes', 'only', 'operator', 'profile'],
    parts: async () => (await import('./placement.ts')).placementParts,
    runs: 3,
    idleSeconds: 60,
  },
  rollout: {
    load: async () => (await import('./rollout.ts')).rollout,
    options: ['deployments', 'nodes', 'only', 'operator', 'profile'],
    parts: async () => (await import('./rollout.ts')).rolloutParts,
    runs: 3,
  },
};

const USAGE = `usage: npm run bench -- NAME [--runs N] [options of NAME]
  quickstart   from apply to Ready and to the first token, cold and warm; API writes; memory.
               Peer: a plain Deployment whose init container downloads the model, with the same server image.
    --idle SECONDS   how long to watch an idle system (default 120)
  serving      tokens a second, times to the first token, pauses, shared prefixes, hang-ups, memory and cold start.
               Peer: llama-server, built from the llama.cpp source that our binding was built from.
    --threads N[,N]  threads to compute with (default 2, or as many as there are cores)
    --model FILE     a GGUF file (default: the tests' SmolLM2 135M)
    --only PART[,PART]  one, eight, many (clients), stall, prefix, disconnects, start, memory
  memory       what a server takes at most, with every request at its longest, beside what the operator computes for it.
    --threads N      threads to compute with (default 2)
    --only PART[,PART]  gguf, large, onnx, embedding
  placement    many deployments on many fake nodes of mixed hardware: times, API writes, processor time and memory of the operator,
               when they come, when all change, when nothing happens, and after a restart.
               Peer: a bare client that writes the same objects, with as many connections.
    --deployments N[,N]  default 1000,200
    --nodes N            default 200
    --idle SECONDS       default 60
    --only PART[,PART]   latency, idle, change, restart; create is always there
    --operator FILE      a bundle of another version's operator
    --profile FOLDER     processor profiles of the operator, for Chrome's developer tools; it is slower then
  rollout      many deployments of three pods move to a new revision: times, API writes for a pod, processor time and memory.
               Peer: Deployments with the same pods, moved by the controller manager.
    --deployments N[,N]  default 1000
    --nodes N            default 200
    --only PART[,PART]   settings, model, waves (what changes)
    --operator FILE, --profile FOLDER   as above
  --runs N         runs of each side (default 5; placement and rollout 3, memory 1)`;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      runs: { type: 'string' },
      idle: { type: 'string' },
      threads: { type: 'string' },
      model: { type: 'string' },
      only: { type: 'string' },
      deployments: { type: 'string' },
      nodes: { type: 'string' },
      operator: { type: 'string' },
      profile: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const [name, ...more] = positionals;
  if (values.help) return console.log(USAGE);
  const known = name === undefined ? undefined : benches[name];
  if (!name || !known || more.length > 0)
    throw new UserError(`${name ? `No benchmark "${positionals.join(' ')}".\n` : ''}${USAGE}`);
  for (const option of ['idle', 'threads', 'model', 'only', 'deployments', 'nodes', 'operator', 'profile'] as const)
    if (values[option] !== undefined && !known.options.includes(option))
      throw new UserError(`--${option} is nothing to ${name}: leave it out`);
  const runs = wholeNumber('--runs', values.runs ?? String(known.runs ?? 5));
  const idleSeconds = Number(values.idle ?? known.idleSeconds ?? 120);
  if (!(idleSeconds >= 0)) throw new UserError(`--idle is "${values.idle}": write a number of seconds`);
  const threads = values.threads?.split(',').map((one) => wholeNumber('--threads', one));
  const only = values.only?.split(',');
  const parts = only && known.parts ? await known.parts() : [];
  for (const part of only ?? [])
    if (!parts.includes(part)) throw new UserError(`--only knows no "${part}": write ${parts.join(', ')}`);
  for (const option of ['model', 'operator'] as const)
    if (values[option] !== undefined && !existsSync(values[option]))
      throw new UserError(`--${option} is "${values[option]}", and there is no such file`);
  const deployments = values.deployments?.split(',').map((one) => wholeNumber('--deployments', one));
  const nodes = values.nodes === undefined ? undefined : wholeNumber('--nodes', values.nodes);
  const machine = describeMachine();
  let setup: string | undefined;
  const bench = await known.load();
  const samples = await bench({
    runs,
    idleSeconds,
    threads,
    model: values.model && path.resolve(values.model),
    only,
    deployments,
    nodes,
    operator: values.operator && path.resolve(values.operator),
    profile: values.profile && path.resolve(values.profile),
    progress: makeProgress(),
    describe: (line) => (setup = line),
  });
  const report = makeReport(name, setup === undefined ? machine : `${machine}; ${setup}`, samples);
  console.log(`\n${renderTable(report, samples)}\n`);
  console.log(JSON.stringify(report));
}

function wholeNumber(option: string, value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1)
    throw new UserError(`${option} is "${value}": write a whole number from 1`);
  return number;
}

main().catch((error: unknown) => {
  const isUsage = error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
  if (isUsage) console.error(`${error.message}\n${USAGE}`);
  else console.error(error instanceof UserError ? error.message : error);
  process.exitCode = 1;
});
