/** `npm run bench -- NAME`: runs one benchmark. Owns the command line and the printing; what is measured stands in its own file. */
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
  readonly progress: Progress;
}

/** A benchmark: measures both sides and hands over all samples. */
export type Bench = (options: BenchOptions) => Promise<Samples[]>;

const benches: Record<string, () => Promise<Bench>> = {
  quickstart: async () => (await import('./quickstart.ts')).quickstart,
};

const USAGE = `usage: npm run bench -- NAME [--runs N] [--idle SECONDS]
  quickstart   from apply to Ready and to the first token, cold and warm; API writes; memory.
               Peer: a plain Deployment whose init container downloads the model, with the same server image.
  --runs N         runs of each side (default 5)
  --idle SECONDS   how long to watch an idle system (default 120)`;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      runs: { type: 'string', default: '5' },
      idle: { type: 'string', default: '120' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const [name, ...more] = positionals;
  if (values.help) return console.log(USAGE);
  const load = name === undefined ? undefined : benches[name];
  if (!name || !load || more.length > 0)
    throw new UserError(`${name ? `No benchmark "${positionals.join(' ')}".\n` : ''}${USAGE}`);
  const [runs, idleSeconds] = [Number(values.runs), Number(values.idle)];
  if (!Number.isInteger(runs) || runs < 1)
    throw new UserError(`--runs is "${values.runs}": write a whole number from 1`);
  if (!(idleSeconds >= 0)) throw new UserError(`--idle is "${values.idle}": write a number of seconds`);
  const machine = describeMachine();
  const bench = await load();
  const samples = await bench({ runs, idleSeconds, progress: makeProgress() });
  const report = makeReport(name, machine, samples);
  console.log(`\n${renderTable(report, samples)}\n`);
  console.log(JSON.stringify(report));
}

main().catch((error: unknown) => {
  const isUsage = error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
  if (isUsage) console.error(`${error.message}\n${USAGE}`);
  else console.error(error instanceof UserError ? error.message : error);
  process.exitCode = 1;
});
