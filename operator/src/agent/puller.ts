/**
 * Makes the store hold what the node's spec wants: pulls, retries, removes. Owns the state of every revision between
 * "wanted" and "ready" and the timing of retries. Never talks to the API server and never mounts.
 */
import { hostname } from 'node:os';
import type { EntryState, Reason, SLMNodeCacheSpec, WantedModel } from '@slm-operator/crds';
import { type Clock, sleep, type Timer } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import type { SourceClientOptions } from '../sources/http.ts';
import { SourceError, type SourceFailure } from '../sources/http-errors.ts';
import type { BlobStore, Manifest } from './blob-store.ts';
import type { BrokerClient } from './broker-client.ts';
import { KeyedLock, Semaphore } from './concurrency.ts';
import { checkDisk, diskFull } from './disk-budget.ts';
import { hasCode } from './durable-files.ts';
import { downloadFile } from './file-download.ts';
import { checkFiles } from './model-files.ts';
import { Origins } from './origins.ts';
import { RateMeter } from './rate-meter.ts';
import { retryDelay } from './retry-delay.ts';

/** A revision as it stands on this node. Plain data. */
export interface PullEntry {
  readonly digest: string;
  /** NAMESPACE/NAME of the SLMModels that want it. */
  readonly models: readonly string[];
  /** Namespaces whose pods may mount it. */
  readonly namespaces: readonly string[];
  readonly state: EntryState;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly bytesPerSecond?: number;
  readonly from?: string;
  readonly error?: PullError;
}

export interface PullError {
  readonly reason: Reason;
  readonly message: string;
  /** Failures in a row without a new byte. */
  readonly attempts: number;
  /** Wall clock in milliseconds. */
  readonly nextRetry: number;
  /** Only a person can help. */
  readonly terminal: boolean;
}

export interface PullerOptions {
  readonly store: BlobStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly broker?: BrokerClient | undefined;
  /** Downloads at the same time. Default 2. */
  readonly concurrency?: number | undefined;
  /** In [0, 1). Default Math.random. */
  readonly random?: (() => number) | undefined;
  readonly http?: SourceClientOptions | undefined;
  /** `state`: an entry came, went or changed its state. `progress`: bytes came. Must not throw. */
  readonly onChange?: ((kind: 'state' | 'progress') => void) | undefined;
  /** An attempt ended: `Ready` or the reason of its failure. */
  readonly onAttempt?: ((result: Reason) => void) | undefined;
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

interface Entry {
  wanted: WantedModel;
  state: EntryState;
  /** Bytes of each path that are here. */
  readonly have: Map<string, number>;
  /** Most bytes that were ever here: only more than that is progress. */
  highWater: number;
  /** Bytes that the running attempt has promised to the disk check. */
  reserved: number;
  readonly rate: RateMeter;
  from: string | undefined;
  error: PullError | undefined;
  readonly abort: AbortController;
  task: Promise<void> | undefined;
  /** Ends the wait before the next attempt. */
  wake: (() => void) | undefined;
}

/** Looks again for unmounted models that the kubelet took away without telling us. */
const EVICTION_RECHECK_MS = 60_000;
const FAILED_RECONCILE_MS = 30_000;

export class Puller {
  readonly #options: PullerOptions;
  readonly #store: BlobStore;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #slots: Semaphore;
  readonly #files = new KeyedLock();
  readonly #disk = new KeyedLock();
  readonly #entries = new Map<string, Entry>();
  readonly #evicting = new Set<string>();
  readonly #waiters = new Set<() => void>();
  #spec: SLMNodeCacheSpec | undefined;
  #dirty = false;
  #reconciling: Promise<void> | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: PullerOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#slots = new Semaphore(options.concurrency ?? 2);
  }

  /**
   * What this node must hold from now on. Until the first call nothing is pulled and nothing removed: an agent that
   * cannot reach the API server keeps what it has. Answers when every entry is there and downloads have begun.
   */
  setSpec(spec: SLMNodeCacheSpec): Promise<void> {
    this.#spec = spec;
    return this.reconcile();
  }

  /** True once the spec is known. */
  get hasSpec(): boolean {
    return this.#spec !== undefined;
  }

