import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadAccess } from '../kube/cluster-access.ts';
import { KeyedLock, Semaphore } from './concurrency.ts';
import { readAgentConfig } from './config.ts';
import { checkDisk } from './disk-budget.ts';
import { parseMountInfo, publishedMounts } from './mounts.ts';
import { RateMeter } from './rate-meter.ts';
import { retryDelay } from './retry-delay.ts';
import { temporaryFolder } from './testing/models.ts';
import { formatBytes, formatProgress, formatSeconds, percentOf } from './text.ts';

const MB = 1_000_000;

describe('numbers for people', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1 kB'],
    [1500, '1.5 kB'],
    [98_362_432, '98 MB'],
    [999_600_000, '1 GB'],
    [1_400_000_000, '1.4 GB'],
    [35_000_000_000, '35 GB'],
  ])('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [0.2, '1 s'],
    [99, '99 s'],
    [180, '3 min'],
    [7200, '2 h'],
  ])('%d seconds are %s', (seconds, text) => expect(formatSeconds(seconds)).toBe(text));

  it('never says 100% before the last byte', () => {
    expect([percentOf(0, 100), percentOf(999, 1000), percentOf(1000, 1000), percentOf(0, 0)]).toEqual([
      0, 99, 100, 100,
    ]);
  });

  it('tells progress with and without a rate', () => {
    expect(formatProgress({ bytesDone: 61 * MB, bytesTotal: 98 * MB, bytesPerSecond: 3 * MB })).toBe(
      '62% of 98 MB, 3 MB/s, 12 s left',
    );
    expect(formatProgress({ bytesDone: 61 * MB, bytesTotal: 98 * MB })).toBe('62% of 98 MB');
  });
});

describe('the rate', () => {
  it('is that of the last five seconds', () => {
    const meter = new RateMeter();
    expect(meter.perSecond(0)).toBeUndefined();
    for (let now = 0; now < 10_000; now += 100) meter.add(100_000, now);
    expect(meter.perSecond(10_000)).toBeGreaterThan(0.9 * MB);
    expect(meter.perSecond(10_000)).toBeLessThan(1.1 * MB);
    expect(meter.perSecond(20_000)).toBe(0);
  });
});

describe('the next attempt', () => {
  const refused = { reason: 'ConnectionFailed', message: '', terminal: false } as const;
  it('comes after 1 s, doubled up to 5 min, spread by chance', () => {
    expect([1, 2, 3, 9, 10, 50].map((attempts) => retryDelay(refused, attempts, 1))).toEqual(
      [1, 2, 4, 256, 300, 300].map((seconds) => seconds * 1000),
    );
    expect(retryDelay(refused, 1, 0)).toBe(750);
  });

  it('comes seldom when only a person can help, and hardly ever when all bytes were wrong', () => {
    expect(retryDelay({ ...refused, terminal: true }, 1, 1)).toBe(60_000);
    expect(retryDelay({ reason: 'DigestMismatch', message: '', terminal: true }, 1, 1)).toBe(900_000);
    expect(retryDelay({ reason: 'DigestMismatch', message: '', terminal: true }, 50, 1)).toBe(21_600_000);
  });

  it('never comes before the server wants it', () => {
    expect(retryDelay({ ...refused, retryAfterMs: 42_000 }, 1, 0)).toBe(42_000);
  });
});

describe('the disk budget', () => {
  const disk = { capacityBytes: 1000 * MB, freeBytes: 140 * MB };
  const request = {
    name: 'demo/smollm2',
    neededBytes: 98 * MB,
    reservedBytes: 0,
    usedBytes: 0,
    limits: {},
    root: '/var/lib/slm',
  };

  it('says by how much a model does not fit', () => {
    expect(checkDisk(disk, request)).toEqual({
      reason: 'InsufficientDisk',
      message:
        'demo/smollm2 needs 98 MB, but 140 MB of 1 GB are free and 10% (100 MB) must stay free on /var/lib/slm. Free 58 MB on this node, or use a smaller model',
      terminal: false,
    });
  });

  it('counts what other downloads will still write', () => {
    const roomy = { ...disk, freeBytes: 250 * MB };
    expect(checkDisk(roomy, request)).toBeUndefined();
    expect(checkDisk(roomy, { ...request, reservedBytes: 100 * MB })?.message).toContain(
      '250 MB of 1 GB are free (100 MB of it for downloads under way)',
    );
  });

  it('lets through what needs no space, also on a full disk', () => {
    expect(checkDisk({ ...disk, freeBytes: 0 }, { ...request, neededBytes: 0 })).toBeUndefined();
  });
});

