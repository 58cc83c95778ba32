/**
 * `npm test [TIER ...]`: runs the tiers in order (static, unit, clients, apiserver, cluster) and ends with one line
 * `N passed, N failed[, N skipped]`, after the name of each test that failed and the first lines of why.
 * Owns the order and the counting; the tests themselves stand beside their sources.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { repoRoot } from './cache.ts';
import { whyNoCluster } from './cluster/cluster.ts';
import { isInstalled } from './cluster/command.ts';
import { whyNoCompiler } from './llama/compile.ts';
import { cpuBackends } from './llama/cpu-backends.ts';
import { llamaServer } from './llama/llama-server.ts';

interface Count {
  passed: number;
  failed: number;
  skipped: number;
  /** One text for each that failed: its file, its name, the first lines of why. */
  readonly failures: string[];
}

/** What is read of vitest's JSON report. */
interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    /** Why the file could not be loaded or a hook failed; empty otherwise. */
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages?: readonly string[] | null;
    }[];
  }[];
}

/** Lines of a failure's message that the summary repeats; the whole of it stands where the test ran. */
const linesOfWhy = 6;

const firstLines = (text: string) =>
  text
    .split('\n')
    .slice(0, linesOfWhy)
    .map((line) => `    ${line}`)
    .join('\n');

function failuresOf(report: Report): string[] {
  return report.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = path.relative(repoRoot, name);
    const failed = assertionResults.filter((test) => test.status === 'failed');
    if (failed.length === 0) return status === 'failed' ? [`${file}\n${firstLines(message)}`] : [];
    return failed.map((test) => `${file}: ${test.fullName}\n${firstLines((test.failureMessages ?? []).join('\n'))}`);
  });
}

const bin = (name: string) => path.join(repoRoot, 'node_modules', '.bin', name);

/** Runs a command with its output on ours; resolves to the exit code. */
function run(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: repoRoot, stdio: ['ignore', 'inherit', 'inherit'] });
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? (signal ? 1 : 0)));
  });
}

async function staticTier(): Promise<Count> {
  const checks: [name: string, command: string, args: string[]][] = [
    ['types', bin('tsc'), ['-p', 'tsconfig.json']],
    ['lint', bin('oxlint'), ['--type-aware', '--quiet']],
    ['format', bin('biome'), ['ci', '--reporter=summary', '.']],
    ['generated files', process.execPath, ['crds/src/generate.ts', '--check']],
  ];
  const count: Count = { passed: 0, failed: 0, skipped: 0, failures: [] };
  for (const [name, command, args] of checks) {
    const ok = (await run(command, args)) === 0;
    console.log(`${ok ? 'ok' : 'FAILED'}: ${name}`);
    count[ok ? 'passed' : 'failed']++;
    if (!ok) count.failures.push(name);
  }
  return count;
}

async function vitestTier(project: string): Promise<Count> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slm-test-'));
  const file = path.join(folder, 'report.json');
  try {
    const code = await run(bin('vitest'), [
      'run',
      '--config',
      'test/vitest.config.ts',
      '--project',
      project,
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${file}`,
    ]);
    const text = await readFile(file, 'utf8').catch(() => undefined);
    if (text === undefined) return { passed: 0, failed: 1, skipped: 0, failures: ['vitest ended without a report'] };
    const report = JSON.parse(text) as Report;
    const failures = failuresOf(report);
    // A file that cannot be loaded, or an error outside every test, fails the run without failing a test.
    const unseen = code !== 0 && report.numFailedTests === 0 ? 1 : 0;
    if (unseen && failures.length === 0) failures.push('an error outside every test: see above');
    return {
      passed: report.numPassedTests,
      failed: report.numFailedTests + unseen,
      skipped: report.numPendingTests,
      failures,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Wanted by tests of the server and of its image; compiled here, where nothing has a time limit and nothing else runs. */
async function unitTier(): Promise<Count> {
  if ((await whyNoCompiler()) === undefined) {
    await cpuBackends();
    await llamaServer();
  }
  return vitestTier('unit');
}

async function whyNoModel(): Promise<string | undefined> {
  if (await isInstalled('python3')) return undefined;
  return 'its model comes out of a Python package: install python3 with pip and put it on the PATH.';
}

async function whyNoControlPlane(): Promise<string | undefined> {
  if (process.platform !== 'linux') return `it needs Linux and this is ${process.platform}.`;
  if (!(await isInstalled('go')))
    return 'it builds etcd and kube-apiserver with Go: install Go and put it on the PATH.';
  return undefined;
}

interface Tier {
  readonly name: string;
  readonly run: () => Promise<Count>;
  /** One sentence when this machine cannot run the tier. */
  readonly whyNot: () => Promise<string | undefined>;
}

const tiers: readonly Tier[] = [
  { name: 'static', run: staticTier, whyNot: async () => undefined },
  { name: 'unit', run: unitTier, whyNot: async () => undefined },
  { name: 'clients', run: () => vitestTier('clients'), whyNot: whyNoModel },
  { name: 'apiserver', run: () => vitestTier('apiserver'), whyNot: whyNoControlPlane },
  { name: 'cluster', run: () => vitestTier('cluster'), whyNot: () => whyNoCluster() },
];

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !tiers.some((tier) => tier.name === name));
if (unknown.length > 0) {
  console.error(`no tier ${unknown.join(', ')}: give ${tiers.map((tier) => tier.name).join(', ')}, or nothing for all`);
  process.exit(2);
}

const total: Count = { passed: 0, failed: 0, skipped: 0, failures: [] };
for (const tier of tiers) {
  if (asked.length > 0 && !asked.includes(tier.name)) continue;
  const whyNot = await tier.whyNot();
  if (whyNot) {
    console.log(`== ${tier.name}: skipped, ${whyNot}`);
    total.skipped++;
    continue;
  }
  console.log(`== ${tier.name}`);
  const started = Date.now();
  const count = await tier.run();
  for (const key of ['passed', 'failed', 'skipped'] as const) total[key] += count[key];
  total.failures.push(...count.failures.map((failure) => `${tier.name}: ${failure}`));
  console.log(
    `== ${tier.name}: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped in ${Math.round((Date.now() - started) / 1000)} s`,
  );
}
for (const failure of total.failures) console.log(`FAILED ${failure}`);
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exit(total.failed > 0 ? 1 : 0);
