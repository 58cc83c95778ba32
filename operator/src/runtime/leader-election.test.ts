import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CallOptions, KubeClient } from '../kube/client.ts';
import { ApiError, ConnectionError } from '../kube/errors.ts';
import type { Lease, ObjectOf } from '../kube/resource.ts';
import {
  type LeaderElector,
  type LeaderElectorOptions,
  LeadershipLostError,
  makeLeaderElector,
} from './leader-election.ts';
import { silentLogger } from './log.ts';
import { type ManualClock, makeManualClock } from './testing/clocks.ts';

type LeaseObject = ObjectOf<typeof Lease>;

/** Lets resolved promises run, a few turns deep. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** The server's side of one lease. */
class LeaseServer {
  lease: LeaseObject | undefined;
  #version = 0;

  read(): LeaseObject {
    if (this.lease === undefined) throw refusal(404, 'NotFound');
    return this.lease;
  }

  create(lease: LeaseObject): LeaseObject {
    if (this.lease !== undefined) throw refusal(409, 'AlreadyExists');
    return this.store(lease);
  }

  update(lease: LeaseObject): LeaseObject {
    if (this.lease === undefined) throw refusal(404, 'NotFound');
    if (lease.metadata?.resourceVersion !== this.lease.metadata?.resourceVersion) throw refusal(409, 'Conflict');
    return this.store(lease);
  }

  store(lease: LeaseObject): LeaseObject {
    this.lease = { ...lease, metadata: { ...lease.metadata, resourceVersion: String(++this.#version) } };
    return this.lease;
  }
}

type Trouble = 'none' | 'refused' | 'hang' | 'answer-lost';

/** A replica's way to the server, which may be in trouble. */
class Line {
  trouble: Trouble = 'none';
  readonly #server: LeaseServer;
  readonly #clock: ManualClock;
  constructor(server: LeaseServer, clock: ManualClock) {
    this.#server = server;
    this.#clock = clock;
  }

  get client(): Pick<KubeClient, 'get' | 'create' | 'update'> {
    const call = async (action: () => LeaseObject, limits: CallOptions = {}): Promise<LeaseObject> => {
      await Promise.resolve();
      if (this.trouble === 'refused') throw new ConnectionError('test', new Error('ECONNREFUSED'));
      if (this.trouble === 'hang') return await this.#hang(limits);
      const answer = action();
      if (this.trouble === 'answer-lost') throw new ConnectionError('test', new Error('ECONNRESET'));
      return answer;
    };
    const server = this.#server;
    return {
      get: (_type, _ref, options) => call(() => server.read(), options) as never,
      create: (_type, lease, options) => call(() => server.create(lease as unknown as LeaseObject), options) as never,
      update: (_type, lease, options) => call(() => server.update(lease as unknown as LeaseObject), options) as never,
    };
  }

  #hang({ signal, timeoutMs = 30_000 }: CallOptions): Promise<never> {
    return new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      this.#clock.schedule(timeoutMs, () => reject(new ConnectionError('test', new Error('timed out'))));
    });
  }
}

function refusal(status: number, reason: string): ApiError {
  return new ApiError({ status, reason, message: reason, request: 'test' });
}

/** A process that begins anew whenever it loses the lease, as a pod does. */
class Replica {
  readonly line: Line;
  readonly name: string;
  readonly reigns: string[] = [];
  elector: LeaderElector;
  readonly #make: () => LeaderElector;
  #lives = 0;
  #life = new AbortController();

  constructor(name: string, server: LeaseServer, clock: ManualClock, random: () => number) {
    this.name = name;
    this.line = new Line(server, clock);
    this.#make = () =>
      makeLeaderElector({
        ...options(this.line, clock),
        random,
        identity: `${name}${++this.#lives}`,
        onChange: (leads) => this.reigns.push(`${this.elector.identity} ${leads ? 'leads' : 'ends'}`),
      });
    this.elector = this.#make();
    void this.#live();
  }

  async stop(): Promise<void> {
    this.#life.abort(new Error('stop'));
    await this.elector.release();
  }

