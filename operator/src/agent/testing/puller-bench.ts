/** A puller with a store in a temporary folder and a real file server beside it, for tests. Never used in production. */
import path from 'node:path';
import type { Reason, SLMNodeCacheSpec, WantedModel } from '@slm-operator/crds';
import { type FileServer, type FileServerOptions, startFileServer } from '@slm-operator/test/fixtures/file-server';
import { silentLogger } from '../../runtime/log.ts';
import { makeFastClock } from '../../runtime/testing/clocks.ts';
import { BlobStore } from '../blob-store.ts';
import { type PullEntry, Puller, type PullerOptions } from '../puller.ts';
import { filesBelow, publishFiles, type TestModel, temporaryFolder } from './models.ts';

export interface Bench extends AsyncDisposable {
  readonly server: FileServer;
  readonly store: BlobStore;
  readonly puller: Puller;
  /** Results of attempts so far. */
  readonly attempts: Reason[];
  /** Hex digests that count as mounted. */
  readonly mounts: Set<string>;
  /** Folder of the store. */
  readonly root: string;
  want(...models: WantedModel[]): Promise<void>;
  setSpec(spec: SLMNodeCacheSpec): Promise<void>;
  /** Resolves when an entry looks like that; rejects after ten seconds with what it looks like. */
  until(digest: string, matches: (entry: PullEntry | undefined) => boolean): Promise<PullEntry | undefined>;
  /** Everything that is stored, relative to the store's folder. */
  files(): Promise<string[]>;
}

/** Template of the server's files for a spec. */
export function sourceOf(server: Pick<FileServer, 'url'>): { readonly url: string } {
  return { url: `${server.url}/files/{path}` };
}

/** Starts server and puller; timers run a hundred times as fast. */
export async function startBench(
  model: TestModel,
  options: Partial<PullerOptions> = {},
  serverOptions: Partial<FileServerOptions> = {},
): Promise<Bench> {
  const folder = await temporaryFolder();
  const served = path.join(folder.path, 'served');
  await publishFiles(served, model);
  const server = await startFileServer({ root: served, ...serverOptions });
  const root = path.join(folder.path, 'store');
  const mounts = new Set<string>();
  const store = new BlobStore({ root, mounted: () => Promise.resolve(mounts) });
  await store.open();
  const attempts: Reason[] = [];
  const checks = new Set<() => void>();
  const puller = new Puller({
    store,
    clock: makeFastClock(100),
    log: silentLogger,
    random: () => 0,
    ...options,
    onAttempt: (result) => attempts.push(result),
    onChange: (kind) => {
      for (const check of checks) check();
      options.onChange?.(kind);
    },
  });
  return {
    server,
    store,
    puller,
    attempts,
    mounts,
    root,
    want: (...wanted) => puller.setSpec({ limits: { minFreePercent: 0 }, wanted }),
    setSpec: (spec) => puller.setSpec(spec),
    files: () => filesBelow(root),
    until: (digest, matches) =>
      new Promise((resolve, reject) => {
        const look = () => puller.snapshot().find((entry) => entry.digest === digest);
        const check = () => {
          if (!matches(look())) return;
          clearTimeout(timer);
          checks.delete(check);
          resolve(look());
        };
        const timer = setTimeout(() => {
          checks.delete(check);
          reject(new Error(`still ${JSON.stringify(look())} after ten seconds`));
        }, 10_000);
        checks.add(check);
        check();
      }),
    async [Symbol.asyncDispose]() {
      await puller.stop();
      await server.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}
