/**
 * Runs one controller: workers take keys from its queue and call its reconcile. Owns timeouts, the translation of
 * outcomes into requeues, and the promise that nothing a reconcile does ends the loop.
 */
import { ApiError, isConflict } from '../kube/errors.ts';
import { abortReason, type Clock } from './clock.ts';
import type { Controller } from './controller.ts';
import type { Logger } from './log.ts';
import type { ControllerMetrics, ReconcileResult } from './metrics.ts';
import { done, type Outcome } from './outcome.ts';
import type { WorkQueue } from './workqueue.ts';

/** A reconcile ran longer than its controller allows. */
export class ReconcileTimeoutError extends Error {
  override readonly name: string = 'ReconcileTimeoutError';
}

export interface LoopOptions {
  readonly controller: Controller;
  readonly queue: WorkQueue;
  readonly metrics: ControllerMetrics;
  readonly log: Logger;
  readonly clock: Clock;
  /** Asked before every reconcile: false leaves the key alone (leadership is lost or about to be). */
  readonly mayRun: () => boolean;
}

export interface ControllerLoop {
  /** Runs the workers until the queue is shut down and empty, or `abort` cuts running reconciles short. */
  run(abort: AbortSignal): Promise<void>;
  /** A sentence about reconciles that ignore their aborted signal; undefined when all is well. */
  stuck(): string | undefined;
}

/** After so many times its allowance a reconcile that ignores its signal makes the process unhealthy. */
const STUCK_FACTOR = 5;

export function makeControllerLoop(options: LoopOptions): ControllerLoop {
  return new Loop(options);
}

class Loop implements ControllerLoop {
  readonly #options: LoopOptions;
  readonly #running = new Map<string, number>();

  constructor(options: LoopOptions) {
    this.#options = options;
  }

  async run(abort: AbortSignal): Promise<void> {
    const workers = Array.from({ length: this.#options.controller.concurrency }, () => this.#work(abort));
    await Promise.all(workers);
  }

  stuck(): string | undefined {
    const { clock, controller } = this.#options;
    const limit = controller.reconcileTimeoutMs * STUCK_FACTOR;
    for (const [key, since] of this.#running) {
      const seconds = Math.round((clock.monotonic() - since) / 1000);
      if (seconds * 1000 > limit) return `controller ${controller.name}: reconcile of ${key} runs for ${seconds} s`;
    }
    return undefined;
  }

  async #work(abort: AbortSignal): Promise<void> {
    const { queue } = this.#options;
    for (let key = await queue.take(); key !== undefined; key = await queue.take()) {
      try {
        if (!abort.aborted && this.#options.mayRun()) await this.#process(key, abort);
      } finally {
        queue.done(key);
      }
    }
  }

  async #process(key: string, abort: AbortSignal): Promise<void> {
    const { controller, queue, metrics, clock } = this.#options;
    const log = this.#options.log.child({ controller: controller.name, key });
    const attempt = queue.failures(key);
    const started = clock.monotonic();
    const run = new AbortController();
    const onAbort = () => run.abort(abortReason(abort));
    abort.addEventListener('abort', onAbort, { once: true });
    const timer = clock.schedule(controller.reconcileTimeoutMs, () => {
      const limit = controller.reconcileTimeoutMs;
      run.abort(new ReconcileTimeoutError(`reconcile of ${key} took longer than ${limit} ms`));
    });
    this.#running.set(key, started);
    metrics.started();
    let result: ReconcileResult = 'error';
    try {
      // A run that outlives its signal is waited for: starting another beside it would be two workers on one key.
      const outcome =
        (await controller.reconcile(key, { signal: run.signal, log, attempt, backlog: queue.depth })) ?? done;
      result = this.#settle(key, outcome);
      notify(() => controller.onOutcome(key, outcome), log);
    } catch (thrown) {
      if (!abort.aborted) {
        const error = run.signal.aborted ? abortReason(run.signal) : thrown;
        this.#retry(key, error, attempt, log);
        notify(() => controller.onOutcome(key, { outcome: 'error', error }), log);
      }
    } finally {
      timer.cancel();
      abort.removeEventListener('abort', onAbort);
      this.#running.delete(key);
      metrics.finished(result, (clock.monotonic() - started) / 1000);
    }
  }

  #settle(key: string, outcome: Outcome): ReconcileResult {
    const { queue } = this.#options;
    queue.forget(key);
    if (outcome.outcome !== 'waiting' || outcome.requeueAfter === undefined) return 'success';
    queue.addAfter(key, outcome.requeueAfter);
    return 'requeue_after';
  }

  #retry(key: string, error: unknown, attempt: number, log: Logger): void {
    const { queue } = this.#options;
    const asked = error instanceof ApiError ? (error.retryAfterSeconds ?? 0) * 1000 : 0;
    const retryInMs = queue.addRateLimited(key, asked);
    // A conflict means that the store is a moment behind: normal, and over by the next try.
    if (isConflict(error)) log.debug({ err: error, retryInMs, attempt }, 'object changed meanwhile, trying again');
    else log.error({ err: error, retryInMs, attempt }, 'reconcile failed, trying again');
  }
}

function notify(callback: () => void, log: Logger): void {
  try {
    callback();
  } catch (error) {
    log.error({ err: error }, 'the controller’s onOutcome threw');
  }
}