  async #live(): Promise<void> {
    while (!this.#life.signal.aborted) {
      try {
        await this.elector.acquire(this.#life.signal);
        await this.elector.hold(this.#life.signal);
      } catch {
        if (!this.#life.signal.aborted) this.elector = this.#make();
      }
    }
  }
}

function options(line: Line, clock: ManualClock): LeaderElectorOptions {
  return { name: 'test', namespace: 'default', client: line.client, log: silentLogger, clock, random: () => 0.5 };
}

async function pass(clock: ManualClock, ms: number): Promise<void> {
  // In small steps: what happens at a moment has to be able to change what happens after it.
  for (let left = ms; left > 0; left -= 250) {
    clock.advance(Math.min(250, left));
    await settle();
  }
}

describe('leader election', () => {
  it('writes a lease that kubectl understands, and renews it every two seconds', async () => {
    const [server, clock] = [new LeaseServer(), makeManualClock(Date.UTC(2030, 0, 1))];
    const replica = new Replica('a', server, clock, () => 0);
    await settle();
    expect(server.lease?.spec).toEqual({
      holderIdentity: 'a1',
      leaseDurationSeconds: 15,
      acquireTime: '2030-01-01T00:00:00.000000Z',
      renewTime: '2030-01-01T00:00:00.000000Z',
      leaseTransitions: 0,
    });
    await pass(clock, 6000);
    expect(server.lease?.spec?.renewTime).toBe('2030-01-01T00:00:06.000000Z');
    expect(server.lease?.spec?.acquireTime).toBe('2030-01-01T00:00:00.000000Z');
    expect(server.lease?.metadata?.resourceVersion).toBe('4');
    await replica.stop();
  });

  it('gives the lease back on shutdown, so that a standby need not wait, and counts the transition', async () => {
    const [server, clock] = [new LeaseServer(), makeManualClock()];
    const first = new Replica('a', server, clock, () => 0);
    await settle();
    const second = new Replica('b', server, clock, () => 0);
    await pass(clock, 4000);
    expect([first.elector.isLeader(), second.elector.isLeader()]).toEqual([true, false]);
    await first.stop();
    expect(server.lease?.spec?.holderIdentity).toBe('');
    await pass(clock, 2000);
    expect([first.elector.isLeader(), second.elector.isLeader()]).toEqual([false, true]);
    expect(server.lease?.spec).toMatchObject({ holderIdentity: 'b1', leaseTransitions: 1 });
    await second.stop();
  });

  it('takes over from a leader that died, no sooner than its lease allows and within a try after', async () => {
    const [server, clock] = [new LeaseServer(), makeManualClock()];
    const dead = new Replica('a', server, clock, () => 0);
    await settle();
    const standby = new Replica('b', server, clock, () => 0);
    await pass(clock, 4000);
    dead.line.trouble = 'hang';
    await pass(clock, 14_000);
    expect(standby.elector.isLeader()).toBe(false);
    await pass(clock, 3500);
    expect(standby.elector.isLeader()).toBe(true);
    await standby.stop();
    await dead.stop();
  });

  it('gives up after ten seconds without renewal, before anybody else may lead', async () => {
    const [server, clock] = [new LeaseServer(), makeManualClock()];
    const line = new Line(server, clock);
    const elector = makeLeaderElector(options(line, clock));
    const signal = new AbortController().signal;
    await elector.acquire(signal);
    let lost: unknown;
    void elector.hold(signal).catch((error: unknown) => {
      lost = error;
    });
    line.trouble = 'hang';
    await pass(clock, 9750);
    expect([elector.isLeader(), lost]).toEqual([true, undefined]);
    await pass(clock, 250);
    expect(elector.isLeader()).toBe(false);
    expect(lost).toBeInstanceOf(LeadershipLostError);
  });

  it('knows after a pause of its process that it leads no more, before it sends anything', async () => {
    const [server, clock] = [new LeaseServer(), makeManualClock()];
    const elector = makeLeaderElector(options(new Line(server, clock), clock));
    await elector.acquire(new AbortController().signal);
    expect(elector.isLeader()).toBe(true);
    clock.advance(15_000);
    expect(elector.isLeader()).toBe(false);
  });

  it('takes the lease as its own when an answer was lost but the write was not', async () => {
    const [server, clock] = [new LeaseServer(), makeManualClock()];
    const replica = new Replica('a', server, clock, () => 0);
    await settle();
    replica.line.trouble = 'answer-lost';
    await pass(clock, 2000);
    replica.line.trouble = 'none';
    await pass(clock, 20_000);
    expect(replica.reigns).toEqual(['a1 leads']);
    await replica.stop();
  });

  it('survives that somebody deletes or edits the lease', async () => {
    const [server, clock] = [new LeaseServer(), makeManualClock()];
    const replica = new Replica('a', server, clock, () => 0);
    await settle();
    server.lease = undefined;
    await pass(clock, 4000);
    server.store({ ...server.read(), metadata: { ...server.read().metadata, labels: { edited: 'yes' } } });
    await pass(clock, 4000);
    expect(replica.reigns).toEqual(['a1 leads']);
    expect(server.lease).toMatchObject({ metadata: { labels: { edited: 'yes' } }, spec: { holderIdentity: 'a1' } });
    await replica.stop();
  });

  it('stops at once when somebody else took the lease', async () => {
    const [server, clock] = [new LeaseServer(), makeManualClock()];
    const replica = new Replica('a', server, clock, () => 0);
    await settle();
    server.store({ ...server.read(), spec: { ...server.read().spec, holderIdentity: 'thief' } });
    await pass(clock, 2000);
    expect(replica.reigns).toEqual(['a1 leads', 'a1 ends']);
    await replica.stop();
  });

  it('refuses durations that cannot work', () => {
    const clock = makeManualClock();
    const line = new Line(new LeaseServer(), clock);
    expect(() => makeLeaderElector({ ...options(line, clock), leaseDurationMs: 5000 })).toThrow(
      'leader election test: needs 0 < retryPeriodMs < renewDeadlineMs < leaseDurationMs, not 2000, 10000 and 5000',
    );
  });
});

type Step =
  | { readonly do: 'pass'; readonly ms: number }
  | { readonly do: 'trouble'; readonly replica: number; readonly trouble: Trouble }
  | { readonly do: 'wall'; readonly ms: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 12_000 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('trouble' as const),
      replica: fc.nat(2),
      trouble: fc.constantFrom<Trouble>('none', 'none', 'refused', 'hang', 'answer-lost'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wall' as const), ms: fc.integer({ min: -1e8, max: 1e8 }) }) },
);

describe('leader election, any order of troubles', () => {
  it('never has two leaders, and has one again soon after the troubles end', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 25, size: 'max' }),
        fc.infiniteStream(fc.double({ min: 0, max: 0.99, noNaN: true })),
        async (steps, chances) => {
          const [server, clock] = [new LeaseServer(), makeManualClock()];
          const random = () => chances.next().value as number;
          const replicas = ['a', 'b', 'c'].map((name) => new Replica(name, server, clock, random));
          const leaders = () => replicas.filter((replica) => replica.elector.isLeader()).map((replica) => replica.name);
          const passWatched = async (ms: number) => {
            for (let left = ms; left > 0; left -= 250) {
              await pass(clock, Math.min(250, left));
              expect(leaders().length).toBeLessThanOrEqual(1);
            }
          };
          for (const one of steps) {
            if (one.do === 'pass') await passWatched(one.ms);
            else if (one.do === 'wall') clock.jumpWall(one.ms);
            else (replicas[one.replica] as Replica).line.trouble = one.trouble;
          }
          for (const replica of replicas) replica.line.trouble = 'none';
          // One lease, one try with its jitter, and a call that has to time out first.
          await passWatched(30_000);
          expect(leaders()).toHaveLength(1);
          await Promise.all(replicas.map((replica) => replica.stop()));
        },
      ),
      { numRuns: 150 },
    );
  });
});
