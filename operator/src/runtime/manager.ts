/**
 * One process's controllers and all that they share: stores, leadership, probes, metrics, and the order of start and
 * stop. Knows no kind and no reconcile.
 *
 * Start: servers → stores fill (on every replica, so a standby is warm) → leadership → controllers.
 * Stop: queues take no more → running reconciles and waiting keys finish, bounded → lease released → stores → servers.
 */
import type { KubeClient } from '../kube/client.ts';
import type { KubeObject, ResourceType } from '../kube/resource.ts';
import { type Clock, sleep, systemClock, type Timer } from './clock.ts';
import type { Controller } from './controller.ts';
import { type ControllerLoop, makeControllerLoop } from './controller-loop.ts';
import { type Check, type Endpoint, type HttpServers, startHttpServers } from './http-servers.ts';
import {
  type LeaderElectionOptions,
  type LeaderElector,
  LeadershipLostError,
  makeLeaderElector,
} from './leader-election.ts';
import type { Logger } from './log.ts';
import { makeRuntimeMetrics, type RuntimeMetrics } from './metrics.ts';
import { SharedStores, type StoreOptions } from './shared-stores.ts';
import type { Store, Transforms } from './store.ts';
import { makeWorkQueue, type WorkQueue } from './workqueue.ts';

export interface ManagerOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  /** Absent: this process leads at once (a node agent, a test). */
  readonly leaderElection?: LeaderElectionOptions | undefined;
  /** Serves /healthz and /readyz. Absent: none. Port 0 picks a free one. */
  readonly probes?: Endpoint | undefined;
  /** Serves /metrics. The same port as the probes shares their server. */
  readonly metricsServer?: Endpoint | undefined;
  /** Default: a fresh set on a registry of its own. */
  readonly metrics?: RuntimeMetrics | undefined;
  /** Milliseconds that running reconciles and waiting keys get after stop. Default 20 000. */
  readonly shutdownTimeoutMs?: number | undefined;
  readonly clock?: Clock | undefined;
  /** Numbers in [0, 1). Default Math.random. */
  readonly random?: (() => number) | undefined;
  /** What stores keep of objects of these types, where nobody says otherwise; see `StoreOptions.transform`. */
  readonly transforms?: Transforms | undefined;
}

/** A task that runs as long as the manager does (a server, a timer). */
export interface Runnable {
  readonly name: string;
  /** Default true. */
  readonly needsLeader?: boolean | undefined;
  /** Must end soon after the signal is aborted. An error stops the manager. */
  readonly run: (signal: AbortSignal) => Promise<void>;
}

export interface Manager {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly metrics: RuntimeMetrics;
  /**
   * The shared store of a resource and selector. Stores asked for before `start` are full before any controller runs;
   * later ones fill on their own (`whenSynced`).
   */
  store<T extends KubeObject>(type: ResourceType<T>, options?: StoreOptions<NoInfer<T>>): Store<T>;
  /** Adds a controller; only before `start`. Answers a handle to wake keys by hand. */
  add(controller: Controller): { enqueue(key: string): void };
  /** Only before `start`. */
  addRunnable(runnable: Runnable): void;
  addReadyCheck(name: string, check: Check): void;
  addHealthCheck(name: string, check: Check): void;
  /**
   * Runs until the signal is aborted or `stop` is called (resolves), or until leadership is lost or a runnable fails
   * (rejects: end the process, a new one starts clean). Only once.
   */
  start(signal?: AbortSignal): Promise<void>;
  /** Stops and resolves when all is down. */
  stop(): Promise<void>;
  /** True while this process leads (always, without leader election, once started). */
  readonly isLeader: boolean;
  /** Resolves when the controllers run. */
  readonly running: Promise<void>;
  /** Ports actually bound, once started. */
  readonly ports: { readonly probes: number | undefined; readonly metrics: number | undefined };
}

export function makeManager(options: ManagerOptions): Manager {
  return new ControllerManager(options);
}

interface Entry {
  readonly controller: Controller;
  readonly queue: WorkQueue;
  readonly loop: ControllerLoop;
  /** Subscriptions to begin when the controller does; a standby collects no keys. */
  readonly subscriptions: (() => () => void)[];
  started: boolean;
}

const DEFAULT_SHUTDOWN_MS = 20_000;
/** For code whose signal was just aborted to notice it. */
const ABORT_GRACE_MS = 1000;

