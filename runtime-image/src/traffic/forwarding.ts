/**
 * The weighted front: passes on the part of the requests that the operator asks for, and answers the rest here. Owns what happens
 * when the other side cannot: until the first byte of an answer has left, the request is answered here, so a bad candidate costs a
 * moment and no answer. Knows no API's format; an answer is passed on as it comes.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import type { TrafficReport } from '@slm-operator/crds/contract';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import type { Limits } from '../limits.ts';
import { expectNothing, expectReading } from '../plugins/limits.ts';
import { drained } from '../routes/answer.ts';
import { answerHeaders, requestHeaders, wasPassedOn } from './headers.ts';
import { type Peer, UnreachableError } from './peer.ts';
import type { Target } from './setting.ts';
import { Splitter } from './splitter.ts';

/** How a request that was passed on came out. */
export type ForwardOutcome =
  | 'answered'
  /** The client hung up. */
  | 'hung_up'
  /** The other side went away in the middle of its answer, which ends there for the client too. */
  | 'broken'
  /** The time of the request was over. */
  | 'late'
  /** No connection; answered here. */
  | 'unreachable'
  /** The connection failed before an answer; answered here. */
  | 'failed'
  /** The other side said that it cannot; answered here. */
  | 'refused';

/** After a connection that did not come about nobody else waits for one, for so long, in milliseconds. */
const REST_MS = 1000;
/** Failures in a row that are worth telling. */
const TROUBLE = 3;
/** An answer with a length up to this is read to its end before its first byte leaves, so that half of one is none. */
const WHOLE_BYTES = 1024 * 1024;

/** The other side's own trouble, or a difference in who may ask it for what; this server may well be able to answer. */
function isRefusal(status: number): boolean {
  return status >= 500 || status === 429 || isMismatch(status);
}

/** The two revisions do not fit each other, and will not by themselves. Load and errors pass, and are for gates to judge. */
function isMismatch(status: number): boolean {
  return status === 401 || status === 403 || status === 404;
}

export interface ForwardingOptions {
  readonly info: { readonly target: Target | undefined; readonly revision: string | undefined };
  readonly peer: Pick<Peer, 'ask'>;
  readonly log: FastifyBaseLogger;
  /** Where the sequence begins, 0 to 1. Default: anywhere. */
  readonly start?: number | undefined;
  /** Milliseconds that never go back. */
  readonly now?: (() => number) | undefined;
}

/** What a request is told apart by here. */
export interface Passing {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly limits: Limits;
  /** Whether the client's connection ends with this answer. */
  readonly isLast: () => boolean;
  readonly count: (outcome: ForwardOutcome) => void;
}

export class Forwarding {
  readonly #info: ForwardingOptions['info'];
  readonly #peer: Pick<Peer, 'ask'>;
  readonly #log: FastifyBaseLogger;
  readonly #now: () => number;
  readonly #splitter: Splitter;
  /** What the failures below are about. */
  #about: Target | undefined;
  #failures = 0;
  #problem = '';
  #restUntil = Number.NEGATIVE_INFINITY;

  constructor({ info, peer, log, start = Math.random(), now = () => performance.now() }: ForwardingOptions) {
    this.#info = info;
    this.#peer = peer;
    this.#log = log;
    this.#now = now;
    this.#splitter = new Splitter(start);
  }

  /** Of this server; undefined where nobody told. */
  get revision(): string | undefined {
    return this.#info.revision;
  }

