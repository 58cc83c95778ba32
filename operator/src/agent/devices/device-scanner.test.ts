import { availableParallelism, cpus } from 'node:os';
import { NodeDevice } from '@slm-operator/crds';
import { Compile } from 'typebox/compile';
import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../runtime/log.ts';
import { makeManualClock } from '../../runtime/testing/clocks.ts';
import { makeFakeNode, ordinaryServer, pciTree } from '../testing/hardware-trees.ts';
import { DeviceScanner, SCAN_INTERVAL_MS, scanDevices } from './device-scanner.ts';
import { type HostFiles, makeHostFiles } from './host-files.ts';

const cpuinfo = 'processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9354\nflags\t\t: avx avx2\n';
const gpu = { address: '0000:18:00.0', class: '0x030200', ids: '10de:27b8' };

function makeScanner(host: HostFiles) {
  const clock = makeManualClock();
  const seen: string[][] = [];
  const scanner = new DeviceScanner({
    host,
    clock,
    log: silentLogger,
    onChange: () => seen.push((scanner.devices ?? []).map(({ id, usable }) => `${id} ${usable}`)),
  });
  return { clock, seen, scanner };
}

describe('a node whose devices change', () => {
  it('tells at start, within a minute of a change, and not in between', async () => {
    await using node = await makeFakeNode({ ...ordinaryServer, ...pciTree(gpu), 'proc/cpuinfo': cpuinfo });
    const { clock, seen, scanner } = makeScanner(node.host);
    await scanner.start();
    const minute = async () => {
      clock.advance(SCAN_INTERVAL_MS);
      await expect.poll(() => clock.pending).toBe(1);
    };
    await minute();
    await minute();
    expect(seen).toEqual([['cpu true', '0000:18:00.0 false']]);
    await node.add({
      ...pciTree({ ...gpu, driver: 'nvidia' }),
      'proc/driver/nvidia/gpus/0000:18:00.0/information': 'Model: NVIDIA L4\n',
    });
    await minute();
    await node.remove('sys/bus/pci/devices/0000:18:00.0');
    await minute();
    expect(seen.slice(1)).toEqual([['cpu true', '0000:18:00.0 true'], ['cpu true']]);
    await scanner.stop();
    expect(clock.pending).toBe(0);
  });

  it('keeps the last answer while it cannot be read, and tries again', async () => {
    await using node = await makeFakeNode({ 'proc/cpuinfo': cpuinfo });
    let broken = false;
    const { clock, seen, scanner } = makeScanner({
      ...node.host,
      read: (at) => (broken ? Promise.reject(new Error('EMFILE: too many open files')) : node.host.read(at)),
    });
    await scanner.start();
    broken = true;
    clock.advance(SCAN_INTERVAL_MS);
    await expect.poll(() => clock.pending).toBe(1);
    expect(scanner.devices?.map(({ id }) => id)).toEqual(['cpu']);
    expect(seen).toHaveLength(1);
    await scanner.stop();
  });
});

describe('this machine', () => {
  it('is described within the bounds of the API', async () => {
    const devices = await scanDevices(makeHostFiles());
    const check = Compile(NodeDevice);
    for (const device of devices) expect([...check.Errors(device)]).toEqual([]);
    expect(new Set(devices.map(({ id }) => id)).size).toBe(devices.length);
    expect(devices[0]).toMatchObject({ id: 'cpu', class: 'cpu', usable: true, cores: cpus().length });
    expect(devices[0]?.cores).toBeGreaterThanOrEqual(availableParallelism());
    if (process.arch === 'x64') expect(devices[0]?.name).toBe(cpus()[0]?.model.replace(/\s+/g, ' ').trim());
  });
});
