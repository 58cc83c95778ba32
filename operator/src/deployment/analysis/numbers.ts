/**
 * What a server's metrics say of its answers, and how much came in between two readings, of one pod or of several. Counters that
 * began anew count from zero. Pure.
 */
import { type MetricSample, readSamples } from './prometheus-text.ts';

/** Cumulative, as Prometheus has it: `counts[i]` observations were at most `bounds[i]`. */
export interface Histogram {
  /** Ascending, without infinity. */
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly count: number;
}

/** Since the start of a process, or within a time. */
export interface Numbers {
  /** Complete answers to inference requests, and failures. What clients did wrong or broke off is not among them. */
  readonly answers: number;
  /** Answers that are errors of the server (5xx), and streams that ended with one. */
  readonly failures: number;
  /** Requests that were passed on to a candidate, which went away in the middle of its answer: the candidate's failures. */
  readonly brokenByCandidate: number;
  /** Seconds until the first token. */
  readonly firstToken: Histogram;
  /** Sum and number of the answers' tokens a second. */
  readonly speed: { readonly sum: number; readonly count: number };
}

/** One reading of one pod. */
export interface Reading extends Numbers {
  /** When the server's process began, by its own clock; another value is another process. */
  readonly started: number | undefined;
  /** Crashes that the server's supervisor counted since the container began. What was running then got no answer to count. */
  readonly crashes: number;
}

const REQUESTS = 'slm_requests_total';
const BROKEN = 'slm_broken_streams_total';
const FORWARDED = 'slm_forwarded_requests_total';
const FIRST_TOKEN = 'gen_ai_server_time_to_first_token_seconds';
const SPEED = 'slm_tokens_per_second';
const CRASHES = 'slm_engine_restarts_total';
const STARTED = 'process_start_time_seconds';
const NAMES: ReadonlySet<string> = new Set([
  REQUESTS,
  BROKEN,
  FORWARDED,
  `${FIRST_TOKEN}_bucket`,
  `${FIRST_TOKEN}_count`,
  `${SPEED}_sum`,
  `${SPEED}_count`,
  CRASHES,
  STARTED,
]);

/** Routes that ask the model for something; the others would thin errors out. */
const INFERENCE = /chat|completions|responses|messages|embed|generate|rerank|infill/;

export const NOTHING: Numbers = {
  answers: 0,
  failures: 0,
  brokenByCandidate: 0,
  firstToken: { bounds: [], counts: [], count: 0 },
  speed: { sum: 0, count: 0 },
};

/** What `/metrics` of a server says; undefined when it has nothing of what is read here. */
export function readNumbers(text: string): Reading | undefined {
  const samples = readSamples(text, NAMES);
  if (samples.length === 0) return undefined;
  let answers = 0;
  let failures = 0;
  let brokenByCandidate = 0;
  let started: number | undefined;
  for (const { name, labels, value } of samples) {
    if (name === STARTED) started = value;
    if (name === FORWARDED && labels['outcome'] === 'broken') brokenByCandidate += value;
    if (name !== REQUESTS && name !== BROKEN) continue;
    if (!INFERENCE.test(labels['route'] ?? '')) continue;
    const failed = name === BROKEN || Number(labels['code']) >= 500;
    if (failed) failures += value;
    // A broken stream was counted as an answer already.
    if (name === REQUESTS && (failed || Number(labels['code']) < 400)) answers += value;
  }
  return {
    started,
    crashes: sumOf(samples, CRASHES),
    answers,
    failures,
    brokenByCandidate,
    firstToken: histogramOf(samples, FIRST_TOKEN),
    speed: { sum: sumOf(samples, `${SPEED}_sum`), count: sumOf(samples, `${SPEED}_count`) },
  };
}

function sumOf(samples: readonly MetricSample[], wanted: string): number {
  return samples.reduce((sum, { name, value }) => (name === wanted ? sum + value : sum), 0);
}

