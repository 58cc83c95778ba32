/** Mounts as a list in memory, for tests. Never used in production. */
import type { Mount, Mounter } from '../mounts.ts';

export interface FakeMounter extends Mounter {
  readonly mounts: Mount[];
  /** What was done, oldest first. */
  readonly done: string[];
  /** The next mount fails with this. */
  failure: Error | undefined;
}

export function makeFakeMounter(): FakeMounter {
  const mounts: Mount[] = [];
  const fake: FakeMounter = {
    mounts,
    done: [],
    failure: undefined,
    list: () => Promise.resolve([...mounts]),
    bindReadOnly(hex, target) {
      if (fake.failure !== undefined) return Promise.reject(fake.failure);
      fake.done.push(`mount ${target}`);
      mounts.push({
        root: `/var/lib/slm/models/${hex}`,
        target,
        options: ['ro', 'nosuid', 'nodev', 'noexec', 'relatime'],
      });
      return Promise.resolve();
    },
    unmount(target) {
      const index = mounts.findLastIndex((mount) => mount.target === target);
      if (index < 0) return Promise.reject(new Error(`umount ${target}: not mounted`));
      fake.done.push(`umount ${target}`);
      mounts.splice(index, 1);
      return Promise.resolve();
    },
  };
  return fake;
}
