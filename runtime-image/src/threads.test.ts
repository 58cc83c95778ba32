import { describe, expect, test } from 'vitest';
import { cgroupCpuLimit, computeThreads } from './threads.ts';

const limit = (files: Record<string, string>) => cgroupCpuLimit((file) => files[file]);

describe('the CPU limit', () => {
  const cases: [string, Record<string, string>, number | undefined][] = [
    ['of a container, cgroup v2', { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '150000 100000\n' }, 1.5],
    [
      'without a limit, cgroup v2',
      { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' },
      undefined,
    ],
    [
      'of a group above, cgroup v2 without a namespace of its own',
      {
        '/proc/self/cgroup': '0::/kubepods/pod1/ctr\n',
        '/sys/fs/cgroup/kubepods/pod1/ctr/cpu.max': 'max 100000',
        '/sys/fs/cgroup/kubepods/pod1/cpu.max': '200000 100000',
        '/sys/fs/cgroup/kubepods/cpu.max': '1600000 100000',
      },
      2,
    ],
    [
      'cgroup v1',
      {
        '/proc/self/cgroup': '5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '50000',
        '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000',
      },
      0.5,
    ],
    [
      'without a limit, cgroup v1',
      {
        '/proc/self/cgroup': '4:cpu,cpuacct:/\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1',
        '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000',
      },
      undefined,
    ],
    ['where there are no cgroups', {}, undefined],
  ];
  test.each(cases)('%s', (_, files, expected) => {
    expect(limit(files)).toBe(expected);
  });
});

test('threads are the whole cores of the limit, at most those there are, one less without a limit, at least one', () => {
  expect([
    computeThreads(2.9, 8),
    computeThreads(0.5, 8),
    computeThreads(16, 8),
    computeThreads(undefined, 8),
    computeThreads(undefined, 1),
  ]).toEqual([2, 1, 8, 7, 1]);
});
