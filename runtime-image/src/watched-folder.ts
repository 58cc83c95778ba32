/**
 * Notices when a mounted Secret or ConfigMap changes. Owns the watch and the clock beside it; reads nothing itself.
 */
import { type FSWatcher, watch } from 'node:fs';

/** How often to look besides when the kernel tells of a change, in milliseconds. */
const POLL_MS = 10_000;

/**
 * Calls `changed` whenever something in one of the folders may have changed, and now and then without a reason.
 * @returns what ends it
 */
export function watchFolders(folders: readonly string[], changed: () => void): () => void {
  const watchers = new Set<FSWatcher>();
  for (const folder of new Set(folders))
    try {
      // The kubelet swaps the symlink `..data`: a rename in this folder, whatever changed inside.
      const watcher = watch(folder, { persistent: false }, changed);
      watchers.add(watcher);
      watcher.on('error', () => watcher.close());
    } catch {
      // Some file systems cannot be watched; the timer below is enough.
    }
  const timer = setInterval(changed, POLL_MS).unref();
  return () => {
    for (const watcher of watchers) watcher.close();
    clearInterval(timer);
  };
}