  /** For `/readyz`. */
  get report(): TrafficReport {
    const { target } = this.#info;
    if (!target) return {};
    const { weight, revision } = target;
    const trouble = this.#about === target && this.#failures >= TROUBLE;
    return { weight, revision, ...(trouble ? { problem: this.#problem } : {}) };
  }

  /**
   * Passes the request on if it is its turn.
   * @returns whether it was answered; otherwise it is to be answered here
   * @throws the deadline's reason
   */
  async take(passing: Passing): Promise<boolean> {
    const { request, reply, count } = passing;
    const { target } = this.#info;
    if (!target || wasPassedOn(request.headers) || !this.#splitter.next(target.weight)) return false;
    if (this.#about !== target) this.#reset(target);
    if (this.#now() < this.#restUntil) {
      count('unreachable');
      return false;
    }
    const { facts } = request;
    facts.forwardedTo = target.revision;
    const gone = goneOf(reply.raw);
    let answer: { readonly head: IncomingMessage; readonly whole: Buffer | undefined };
    try {
      answer = await this.#answer(passing, target, gone);
    } catch (error) {
      if (gone.signal.aborted && gone.signal.reason !== facts.deadline?.reason) {
        count('hung_up');
        reply.hijack();
        return true;
      }
      facts.forwardedTo = undefined;
      if (gone.signal.aborted) {
        count('late');
        throw error;
      }
      count(this.#failed(error, target));
      return false;
    }
    this.#failures = 0;
    reply.hijack();
    count(await send(answer, passing, gone));
    return true;
  }

  /** The head of an answer that can be passed on, and all of it where it is short. */
  async #answer({ request }: Passing, { host, port }: Target, gone: AbortController) {
    const { deadline } = request.facts;
    const late = () => gone.abort(deadline?.reason);
    if (deadline?.aborted === true) late();
    deadline?.addEventListener('abort', late, { once: true });
    try {
      const body = JSON.stringify(request.body);
      const headers = requestHeaders(request.headers, body, this.#info.revision ?? 'unknown', request.id);
      const head = await this.#peer.ask({ host, port, path: request.url, headers, body, signal: gone.signal });
      const status = head.statusCode ?? 502;
      if (isRefusal(status)) {
        head.destroy();
        throw new RefusedError(status);
      }
      const length = Number(head.headers['content-length'] ?? Number.NaN);
      return { head, whole: length <= WHOLE_BYTES ? await buffer(head) : undefined };
    } finally {
      // What is said from here on is said by the other side, which has the same deadline.
      deadline?.removeEventListener('abort', late);
    }
  }

  #failed(error: unknown, { host, port, revision }: Target): ForwardOutcome {
    if (error instanceof RefusedError && !isMismatch(error.status)) return 'refused';
    const outcome =
      error instanceof RefusedError ? 'refused' : error instanceof UnreachableError ? 'unreachable' : 'failed';
    if (outcome === 'unreachable') this.#restUntil = this.#now() + REST_MS;
    this.#problem = `revision ${revision} at ${host} port ${port}: ${error instanceof Error ? error.message : String(error)}`;
    this.#failures++;
    if (this.#failures === TROUBLE) this.#log.warn({ problem: this.#problem }, 'requests cannot be passed on');
    return outcome;
  }

  #reset(target: Target): void {
    this.#about = target;
    this.#failures = 0;
    this.#restUntil = Number.NEGATIVE_INFINITY;
  }
}

class RefusedError extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`it answers ${status}`);
    this.status = status;
  }
}

/** Writes an answer to the client. From here on nothing can be answered anew. */
async function send(
  { head, whole }: { readonly head: IncomingMessage; readonly whole: Buffer | undefined },
  { reply, limits, isLast }: Passing,
  gone: AbortController,
): Promise<ForwardOutcome> {
  const { raw } = reply;
  if (isLast()) raw.shouldKeepAlive = false;
  raw.writeHead(head.statusCode ?? 502, {
    ...(reply.getHeaders() as Record<string, string>),
    ...answerHeaders(head.headers),
  });
  try {
    if (whole) raw.write(whole);
    else await pass(head, raw, limits);
    expectReading(raw, limits, true);
    raw.end();
    return gone.signal.aborted ? 'hung_up' : 'answered';
  } catch {
    // An end would look like the answer's own.
    raw.destroy();
    return gone.signal.aborted ? 'hung_up' : 'broken';
  }
}

async function pass(answer: IncomingMessage, raw: ServerResponse, limits: Limits): Promise<void> {
  for await (const piece of answer as AsyncIterable<Buffer>) {
    if (raw.destroyed) return;
    if (raw.write(piece)) continue;
    expectReading(raw, limits);
    await drained(raw);
    expectNothing(raw);
  }
}

function goneOf(raw: ServerResponse): AbortController {
  const gone = new AbortController();
  if (raw.destroyed) gone.abort();
  raw.once('close', () => {
    if (!raw.writableEnded) gone.abort();
  });
  return gone;
}
