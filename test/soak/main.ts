/**
 * `npm run soak -- [--minutes 60] [--clients 8] [--rate N] [--seed N]`: a random mixture of requests against the bundled
 * server, sampled every ten seconds, and a verdict. Owns the command line, the server's folder and the printing.
 */
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { repoRoot } from '../cache.ts';
import { MODEL, type RunningServer, startServer, sumOf } from '../clients/server.ts';
import { UserError } from '../cluster/errors.ts';
import { makeBundle, productVersion } from '../images/bundle.ts';
import { sendCrowd } from './client.ts';
import { errands } from './mixture.ts';
import { judge, type Sample } from './verdict.ts';

const SAMPLE_SECONDS = 10;

const USAGE = `usage: npm run soak -- [OPTIONS]
  --minutes N   how long (default 60)
  --clients N   requests at the same time (default 8)
  --rate N      requests a second, of all clients together (default: as fast as they are answered)
  --seed N      the mixture; the same seed asks the same (default 1)`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '60' },
      clients: { type: 'string', default: '8' },
      rate: { type: 'string' },
      seed: { type: 'string', default: '1' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const minutes = positive('--minutes', values.minutes);
  const clients = positive('--clients', values.clients);
  const rate = values.rate === undefined ? undefined : positive('--rate', values.rate);
  const seed = positive('--seed', values.seed);

  const folder = await mkdtemp(path.join(tmpdir(), 'slm-soak-'));
  let server: RunningServer | undefined;
  try {
    server = await startServer({
      command: [process.execPath, await writeBundle(folder)],
      env: { SLM_PARALLEL_REQUESTS: '4', SLM_MAX_QUEUE: '32' },
    });
    process.exitCode = (await soak(server, { minutes, clients, rate, seed })) ? 0 : 1;
  } finally {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** The server as the image has it. @returns the path of its program */
async function writeBundle(folder: string): Promise<string> {
  const { files } = await makeBundle({ server: 'runtime-image/src/main.ts' }, await productVersion());
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
  await writeFile(path.join(folder, 'package.json'), '{"type":"module"}');
  await symlink(path.join(repoRoot, 'node_modules'), path.join(folder, 'node_modules'));
  return path.join(folder, 'server.mjs');
}

interface SoakOptions {
  readonly minutes: number;
  readonly clients: number;
  readonly rate: number | undefined;
  readonly seed: number;
}

/** @returns whether it passed */
async function soak(server: RunningServer, { minutes, clients, rate, seed }: SoakOptions): Promise<boolean> {
  const begun = performance.now();
  const seconds = () => (performance.now() - begun) / 1000;
  const first = await sampleOf(server, 0);
  const ended = new AbortController();
  const crowd = sendCrowd({ url: server.url, errands: errands(MODEL, seed), clients, rate, until: ended.signal });
  const samples: Sample[] = [];
  console.log('  minute   memory     heap  slots  queue  files  requests');
  while (seconds() < minutes * 60) {
    await sleep(Math.min(SAMPLE_SECONDS, minutes * 60 - seconds()) * 1000);
    const sample = await sampleOf(server, seconds());
    samples.push(sample);
    console.log(rowOf(sample));
  }
  ended.abort();
  await crowd.done;

  // What clients left is found out within a step of the engine.
  for (let wait = 0; wait < 100; wait++) {
    const { slotsBusy, queued } = await sampleOf(server, seconds());
    if (slotsBusy === 0 && queued === 0) break;
    await sleep(100);
  }
  const last = await sampleOf(server, seconds());
  const rest = {
    slotsBusy: last.slotsBusy,
    queued: last.queued,
    restarts: await server.metric('slm_engine_restarts_total'),
    files: last.files - first.files,
    answers: await answers(server),
  };
  const { tally } = crowd;
  const { passed, lines } = judge(samples, tally, rest);
  console.log(
    `\n${tally.sent} requests: ${tally.answered} answered, ${tally.aborted} left by their clients, ${tally.refused} told to come back`,
  );
  for (const line of lines) console.log(`  ${line}`);
  console.log(passed ? 'passed' : 'FAILED');
  return passed;
}

async function sampleOf(server: RunningServer, at: number): Promise<Sample> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return {
    at,
    memory: (await ownMemory(server.pid)) ?? sumOf(text, 'process_resident_memory_bytes'),
    heap: sumOf(text, 'nodejs_heap_size_used_bytes'),
    slotsBusy: sumOf(text, 'slm_slots', { state: 'busy' }),
    queued: sumOf(text, 'slm_queue_depth'),
    files: sumOf(text, 'process_open_fds'),
    ended: sumOf(text, 'slm_requests_total'),
  };
}

/** Bytes of a process and its children that belong to no file; undefined where the kernel does not tell. */
async function ownMemory(pid: number): Promise<number | undefined> {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).split(' ').filter(Boolean);
    const kib = /^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1];
    if (kib === undefined) return undefined;
    const below = await Promise.all(children.map((child) => ownMemory(Number(child))));
    return below.reduce<number>((sum, bytes) => sum + (bytes ?? 0), Number(kib) * 1024);
  } catch {
    return undefined;
  }
}

function rowOf(sample: Sample): string {
  const mib = (bytes: number) => (bytes / 1024 / 1024).toFixed(1).padStart(9);
  const whole = (value: number, width: number) => String(value).padStart(width);
  return [
    (sample.at / 60).toFixed(1).padStart(8),
    mib(sample.memory),
    mib(sample.heap),
    whole(sample.slotsBusy, 7),
    whole(sample.queued, 7),
    whole(sample.files, 7),
    whole(sample.ended, 10),
  ].join('');
}

async function answers(server: RunningServer): Promise<boolean> {
  const answer = await fetch(`${server.url}/api/generate`, {
    method: 'POST',
    body: JSON.stringify({
      model: MODEL,
      prompt: 'Name the capital of France.',
      stream: false,
      options: { temperature: 0 },
    }),
  });
  return answer.ok && ((await answer.json()) as { response: string }).response !== '';
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (value > 0) return value;
  throw new UserError(`${name} must be a number above 0, and not ${text}.\n${USAGE}`);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof UserError || error instanceof TypeError ? error.message : error);
  process.exitCode = 2;
}
