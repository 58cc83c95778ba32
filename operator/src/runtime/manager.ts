import type { KubeClient, Selector } from '../kube/client.ts';
import type { KubeObject, ResourceType } from '../kube/resource.ts';
import type { Clock } from './clock.ts';
import type { Controller } from './controller.ts';
import type { Logger } from './log.ts';
import type { RuntimeMetrics } from './metrics.ts';
import type { Indexer, Store } from './store.ts';

/** What a shared store is made of: one exists for each resource and selector; indexes add up. */
export interface StoreOptions<T extends KubeObject> extends Selector {
  readonly indexes?: Readonly<Record<string, Indexer<T>>> | undefined;
}

export interface LeaderElectionOptions {
  /** Name of the Lease. */
  readonly name: string;
  readonly namespace: string;
  /** Unique to this process. Default: host name, pid and a random suffix. */
  readonly identity?: string | undefined;
  /** How long others wait after the last renewal they saw. Default 15 000. */
  readonly leaseDurationMs?: number | undefined;
  /** How long the leader tries to renew before it gives up. Default 10 000; less than the lease. */
  readonly renewDeadlineMs?: number | undefined;
  /** Pause between tries. Default 2000. */
  readonly retryPeriodMs?: number | undefined;
}

export interface ManagerOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  /** Absent: this process leads at once (a node agent, a test). */
  readonly leaderElection?: LeaderElectionOptions | undefined;
  /** Serves /healthz and /readyz. Absent: none. Port 0 picks a free one. */
  readonly probes?: { readonly host?: string | undefined; readonly port: number } | undefined;
  /** Serves /metrics. The same port as the probes shares their server. */
  readonly metricsServer?: { readonly host?: string | undefined; readonly port: number } | undefined;
  /** Default: a fresh set on a registry of its own. */
  readonly metrics?: RuntimeMetrics | undefined;
  /** Milliseconds that running reconciles and queued keys get after stop. Default 20 000. */
  readonly shutdownTimeoutMs?: number | undefined;
  readonly clock?: Clock | undefined;
  /** Numbers in [0, 1). Default Math.random. */
  readonly random?: (() => number) | undefined;
}

/** A task that runs as long as the manager does (a server, a timer). */
export interface Runnable {
  readonly name: string;
  /** Default true. */
  readonly needsLeader?: boolean | undefined;
  /** Must end soon after the signal is aborted. Ending with an error stops the manager. */
  readonly run: (signal: AbortSignal) => Promise<void>;
}

/** A check throws or rejects with a sentence that says what is missing. */
export type Check = () => void | Promise<void>;

export interface Manager {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly metrics: RuntimeMetrics;
  /**
   * The shared store of a resource and selector; call it before `start` (later is possible: it fills on its own).
   * Stores run on every replica, so that a standby takes over with warm caches.
   */
  store<T extends KubeObject>(type: ResourceType<T>, options?: StoreOptions<NoInfer<T>>): Store<T>;
  /** Adds a controller. Only before `start`. Answers a handle to wake keys by hand. */
  add(controller: Controller): { enqueue(key: string): void };
  addRunnable(runnable: Runnable): void;
  addReadyCheck(name: string, check: Check): void;
  addHealthCheck(name: string, check: Check): void;
  /**
   * Runs until the signal is aborted or `stop` is called (resolves), or leadership is lost or a runnable fails
   * (rejects: end the process).
   */
  start(signal?: AbortSignal): Promise<void>;
  /** Drains, releases the lease, closes servers; resolves when all is down. */
  stop(): Promise<void>;
  readonly isLeader: boolean;
  /** Ports actually bound, once started. */
  readonly ports: { readonly probes: number | undefined; readonly metrics: number | undefined };
}

export declare function makeManager(options: ManagerOptions): Manager;
