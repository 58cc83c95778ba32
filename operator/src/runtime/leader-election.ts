/**
 * Leadership by a Lease: at most one process acts at a time. Owns the lease object; decides nothing about what a leader
 * does. All durations are measured on the monotonic clock and from observations of our own: the times in the Lease are
 * for people, so wall clocks may jump and differ.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { KubeClient } from '../kube/client.ts';
import { isAlreadyExists, isConflict, isNotFound } from '../kube/errors.ts';
import { Lease, type ObjectOf } from '../kube/resource.ts';
import { type Clock, sleep, systemClock } from './clock.ts';
import { toMicroTime } from './conditions.ts';
import type { Logger } from './log.ts';

export interface LeaderElectionOptions {
  /** Name of the Lease. */
  readonly name: string;
  readonly namespace: string;
  /** Unique to this process. Default: host name, pid and a random suffix. */
  readonly identity?: string | undefined;
  /** How long others wait after the last renewal they saw. Default 15 000; rounded up to whole seconds. */
  readonly leaseDurationMs?: number | undefined;
  /** How long the leader tries to renew before it gives up. Default 10 000; must be less than the lease. */
  readonly renewDeadlineMs?: number | undefined;
  /** Pause between tries. Default 2000; must be less than the deadline. */
  readonly retryPeriodMs?: number | undefined;
}

export interface LeaderElectorOptions extends LeaderElectionOptions {
  readonly client: Pick<KubeClient, 'get' | 'create' | 'update'>;
  readonly log: Logger;
  readonly clock?: Clock | undefined;
  readonly random?: (() => number) | undefined;
  readonly onChange?: ((leads: boolean) => void) | undefined;
}

/** Another process may lead now: stop acting at once. */
/** For giving the lease back, in milliseconds; two requests at most. */
const RELEASE_MS = 2000;

export class LeadershipLostError extends Error {
  override readonly name: string = 'LeadershipLostError';
}

export interface LeaderElector {
  readonly identity: string;
  /** Resolves once this process leads; rejects when aborted. */
  acquire(signal: AbortSignal): Promise<void>;
  /** Call after `acquire`: renews until aborted (resolves) or until leadership is lost (rejects, `LeadershipLostError`). */
  hold(signal: AbortSignal): Promise<void>;
  /** Gives the lease back, so that a standby takes over at once. Call it when all work has ended. Never rejects. */
  release(): Promise<void>;
  /** True while nobody else can hold the lease, judged by the time of the last renewal rather than by a flag. */
  isLeader(): boolean;
}

type LeaseObject = ObjectOf<typeof Lease>;

/** Tries to acquire are spread over this multiple of the pause, or all replicas would ask at once. */
const JITTER = 1.2;

export function makeLeaderElector(options: LeaderElectorOptions): LeaderElector {
  return new LeaseElector(options);
}

class LeaseElector implements LeaderElector {
  readonly identity: string;
  readonly #options: LeaderElectorOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #leaseSeconds: number;
  readonly #renewDeadlineMs: number;
  readonly #retryPeriodMs: number;
  #lease: LeaseObject | undefined;
  /** When we first saw the lease as it is. */
  #observedAt = 0;
  /** When we began the last write that made or kept us leader. */
  #renewedAt: number | undefined;

