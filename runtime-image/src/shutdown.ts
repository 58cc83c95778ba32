/**
 * The way out: refuse what is new, let finish what runs, end within the given time. Owns the order of the steps.
 */
import type { FastifyBaseLogger } from 'fastify';
import type { Lifecycle } from './lifecycle.ts';
import type { Listeners } from './listeners.ts';

export interface ShutdownOptions {
  readonly lifecycle: Lifecycle;
  readonly listeners: Listeners;
  /** Seconds for what runs. */
  readonly timeoutSeconds: number;
  readonly log: FastifyBaseLogger;
}

/**
 * Drains the server. The pod's preStop hook has waited until no endpoint leads here any more, so nothing is gained by
 * taking new requests; the ports stay open to tell late ones to go elsewhere.
 * @returns whether everything that ran came to its end
 */
export async function shutDown(options: ShutdownOptions): Promise<boolean> {
  const { lifecycle, listeners, log } = options;
  lifecycle.drain();
  listeners.closeIdle();
  log.info({ running: lifecycle.running, timeoutSeconds: options.timeoutSeconds }, 'draining');
  const finished = await within(lifecycle.idle(), options.timeoutSeconds * 1000);
  if (!finished) log.warn({ running: lifecycle.running }, 'the drain timed out; ending the requests that still run');
  // Aborts what is left, whose streams end with that; nothing new can start.
  // Not without bound: a decoder that is stuck must not keep the process from ending.
  if (lifecycle.loaded) await within(lifecycle.loaded.engine.close(), ENGINE_MS);
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
