/**
 * Judges a candidate by what its servers measured: each gate against its limits and against the stable revision. Owns the rules and
 * the sentences; measures nothing and remembers nothing. Pure.
 */
import type { Analysis } from '@slm-operator/crds';
import { parseDuration } from '../quantity.ts';
import { formatDuration } from '../text.ts';
import { commonBounds, type Numbers, quantile, withBounds } from './numbers.ts';
import { type AnalysisItem, type GateState, NO_GATES } from './types.ts';

const WINDOW_MS = 60_000;
/** Requests that a gate needs, unless `minRequests` says otherwise. */
export const MIN_REQUESTS = 20;

export interface JudgeInput {
  readonly analysis: Analysis;
  /** Within the window so far; undefined while no pod of the candidate could be read. */
  readonly candidate: Numbers | undefined;
  /** Of the stable revision, within the window or when it was last known well enough. */
  readonly stable: Numbers | undefined;
  /** The stable revision has no pods any more, or there is none: nothing to compare with will come. */
  readonly stableGone: boolean;
  /** A whole window has been measured. */
  readonly over: boolean;
}

/** Milliseconds over which servers are measured. */
export function windowOf({ window }: Pick<Analysis, 'window'>): number {
  return Math.max(1000, parseDuration(window) ?? WINDOW_MS);
}

/** Whether anything is to be measured. */
export function hasGates(analysis: Analysis | undefined): boolean {
  return (
    analysis?.errorRate !== undefined || analysis?.ttftP95 !== undefined || analysis?.tokensPerSecond !== undefined
  );
}

/** What the gates say now. Without metric gates: `none`. */
export function judgeGates(input: JudgeInput): GateState {
  if (!hasGates(input.analysis)) return NO_GATES;
  const items = gatesOf(input.analysis).map((gate) => judge(gate, input));
  const failed = items.find(({ result }) => result === 'Failed');
  if (failed !== undefined) return { result: 'failed', items, why: failed.message ?? '' };
  const waiting = items.find(({ result }) => result === 'Waiting');
  if (waiting !== undefined) return { result: 'waiting', items, why: waiting.message ?? '' };
  return { result: 'passed', items, why: '' };
}

/** One gate as a rule over numbers. */
interface Gate {
  readonly name: 'errorRate' | 'ttftP95' | 'tokensPerSecond';
  /** How many observations there are. */
  readonly count: (numbers: Numbers) => number;
  readonly value: (numbers: Numbers) => number | undefined;
  /** The two made comparable. */
  readonly pair: (candidate: Numbers, stable: Numbers) => readonly [number | undefined, number | undefined];
  readonly format: (value: number) => string;
  /** Why an absolute value is not good enough; undefined when it is. */
  readonly absolute: ((value: number) => string | undefined) | undefined;
  readonly relative: ((value: number, baseline: number) => string | undefined) | undefined;
}

function gatesOf({ errorRate, ttftP95, tokensPerSecond }: Analysis): Gate[] {
  return [
    ...(errorRate === undefined ? [] : [errorGate(errorRate)]),
    ...(ttftP95 === undefined ? [] : [firstTokenGate(ttftP95)]),
    ...(tokensPerSecond === undefined ? [] : [speedGate(tokensPerSecond)]),
  ];
}

function errorGate({ maxPercent, maxIncreasePoints }: NonNullable<Analysis['errorRate']>): Gate {
  const rate = ({ answers, failures }: Numbers) => (answers > 0 ? (Math.min(failures, answers) / answers) * 100 : 0);
  return {
    name: 'errorRate',
    count: ({ answers }) => answers,
    value: rate,
    pair: (candidate, stable) => [rate(candidate), rate(stable)],
    format: (value) => `${rounded(value)} %`,
    absolute:
      maxPercent === undefined ? undefined : (value) => (value > maxPercent ? `at most ${maxPercent} %` : undefined),
    relative:
      maxIncreasePoints === undefined
        ? undefined
        : (value, baseline) =>
            value - baseline > maxIncreasePoints ? `at most ${maxIncreasePoints} points more` : undefined,
  };
}

