/**
 * The benchmark `serving`: our server beside llama-server, with the same model file, threads, slots, context and requests. Both run
 * at the same time and are asked in turns, so that whatever else the machine does falls on both; the one that is not asked sleeps.
 * Owns what is asked and what is taken from the answers.
 */
import { cpus } from 'node:os';
import path from 'node:path';
import type { Progress, Step } from '../cluster/progress.ts';
import { smollm2 } from '../fixtures/models.ts';
import { llamaServer } from '../llama/llama-server.ts';
import type { Bench } from './main.ts';
import { watchOthers } from './other-load.ts';
import { median, type Samples } from './report.ts';
import type { Answer, Ask } from './serving-load.ts';
import { makePrompts, type Prompts } from './serving-prompts.ts';
import {
  type Generator,
  ourSide,
  peerSide,
  type RunningServer,
  type Setup,
  type Side,
  startGenerator,
  startServer,
  usualPromptCache,
} from './serving-servers.ts';

const SLOTS = 8;
const CONTEXT_PER_SLOT = 1024;
/** Words of a prompt, and tokens of its answer, where nothing else is said. */
const WORDS = 40;
const TOKENS = 48;
const LONG_WORDS = 650;
const PREFIX_WORDS = 450;
const HUNG_UP_AFTER_MS = 300;

/** What one scenario saw of one server in one run: row → value. */
type Seen = Partial<Record<RowName, number>>;

interface Call {
  readonly server: RunningServer;
  readonly prompts: Prompts;
  readonly ask: Perform;
}
/** Performs a task; every answer has been checked. */
type Perform = (task: Parameters<Generator['perform']>[1]) => Promise<readonly Answer[]>;

/** In the order in which they run: each leaves its prompts behind in the servers' caches. */
const scenarios = {
  one: async ({ ask, prompts }) => {
    const answers = await ask({ kind: 'series', clients: 1, asks: prompts.stories('one', 3, WORDS, 2 * TOKENS) });
    return {
      'aggregate, 1 client': aggregate(answers),
      'TTFT p50, 1 client': percentile(answers.map(ttft), 0.5),
      'TTFT p99, 1 client': percentile(answers.map(ttft), 0.99),
      'decode of one stream': percentile(answers.map(decodeSpeed), 0.5),
    };
  },
  eight: async ({ ask, prompts }) => {
    const answers = await ask({ kind: 'series', clients: 8, asks: prompts.stories('eight', 8, WORDS, TOKENS) });
    return {
      'aggregate, 8 clients': aggregate(answers),
      'TTFT p50, 8 clients': percentile(answers.map(ttft), 0.5),
      'TTFT p99, 8 clients': percentile(answers.map(ttft), 0.99),
      'inter-token p99, 8 clients': percentile(answers.flatMap(gaps), 0.99),
    };
  },
  many: async ({ ask, prompts }) => {
    const answers = await ask({ kind: 'series', clients: 32, asks: prompts.stories('many', 32, WORDS, TOKENS / 2) });
    return {
      'aggregate, 32 clients': aggregate(answers),
      'TTFT p50, 32 clients': percentile(answers.map(ttft), 0.5),
      'TTFT p99, 32 clients': percentile(answers.map(ttft), 0.99),
    };
  },
  stall: async ({ ask, prompts }) => {
    const [stream, intruder] = await ask({
      kind: 'intrude',
      stream: { prompt: prompts.story('stall', 0, 5), maxTokens: 120 },
      after: 15,
      intruder: { prompt: prompts.words('intruder', LONG_WORDS), maxTokens: 1 },
    });
    if (!stream || !intruder) return {};
    // Only pauses that the long prompt can have caused.
    const during = stream.pieces.filter((at) => at >= intruder.asked);
    return {
      'stall by a long prompt': Math.max(0, ...during.slice(1).map((at, index) => at - (during[index] ?? at))),
      'TTFT of that prompt': ttft(intruder),
    };
  },
  prefix: async ({ ask, prompts }) => {
    const prefix = prompts.words('prefix', PREFIX_WORDS);
    const about = (question: string): Ask => ({ prompt: `${prefix}. ${question}`, maxTokens: 2 });
    const one = async (question: string) =>
      ttft((await ask({ kind: 'series', clients: 1, asks: [about(question)] }))[0]);
    const first = await one('What is the first question?');
    const next = await one('What comes second?');
    const questions = ['Who is it?', 'Where was that?', 'When did it end?', 'Why so?'];
    const four = await ask({ kind: 'series', clients: 4, asks: questions.map(about) });
    await ask({ kind: 'series', clients: 8, asks: prompts.stories('others', 16, 20, 1) });
    return {
      'prefix, first request': first,
      'prefix, next request': next,
      'prefix, slowest of 4 at once': Math.max(...four.map(ttft)),
      'prefix, after 16 others': await one('And what is the last one?'),
    };
  },
  disconnects: async ({ ask, prompts }) => {
    const [answer] = await ask({
      kind: 'hangUp',
      asks: Array.from({ length: 8 }, (_, index) => ({
        prompt: prompts.words(`gone ${index}`, LONG_WORDS),
        maxTokens: 100,
      })),
      afterMs: HUNG_UP_AFTER_MS,
      next: { prompt: prompts.words('next', 5), maxTokens: 1 },
    });
    return { 'next after 8 hung up': ttft(answer) };
  },
} satisfies Record<string, (call: Call) => Promise<Seen>>;