/** Of all models and operations together. */
function histogramOf(samples: readonly MetricSample[], name: string): Histogram {
  const counts = new Map<number, number>();
  for (const sample of samples) {
    if (sample.name !== `${name}_bucket`) continue;
    const bound = Number(sample.labels['le']);
    if (Number.isFinite(bound)) counts.set(bound, (counts.get(bound) ?? 0) + sample.value);
  }
  const bounds = [...counts.keys()].toSorted((a, b) => a - b);
  return { bounds, counts: bounds.map((bound) => counts.get(bound) ?? 0), count: sumOf(samples, `${name}_count`) };
}

/**
 * What came in between two readings of one pod. After a restart that is all that the new process has counted. Each crash is an
 * answer that failed, at least.
 */
export function growth(before: Reading, after: Reading): Numbers {
  const crashes = after.crashes < before.crashes ? after.crashes : after.crashes - before.crashes;
  const counted = countedBetween(before, after);
  return { ...counted, answers: counted.answers + crashes, failures: counted.failures + crashes };
}

function countedBetween(before: Reading, after: Reading): Numbers {
  const restarted =
    before.started !== after.started ||
    after.answers < before.answers ||
    after.failures < before.failures ||
    after.brokenByCandidate < before.brokenByCandidate ||
    after.firstToken.count < before.firstToken.count ||
    after.speed.count < before.speed.count;
  if (restarted) return combine(after, NOTHING, (a) => a);
  return combine(after, before, (a, b) => Math.max(0, a - b));
}

/** Of several pods together. */
export function total(parts: readonly Numbers[]): Numbers {
  const [first = NOTHING, ...rest] = parts;
  return rest.reduce((sum, part) => combine(sum, part, (a, b) => a + b), first);
}

function combine(a: Numbers, b: Numbers, merge: (a: number, b: number) => number): Numbers {
  return {
    answers: merge(a.answers, b.answers),
    failures: merge(a.failures, b.failures),
    brokenByCandidate: merge(a.brokenByCandidate, b.brokenByCandidate),
    firstToken: combineHistograms(a.firstToken, b.firstToken, merge),
    speed: { sum: merge(a.speed.sum, b.speed.sum), count: merge(a.speed.count, b.speed.count) },
  };
}

/** The candidate's numbers with the failures of it that only those who passed requests on could see. */
export function withBroken(candidate: Numbers, stable: Numbers | undefined): Numbers {
  const broken = stable?.brokenByCandidate ?? 0;
  return { ...candidate, answers: candidate.answers + broken, failures: candidate.failures + broken };
}

function combineHistograms(a: Histogram, b: Histogram, merge: (a: number, b: number) => number): Histogram {
  // A server that has not answered yet has no buckets.
  const bounds = a.count === 0 ? b.bounds : b.count === 0 ? a.bounds : commonBounds(a, b);
  return {
    bounds,
    counts: bounds.map((bound) => merge(atMost(a, bound), atMost(b, bound))),
    count: merge(a.count, b.count),
  };
}

/** Servers of different releases may have different buckets; what they share can be compared. */
export function commonBounds(a: Histogram, b: Histogram): readonly number[] {
  if (a.bounds === b.bounds) return a.bounds;
  const known = new Set(b.bounds);
  return a.bounds.filter((bound) => known.has(bound));
}

/** The same observations, told by fewer bounds. */
export function withBounds(histogram: Histogram, bounds: readonly number[]): Histogram {
  return { bounds, counts: bounds.map((bound) => atMost(histogram, bound)), count: histogram.count };
}

function atMost({ bounds, counts }: Histogram, bound: number): number {
  return counts[bounds.indexOf(bound)] ?? 0;
}

/**
 * A quantile, interpolated within its bucket as Prometheus does; of what is beyond the last bound, that bound.
 * @param part 0.95 for the 95th percentile
 * @returns undefined of no observation
 */
export function quantile({ bounds, counts, count }: Histogram, part: number): number | undefined {
  const last = bounds.at(-1);
  if (count <= 0 || last === undefined) return undefined;
  const rank = part * count;
  const index = counts.findIndex((below) => below >= rank);
  if (index < 0) return last;
  const upper = bounds[index] ?? last;
  const lower = bounds[index - 1] ?? 0;
  const below = counts[index - 1] ?? 0;
  const inside = (counts[index] ?? 0) - below;
  return inside <= 0 ? upper : lower + ((upper - lower) * (rank - below)) / inside;
}
