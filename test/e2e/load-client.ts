/**
 * The client inside the load pod: asks at fixed times, whatever became of the requests before (an open loop), and prints one
 * JSON line for each request that it planned. Runs by itself as `node load-client.ts PLAN` in a pod of the server image, so it
 * imports nothing but Node. Owns what counts as an answer; sums nothing up.
 */
import { lookup } from 'node:dns/promises';
import http from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** What to ask, and when. */
export interface LoadPlan {
  /** Where the APIs are: `http://HOST:PORT`. */
  readonly url: string;
  readonly key: string;
  /** Name by which the model is asked for. */
  readonly model: string;
  /** Short requests a second, in turn over kept connections and over new ones. */
  readonly perSecond: number;
  /** Seconds from one stream's beginning to the next; undefined: no streams. */
  readonly streamEverySeconds?: number | undefined;
  /** How long a stream should take, in seconds. Default 20. */
  readonly streamSeconds?: number | undefined;
  /** Tokens that a stream may have at most. Default 400. */
  readonly maxStreamTokens?: number | undefined;
  /** Seconds between requests on a connection that nobody uses in between; undefined: there is none. */
  readonly rareEverySeconds?: number | undefined;
  /** Requests under way at the same time; what is due beyond is never sent, and counted as that. Default 200. */
  readonly maxInFlight?: number | undefined;
  /** A request that takes longer counts as unanswered. Default 120. */
  readonly giveUpSeconds?: number | undefined;
}

/**
 * - `answered`: status 200, and the answer's own end was there
 * - `unsent`: due while too many were under way
 * - `name`: the name of the host was not found
 * - `unreachable`: no connection
 * - `reset`: a new connection ended before the first byte of the answer
 * - `reuse`: the same on a connection that was kept: the server closed it when the request was on its way
 * - `cut`: the answer ended before its end
 * - `status`: another status than 200
 * - `unanswered`: no end within the time, or before the client ended
 */
export type Outcome =
  | 'answered'
  | 'unsent'
  | 'name'
  | 'unreachable'
  | 'reset'
  | 'reuse'
  | 'cut'
  | 'status'
  | 'unanswered';

/**
 * `kept`: always used; `rare`: kept, with long pauses; `talk`: kept for streams, with the next question on it as soon as a
 * stream has ended; `new`: one for each request.
 */
export type ConnectionKind = 'kept' | 'rare' | 'talk' | 'new';

/** What became of one request. */
export interface LoadLine {
  /** From 0, without a gap. */
  readonly id: number;
  readonly kind: 'short' | 'stream';
  readonly connection: ConnectionKind;
  /** Whether another request was on this connection before. */
  readonly reused: boolean;
  /** When it was due, in milliseconds since 1970. */
  readonly at: number;
  /** From when it was due, not from when it was sent, to the first byte of its answer; null when there was none. */
  readonly firstMs: number | null;
  /** From when it was due to its end. */
  readonly ms: number;
  readonly outcome: Outcome;
  /** What was said of a failure. */
  readonly detail?: string;
  /** Revision that answered, where the answer says so. */
  readonly revision?: string;
}

const plan = JSON.parse(process.argv[2] ?? '{}') as LoadPlan;
const giveUpMs = (plan.giveUpSeconds ?? 120) * 1000;
const streamMs = (plan.streamSeconds ?? 20) * 1000;
const maxStreamTokens = plan.maxStreamTokens ?? 400;
const agents: Record<ConnectionKind, http.Agent> = {
  // In turn, so that each of them is used again soon; the default would leave all but one idle.
  kept: new http.Agent({ keepAlive: true, scheduling: 'fifo' }),
  rare: new http.Agent({ keepAlive: true }),
  talk: new http.Agent({ keepAlive: true }),
  new: new http.Agent({ keepAlive: false }),
};

interface Question {
  readonly path: string;
  readonly body: object;
  /** Why an answer with status 200 is not complete; undefined when it is. */
  readonly lacks: (text: string) => string | undefined;
}

const base = { model: plan.model, temperature: 0, seed: 1 };
const messages = [{ role: 'user', content: 'Count from one to a thousand.' }];

const generate: Question = {
  path: '/api/generate',
  body: {
    model: plan.model,
    prompt: 'Count to ten.',
    stream: false,
    options: { num_predict: 4, temperature: 0, seed: 1 },
  },
  lacks: (text) => (field(text, 'done') === true ? undefined : 'not done'),
};

const chat: Question = {
  path: '/v1/chat/completions',
  body: { ...base, messages, max_tokens: 4 },
  lacks: (text) => (/"finish_reason":\s*"(?:stop|length)"/.test(text) ? undefined : 'no finish_reason'),
};

function longStream(tokens: number): Question {
  return {
    path: '/v1/chat/completions',
    body: { ...base, messages, stream: true, max_tokens: tokens, ignore_eos: true },
    lacks: (text) => {
      if (text.includes('"error"')) return 'an error in the stream';
      if (!text.trimEnd().endsWith('data: [DONE]')) return 'no [DONE]';
      return /"finish_reason":\s*"length"/.test(text) ? undefined : 'no finish_reason';
    },
  };
}

function field(text: string, name: string): unknown {
  try {
    return (JSON.parse(text) as Record<string, unknown>)[name];
  } catch {
    return undefined;
  }
}

/** What is known of a request under way. */
interface Job {
  readonly id: number;
  readonly kind: LoadLine['kind'];
  readonly connection: ConnectionKind;
  readonly at: number;
  reused: boolean;
  firstMs: number | null;
  revision?: string;
  /** Ends it, whatever it waits for. */
  end?: (outcome: Outcome, detail?: string) => void;
}