type Scenario = keyof typeof scenarios;
const scenarioNames = Object.keys(scenarios) as readonly Scenario[];

/** Everything that can be asked for alone. */
export const servingParts: readonly string[] = [...scenarioNames, 'start', 'memory'];

/** What a row is, in the order of the table. */
const rows = {
  'aggregate, 1 client': { unit: 'tok/s', goal: { minRatio: 1 } },
  'aggregate, 8 clients': { unit: 'tok/s', goal: { minRatio: 1 } },
  'aggregate, 32 clients': { unit: 'tok/s', goal: { minRatio: 1 } },
  'decode of one stream': { unit: 'tok/s', goal: { minRatio: 1 } },
  'TTFT p50, 1 client': { unit: 'ms' },
  'TTFT p99, 1 client': { unit: 'ms' },
  'TTFT p50, 8 clients': { unit: 'ms' },
  'TTFT p99, 8 clients': { unit: 'ms' },
  'TTFT p50, 32 clients': { unit: 'ms' },
  'TTFT p99, 32 clients': { unit: 'ms' },
  'inter-token p99, 8 clients': { unit: 'ms' },
  'stall by a long prompt': { unit: 'ms', goal: { maxRatio: 0.25 } },
  'TTFT of that prompt': { unit: 'ms', note: 'the price of the row above' },
  'prefix, first request': { unit: 'ms' },
  'prefix, next request': { unit: 'ms' },
  'prefix, slowest of 4 at once': { unit: 'ms', goal: { maxRatio: 0.1 } },
  'prefix, after 16 others': { unit: 'ms', goal: { maxRatio: 1.2 } },
  'next after 8 hung up': { unit: 'ms', goal: { maxRatio: 0.1 } },
  'memory, anonymous': { unit: 'MiB', note: 'prompts kept in memory files are in it' },
  'memory, RSS': { unit: 'MiB', goal: { maxRatio: 0.8 }, note: 'after all runs' },
  'cold start to first token': { unit: 'ms', goal: { maxRatio: 2 } },
} as const satisfies Record<string, Pick<Samples, 'unit' | 'goal' | 'note'>>;

type RowName = keyof typeof rows;

export const serving: Bench = async ({ runs, threads: asked, model, only, progress, describe }) => {
  const threadCounts = asked ?? [Math.min(2, cpus().length)];
  const file = model ?? (await smollm2()).path;
  await using sides = await prepare(progress);
  const shared = { model: file, slots: SLOTS, contextPerSlot: CONTEXT_PER_SLOT };
  const promptCacheBytes = await usualPromptCache({ ...shared, threads: 1 });
  const others = await watchOthers();
  // Ended from outside, a program leaves its children behind unless it goes the way out.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  using generator = startGenerator();
  const label = (row: string, threads: number) => (threadCounts.length > 1 ? `${row}, ${threads} threads` : row);
  const found = new Map<string, Record<Which, number[]>>();
  for (const threads of threadCounts)
    await measure({
      sides,
      setup: { ...shared, threads, promptCacheBytes },
      generator,
      runs,
      wants: (part) => !only || only.includes(part),
      step: (title) => progress.step(label(title, threads)),
      found: (which, seen) => {
        for (const [row, value] of Object.entries(seen)) {
          const name = label(row, threads);
          const samples = found.get(name) ?? { ours: [], peer: [] };
          samples[which].push(value);
          found.set(name, samples);
        }
      },
    });
  describe?.(
    `${path.basename(file)}, ${SLOTS} slots of ${CONTEXT_PER_SLOT} tokens, ${threadCounts.join(' and ')} threads, prompt cache ` +
      `${promptCacheBytes / 2 ** 20} MiB; peer: llama-server; other programs took ${Math.round(100 * (await others()))} % of the processors`,
  );
  return Object.entries(rows).flatMap(([row, about]) =>
    threadCounts.flatMap((threads): Samples[] => {
      const samples = found.get(label(row, threads));
      return samples ? [{ name: label(row, threads), ...about, ...samples }] : [];
    }),
  );
};

