/**
 * Runs errands against a server, several at once, over sockets of its own. Owns what counts as an answer and the tally.
 */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import type { Errand, Leave } from './mixture.ts';
import type { Tally } from './verdict.ts';

/** A request that takes longer will not be answered any more. */
const LONGEST_MS = 120_000;

export interface Crowd {
  readonly tally: Tally;
  /** Resolves when the last errand has ended. */
  readonly done: Promise<void>;
}

export interface CrowdOptions {
  readonly url: string;
  readonly errands: Iterator<Errand>;
  /** Errands at the same time. */
  readonly clients: number;
  /** Errands a second, of all together; undefined: as fast as they end. */
  readonly rate?: number | undefined;
  /** No new errand begins afterwards. */
  readonly until: AbortSignal;
}

/** Sends clients out. */
export function sendCrowd({ url, errands, clients, rate, until }: CrowdOptions): Crowd {
  const tally = { sent: 0, answered: 0, refused: 0, aborted: 0, wrong: [] as string[], unanswered: 0 };
  const agent = new Agent({ connections: clients * 2, headersTimeout: 0, bodyTimeout: 0 });
  const pause = rate === undefined ? 0 : (1000 * clients) / rate;
  const client = async () => {
    while (!until.aborted) {
      const errand = errands.next().value as Errand;
      tally.sent++;
      const begun = performance.now();
      const outcome = await run(url, agent, errand);
      if (typeof outcome === 'string') tally[outcome]++;
      else tally.wrong.push(`${errand.name}: ${outcome.wrong}`);
      const left = pause - (performance.now() - begun);
      if (left > 0) await sleep(left, undefined, { signal: until }).catch(() => undefined);
    }
  };
  const done = Promise.all(Array.from({ length: clients }, client)).then(() => agent.close());
  return { tally, done };
}

type Outcome = 'answered' | 'refused' | 'aborted' | 'unanswered' | { readonly wrong: string };

async function run(url: string, agent: Agent, errand: Errand): Promise<Outcome> {
  if (errand.leave?.after === 'sending') return breakOff(url, errand, errand.leave.share);
  const { leave } = errand;
  const gone = new AbortController();
  const late = AbortSignal.timeout(LONGEST_MS);
  const timer = leave?.after === 'time' ? setTimeout(() => gone.abort(), leave.ms) : undefined;
  try {
    const answer = await request(url + errand.url, {
      method: errand.body === undefined ? 'GET' : 'POST',
      ...(errand.body === undefined ? {} : { body: JSON.stringify(errand.body) }),
      dispatcher: agent,
      signal: AbortSignal.any([gone.signal, late]),
    });
    let pieces = 0;
    let last = '';
    for await (const piece of answer.body) {
      last = (last + String(piece)).slice(-2000);
      if (leave?.after === 'pieces' && ++pieces >= leave.count) gone.abort();
    }
    return verdictOn(errand, answer.statusCode, last);
  } catch (error) {
    if (gone.signal.aborted) return 'aborted';
    if (late.aborted) return 'unanswered';
    return { wrong: error instanceof Error ? error.message : String(error) };
  } finally {
    clearTimeout(timer);
  }
}

function verdictOn(errand: Errand, status: number, end: string): Outcome {
  if (status === 429) return 'refused';
  if (!errand.expected.includes(status)) return { wrong: `${status} ${end.slice(0, 200)}` };
  // What fails after the first byte says so at the end of the stream; of several answers one may find the queue full.
  if (status === 200 && /"(?:internal_error|server_error|api_error)"/.test(end)) return { wrong: end.slice(-300) };
  return 'answered';
}

/** Sends a part of a request and resets the connection. */
async function breakOff(
  url: string,
  errand: Errand,
  share: Extract<Leave, { after: 'sending' }>['share'],
): Promise<Outcome> {
  const { hostname, port } = new URL(url);
  const body = JSON.stringify(errand.body);
  const whole = `POST ${errand.url} HTTP/1.1\r\nhost: ${hostname}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    socket.once('error', (error) => resolve({ wrong: error.message }));
    socket.once('connect', () =>
      socket.write(whole.slice(0, Math.ceil(whole.length * share)), () => {
        socket.removeAllListeners('error').on('error', () => undefined);
        socket.resetAndDestroy();
        resolve('aborted');
      }),
    );
  });
}
