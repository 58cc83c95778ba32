import type { NodeDevice, SLMNodeCache, SLMNodeCacheStatus } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { silentLogger } from '../runtime/log.ts';
import { makeManualClock } from '../runtime/testing/clocks.ts';
import type { PullEntry } from './puller.ts';
import { Reporter } from './reporter.ts';

const MB = 1_000_000;
const digest = `sha256:${'a'.repeat(64)}`;
const downloading: PullEntry = {
  digest,
  models: ['demo/smollm2'],
  namespaces: ['demo'],
  state: 'Downloading',
  bytesDone: 0,
  bytesTotal: 98 * MB,
};
const ready: PullEntry = { ...downloading, state: 'Ready', bytesDone: 98 * MB };

/** Lets promises run that the clock's callbacks began. */
const settle = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));

function makeBench() {
  const clock = makeManualClock();
  const writes: { at: number; status: SLMNodeCacheStatus }[] = [];
  const bench = {
    clock,
    writes,
    object: {
      apiVersion: 'slm.dev/v1alpha1',
      kind: 'SLMNodeCache',
      metadata: { name: 'n1', uid: 'u1', generation: 1 },
    } as SLMNodeCache | undefined,
    entries: [] as PullEntry[],
    freeBytes: 50_000 * MB,
    devices: undefined as readonly NodeDevice[] | undefined,
    failing: false,
    reporter: undefined as unknown as Reporter,
    async advance(ms: number) {
      for (let left = ms; left > 0; left -= 100) {
        clock.advance(Math.min(100, left));
        await settle();
      }
    },
  };
  bench.reporter = new Reporter({
    read: () => bench.object,
    write: (status) => {
      if (bench.failing) return Promise.reject(new Error('no answer from the API server'));
      writes.push({ at: clock.monotonic(), status });
      // The API server keeps no undefined fields, and the object comes back by watch.
      if (bench.object !== undefined)
        bench.object = { ...bench.object, status: JSON.parse(JSON.stringify(status)) as SLMNodeCacheStatus };
      return Promise.resolve();
    },
    entries: () => bench.entries,
    disk: () => Promise.resolve({ capacityBytes: 100_000 * MB, freeBytes: bench.freeBytes, usedBytes: 98 * MB }),
    devices: () => bench.devices,
    observedGeneration: () => 1,
    agentVersion: '1.2.3',
    clock,
    log: silentLogger,
  });
  return bench;
}

describe('while bytes come', () => {
  it('the status is written at most every two seconds', async () => {
    const bench = makeBench();
    bench.entries = [downloading];
    bench.reporter.changed('state');
    await bench.advance(100);
    for (let tick = 0; tick < 200; tick++) {
      bench.entries = [{ ...downloading, bytesDone: tick * 400_000, bytesPerSecond: 4 * MB }];
      bench.reporter.changed('progress');
      await bench.advance(100);
    }
    const gaps = bench.writes.slice(1).map(({ at }, index) => at - (bench.writes[index]?.at ?? 0));
    expect(bench.writes.length).toBe(11);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(2000);
  });

  it('a change of state is told at once, and those that come together in one write', async () => {
    const bench = makeBench();
    bench.entries = [downloading];
    bench.reporter.changed('state');
    await bench.advance(100);
    bench.entries = [ready, { ...downloading, digest: `sha256:${'b'.repeat(64)}`, state: 'Queued' }];
    bench.reporter.changed('state');
    bench.reporter.changed('state');
    await bench.advance(100);
    expect(bench.writes.map(({ status }) => status.summary)).toEqual(['0/1', '1/2']);
  });
});