function firstTokenGate({ maxMilliseconds, maxIncreasePercent }: NonNullable<Analysis['ttftP95']>): Gate {
  const p95 = (histogram: Numbers['firstToken']) => {
    const seconds = quantile(histogram, 0.95);
    return seconds === undefined ? undefined : seconds * 1000;
  };
  return {
    name: 'ttftP95',
    count: ({ firstToken }) => firstToken.count,
    value: ({ firstToken }) => p95(firstToken),
    pair(candidate, stable) {
      const bounds = commonBounds(candidate.firstToken, stable.firstToken);
      return [p95(withBounds(candidate.firstToken, bounds)), p95(withBounds(stable.firstToken, bounds))];
    },
    format: (value) => `${rounded(value)} ms`,
    absolute:
      maxMilliseconds === undefined
        ? undefined
        : (value) => (value > maxMilliseconds ? `at most ${maxMilliseconds} ms` : undefined),
    relative:
      maxIncreasePercent === undefined
        ? undefined
        : (value, baseline) =>
            value > baseline * (1 + maxIncreasePercent / 100) ? `at most ${maxIncreasePercent} % more` : undefined,
  };
}

function speedGate({ min, maxDecreasePercent }: NonNullable<Analysis['tokensPerSecond']>): Gate {
  const mean = ({ speed }: Numbers) => (speed.count > 0 ? speed.sum / speed.count : undefined);
  return {
    name: 'tokensPerSecond',
    count: ({ speed }) => speed.count,
    value: mean,
    pair: (candidate, stable) => [mean(candidate), mean(stable)],
    format: (value) => `${rounded(value)} tokens/s`,
    absolute: min === undefined ? undefined : (value) => (value < min ? `at least ${min} tokens/s` : undefined),
    relative:
      maxDecreasePercent === undefined
        ? undefined
        : (value, baseline) =>
            value < baseline * (1 - maxDecreasePercent / 100) ? `at most ${maxDecreasePercent} % less` : undefined,
  };
}

/** What a gate is called in sentences. */
const TITLES = { errorRate: 'error rate', ttftP95: 'time to first token (p95)', tokensPerSecond: 'speed' } as const;

function judge(gate: Gate, input: JudgeInput): AnalysisItem {
  const { analysis, candidate, stable, stableGone, over } = input;
  const { name } = gate;
  const least = analysis.minRequests ?? MIN_REQUESTS;
  const time = formatDuration(windowOf(analysis) / 1000);
  const waits = analysis.onTooFewRequests === 'Wait';
  const waiting = (message: string): AnalysisItem => ({ name, result: 'Waiting', message });
  if (candidate === undefined) return waiting('no pod of the new revision could be measured yet');
  const count = gate.count(candidate);
  const value = gate.value(candidate);
  if (count < least || value === undefined) {
    if (!over || waits) return waiting(`judged after ${least} requests${over ? '' : ` and ${time}`}`);
    const message = `only ${count} of ${least} requests in ${time}: not judged by it, as onTooFewRequests: Continue has it`;
    return { name, result: 'Passed', message };
  }
  const shown = { name, value: gate.format(value) };
  const broken = gate.absolute?.(value);
  if (broken !== undefined) {
    const message = `${TITLES[name]} ${shown.value} in ${count} requests: ${broken} is allowed`;
    return { ...shown, result: 'Failed', message };
  }
  const compared = gate.relative && compare(gate, candidate, stable, least);
  if (typeof compared === 'object') {
    const { baseline, broken: worse } = compared;
    if (worse !== undefined) {
      const message = `${TITLES[name]} ${shown.value} in ${count} requests, and ${baseline} of the revision before: ${worse} is allowed`;
      return { ...shown, baseline, result: 'Failed', message };
    }
    if (!over) return waiting(`judged after ${least} requests and ${time}`);
    return { ...shown, baseline, result: 'Passed' };
  }
  if (!over) return waiting(`judged after ${least} requests and ${time}`);
  if (compared === undefined) return { ...shown, result: 'Passed' };
  if (waits && !stableGone) return waiting(`the revision before needs ${least} requests too, to compare with`);
  const message = `not compared: the revision before answered fewer than ${least} requests in ${time}`;
  return { ...shown, result: 'Passed', message };
}

/** `unknown` when the stable revision has too little to compare with. */
function compare(
  gate: Gate,
  candidate: Numbers,
  stable: Numbers | undefined,
  least: number,
): { readonly baseline: string; readonly broken: string | undefined } | 'unknown' {
  if (stable === undefined || gate.count(stable) < least) return 'unknown';
  const [value, baseline] = gate.pair(candidate, stable);
  if (value === undefined || baseline === undefined) return 'unknown';
  return { baseline: gate.format(baseline), broken: gate.relative?.(value, baseline) };
}

/** Few digits: three that count. */
function rounded(value: number): string {
  if (value >= 100) return String(Math.round(value));
  return String(Math.round(value * 10) / 10);
}
