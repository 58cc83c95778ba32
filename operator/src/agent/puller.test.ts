import { spawn } from 'node:child_process';
import { readFile, stat, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { hexOf } from '@slm-operator/crds';
import { startFileServer } from '@slm-operator/test/fixtures/file-server';
import { describe, expect, it, vi } from 'vitest';
import { makeAuthority, makeServingCertificate } from '../broker/certificates.ts';
import type { PullEntry } from './puller.ts';
import { bytesOf, makeModel, publishFiles, type TestModel } from './testing/models.ts';
import { type Bench, sourceOf, startBench } from './testing/puller-bench.ts';

// Real servers, disks and processes: on a busy machine they take their time.
vi.setConfig({ testTimeout: 30_000 });

const MB = 1_000_000;
const model = makeModel({ 'model.gguf': bytesOf(2 * MB), 'tokenizer.json': bytesOf(3000, 2) });
const { digest } = model.wanted;
const big = model.wanted.files[0]?.digest ?? '';
const url = '/files/model.gguf';

const isReady = (entry: PullEntry | undefined) => entry?.state === 'Ready';
const hasFailed = (entry: PullEntry | undefined) => entry?.state === 'Failed';
const from = (bench: Pick<Bench, 'server'>, of: TestModel = model) => ({
  ...of.wanted,
  sources: [sourceOf(bench.server)],
});
const rangesOf = (bench: Bench) => bench.server.requests.filter((one) => one.path === url).map((one) => one.range);

/** Whether all files are there with the right bytes, and nothing is left over. */
async function isWhole(bench: Bench): Promise<boolean> {
  for (const [name, bytes] of model.content) {
    const there = await readFile(path.join(bench.store.modelPath(digest), name));
    if (!there.equals(bytes)) return false;
  }
  return (await bench.store.partialSize(big)) === 0;
}

/** Leaves the first bytes of the big file as a killed run would. */
async function leavePartial(bench: Bench, bytes: Buffer): Promise<void> {
  await writeFile(path.join(bench.root, 'partial', hexOf(big)), bytes);
}

describe('pulling', () => {
  it('brings all files, verified, and says where they came from', async () => {
    await using bench = await startBench(model);
    await bench.want(from(bench));
    const entry = await bench.until(digest, isReady);
    expect(await isWhole(bench)).toBe(true);
    expect(entry).toEqual({
      digest,
      models: ['demo/smollm2'],
      namespaces: ['demo'],
      state: 'Ready',
      bytesDone: 2 * MB + 3000,
      bytesTotal: 2 * MB + 3000,
      from: new URL(bench.server.url).host,
    });
    expect(rangesOf(bench)).toEqual([undefined]);
    expect(bench.attempts).toEqual(['Ready']);
  });

  it('asks nobody for what is here already, also after a restart', async () => {
    await using bench = await startBench(model);
    await bench.want(from(bench));
    await bench.until(digest, isReady);
    await bench.want({ ...from(bench), namespaces: ['demo', 'prod'], sources: [{ url: 'http://127.0.0.1:1/{path}' }] });
    await bench.until(digest, (entry) => entry?.namespaces.length === 2);
    expect(bench.store.manifest(digest)?.namespaces).toEqual(['demo', 'prod']);
    expect(bench.server.requests.length).toBe(2);
  });

  it('does nothing at all before the spec is known', async () => {
    await using bench = await startBench(model);
    await bench.puller.reconcile();
    expect(bench.puller.hasSpec).toBe(false);
    expect(bench.puller.snapshot()).toEqual([]);
  });

  it('runs no more downloads at once than allowed, and the others wait in the queue', async () => {
    const models = [4, 5, 6, 7].map((seed) => makeModel({ [`${seed}.gguf`]: bytesOf(300_000, seed) }));
    const all = makeModel(Object.fromEntries(models.flatMap((one) => [...one.content])));
    await using bench = await startBench(all, { concurrency: 2 }, { bytesPerSecond: 3 * MB });
    let most = 0;
    const states = () => bench.puller.snapshot().map((entry) => entry.state);
    const ready = Promise.all(
      models.map((one) =>
        bench.until(one.wanted.digest, (entry) => {
          most = Math.max(most, states().filter((state) => state === 'Downloading').length);
          return isReady(entry);
        }),
      ),
    );
    await bench.want(...models.map((one) => from(bench, one)));
    expect(states()).toContain('Queued');
    await ready;
    expect(most).toBe(2);
  });

  it('brings a file that two models share only once', async () => {
    const twin = makeModel({ 'copy.gguf': bytesOf(2 * MB) }, [], { models: ['demo/twin'] });
    await using bench = await startBench(model);
    await bench.want(from(bench), { ...twin.wanted, sources: [{ url: `${bench.server.url}${url}` }] });
    await Promise.all([bench.until(digest, isReady), bench.until(twin.wanted.digest, isReady)]);
    expect(rangesOf(bench)).toEqual([undefined]);
  });
});

describe('resuming', () => {
  it('goes on by Range where an earlier run stopped', async () => {
    await using bench = await startBench(model);
    await leavePartial(bench, bytesOf(2 * MB).subarray(0, 1_500_000));
    await bench.want(from(bench));
    await bench.until(digest, isReady);
    expect(await isWhole(bench)).toBe(true);
    expect(rangesOf(bench)).toEqual(['bytes=1500000-']);
    expect(bench.server.bytesSent).toBe(500_000 + 3000);
  });

  it('asks for nothing when only the verification was missing', async () => {
    await using bench = await startBench(model);
    await leavePartial(bench, bytesOf(2 * MB));
    await bench.want(from(bench));
    await bench.until(digest, isReady);
    expect(await isWhole(bench)).toBe(true);
    expect(rangesOf(bench)).toEqual([]);
  });

  it('starts from zero with a server that ignores Range', async () => {
    await using bench = await startBench(model);
    bench.server.setFault(url, { ignoreRange: true });
    await leavePartial(bench, bytesOf(2 * MB).subarray(0, 1_500_000));
    await bench.want(from(bench));
    await bench.until(digest, isReady);
    expect(await isWhole(bench)).toBe(true);
  });

  it('goes on after cut connections', async () => {
    await using bench = await startBench(model);
    bench.server.setFault(url, { cutAfter: 600_000, times: 3 });
    await bench.want(from(bench));
    await bench.until(digest, isReady);
    expect(await isWhole(bench)).toBe(true);
    expect(rangesOf(bench)).toHaveLength(4);
    expect(bench.attempts).toEqual(['ConnectionFailed', 'ConnectionFailed', 'ConnectionFailed', 'Ready']);
  });

  it('goes on after a server that stops sending and keeps the connection', async () => {
    await using bench = await startBench(model, { http: { bodyTimeoutMs: 1000 } });
    bench.server.setFault(url, { hangAfter: 1_000_000, times: 1 });
    await bench.want(from(bench));
    const entry = await bench.until(digest, hasFailed);
    expect(entry?.error).toMatchObject({ reason: 'ConnectionFailed', attempts: 1, terminal: false });
    await bench.until(digest, isReady);
    expect(rangesOf(bench)).toEqual([undefined, expect.stringMatching(/^bytes=\d{6,}-$/)]);
  });

  it('does not blame the server for a partial file that was broken on the disk', async () => {
    await using bench = await startBench(model);
    await leavePartial(bench, bytesOf(1_000_000, 77));
    await bench.want(from(bench));
    await bench.until(digest, isReady);
    expect(await isWhole(bench)).toBe(true);
    expect(bench.attempts).toEqual(['Ready']);
    expect(rangesOf(bench)).toEqual(['bytes=1000000-', undefined]);
  });

  it('throws away a partial file that is longer than the file', async () => {
    await using bench = await startBench(model);
    await leavePartial(bench, bytesOf(2 * MB + 1));
    await bench.want(from(bench));
    await bench.until(digest, isReady);
    expect(await isWhole(bench)).toBe(true);
  });

  /** An agent as a process of its own. */
  const startProcess = (bench: Bench) => {
    const agent = spawn(process.execPath, [path.join(import.meta.dirname, 'testing/pull-process.ts')], {
      env: { STORE: bench.root, SPEC: JSON.stringify({ limits: { minFreePercent: 0 }, wanted: [from(bench)] }) },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const ended = new Promise<number | null>((resolve) => agent.once('exit', resolve));
    return {
      kill: () => agent.kill('SIGKILL'),
      runs: () => agent.exitCode === null && agent.signalCode === null,
      ended,
    };
  };

  it('survives a kill -9 of the agent in mid-download', async () => {
    await using bench = await startBench(model, {}, { bytesPerSecond: 1 * MB });
    const first = startProcess(bench);
    await expect.poll(() => bench.store.partialSize(big)).toBeGreaterThan(300_000);
    first.kill();
    await first.ended;
    const there = await bench.store.partialSize(big);
    expect(there).toBeLessThan(2 * MB);
    bench.server.setBytesPerSecond(undefined);
    expect(await startProcess(bench).ended).toBe(0);
    expect(await isWhole(bench)).toBe(true);
    expect(rangesOf(bench)).toEqual([undefined, `bytes=${there}-`]);
  }, 60_000);

  it('comes to its end however often the agent is killed, and fetches hardly a byte twice', async () => {
    await using bench = await startBench(model, {}, { bytesPerSecond: 1 * MB });
    let kills = 0;
    for (;;) {
      const agent = startProcess(bench);
      const enough = (await bench.store.partialSize(big)) + 200_000;
      while (agent.runs() && (await bench.store.partialSize(big)) < enough) await setTimeout(10);
      if (agent.runs()) agent.kill();
      if ((await agent.ended) === 0) break;
      kills++;
    }
    expect(await isWhole(bench)).toBe(true);
    expect(kills).toBeGreaterThan(3);
    // What was in the pipes when a process died is fetched again: 64 KiB pieces, a few each time.
    expect(bench.server.bytesSent).toBeLessThan(2 * MB + kills * 400_000);
  }, 60_000);
});

describe('bad answers', () => {
  const failures = [
    {
      what: 'a wrong digest',
      fault: { corruptFrom: 1_000_000 },
      reason: 'DigestMismatch',
      says: 'Nothing of it was kept',
      terminal: true,
    },
    {
      what: 'a shorter file',
      fault: { truncateTo: 1_200_000 },
      reason: 'Truncated',
      says: 'has 1200000 bytes, the file must have 2000000',
      terminal: true,
    },
    { what: '401', fault: { status: 401 }, reason: 'Unauthorized', says: 'source.secretRef', terminal: true },
    { what: '403', fault: { status: 403 }, reason: 'Unauthorized', says: 'source.secretRef', terminal: true },
    { what: '404', fault: { status: 404 }, reason: 'NotFound', says: 'Correct source.uri', terminal: true },
    {
      what: '500',
      fault: { status: 500 },
      reason: 'SourceUnavailable',
      says: 'tried again by itself',
      terminal: false,
    },
    {
      what: 'a compressed body',
      fault: { status: 200, headers: { 'content-encoding': 'gzip' } },
      reason: 'SourceInvalid',
      says: 'sent as gzip',
      terminal: true,
    },
    { what: 'a redirect loop', fault: { redirect: url }, reason: 'SourceInvalid', says: 'redirects', terminal: true },
  ] as const;
  it.each(failures)('$what: $reason, and no byte of it stays', async ({ fault, reason, says, terminal }) => {
    await using bench = await startBench(model);
    bench.server.setFault(url, fault);
    await bench.want(from(bench));
    const entry = await bench.until(digest, hasFailed);
    expect(entry?.error).toMatchObject({ reason, attempts: 1, terminal });
    expect(entry?.error?.message).toContain(says);
    expect(await bench.files()).toEqual([]);
    expect(bench.attempts).toEqual([reason]);
  });

  it('a longer file is not even begun', async () => {
    await using bench = await startBench(model);
    const short = makeModel({ 'model.gguf': bytesOf(1 * MB) });
    await bench.want(from(bench, short));
    const entry = await bench.until(short.wanted.digest, hasFailed);
    expect(entry?.error?.message).toContain('has 2000000 bytes, the file must have 1000000');
    expect(await bench.files()).toEqual([]);
  });

  it('a body without length that does not end is cut off and leaves nothing', async () => {
    await using bench = await startBench(model);
    bench.server.setFault(url, { noLength: true });
    const short = makeModel({ 'model.gguf': bytesOf(1 * MB) });
    await bench.want(from(bench, short));
    const entry = await bench.until(short.wanted.digest, hasFailed);
    expect(entry?.error?.reason).toBe('DigestMismatch');
    expect(await bench.files()).toEqual([]);
  });

  it('a file that is shorter although the answer had no length is told from a lost connection', async () => {
    await using bench = await startBench(model);
    bench.server.setFault(url, { noLength: true, truncateTo: 1_200_000 });
    await bench.want(from(bench));
    const entry = await bench.until(digest, (one) => one?.error?.terminal === true);
    expect(entry?.error?.reason).toBe('Truncated');
  });

  it('a refused connection is tried again, ever more seldom, until the server is there', async () => {
    await using bench = await startBench(model);
    const { port } = bench.server;
    await bench.server.close();
    await bench.want(from(bench));
    const entry = await bench.until(digest, (one) => (one?.error?.attempts ?? 0) >= 3);
    expect(entry?.error).toMatchObject({ reason: 'ConnectionFailed', terminal: false });
    expect(entry?.state).toBe('Failed');
    const server = await startFileServer({ root: path.join(bench.root, '../served'), port });
    try {
      expect((await bench.until(digest, isReady))?.error).toBeUndefined();
    } finally {
      await server.close();
    }
  });

  it('an untrusted certificate says what to put into the spec', async () => {
    const tls = await makeServingCertificate(await makeAuthority(Date.now()), ['127.0.0.1'], Date.now());
    await using bench = await startBench(model, {}, { tls });
    await bench.want(from(bench));
    const entry = await bench.until(digest, hasFailed);
    expect(entry?.error?.reason).toBe('TLSUntrusted');
    expect(entry?.error?.message).toContain('source.caBundleRef');
  });

  it('Retry-After is honoured', async () => {
    await using bench = await startBench(model);
    bench.server.setFault(url, { status: 429, headers: { 'retry-after': '120' }, times: 1 });
    await bench.want(from(bench));
    const before = performance.now();
    const entry = await bench.until(digest, hasFailed);
    expect(entry?.error?.reason).toBe('SourceUnavailable');
    await bench.until(digest, isReady);
    // The clock of the bench runs a hundred times as fast.
    expect(performance.now() - before).toBeGreaterThan(1100);
  });

  it('a list of files that leaves the folder is refused without a request', async () => {
    await using bench = await startBench(model);
    const bad = makeModel({ '../../etc/cron.d/x': bytesOf(10) });
    await bench.want(from(bench, bad));
    const entry = await bench.until(bad.wanted.digest, hasFailed);
    expect(entry?.error).toMatchObject({ reason: 'SourceInvalid', terminal: true });
    expect(bench.server.requests).toEqual([]);
    expect(await bench.files()).toEqual([]);
  });
});

describe('several sources', () => {
  it('are tried in order, and bytes of the first count for the second', async () => {
    await using bench = await startBench(model);
    const mirrored = [...model.content].map(([name, bytes]) => [`mirror/${name}`, bytes] as const);
    await publishFiles(path.join(bench.root, '../served'), makeModel(Object.fromEntries(mirrored)));
    bench.server.setFault(url, { cutAfter: 600_000 });
    const sources = [sourceOf(bench.server), { url: `${bench.server.url}/files/mirror/{path}` }];
    await bench.want({ ...model.wanted, sources });
    await bench.until(digest, isReady);
    expect(await isWhole(bench)).toBe(true);
    const [first, second] = bench.server.requests.filter((one) => one.path.endsWith('.gguf'));
    expect([first?.path, second?.path]).toEqual([url, '/files/mirror/model.gguf']);
    // What was on its way when the connection broke may be lost, no more.
    expect(Number(/^bytes=(\d+)-$/.exec(second?.range ?? '')?.[1])).toBeGreaterThan(500_000);
    expect(bench.attempts).toEqual(['Ready']);
  });

  it('tell all their failures when none has it', async () => {
    await using bench = await startBench(model);
    bench.server.setFault(url, { corruptFrom: 0 });
    const sources = [sourceOf(bench.server), { url: `${bench.server.url}/files/none/{path}` }];
    await bench.want({ ...model.wanted, sources });
    const entry = await bench.until(digest, hasFailed);
    expect(entry?.error?.reason).toBe('DigestMismatch');
    expect(entry?.error?.message).toMatch(/source 1: .*digest.*; source 2: .*404/);
    expect(await bench.files()).toEqual([]);
  });
});

describe('the disk', () => {
  it('is checked before a byte is asked for', async () => {
    await using bench = await startBench(model);
    await bench.setSpec({ limits: { maxBytes: 1 * MB }, wanted: [from(bench)] });
    const entry = await bench.until(digest, hasFailed);
    expect(entry?.error).toMatchObject({ reason: 'InsufficientDisk', terminal: false });
    expect(entry?.error?.message).toBe(
      'demo/smollm2 needs 2 MB, but models already take 0 B of the 1 MB that they may take on this node. Raise the limit, or remove models from this node',
    );
    expect(bench.server.requests).toEqual([]);
  });

  it('keeps the part free that the spec says', async () => {
    await using bench = await startBench(model);
    await bench.setSpec({ limits: { minFreePercent: 95 }, wanted: [from(bench)] });
    const entry = await bench.until(digest, hasFailed);
    expect(entry?.error?.message).toMatch(/needs 2 MB, but .* are free and 95% \(.*\) must stay free/);
  });

  it('is looked at again as soon as a model went', async () => {
    const first = makeModel({ 'first.gguf': bytesOf(1_500_000, 9) }, [], { models: ['demo/first'] });
    await using bench = await startBench(makeModel(Object.fromEntries([...model.content, ...first.content])));
    const limits = { maxBytes: 3 * MB, minFreePercent: 0 };
    await bench.setSpec({ limits, wanted: [from(bench, first)] });
    await bench.until(first.wanted.digest, isReady);
    await bench.setSpec({ limits, wanted: [from(bench, first), from(bench)] });
    await bench.until(digest, hasFailed);
    await bench.setSpec({ limits, wanted: [from(bench)] });
    await bench.until(digest, isReady);
    expect(bench.puller.snapshot()).toHaveLength(1);
  });
});

describe('no longer wanted', () => {
  it('while it waits for another model to bring a file that both have: it goes at once', async () => {
    const twin = makeModel({ 'copy.gguf': bytesOf(2 * MB) }, [], { models: ['demo/twin'] });
    await using bench = await startBench(model, {}, { bytesPerSecond: 1 * MB });
    await bench.want(from(bench), { ...twin.wanted, sources: [{ url: `${bench.server.url}${url}` }] });
    await bench.until(digest, (entry) => (entry?.bytesDone ?? 0) > 100_000);
    await bench.want(from(bench));
    expect(bench.puller.snapshot()).toMatchObject([{ digest, state: 'Downloading' }]);
    bench.server.setBytesPerSecond(undefined);
    await bench.until(digest, isReady);
    expect(rangesOf(bench)).toEqual([undefined]);
  });

  it('while it is pulled: the download ends and its bytes go', async () => {
    await using bench = await startBench(model, {}, { bytesPerSecond: 1 * MB });
    await bench.want(from(bench));
    await bench.until(digest, (entry) => (entry?.bytesDone ?? 0) > 200_000);
    await bench.want();
    expect(bench.puller.snapshot()).toEqual([]);
    expect(await bench.files()).toEqual([]);
  });

  it('while it is mounted: it stays as Evicting until it is unmounted', async () => {
    await using bench = await startBench(model);
    await bench.want(from(bench));
    await bench.until(digest, isReady);
    bench.mounts.add(hexOf(digest));
    await bench.want();
    expect(bench.puller.snapshot()).toMatchObject([{ digest, state: 'Evicting' }]);
    expect(bench.puller.find(digest)).toBeUndefined();
    expect(await isWhole(bench)).toBe(true);
    bench.mounts.clear();
    await bench.puller.reconcile();
    expect(bench.puller.snapshot()).toEqual([]);
    expect(await bench.files()).toEqual([]);
  });

  it('and wanted again while it is mounted: ready at once', async () => {
    await using bench = await startBench(model);
    await bench.want(from(bench));
    await bench.until(digest, isReady);
    bench.mounts.add(hexOf(digest));
    await bench.want();
    await bench.want(from(bench));
    expect(bench.puller.snapshot()).toMatchObject([{ digest, state: 'Ready' }]);
    expect(bench.server.requests).toHaveLength(2);
  });

  it('stopping the agent keeps what was pulled so far', async () => {
    await using bench = await startBench(model, {}, { bytesPerSecond: 1 * MB });
    await bench.want(from(bench));
    await bench.until(digest, (entry) => (entry?.bytesDone ?? 0) > 200_000);
    await bench.puller.stop();
    expect((await stat(path.join(bench.root, 'partial', hexOf(big)))).size).toBeGreaterThan(200_000);
  });
});

describe('damage', () => {
  it('of a complete model is repaired by pulling it again', async () => {
    await using bench = await startBench(model);
    await bench.want(from(bench));
    await bench.until(digest, isReady);
    await unlink(path.join(bench.store.modelPath(digest), 'model.gguf'));
    expect(await bench.store.check(digest)).toBe(false);
    await bench.puller.repair(digest);
    await bench.until(digest, isReady);
    expect(await isWhole(bench)).toBe(true);
  });
});