const underWay = new Set<Job>();
let planned = 0;
let stopping = false;
/** Tokens of the next stream: as many as make it last, by the speed of those before. */
let streamTokens = Math.min(100, maxStreamTokens);

function print(job: Job, outcome: Outcome, detail?: string): void {
  const { id, kind, connection, reused, at, firstMs, revision } = job;
  const line: LoadLine = {
    id,
    kind,
    connection,
    reused,
    at,
    firstMs,
    ms: Date.now() - at,
    outcome,
    ...(detail === undefined ? {} : { detail: detail.slice(0, 300) }),
    ...(revision === undefined ? {} : { revision }),
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function start(kind: LoadLine['kind'], connection: ConnectionKind, at: number): void {
  const job: Job = { id: planned++, kind, connection, at: Math.round(at), reused: false, firstMs: null };
  if (underWay.size >= (plan.maxInFlight ?? 200)) return print(job, 'unsent', `${underWay.size} are under way`);
  underWay.add(job);
  if (kind === 'stream') void stream(job);
  else void send(job, job.id % 2 === 0 ? generate : chat);
}

async function stream(job: Job): Promise<void> {
  const tokens = streamTokens;
  const began = Date.now();
  if (!(await send(job, longStream(tokens)))) return;
  const perToken = (Date.now() - began) / tokens;
  streamTokens = Math.max(10, Math.min(maxStreamTokens, Math.round(streamMs / perToken)));
  // Once the connection is back with its agent.
  if (job.connection === 'talk' && !stopping) setImmediate(() => start('short', 'talk', Date.now()));
}

/** Resolves to whether it was answered. */
function send(job: Job, question: Question): Promise<boolean> {
  return new Promise((resolve) => {
    let ended = false;
    let connected = false;
    let text = '';
    const body = JSON.stringify(question.body);
    const request = http.request(
      plan.url + question.path,
      {
        agent: agents[job.connection],
        method: 'POST',
        headers: {
          authorization: `Bearer ${plan.key}`,
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
        },
      },
      (response) => {
        job.firstMs = Date.now() - job.at;
        const revision = response.headers['x-slm-revision'];
        if (typeof revision === 'string') job.revision = revision;
        response.setEncoding('utf8').on('data', (piece: string) => {
          text += piece;
        });
        response.on('end', () => {
          if (response.statusCode !== 200) return end('status', `${response.statusCode} ${text}`);
          const lacks = question.lacks(text);
          if (lacks === undefined) end('answered');
          else end('cut', `${lacks}: …${text.slice(-200)}`);
        });
        response.on('error', (error) => end('cut', describe(error)));
        response.on('close', () => end('cut', 'closed'));
      },
    );
    const end = (outcome: Outcome, detail?: string) => {
      if (ended) return;
      ended = true;
      clearTimeout(late);
      underWay.delete(job);
      print(job, outcome, detail);
      if (outcome !== 'answered') request.destroy();
      resolve(outcome === 'answered');
    };
    const late = setTimeout(() => end('unanswered', `no end within ${giveUpMs / 1000} s`), giveUpMs);
    job.end = end;
    request.once('socket', (socket: Socket) => {
      job.reused = request.reusedSocket;
      connected = !socket.connecting;
      if (connected) return;
      socket.once('connect', () => {
        connected = true;
      });
    });
    request.on('error', (error) => end(kindOf(error, job, connected), describe(error)));
    request.end(body);
  });
}

function kindOf(error: NodeJS.ErrnoException, job: Job, connected: boolean): Outcome {
  if (job.firstMs !== null) return 'cut';
  if (error.syscall === 'getaddrinfo') return 'name';
  if (!connected) return 'unreachable';
  return job.reused ? 'reuse' : 'reset';
}

const describe = (error: NodeJS.ErrnoException) => `${error.code ?? ''} ${error.message}`.trim();

/** Calls back at fixed times from now on; times that were missed are made up for at once, each with the time when it was due. */
function every(ms: number, first: number, due: (at: number) => void): void {
  let next = first;
  const tick = () => {
    if (stopping) return;
    for (; next <= Date.now(); next += ms) due(next);
    setTimeout(tick, next - Date.now());
  };
  tick();
}

function stop(): void {
  if (stopping) return;
  stopping = true;
  const patience = setTimeout(() => {
    for (const job of underWay) job.end?.('unanswered', 'under way when the client ended');
  }, giveUpMs);
  const look = setInterval(() => {
    if (underWay.size > 0) return;
    clearInterval(look);
    clearTimeout(patience);
    process.stdout.write(`${JSON.stringify({ planned })}\n`, () => process.exit(0));
  }, 50);
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);

// The cluster's DNS hears of a new Service in its own time, and late after an outage: nobody is asked before.
const { hostname } = new URL(plan.url);
while (!(await lookup(hostname).catch(() => undefined))) await sleep(100);

const begin = Date.now();
let turn = 0;
// A rate of 0 is for those who want streams alone.
if (plan.perSecond > 0)
  every(1000 / plan.perSecond, begin, (at) => start('short', (turn++ >> 1) % 2 === 0 ? 'kept' : 'new', at));
if (plan.rareEverySeconds) every(plan.rareEverySeconds * 1000, begin, (at) => start('short', 'rare', at));
let streams = 0;
if (plan.streamEverySeconds)
  every(plan.streamEverySeconds * 1000, begin, (at) => start('stream', streams++ % 2 === 0 ? 'talk' : 'new', at));
