/** Readings of servers for tests, as short as a test can say them. Pure. */
import type { Histogram, Reading } from '../numbers.ts';

/** Milliseconds; the server's own are finer. */
export const BOUNDS = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6];

/** So many first tokens, each after this time in seconds. */
export function firstTokens(count: number, seconds: number): Histogram {
  return { bounds: BOUNDS, counts: BOUNDS.map((bound) => (seconds <= bound ? count : 0)), count };
}

export interface ReadingOptions {
  readonly answers?: number;
  readonly failures?: number;
  /** Seconds until the first token of each answer. */
  readonly firstToken?: number;
  /** Tokens a second of each answer. */
  readonly speed?: number;
  readonly started?: number;
  readonly crashes?: number;
  readonly brokenByCandidate?: number;
}

/** What a server has counted since its start. */
export function reading({
  answers = 0,
  failures = 0,
  firstToken = 0.15,
  speed = 40,
  started = 1,
  crashes = 0,
  brokenByCandidate = 0,
}: ReadingOptions): Reading {
  const good = answers - failures;
  return {
    started,
    crashes,
    brokenByCandidate,
    answers,
    failures,
    firstToken: firstTokens(good, firstToken),
    speed: { sum: good * speed, count: good },
  };
}

/** The same as a server writes it. */
export function metricsText(of: Reading): string {
  const { answers, failures, firstToken, speed, started, crashes, brokenByCandidate } = of;
  const model = '{gen_ai_request_model="chat",gen_ai_operation_name="chat"';
  const name = 'gen_ai_server_time_to_first_token_seconds';
  return [
    '# HELP slm_requests_total Requests answered.',
    '# TYPE slm_requests_total counter',
    `slm_requests_total{route="/v1/chat/completions",code="200"} ${answers - failures}`,
    `slm_requests_total{route="/v1/chat/completions",code="500"} ${failures}`,
    ...firstToken.bounds.map((bound, index) => `${name}_bucket${model},le="${bound}"} ${firstToken.counts[index]}`),
    `${name}_bucket${model},le="+Inf"} ${firstToken.count}`,
    `${name}_count${model}} ${firstToken.count}`,
    `slm_tokens_per_second_sum{model="chat"} ${speed.sum}`,
    `slm_tokens_per_second_count{model="chat"} ${speed.count}`,
    `slm_engine_restarts_total{signal="SIGSEGV"} ${crashes}`,
    'slm_forwarded_requests_total{outcome="answered"} 3',
    `slm_forwarded_requests_total{outcome="broken"} ${brokenByCandidate}`,
    `process_start_time_seconds ${started}`,
    '',
  ].join('\n');
}