  constructor(options: LeaderElectorOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.identity = options.identity ?? `${hostname()}_${process.pid}_${randomBytes(4).toString('hex')}`;
    const leaseMs = options.leaseDurationMs ?? 15_000;
    this.#renewDeadlineMs = options.renewDeadlineMs ?? 10_000;
    this.#retryPeriodMs = options.retryPeriodMs ?? 2000;
    this.#leaseSeconds = Math.ceil(leaseMs / 1000);
    if (!(this.#retryPeriodMs > 0 && this.#retryPeriodMs < this.#renewDeadlineMs && this.#renewDeadlineMs < leaseMs)) {
      throw new Error(
        `leader election ${options.name}: needs 0 < retryPeriodMs < renewDeadlineMs < leaseDurationMs, ` +
          `not ${this.#retryPeriodMs}, ${this.#renewDeadlineMs} and ${leaseMs}`,
      );
    }
  }

  isLeader(): boolean {
    // From the start of the last good write: the server, and so every standby, saw it later than that.
    return this.#renewedAt !== undefined && this.#clock.monotonic() - this.#renewedAt < this.#leaseSeconds * 1000;
  }

  async acquire(signal: AbortSignal): Promise<void> {
    const { log, name, namespace } = this.#options;
    let told: string | undefined;
    for (;;) {
      try {
        if (await this.#tryAcquire(signal)) break;
        const holder = this.#lease?.spec?.holderIdentity ?? '';
        if (holder !== told) log.info({ lease: `${namespace}/${name}`, holder }, 'another replica leads, standing by');
        told = holder;
      } catch (error) {
        if (signal.aborted) throw error;
        log.warn({ lease: `${namespace}/${name}`, err: error }, 'cannot read or write the lease, trying again');
      }
      await sleep(this.#clock, this.#retryPeriodMs * (1 + JITTER * this.#random()), signal);
    }
    log.info({ lease: `${namespace}/${name}`, identity: this.identity }, 'leading');
    this.#options.onChange?.(true);
  }

  async hold(signal: AbortSignal): Promise<void> {
    try {
      while (!signal.aborted) {
        await sleep(this.#clock, Math.min(this.#retryPeriodMs, Math.max(0, this.#leftMs())), signal).catch(
          () => undefined,
        );
        if (signal.aborted) return;
        if (this.#leftMs() <= 0) throw new LeadershipLostError('the lease could not be renewed in time');
        await this.#renew(signal);
      }
    } catch (error) {
      this.#renewedAt = undefined;
      this.#options.onChange?.(false);
      throw error;
    }
  }

  async release(): Promise<void> {
    if (this.#renewedAt === undefined || this.#lease === undefined) return;
    const { client, log, name, namespace } = this.#options;
    this.#renewedAt = undefined;
    // Bounded: the process is about to end, and the lease runs out by itself.
    const limit = new AbortController();
    const timer = this.#clock.schedule(RELEASE_MS, () => limit.abort(new Error('timed out')));
    const options = { signal: limit.signal };
    const giveBack = async (lease: LeaseObject) => {
      const renewTime = toMicroTime(this.#clock.now());
      const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime };
      await client.update(Lease, { ...lease, spec }, options);
    };
    try {
      await giveBack(this.#lease).catch(async (error: unknown) => {
        // A renewal that was cut off on its way back may have been stored all the same.
        if (!isConflict(error)) throw error;
        const lease = await client.get(Lease, { name, namespace }, options);
        if (lease.spec?.holderIdentity === this.identity) await giveBack(lease);
      });
      log.info({ identity: this.identity }, 'lease released');
    } catch (error) {
      log.warn({ err: error }, 'lease not released, standbys wait until it runs out');
    } finally {
      timer.cancel();
      this.#options.onChange?.(false);
    }
  }

  /** Milliseconds until we must stop acting. */
  #leftMs(): number {
    return (this.#renewedAt ?? Number.NEGATIVE_INFINITY) + this.#renewDeadlineMs - this.#clock.monotonic();
  }

  async #tryAcquire(signal: AbortSignal): Promise<boolean> {
    const { client, name, namespace } = this.#options;
    const timeoutMs = this.#renewDeadlineMs;
    const started = this.#clock.monotonic();
    let lease: LeaseObject;
    try {
      lease = await client.get(Lease, { name, namespace }, { signal, timeoutMs });
    } catch (error) {
      if (!isNotFound(error)) throw error;
      return await this.#write(started, () =>
        client.create(Lease, { metadata: { name, namespace }, spec: this.#claim(undefined) }, { signal, timeoutMs }),
      );
    }
    // The time after the answer: the holder began its renewal before it, so we never count its lease from too early.
    if (lease.metadata?.resourceVersion !== this.#lease?.metadata?.resourceVersion) {
      this.#observedAt = this.#clock.monotonic();
    }
    this.#lease = lease;
    const holder = lease.spec?.holderIdentity ?? '';
    const runsOut = this.#observedAt + (lease.spec?.leaseDurationSeconds ?? this.#leaseSeconds) * 1000;
    if (holder !== '' && holder !== this.identity && this.#clock.monotonic() < runsOut) return false;
    return await this.#write(started, () =>
      client.update(Lease, { ...lease, spec: this.#claim(lease) }, { signal, timeoutMs }),
    );
  }

  /** Keeps the lease; returns quietly when a try failed and there is time for another. */
  async #renew(signal: AbortSignal): Promise<void> {
    const { client, log } = this.#options;
    const started = this.#clock.monotonic();
    const limit = new AbortController();
    const cut = () => limit.abort(new LeadershipLostError('the lease could not be renewed in time'));
    const timer = this.#clock.schedule(this.#leftMs(), cut);
    signal.addEventListener('abort', cut, { once: true });
    const options = { signal: limit.signal, timeoutMs: this.#renewDeadlineMs };
    try {
      const lease = this.#lease as LeaseObject;
      const kept = await this.#write(started, () =>
        client.update(Lease, { ...lease, spec: this.#claim(lease) }, options),
      );
      if (!kept) await this.#lookWhoHolds(options);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof LeadershipLostError) throw error;
      log.warn({ err: error, leftMs: Math.round(this.#leftMs()) }, 'lease not renewed, trying again');
    } finally {
      timer.cancel();
      signal.removeEventListener('abort', cut);
    }
  }

  /** Somebody changed the lease under us: a person with kubectl, or a new leader. */
  async #lookWhoHolds(options: { readonly signal: AbortSignal; readonly timeoutMs: number }): Promise<void> {
    const { client, name, namespace } = this.#options;
    const started = this.#clock.monotonic();
    const lease = await client.get(Lease, { name, namespace }, options).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (lease === undefined) {
      await this.#write(started, () =>
        client.create(Lease, { metadata: { name, namespace }, spec: this.#claim(this.#lease) }, options),
      );
      return;
    }
    const holder = lease.spec?.holderIdentity ?? '';
    if (holder !== this.identity) throw new LeadershipLostError(`the lease is held by ${holder || 'nobody'} now`);
    this.#lease = lease;
    await this.#write(started, () => client.update(Lease, { ...lease, spec: this.#claim(lease) }, options));
  }

  /** True when the write went through; false when somebody else was faster. */
  async #write(started: number, send: () => Promise<LeaseObject>): Promise<boolean> {
    try {
      this.#lease = await send();
    } catch (error) {
      if (isConflict(error) || isAlreadyExists(error) || isNotFound(error)) return false;
      throw error;
    }
    this.#renewedAt = started;
    return true;
  }

  #claim(lease: LeaseObject | undefined): NonNullable<LeaseObject['spec']> {
    const now = toMicroTime(this.#clock.now());
    const before = lease?.spec;
    const keeps = before?.holderIdentity === this.identity;
    return {
      ...before,
      holderIdentity: this.identity,
      leaseDurationSeconds: this.#leaseSeconds,
      renewTime: now,
      acquireTime: keeps && before.acquireTime !== undefined ? before.acquireTime : now,
      leaseTransitions: (before?.leaseTransitions ?? 0) + (keeps || before === undefined ? 0 : 1),
    };
  }
}
