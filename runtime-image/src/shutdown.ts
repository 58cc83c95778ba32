/**
 * The way out: first every answer ends its connection, then no connection is taken any more, then what runs may finish
 * within the given time. Owns the order of the steps.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyBaseLogger } from 'fastify';
import type { Lifecycle } from './lifecycle.ts';
import type { Listeners } from './listeners.ts';

export interface ShutdownOptions {
  readonly lifecycle: Lifecycle;
  readonly listeners: Listeners;
  /** Seconds in which new connections are still served, since proxies learn late that this server is going. Default 0. */
  readonly delaySeconds?: number;
  /** Seconds for what runs after that. */
  readonly timeoutSeconds: number;
  readonly log: FastifyBaseLogger;
}

/**
 * Drains the server without failing a request. A client on a kept-alive connection is told by `Connection: close` to open its
 * next one elsewhere; closing an idle connection under a request on its way would fail that request, so it comes last.
 * @returns whether everything that ran came to its end
 */
export async function shutDown(options: ShutdownOptions): Promise<boolean> {
  const { lifecycle, listeners, log } = options;
  lifecycle.drain();
  log.info({ running: lifecycle.running, timeoutSeconds: options.timeoutSeconds }, 'draining');
  if (options.delaySeconds) await delay(options.delaySeconds * 1000);
  listeners.closeIdle();
  const finished = await within(lifecycle.idle(), options.timeoutSeconds * 1000);
  if (!finished) log.warn({ running: lifecycle.running }, 'the drain timed out; ending the requests that still run');
  // Aborts what is left, whose streams end with that; nothing new can start.
  // Not without bound: a decoder that is stuck must not keep the process from ending.
  await within(lifecycle.models.close(), ENGINE_MS);
  // Answers that were just written are still on their way; a client that never reads must not hold the process.
  await within(listeners.close(), CLOSE_MS);
  return finished;
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