  /** Looks again, for example because a model was unmounted. Answers when what can be done at once is done. */
  reconcile(): Promise<void> {
    this.#dirty = true;
    this.#reconciling ??= this.#reconcileUntilClean().finally(() => {
      this.#reconciling = undefined;
    });
    return this.#reconciling;
  }

  /** Every revision that is wanted, and those that stay only because they are mounted. */
  snapshot(): PullEntry[] {
    const entries = [...this.#entries.values()].map((entry) => this.#view(entry));
    for (const digest of this.#evicting) {
      const manifest = this.#store.manifest(digest);
      if (manifest !== undefined) entries.push(viewOfManifest(manifest, 'Evicting'));
    }
    return entries;
  }

  /**
   * What a mount may rely on: the entry of a wanted revision; before the spec is known, what the disk says. Undefined
   * when this node is not to hold it.
   */
  find(digest: string): PullEntry | undefined {
    const entry = this.#entries.get(digest);
    if (entry !== undefined) return this.#view(entry);
    if (this.#spec !== undefined) return undefined;
    const manifest = this.#store.manifest(digest);
    return manifest === undefined ? undefined : viewOfManifest(manifest, 'Ready');
  }

  /**
   * Waits until the revision is ready, but no longer than `ms`, and not for a retry that comes later than that. Answers
   * how it stands then; undefined when it is not wanted here.
   */
  async waitFor(digest: string, ms: number, signal?: AbortSignal): Promise<PullEntry | undefined> {
    const deadline = this.#clock.monotonic() + ms;
    for (;;) {
      const entry = this.find(digest);
      const left = deadline - this.#clock.monotonic();
      if (entry?.state === 'Ready' || left <= 0 || signal?.aborted === true) return entry;
      if (entry?.error !== undefined && entry.error.nextRetry - this.#clock.now() > left) return entry;
      await this.#nextChange(left, signal);
    }
  }

  /** A complete revision has lost files: pull it again. */
  async repair(digest: string): Promise<void> {
    const entry = this.#entries.get(digest);
    if (entry?.state === 'Ready') this.#entries.delete(digest);
    await this.reconcile();
  }

  /** Stops all downloads; partial files stay for the next run. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    for (const entry of this.#entries.values()) entry.abort.abort(new Error('the agent stops'));
    await this.#reconciling;
    for (const entry of this.#entries.values()) await entry.task;
  }

  async #reconcileUntilClean(): Promise<void> {
    while (this.#dirty && !this.#stopped && this.#spec !== undefined) {
      this.#dirty = false;
      this.#timer?.cancel();
      let again: number | undefined;
      try {
        await this.#reconcileOnce(this.#spec);
        if (this.#evicting.size > 0) again = EVICTION_RECHECK_MS;
      } catch (error) {
        this.#log.error({ err: error, store: this.#store.root }, 'the store could not be brought to what is wanted');
        again = FAILED_RECONCILE_MS;
      }
      if (again !== undefined) this.#timer = this.#clock.schedule(again, () => void this.reconcile());
      this.#changed('state');
    }
  }

  async #reconcileOnce(spec: SLMNodeCacheSpec): Promise<void> {
    const wanted = new Map((spec.wanted ?? []).map((model) => [model.digest, model]));
    for (const [digest, entry] of this.#entries) {
      const now = wanted.get(digest);
      if (now !== undefined && pullKey(now) === pullKey(entry.wanted)) continue;
      if (now !== undefined && entry.state === 'Ready') continue;
      entry.abort.abort(new Error('no longer wanted'));
      await entry.task;
      this.#entries.delete(digest);
    }
    const removed = await this.#removeUnwanted(wanted);
    for (const model of wanted.values()) await this.#want(model);
    if (removed) for (const entry of this.#entries.values()) if (isDiskError(entry)) entry.wake?.();
  }

  async #removeUnwanted(wanted: ReadonlyMap<string, WantedModel>): Promise<boolean> {
    let removed = false;
    for (const { digest } of this.#store.manifests()) {
      if (wanted.has(digest)) {
        this.#evicting.delete(digest);
      } else if (await this.#store.remove(digest)) {
        removed = true;
        this.#evicting.delete(digest);
        this.#log.info({ digest }, 'model removed');
      } else {
        this.#evicting.add(digest);
      }
    }
    const files = [...wanted.values()].flatMap((model) => model.files.map((file) => file.digest));
    await this.#store.collect(new Set(files));
    return removed;
  }

  async #want(model: WantedModel): Promise<void> {
    const known = this.#entries.get(model.digest);
    if (known !== undefined) {
      known.wanted = model;
      if (known.state === 'Ready') await this.#store.updateManifest(manifestOf(model, known.from));
      return;
    }
    const manifest = this.#store.manifest(model.digest);
    const entry: Entry = {
      wanted: model,
      state: manifest === undefined ? 'Queued' : 'Ready',
      have: new Map(),
      highWater: 0,
      reserved: 0,
      rate: new RateMeter(),
      from: manifest?.from,
      error: undefined,
      abort: new AbortController(),
      task: undefined,
      wake: undefined,
    };
    this.#entries.set(model.digest, entry);
    if (manifest !== undefined) {
      await this.#store.updateManifest(manifestOf(model, manifest.from));
      return;
    }
    await this.#measure(entry);
    entry.highWater = bytesOf(entry);
    entry.task = this.#pullUntilReady(entry);
  }

  async #pullUntilReady(entry: Entry): Promise<void> {
    const { signal } = entry.abort;
    for (let attempts = 1; !signal.aborted; attempts++) {
      const before = entry.highWater;
      try {
        await this.#slots.run(signal, () => this.#attempt(entry));
        this.#options.onAttempt?.('Ready');
        return;
      } catch (error) {
        if (signal.aborted) return;
        const failure = this.#failureOf(error, entry);
        if (entry.highWater > before) attempts = 1;
        this.#fail(entry, failure, attempts);
        await this.#pause(entry, signal);
      }
    }
  }

  #fail(entry: Entry, failure: SourceFailure, attempts: number): void {
    const delay = retryDelay(failure, attempts, (this.#options.random ?? Math.random)());
    entry.error = {
      reason: failure.reason,
      message: failure.message,
      attempts,
      nextRetry: this.#clock.now() + delay,
      terminal: failure.terminal,
    };
    entry.state = 'Failed';
    entry.rate.reset();
    this.#log.warn(
      { digest: entry.wanted.digest, model: nameOf(entry.wanted), reason: failure.reason, attempts, retryMs: delay },
      failure.message,
    );
    this.#options.onAttempt?.(failure.reason);
    this.#changed('state');
  }

  async #pause(entry: Entry, signal: AbortSignal): Promise<void> {
    const delay = (entry.error?.nextRetry ?? 0) - this.#clock.now();
    const woken = new AbortController();
    entry.wake = () => woken.abort();
    await sleep(this.#clock, delay, AbortSignal.any([signal, woken.signal])).catch(() => undefined);
    entry.wake = undefined;
  }

  async #attempt(entry: Entry): Promise<void> {
    const { wanted } = entry;
    const { signal } = entry.abort;
    checkFiles(wanted.digest, wanted.files);
    await this.#reserve(entry);
    const origins = new Origins({
      wanted,
      broker: this.#options.broker,
      signal,
      now: () => this.#clock.now(),
      http: this.#options.http,
    });
    try {
      for (const file of wanted.files) {
        // Two revisions may share a file: the second finds it here when the first is done.
        await this.#files.run(file.digest, () => this.#pullFile(entry, file, origins), signal);
      }
    } finally {
      entry.reserved = 0;
      await origins.close();
    }
    // The spec may have changed meanwhile in what does not concern the bytes.
    await this.#store.assemble(manifestOf(entry.wanted, entry.from));
    signal.throwIfAborted();
    entry.state = 'Ready';
    entry.error = undefined;
    this.#log.info({ digest: wanted.digest, model: nameOf(wanted), from: entry.from }, 'model is ready');
    this.#changed('state');
  }

  async #reserve(entry: Entry): Promise<void> {
    const { wanted } = entry;
    await this.#disk.run('', async () => {
      await this.#measure(entry);
      const needed = sizeOf(wanted) - bytesOf(entry);
      const others = [...this.#entries.values()].reduce((sum, other) => sum + other.reserved, 0);
      const failure = checkDisk(await this.#store.disk(), {
        name: nameOf(wanted),
        neededBytes: needed,
        reservedBytes: others,
        usedBytes: await this.#store.usedBytes(),
        limits: this.#spec?.limits ?? {},
        root: this.#store.root,
      });
      if (failure !== undefined) throw new SourceError(failure);
      entry.reserved = needed;
    });
  }

  async #pullFile(entry: Entry, file: WantedModel['files'][number], origins: Origins): Promise<void> {
    const { signal } = entry.abort;
    signal.throwIfAborted();
    if (await this.#store.hasBlob(file)) {
      entry.have.set(file.path, file.size);
      return;
    }
    const writer = await this.#store.openWriter(file, signal);
    entry.have.set(file.path, writer.offset);
    let keep = true;
    try {
      await downloadFile({
        file,
        writer,
        origins: origins.of(file),
        signal,
        onStart: (origin, offset) => {
          entry.from = hostOf(origin.url);
          entry.have.set(file.path, offset);
          // One state for all files of a revision: each change of state is a write to the API server.
          const begins = entry.state !== 'Downloading';
          entry.state = 'Downloading';
          entry.error = undefined;
          this.#log.info(
            { digest: entry.wanted.digest, model: nameOf(entry.wanted), file: file.path, from: entry.from, offset },
            'download begins',
          );
          if (begins) this.#changed('state');
        },
        onBytes: (bytes) => {
          entry.have.set(file.path, writer.offset);
          entry.reserved = Math.max(0, entry.reserved - bytes);
          entry.highWater = Math.max(entry.highWater, bytesOf(entry));
          entry.rate.add(bytes, this.#clock.monotonic());
          this.#options.onBytes?.(bytes);
          this.#changed('progress');
        },
        onVerify: () => {
          if (bytesOf(entry) < sizeOf(entry.wanted)) return;
          entry.state = 'Verifying';
          this.#changed('state');
        },
      });
    } catch (error) {
      keep = !isOutOfSpace(error);
      throw error;
    } finally {
      entry.have.set(file.path, keep ? writer.offset : 0);
      if (keep && writer.offset > 0) await writer.close();
      else await writer.discard();
    }
  }

  async #measure(entry: Entry): Promise<void> {
    for (const file of entry.wanted.files) {
      try {
        const size = (await this.#store.hasBlob(file)) ? file.size : await this.#store.partialSize(file.digest);
        entry.have.set(file.path, Math.min(size, file.size));
      } catch (error) {
        // A digest that is none: the attempt says so.
        if (!(error instanceof SourceError)) throw error;
      }
    }
  }

  #failureOf(error: unknown, entry: Entry): SourceFailure {
    if (error instanceof SourceError) return error.failure;
    const { root } = this.#store;
    if (isOutOfSpace(error)) return diskFull(nameOf(entry.wanted), root);
    const text = error instanceof Error ? error.message : String(error);
    return {
      reason: 'PullFailed',
      message: `${nameOf(entry.wanted)} cannot be written to ${root} on ${hostname()}: ${text}. Look at this node's disk; it is tried again by itself`,
      terminal: false,
    };
  }

  #view(entry: Entry): PullEntry {
    const { wanted, state } = entry;
    const rate = state === 'Downloading' ? entry.rate.perSecond(this.#clock.monotonic()) : undefined;
    const total = sizeOf(wanted);
    return {
      digest: wanted.digest,
      models: wanted.models,
      namespaces: wanted.namespaces,
      state,
      bytesDone: state === 'Ready' ? total : Math.min(bytesOf(entry), total),
      bytesTotal: total,
      ...(rate === undefined ? {} : { bytesPerSecond: rate }),
      ...(entry.from === undefined ? {} : { from: entry.from }),
      ...(entry.error === undefined ? {} : { error: entry.error }),
    };
  }

  #changed(kind: 'state' | 'progress'): void {
    if (kind === 'state') for (const wake of this.#waiters) wake();
    this.#options.onChange?.(kind);
  }

  #nextChange(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#waiters.delete(done);
        timer.cancel();
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = this.#clock.schedule(ms, done);
      this.#waiters.add(done);
      signal?.addEventListener('abort', done, { once: true });
    });
  }
}

/** What a running download depends on; other changes of a wanted model leave it alone. */
function pullKey(model: WantedModel): string {
  return JSON.stringify([model.files, model.sources]);
}

function manifestOf(model: WantedModel, from: string | undefined): Manifest {
  return {
    digest: model.digest,
    size: sizeOf(model),
    files: model.files,
    models: model.models,
    namespaces: model.namespaces,
    ...(from === undefined ? {} : { from }),
  };
}

function viewOfManifest(manifest: Manifest, state: EntryState): PullEntry {
  return {
    digest: manifest.digest,
    models: manifest.models,
    namespaces: manifest.namespaces,
    state,
    bytesDone: manifest.size,
    bytesTotal: manifest.size,
    ...(manifest.from === undefined ? {} : { from: manifest.from }),
  };
}

function bytesOf(entry: Entry): number {
  let sum = 0;
  for (const bytes of entry.have.values()) sum += bytes;
  return sum;
}

function sizeOf(model: WantedModel): number {
  return model.files.reduce((sum, file) => sum + file.size, 0);
}

/** First of the models that want it, or the beginning of the digest. */
function nameOf(model: Pick<WantedModel, 'models' | 'digest'>): string {
  return model.models[0] ?? model.digest.slice(0, 17);
}

function isDiskError(entry: Entry): boolean {
  return entry.error?.reason === 'InsufficientDisk';
}

function isOutOfSpace(error: unknown): boolean {
  return hasCode(error, 'ENOSPC') || hasCode(error, 'EDQUOT');
}

function hostOf(url: string): string {
  return new URL(url).host;
}
