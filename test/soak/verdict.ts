/**
 * What a soak's samples say: whether memory is flat, whether everything was given back. Pure; owns the limits.
 */

/** The server at one moment. */
export interface Sample {
  /** Seconds since the beginning. */
  readonly at: number;
  /** Memory of its own, in bytes: without the model's file, which is mapped. */
  readonly memory: number;
  /** Of JavaScript's heap, in bytes. */
  readonly heap: number;
  readonly slotsBusy: number;
  readonly queued: number;
  /** Open files and sockets. */
  readonly files: number;
  /** Requests that have ended so far, in whatever way. */
  readonly ended: number;
}

/** What became of the requests. */
export interface Tally {
  readonly sent: number;
  readonly answered: number;
  /** Told to come back later, with 429. */
  readonly refused: number;
  /** Left by the client, on purpose. */
  readonly aborted: number;
  /** Answered otherwise than they should have been; a line each. */
  readonly wrong: readonly string[];
  /** Neither answered nor ended within the time that a request may take. */
  readonly unanswered: number;
}

/** The server after everybody has gone. */
export interface Rest {
  readonly slotsBusy: number;
  readonly queued: number;
  /** Restarts after crashes. */
  readonly restarts: number;
  /** Files and sockets that are open beyond those at the beginning. */
  readonly files: number;
  /** Whether it still answers. */
  readonly answers: boolean;
}

export interface Verdict {
  readonly passed: boolean;
  /** One for each thing that was looked at, with its figures. */
  readonly lines: readonly string[];
}

const MIB = 1024 * 1024;
/** Garbage comes and goes in waves of this size, whatever the server does. */
const NOISE_BYTES = 16 * MIB;
const NOISE_SHARE = 0.05;
/** Sockets that a client's pool keeps open, and what is just being closed. */
const SPARE_FILES = 32;

/** Judges a run. Memory is judged by its second half: caches fill in the first. */
export function judge(samples: readonly Sample[], tally: Tally, rest: Rest): Verdict {
  const half = samples.slice(Math.floor(samples.length / 2));
  const checks: (readonly [boolean, string])[] = [
    flat('memory', half, (sample) => sample.memory),
    flat('JavaScript heap', half, (sample) => sample.heap),
    [rest.slotsBusy === 0, `slots that nobody gave back: ${rest.slotsBusy}`],
    [rest.queued === 0, `requests left in the queue: ${rest.queued}`],
    [rest.files <= SPARE_FILES, `files and sockets left open: ${rest.files}`],
    [rest.restarts === 0, `restarts after crashes: ${rest.restarts}`],
    [tally.unanswered === 0, `requests without an answer: ${tally.unanswered}`],
    [
      tally.wrong.length === 0,
      `wrong answers: ${tally.wrong.length}${tally.wrong
        .slice(0, 5)
        .map((line) => `\n      ${line}`)
        .join('')}`,
    ],
    [rest.answers, `a question afterwards is ${rest.answers ? 'answered' : 'not answered'}`],
  ];
  return {
    passed: checks.every(([passed]) => passed),
    lines: checks.map(([passed, line]) => `${passed ? 'ok    ' : 'FAILED'} ${line}`),
  };
}

function flat(name: string, samples: readonly Sample[], of: (sample: Sample) => number): readonly [boolean, string] {
  const level = median(samples.map(of));
  const seconds = (samples.at(-1)?.at ?? 0) - (samples[0]?.at ?? 0);
  const slope = medianSlope(samples.map((sample) => [sample.at, of(sample)]));
  const growth = slope * seconds;
  const passed = samples.length >= 3 && growth <= Math.max(NOISE_BYTES, NOISE_SHARE * level);
  const mib = (bytes: number) => (bytes / MIB).toFixed(1);
  return [
    passed,
    `${name}: ${mib(level)} MiB, ${growth < 0 ? '' : '+'}${mib(growth)} MiB over the last ${Math.round(seconds)} s (${mib(slope * 3600)} MiB an hour)`,
  ];
}

/** The median of the slopes between all pairs of points: a few wild ones do not move it. */
export function medianSlope(points: readonly (readonly [x: number, y: number])[]): number {
  const slopes: number[] = [];
  points.forEach(([x, y], index) => {
    for (const [laterX, laterY] of points.slice(index + 1)) if (laterX > x) slopes.push((laterY - y) / (laterX - x));
  });
  return median(slopes);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return 0;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