describe('when nothing happens', () => {
  it('nothing is written, whatever the disk does', async () => {
    const bench = makeBench();
    bench.entries = [ready];
    bench.reporter.changed('state');
    await bench.advance(100);
    expect(bench.writes).toHaveLength(1);
    for (let minute = 0; minute < 60; minute++) {
      bench.freeBytes -= MB;
      bench.reporter.changed('state');
      bench.reporter.observed();
      await bench.advance(60_000);
    }
    expect(bench.writes).toHaveLength(1);
    expect(bench.clock.pending).toBe(0);
  });

  it('nothing is written by an agent that started anew', async () => {
    const first = makeBench();
    first.entries = [ready];
    first.reporter.changed('state');
    await first.advance(100);
    const second = makeBench();
    second.object = first.object;
    second.entries = [ready];
    second.freeBytes = 1;
    second.reporter.observed();
    second.reporter.changed('state');
    await second.advance(60_000);
    expect(second.writes).toEqual([]);
  });

  it('a status that somebody else changed is put right', async () => {
    const bench = makeBench();
    bench.entries = [ready];
    bench.reporter.changed('state');
    await bench.advance(20_000);
    if (bench.object !== undefined) bench.object = { ...bench.object, status: { summary: '7/7' } };
    bench.reporter.observed();
    await bench.advance(1000);
    expect(bench.writes).toHaveLength(2);
    expect(bench.object?.status?.summary).toBe('1/1');
  });

  it('an object that was made anew gets its status', async () => {
    const bench = makeBench();
    bench.entries = [ready];
    bench.reporter.changed('state');
    await bench.advance(100);
    bench.object = { ...bench.object, metadata: { name: 'n1', uid: 'u2' } } as SLMNodeCache;
    delete (bench.object as { status?: unknown }).status;
    bench.reporter.observed();
    await bench.advance(100);
    expect(bench.writes).toHaveLength(2);
  });
});

describe('the devices of the node', () => {
  const cpu: NodeDevice = { id: 'cpu', class: 'cpu', usable: true, cores: 2 };
  const gpu: NodeDevice = {
    id: '0000:01:00.0',
    class: 'gpu',
    vendor: 'nvidia',
    usable: false,
    message: 'no driver is bound',
  };

  it('are told once, and again when one is another', async () => {
    const bench = makeBench();
    bench.devices = [cpu, gpu];
    bench.reporter.changed('state');
    await bench.advance(100);
    bench.reporter.changed('state');
    await bench.advance(60_000);
    bench.devices = [cpu, { id: gpu.id, class: 'gpu', vendor: 'nvidia', driver: 'nvidia', usable: true }];
    bench.reporter.changed('state');
    await bench.advance(100);
    expect(bench.writes.map(({ status }) => status.devices?.map(({ usable }) => usable))).toEqual([
      [true, false],
      [true, true],
    ]);
  });

  it('stand as they were written while an agent that started anew has not seen them', async () => {
    const first = makeBench();
    first.devices = [cpu, gpu];
    first.reporter.changed('state');
    await first.advance(100);
    const second = makeBench();
    second.object = first.object;
    second.reporter.changed('state');
    await second.advance(100);
    second.entries = [ready];
    second.reporter.changed('state');
    await second.advance(100);
    expect(second.writes.map(({ status }) => status.devices)).toEqual([[cpu, gpu]]);
  });
});

describe('an API server that is away', () => {
  it('is asked ever more seldom, and told the latest when it is back', async () => {
    const bench = makeBench();
    let tries = 0;
    bench.failing = true;
    const before = bench.reporter;
    expect(before).toBeDefined();
    bench.entries = [downloading];
    bench.reporter.changed('state');
    for (let tick = 0; tick < 600; tick++) {
      bench.entries = [{ ...downloading, bytesDone: tick * 1000 }];
      bench.reporter.changed('progress');
      const pending = bench.clock.pending;
      tries += pending > 0 ? 0 : 1;
      await bench.advance(100);
    }
    // One retry is always planned, and progress plans no others.
    expect(tries).toBe(0);
    expect(bench.clock.pending).toBe(1);
    bench.failing = false;
    await bench.advance(30_000);
    expect(bench.writes).toHaveLength(1);
    expect(bench.writes[0]?.status.entries?.[0]?.bytesDone).toBe(599_000);
  });

  it('nothing is written before the object exists', async () => {
    const bench = makeBench();
    bench.object = undefined;
    bench.reporter.changed('state');
    bench.reporter.observed();
    await bench.advance(60_000);
    expect(bench.writes).toEqual([]);
  });
});