class ControllerManager implements Manager {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly metrics: RuntimeMetrics;
  readonly running: Promise<void>;
  readonly #options: ManagerOptions;
  readonly #clock: Clock;
  readonly #stores: SharedStores;
  readonly #entries: Entry[] = [];
  readonly #runnables: Runnable[] = [];
  readonly #health = new Map<string, Check>();
  readonly #ready = new Map<string, Check>();
  readonly #elector: LeaderElector | undefined;
  /** Ends acquisition, syncing and runnables: the wish to stop. */
  readonly #stopping = new AbortController();
  /** Ends running reconciles: no more patience. */
  readonly #aborting = new AbortController();
  /** Ends reflectors: nobody reads the stores any more. */
  readonly #closing = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  readonly #markRunning: () => void;
  #started: Promise<void> | undefined;
  #servers: HttpServers | undefined;
  #leads = false;
  #failure: unknown;

  constructor(options: ManagerOptions) {
    this.#options = options;
    this.client = options.client;
    this.log = options.log;
    this.metrics = options.metrics ?? makeRuntimeMetrics();
    this.#clock = options.clock ?? systemClock;
    const random = options.random ?? Math.random;
    this.#stores = new SharedStores({
      client: this.client,
      log: this.log,
      metrics: this.metrics,
      clock: this.#clock,
      random,
      transforms: options.transforms,
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.running = promise;
    this.#markRunning = resolve;
    const election = options.leaderElection;
    if (election !== undefined) {
      this.metrics.leading(election.name, false);
      this.#elector = makeLeaderElector({
        ...election,
        client: options.client,
        log: options.log,
        clock: this.#clock,
        random,
        onChange: (leads) => this.metrics.leading(election.name, leads),
      });
    }
    this.#ready.set('stores', () => this.#checkStores());
    this.#health.set('controllers', () => this.#checkLoops());
  }

  get isLeader(): boolean {
    return this.#leads && (this.#elector === undefined || this.#elector.isLeader());
  }

  get ports() {
    return this.#servers?.ports ?? { probes: undefined, metrics: undefined };
  }

  store<T extends KubeObject>(type: ResourceType<T>, options: StoreOptions<T> = {}): Store<T> {
    return this.#stores.get(type, options);
  }

  add(controller: Controller): { enqueue(key: string): void } {
    this.#mustNotRun(`controller ${controller.name}`);
    if (this.#entries.some((entry) => entry.controller.name === controller.name)) {
      throw new Error(`there is already a controller ${controller.name}: names label metrics and must differ`);
    }
    const metrics = this.metrics.controller(controller.name);
    const queue = makeWorkQueue({
      baseDelayMs: controller.backoff.baseMs,
      maxDelayMs: controller.backoff.maxMs,
      clock: this.#clock,
      observer: metrics.queue,
    });
    metrics.observeQueue(queue);
    metrics.maxConcurrent(controller.concurrency);
    const mayRun = () => !controller.needsLeader || this.isLeader;
    const loop = makeControllerLoop({ controller, queue, metrics, log: this.log, clock: this.#clock, mayRun });
    const subscriptions: (() => () => void)[] = [];
    this.#entries.push({ controller, queue, loop, subscriptions, started: false });
    for (const source of controller.sources) {
      source.bind({
        enqueue: (key, delayMs = 0) => queue.addAfter(key, delayMs),
        onError: (error) =>
          this.log.error({ err: error, controller: controller.name, source: source.name }, 'a key mapper threw'),
        store: (type, options) => {
          const store = this.store(type, options);
          return {
            subscribe: (handler) => {
              let end: (() => void) | undefined;
              subscriptions.push(() => {
                end = store.subscribe(handler);
                return end;
              });
              return () => end?.();
            },
          };
        },
      });
    }
    return { enqueue: (key) => queue.add(key) };
  }

  addRunnable(runnable: Runnable): void {
    this.#mustNotRun(`runnable ${runnable.name}`);
    this.#runnables.push(runnable);
  }

  addReadyCheck(name: string, check: Check): void {
    this.#ready.set(name, check);
  }

  addHealthCheck(name: string, check: Check): void {
    this.#health.set(name, check);
  }

  start(signal?: AbortSignal): Promise<void> {
    if (this.#started !== undefined) throw new Error('the manager was started before: make a new one');
    const stop = () => this.#stopping.abort(new Error('stopping'));
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop, { once: true });
    this.#started = this.#run().finally(() => signal?.removeEventListener('abort', stop));
    return this.#started;
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('stopping'));
    await this.#started?.catch(() => undefined);
  }

  async #run(): Promise<void> {
    const stopping = this.#stopping.signal;
    try {
      this.#servers = await startHttpServers({
        probes: this.#options.probes,
        metricsServer: this.#options.metricsServer,
        health: this.#health,
        ready: this.#ready,
        registry: this.metrics.registry,
      });
      this.#stores.start(this.#closing.signal);
      await this.#stores.whenSynced(stopping);
      this.#startAll(false);
      await this.#lead(stopping);
      this.#startAll(true);
      this.#markRunning();
      await untilAborted(stopping);
    } catch (error) {
      if (!stopping.aborted) this.#failure = error;
    }
    await this.#shutDown();
    if (this.#failure !== undefined) throw asError(this.#failure);
  }

  async #lead(stopping: AbortSignal): Promise<void> {
    const elector = this.#elector;
    if (elector !== undefined) {
      await elector.acquire(stopping);
      // Renewing goes on while the controllers drain: they still act.
      const held = elector.hold(this.#closing.signal);
      this.#background(held.catch((error: unknown) => this.#fail(error)));
    }
    this.#leads = true;
  }

  #startAll(needsLeader: boolean): void {
    for (const entry of this.#entries) {
      const { controller, loop, subscriptions } = entry;
      if (controller.needsLeader !== needsLeader) continue;
      entry.started = true;
      for (const subscribe of subscriptions) subscribe();
      this.#background(loop.run(this.#aborting.signal));
      this.log.info({ controller: controller.name, workers: controller.concurrency }, 'controller started');
    }
    for (const runnable of this.#runnables) {
      if ((runnable.needsLeader ?? true) !== needsLeader) continue;
      this.#background(this.#runOne(runnable));
    }
  }

  async #runOne(runnable: Runnable): Promise<void> {
    try {
      await runnable.run(this.#stopping.signal);
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      this.log.error({ err: error, runnable: runnable.name }, 'a task ended with an error, stopping');
      this.#fail(error);
    }
  }

  /** Stops everything because of an error. Lost leadership leaves no time to finish: another replica acts already. */
  #fail(error: unknown): void {
    this.#failure ??= error;
    if (error instanceof LeadershipLostError) {
      this.#leads = false;
      this.log.error({ err: error }, 'leadership lost, stopping at once');
      for (const { queue } of this.#entries) queue.clear();
      this.#aborting.abort(error);
    }
    this.#stopping.abort(asError(error));
  }

  async #shutDown(): Promise<void> {
    this.#stopping.abort(new Error('stopping'));
    const limit = this.#options.shutdownTimeoutMs ?? DEFAULT_SHUTDOWN_MS;
    for (const { queue, started } of this.#entries) {
      queue.shutDown();
      if (!started) queue.clear();
    }
    const timer: Timer = this.#clock.schedule(limit, () => {
      this.log.warn({ limitMs: limit }, 'work did not end in time, cutting it short');
      for (const { queue } of this.#entries) queue.clear();
      this.#aborting.abort(new Error('the process is stopping'));
    });
    const drained = Promise.all(this.#entries.map(({ queue }) => queue.whenIdle()));
    await Promise.race([drained, untilAborted(this.#aborting.signal)]);
    timer.cancel();
    // A reconcile that ignores its signal is abandoned: the process is about to end.
    const graceEnds = this.#clock.monotonic() + ABORT_GRACE_MS;
    await this.#within(ABORT_GRACE_MS, drained);
    this.#aborting.abort(new Error('the process is stopping'));
    this.#closing.abort(new Error('stopping'));
    await this.#elector?.release();
    this.#leads = false;
    await this.#within(graceEnds - this.#clock.monotonic(), Promise.allSettled([...this.#tasks, this.#stores.ended()]));
    await this.#servers?.close();
    this.log.info({}, 'stopped');
  }

  /** Waits for it, but no longer than that. */
  async #within(ms: number, task: Promise<unknown>): Promise<void> {
    const enough = new AbortController();
    await Promise.race([task, sleep(this.#clock, ms, enough.signal).catch(() => undefined)]);
    enough.abort();
  }

  #background(task: Promise<void>): void {
    const tracked = task.catch((error: unknown) => this.#fail(error)).finally(() => this.#tasks.delete(tracked));
    this.#tasks.add(tracked);
  }

  #checkStores(): void {
    if (this.#stopping.signal.aborted) throw new Error('stopping');
    const missing = this.#stores.unsynced();
    if (missing.length > 0)
      throw new Error(`not listed yet: ${missing.join(', ')} (CRD missing, or no right to list?)`);
  }

  #checkLoops(): void {
    for (const { loop } of this.#entries) {
      const stuck = loop.stuck();
      if (stuck !== undefined) throw new Error(stuck);
    }
  }

  #mustNotRun(what: string): void {
    if (this.#started !== undefined) throw new Error(`${what} comes too late: add it before start`);
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/**
 * A signal that is aborted by SIGTERM or SIGINT. A second signal ends the process at once with status 1.
 */
export function terminationSignal(): AbortSignal {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(1);
    controller.abort(new Error(name));
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  return controller.signal;
}
