/**
 * The way out: first every answer ends its connection, then what runs may finish within the given time, and when nobody has
 * asked for a moment, connections end. Owns the order of the steps.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyBaseLogger } from 'fastify';
import type { Lifecycle } from './lifecycle.ts';
import type { Listeners } from './listeners.ts';

export interface ShutdownOptions {
  readonly lifecycle: Lifecycle;
  readonly listeners: Listeners;
  /** Seconds in which new connections are still served, since proxies learn late that this server is going. Default 0: nobody is waited for. */
  readonly delaySeconds?: number;
  /** Seconds for what runs after that. */
  readonly timeoutSeconds: number;
  readonly log: FastifyBaseLogger;
}

/**
 * How long nobody may have been answered before connections are closed, in milliseconds; more where few ask.
 *
 * The head of a stream that began before the drain has promised to keep the connection, and whoever has read its end may ask the
 * next question on it at once. And a proxy that has not learnt that this server is going, since the control plane was away or is
 * slow, goes on sending its share: it has learnt when as many are missing as cannot be missing by chance.
 */
const LINGER = { leastMs: 2000, mostMs: 15_000, missing: 8 } as const;

/**
 * Drains the server without failing a request. A client on a kept-alive connection is told by `Connection: close` to open its
 * next one elsewhere; closing an idle connection under a request on its way would fail that request, so it comes last, and
 * after a pause.
 * @returns whether everything that ran came to its end
 */
export async function shutDown(options: ShutdownOptions): Promise<boolean> {
  const { lifecycle, listeners, log } = options;
  const lingerMs = lingerFor(lifecycle.secondsBetween);
  lifecycle.drain();
  log.info({ running: lifecycle.running, timeoutSeconds: options.timeoutSeconds, lingerMs }, 'draining');
  const delayMs = (options.delaySeconds ?? 0) * 1000;
  if (delayMs > 0) await delay(delayMs);
  const given = new AbortController();
  const quiet = untilQuiet(lifecycle, delayMs > 0 ? lingerMs : 0, given.signal);
  // Who still lingers while nothing runs has lost nothing.
  const finished = (await within(quiet, options.timeoutSeconds * 1000)) || lifecycle.running === 0;
  given.abort();
  if (!finished) log.warn({ running: lifecycle.running }, 'the drain timed out; ending the requests that still run');
  // Aborts what is left, whose streams end with that; nothing new can start.
  // Not without bound: a decoder that is stuck must not keep the process from ending.
  await within(lifecycle.models.close(), ENGINE_MS);
  // Answers that were just written are still on their way; a client that never reads must not hold the process.
  await within(listeners.close(), CLOSE_MS);
  return finished;
}

/** @param secondsBetween of two requests, lately; undefined where hardly any came */
export function lingerFor(secondsBetween: number | undefined): number {
  const { leastMs, mostMs, missing } = LINGER;
  if (secondsBetween === undefined) return leastMs;
  return Math.round(Math.min(mostMs, Math.max(leastMs, secondsBetween * missing * 1000)));
}

/** Resolves when nothing runs and the last answer ended that long ago. */
async function untilQuiet(lifecycle: Lifecycle, ms: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await lifecycle.idle();
    const { idleSeconds } = lifecycle;
    // Another request came in this very moment.
    if (idleSeconds === undefined) continue;
    const left = ms - idleSeconds * 1000;
    if (left <= 0) return;
    await delay(left, undefined, { signal }).catch(() => undefined);
  }
}

/** For the batch in progress and the release of memory, in milliseconds. */
const ENGINE_MS = 3000;
/** For the last bytes to leave after the last answer was written, in milliseconds. */
const CLOSE_MS = 1000;

async function within(work: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
