/**
 * What a load client's lines say, summed up for a span of time. Pure; owns the arithmetic and the sentences, and no pod.
 */
import type { LoadLine, Outcome } from './load-client.ts';

/** Requests that were due within a span of time, and what became of them. */
export interface LoadCounts {
  /** Requests that were due. */
  readonly planned: number;
  readonly answered: number;
  /** How many came to which end, without those that were answered. */
  readonly failed: Readonly<Partial<Record<Outcome, number>>>;
  /** The first ten failures, a sentence each. */
  readonly failures: readonly string[];
  /** Answered on a connection that had served a request before. */
  readonly reused: number;
  /** Answered on a connection of their own. */
  readonly fresh: number;
  /** Streams that were answered, and how long the longest of them took, in seconds. */
  readonly streams: number;
  readonly longestStreamSeconds: number;
  /** Of short requests, from when they were due to the last byte; in milliseconds. */
  readonly medianMs: number;
  readonly slowestMs: number;
  /** Answers by the revision that gave them, where they say so. */
  readonly revisions: Readonly<Record<string, number>>;
}

/** What a load pod has printed. */
export interface LoadLog {
  readonly lines: readonly LoadLine[];
  /** Requests that were planned in all; undefined until the client has ended. */
  readonly planned: number | undefined;
}

/** Reads what a client has printed so far; a last line that is half there is left out. */
export function parseLoad(text: string): LoadLog {
  const lines: LoadLine[] = [];
  let planned: number | undefined;
  for (const row of text.split('\n')) {
    const value = parse(row);
    if (value === undefined) continue;
    if ('id' in value) lines.push(value);
    else planned = value.planned;
  }
  return { lines, planned };
}

function parse(row: string): LoadLine | { readonly planned: number } | undefined {
  if (!row.startsWith('{') || !row.endsWith('}')) return undefined;
  return JSON.parse(row) as LoadLine | { readonly planned: number };
}

/** Requests that were planned and of which the client printed no end, or more than one; [] for a log that can be believed. */
export function gapsOf(log: LoadLog): number[] {
  const seen = new Map<number, number>();
  for (const { id } of log.lines) seen.set(id, (seen.get(id) ?? 0) + 1);
  return Array.from({ length: log.planned ?? 0 }, (_, id) => id).filter((id) => seen.get(id) !== 1);
}

/** Sums up the requests that were due from `from` on and before `to`, in milliseconds since 1970; default: all. */
export function countRequests(
  lines: readonly LoadLine[],
  from = Number.NEGATIVE_INFINITY,
  to = Number.POSITIVE_INFINITY,
): LoadCounts {
  const due = lines.filter(({ at }) => at >= from && at < to);
  const answered = due.filter(({ outcome }) => outcome === 'answered');
  const failures = due.filter(({ outcome }) => outcome !== 'answered');
  const streams = answered.filter(({ kind }) => kind === 'stream');
  const times = answered
    .filter(({ kind }) => kind === 'short')
    .map(({ ms }) => ms)
    .sort((a, b) => a - b);
  return {
    planned: due.length,
    answered: answered.length,
    failed: tally(failures.map(({ outcome }) => outcome)),
    failures: failures.slice(0, 10).map(sentenceOf),
    reused: answered.filter(({ reused }) => reused).length,
    fresh: answered.filter(({ reused }) => !reused).length,
    streams: streams.length,
    longestStreamSeconds: Math.max(0, ...streams.map(({ ms }) => ms)) / 1000,
    medianMs: times[Math.floor(times.length / 2)] ?? 0,
    slowestMs: times.at(-1) ?? 0,
    revisions: tally(answered.flatMap(({ revision }) => revision ?? [])),
  };
}

function tally<K extends string>(values: readonly K[]): Partial<Record<K, number>> & Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts as Partial<Record<K, number>> & Record<string, number>;
}

function sentenceOf(line: LoadLine): string {
  const time = new Date(line.at).toISOString().slice(11, 23);
  const connection = `${line.reused ? 'used' : 'new'} connection (${line.connection})`;
  return `${time} ${line.kind} on a ${connection}, after ${line.ms} ms: ${line.outcome}${line.detail ? `, ${line.detail}` : ''}`;
}

/** One line for people. */
export function describeCounts(counts: LoadCounts): string {
  const { planned, answered, reused, fresh, streams, longestStreamSeconds, medianMs, slowestMs } = counts;
  const failed = Object.entries(counts.failed).map(([outcome, count]) => `, ${count} ${outcome}`);
  return (
    `${answered} of ${planned} answered${failed.join('')}; ${reused} on used and ${fresh} on new connections, ` +
    `${streams} streams up to ${longestStreamSeconds.toFixed(1)} s; short ones took ${medianMs} ms, the slowest ${slowestMs} ms`
  );
}
