/**
 * Owns what every benchmark prints: a table for people, and as the last line one JSON object for programs. Medians with their
 * spread; a ratio is ours divided by the peer's. Pure but for `describeMachine`.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';

/** What a goal says about a row. */
export type Goal =
  /** Ours divided by the peer's at most this. */
  | { readonly maxRatio: number }
  /** Ours divided by the peer's at least this. */
  | { readonly minRatio: number }
  /** Ours divided by the peer's between these. */
  | { readonly ratioBetween: readonly [least: number, most: number] }
  /** Our median at most this. */
  | { readonly max: number };

/** All samples of one quantity. */
export interface Samples {
  readonly name: string;
  readonly unit: string;
  readonly ours: readonly number[];
  /** Absent where there is nothing to compare with. */
  readonly peer?: readonly number[];
  readonly goal?: Goal;
  /** Said beside the row. */
  readonly note?: string;
}

/** One row of the JSON line. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  /** Median; null without a sample. */
  readonly ours: number | null;
  readonly peer: number | null;
  /** Lowest and highest sample. */
  readonly oursRange: readonly [number, number] | null;
  readonly peerRange: readonly [number, number] | null;
  readonly ratio: number | null;
  readonly goal: string | null;
  /** Null where there is no goal. */
  readonly met: boolean | null;
}

export interface Report {
  readonly bench: string;
  readonly machine: string;
  readonly rows: readonly Row[];
}

/** The middle of the samples, or the mean of the two in the middle; undefined of none. */
export function median(samples: readonly number[]): number | undefined {
  const sorted = samples.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)];
  const lower = sorted[Math.ceil(middle) - 1];
  return upper === undefined || lower === undefined ? undefined : (upper + lower) / 2;
}

/** Folds samples into the report. */
export function makeReport(bench: string, machine: string, samples: readonly Samples[]): Report {
  return { bench, machine, rows: samples.map(makeRow) };
}

function makeRow({ name, unit, ours, peer, goal }: Samples): Row {
  const mine = median(ours);
  const theirs = peer && median(peer);
  const ratio = mine === undefined || !theirs ? undefined : mine / theirs;
  const met = goal && isMet(goal, mine, ratio);
  return {
    name,
    unit,
    ours: round(mine),
    peer: round(theirs),
    oursRange: range(ours),
    peerRange: range(peer),
    ratio: round(ratio),
    goal: goal ? goalText(goal, unit) : null,
    met: met ?? null,
  };
}

function range(samples: readonly number[] | undefined): [number, number] | null {
  if (!samples || samples.length === 0) return null;
  return [Number(Math.min(...samples).toPrecision(4)), Number(Math.max(...samples).toPrecision(4))];
}

function isMet(goal: Goal, mine: number | undefined, ratio: number | undefined): boolean {
  if ('max' in goal) return mine !== undefined && mine <= goal.max;
  if (ratio === undefined) return false;
  if ('ratioBetween' in goal) return ratio >= goal.ratioBetween[0] && ratio <= goal.ratioBetween[1];
  return 'maxRatio' in goal ? ratio <= goal.maxRatio : ratio >= goal.minRatio;
}

function goalText(goal: Goal, unit: string): string {
  if ('max' in goal) return `≤ ${goal.max} ${unit}`;
  if ('ratioBetween' in goal) return `ratio ${goal.ratioBetween.join(' to ')}`;
  return 'maxRatio' in goal ? `ratio ≤ ${goal.maxRatio}` : `ratio ≥ ${goal.minRatio}`;
}

/** The table. */
export function renderTable(report: Report, samples: readonly Samples[]): string {
  const header = ['', 'unit', 'ours', 'peer', 'ratio', 'goal', ''];
  const rows = report.rows.map((row, index) => {
    const of = samples[index];
    return [
      row.name,
      row.unit,
      withSpread(row.ours, of?.ours),
      withSpread(row.peer, of?.peer),
      row.ratio === null ? '' : row.ratio.toFixed(2),
      row.goal === null ? '' : `${row.goal} ${row.met ? 'met' : 'NOT MET'}`,
      of?.note ?? '',
    ];
  });
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((cells) => cells[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell[column < 2 ? 'padEnd' : 'padStart'](widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [`${report.bench} on ${report.machine}: medians (lowest to highest)`, '', ...all.map(line)].join('\n');
}

function withSpread(middle: number | null, samples: readonly number[] | undefined): string {
  if (middle === null || !samples) return '';
  if (samples.length < 2) return short(middle);
  return `${short(middle)} (${short(Math.min(...samples))} to ${short(Math.max(...samples))})`;
}

/** Three digits say all that a benchmark can know. */
function short(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(value !== 0 && Math.abs(value) < 10 ? 2 : 1);
}

function round(value: number | undefined): number | null {
  return value === undefined ? null : Number(value.toPrecision(4));
}

/** Processor, cores and memory of this machine. */
export function describeMachine(): string {
  const model = cpus()[0]?.model.trim().replaceAll(/\s+/g, ' ') || process.arch;
  const load = Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0]);
  const busy = load > availableParallelism() ? `, load ${load} before the start: others work here too` : '';
  return `${model}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB${busy}`;
}