type Which = 'ours' | 'peer';

async function prepare(progress: Progress): Promise<Record<Which, Side> & AsyncDisposable> {
  const step = progress.step('llama-server');
  const peer = peerSide(await llamaServer({ progress: (detail, left) => step.update(detail, left) }));
  step.done();
  const image = progress.step('our image');
  const ours = await ourSide();
  image.done();
  return { ours, peer, [Symbol.asyncDispose]: () => ours[Symbol.asyncDispose]() };
}

interface Measurement {
  readonly sides: Record<Which, Side>;
  readonly setup: Setup;
  readonly generator: Generator;
  readonly runs: number;
  readonly wants: (part: string) => boolean;
  readonly step: (title: string) => Step;
  readonly found: (which: Which, seen: Seen) => void;
}

/** Starts both sides, and asks them in turns; both live to the end, as servers do, and what they keep grows meanwhile. */
async function measure({ sides, setup, generator, runs, wants, step, found }: Measurement): Promise<void> {
  const starting = step('warming up');
  await using running = new AsyncDisposableStack();
  const start = async (which: Which) => {
    const server = running.use(await startServer(sides[which], setup));
    await coldStart(generator, server);
    return server;
  };
  const servers = { ours: await start('ours'), peer: await start('peer') };
  starting.done();
  let left: number | undefined;
  for (let run = 1; run <= runs; run += 1) {
    const shown = step(`run ${run} of ${runs}`);
    const began = performance.now();
    // Whoever goes first in one run goes second in the next.
    const order: readonly Which[] = run % 2 === 0 ? ['peer', 'ours'] : ['ours', 'peer'];
    const prompts = makePrompts(String(run));
    for (const which of wants('start') ? order : []) {
      shown.update(`start, ${sides[which].name}`, left);
      await using server = await startServer(sides[which], setup);
      found(which, { 'cold start to first token': await coldStart(generator, server) });
    }
    for (const name of scenarioNames.filter(wants)) {
      const counts: Record<Which, number[]> = { ours: [], peer: [] };
      for (const which of order) {
        shown.update(`${name}, ${sides[which].name}`, left);
        const ask: Perform = async (task) => {
          const answers = await generator.perform(servers[which], task);
          for (const answer of answers) counts[which].push(answer.promptTokens, answer.completionTokens);
          return answers;
        };
        found(which, await scenarios[name]({ server: servers[which], prompts, ask }));
      }
      requireSameWork(name, counts, sides);
    }
    left = ((performance.now() - began) / 1000) * (runs - run);
    shown.done();
  }
  for (const which of wants('memory') ? (['ours', 'peer'] as const) : []) {
    const { anonymous, total } = await servers[which].memory();
    found(which, { 'memory, anonymous': anonymous / 2 ** 20, 'memory, RSS': total / 2 ** 20 });
  }
}

/** Milliseconds from the birth of the process to its first token. */
async function coldStart(generator: Generator, server: RunningServer): Promise<number> {
  const [answer] = await generator.perform(server, {
    kind: 'start',
    path: server.side.readyPath,
    ask: { prompt: 'Say a word.', maxTokens: 1 },
  });
  return (answer?.first ?? Number.NaN) - server.spawned;
}

/** @throws Error when one side read or wrote less than the other: its times would mean nothing */
function requireSameWork(name: string, counts: Record<Which, number[]>, sides: Record<Which, Side>): void {
  if (counts.ours.join() === counts.peer.join()) return;
  const list = (which: Which) => `${counts[which].join(' ')} with ${sides[which].name}`;
  throw new Error(
    `the servers did not do the same work in "${name}": tokens of prompts and answers are ${list('ours')} and ${list('peer')}`,
  );
}

function ttft(answer: Answer | undefined): number {
  return answer ? answer.first - answer.asked : Number.NaN;
}

/** Tokens a second of the whole series, from the first question to the last token. */
function aggregate(answers: readonly Answer[]): number {
  const tokens = answers.reduce((sum, answer) => sum + answer.completionTokens, 0);
  const end = Math.max(...answers.map((answer) => answer.pieces.at(-1) ?? answer.first));
  return (1000 * tokens) / (end - Math.min(...answers.map((answer) => answer.asked)));
}

/** Tokens a second after the first. */
function decodeSpeed(answer: Answer): number {
  return (1000 * (answer.completionTokens - 1)) / ((answer.pieces.at(-1) ?? Number.NaN) - answer.first);
}

function gaps({ pieces }: Answer): number[] {
  return pieces.slice(1).map((at, index) => at - (pieces[index] ?? at));
}

/** The value that this share of all values does not exceed. */
function percentile(values: readonly number[], share: number): number {
  if (share === 0.5) return median(values) ?? Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
}