describe('the list of mounts', () => {
  const hex = 'ab'.repeat(32);
  const text = [
    '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw',
    `900 22 8:1 /var/lib/slm/models/${hex} /var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/model/mount ro,nosuid,nodev,noexec,relatime shared:1 - ext4 /dev/sda1 rw`,
    `901 22 8:1 /var/lib/slm/models/${hex} /mnt/elsewhere ro - ext4 /dev/sda1 rw`,
    `902 22 8:1 /var/lib/slm/models/${hex}//deleted /var/lib/kubelet/pods/2/mount ro - ext4 /dev/sda1 rw`,
    `903 22 8:1 /slm/models/${hex} /var/lib/kubelet/pods/with\\040space/mount rw - ext4 /dev/sda1 rw`,
    '',
  ].join('\n');

  it('tells the models in pods from everything else', () => {
    expect(
      publishedMounts(parseMountInfo(text), '/var/lib/kubelet').map(({ target, hex: found }) => [target, found]),
    ).toEqual([
      ['/var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/model/mount', hex],
      ['/var/lib/kubelet/pods/with space/mount', hex],
    ]);
  });
});

describe('locks', () => {
  it('the semaphore lets an aborted waiter go and the next one in', async () => {
    const semaphore = new Semaphore(1);
    const order: string[] = [];
    const first = Promise.withResolvers<void>();
    const abort = new AbortController();
    const { signal } = new AbortController();
    const running = semaphore.run(signal, () => first.promise);
    const leaving = semaphore.run(abort.signal, () => Promise.resolve(order.push('aborted')));
    const waiting = semaphore.run(signal, () => Promise.resolve(order.push('second')));
    abort.abort(new Error('no longer wanted'));
    await expect(leaving).rejects.toThrow('no longer wanted');
    first.resolve();
    await Promise.all([running, waiting]);
    expect(order).toEqual(['second']);
  });

  it('the keyed lock keeps one key in order and others free', async () => {
    const lock = new KeyedLock();
    const order: string[] = [];
    const gate = Promise.withResolvers<void>();
    const tasks = [
      lock.run('a', () => gate.promise.then(() => order.push('a1'))),
      lock.run('a', () => Promise.resolve(order.push('a2'))),
      lock.run('b', () => Promise.resolve(order.push('b1'))),
    ];
    await tasks[2];
    gate.resolve();
    await Promise.all(tasks);
    expect(order).toEqual(['b1', 'a1', 'a2']);
  });
});

describe('the configuration', () => {
  it('has the chart’s defaults', () => {
    expect(readAgentConfig({ SLM_NODE_NAME: 'n1' })).toEqual({
      nodeName: 'n1',
      storeRoot: '/var/lib/slm',
      kubeletDir: '/var/lib/kubelet',
      deviceDir: '/dev',
      broker: undefined,
      metricsPort: 8082,
      logLevel: 'info',
    });
  });

  it.each([
    [{}, 'SLM_NODE_NAME is not set'],
    [{ SLM_NODE_NAME: 'n1', SLM_STORE: 'models' }, 'SLM_STORE is "models": write an absolute path'],
    [{ SLM_NODE_NAME: 'n1', SLM_METRICS_PORT: '80a' }, 'write a port from 0 to 65535'],
    [{ SLM_NODE_NAME: 'n1', SLM_LOG_LEVEL: 'loud' }, 'write one of trace, debug'],
    [{ SLM_NODE_NAME: 'n1', SLM_BROKER_URL: 'http://operator:9443' }, 'write https://HOST:PORT'],
    [{ SLM_NODE_NAME: 'n1', SLM_BROKER_URL: 'https://operator:9443' }, 'SLM_BROKER_CA_FILE'],
  ])('%j is refused: %s', (env, says) => {
    expect(() => readAgentConfig(env)).toThrow(says);
  });
});

describe('access to the API server', () => {
  it('is the pod’s own, with the token as it is now', async () => {
    await using folder = await temporaryFolder();
    await writeFile(path.join(folder.path, 'token'), 'one\n');
    await writeFile(path.join(folder.path, 'ca.crt'), 'PEM');
    const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' };
    const access = await loadAccess(env, folder.path);
    expect(access.server).toBe('https://[fd00::1]:6443');
    expect(await access.credentials()).toEqual({ headers: { authorization: 'Bearer one' }, tls: { ca: 'PEM' } });
    await writeFile(path.join(folder.path, 'token'), 'two');
    expect((await access.credentials()).headers).toEqual({ authorization: 'Bearer two' });
    await rm(path.join(folder.path, 'token'));
    await expect(access.credentials()).rejects.toThrow('automountServiceAccountToken: true');
  });
});
