/**
 * The stores of one process: one for each resource, selector and transform, each kept by its own reflector, shared by all that ask.
 * Owns their life; reads nothing from them.
 */
import type { KubeClient, Selector } from '../kube/client.ts';
import { type KubeObject, type ResourceType, resourceName } from '../kube/resource.ts';
import type { Clock, Timer } from './clock.ts';
import type { Logger } from './log.ts';
import type { RuntimeMetrics } from './metrics.ts';
import { runReflector } from './reflector.ts';
import { type Indexer, makeStore, type Store, type Transform, type Transforms } from './store.ts';

/** What a shared store is made of: one exists for each resource, selector and transform; indexes add up. */
export interface StoreOptions<T extends KubeObject> extends Selector {
  /**
   * Cuts objects down to what is read of them, before they are kept: stores of thousands of objects are most of a process's
   * memory. Gets an object that it may change or take parts of, and must keep `metadata.name`, `namespace`, `uid` and
   * `resourceVersion`. Give the same function to every call that means the same store: another one makes another store, with a
   * watch of its own.
   */
  readonly transform?: Transform<T> | undefined;
  readonly indexes?: Readonly<Record<string, Indexer<T>>> | undefined;
}

export interface SharedStoresOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly metrics: RuntimeMetrics;
  readonly clock: Clock;
  readonly random: () => number;
  /** For stores that are asked for without a transform of their own. */
  readonly transforms?: Transforms | undefined;
}

interface SharedStore {
  readonly store: Store<KubeObject>;
  readonly name: string;
  readonly run: (signal: AbortSignal) => Promise<void>;
}

const STILL_WAITING_MS = 10_000;

export class SharedStores {
  readonly #options: SharedStoresOptions;
  readonly #stores = new Map<string, SharedStore>();
  readonly #running = new Set<Promise<void>>();
  /** A number for each transform, because a function has no text to tell it by. */
  readonly #transforms = new Map<unknown, number>();
  #signal: AbortSignal | undefined;

  constructor(options: SharedStoresOptions) {
    this.#options = options;
  }

  /** The store of a resource and selector; makes it, and fills it when the others are being filled already. */
  get<T extends KubeObject>(type: ResourceType<T>, options: StoreOptions<T> = {}): Store<T> {
    const { indexes, transform = this.#transformOf(type), ...selector } = options;
    const { namespace = '', labelSelector = '', fieldSelector = '' } = selector;
    const id = [
      resourceName(type),
      type.version,
      namespace,
      labelSelector,
      fieldSelector,
      this.#numberOf(transform),
    ].join('|');
    // The id names the resource, so whatever is stored under it holds objects of type T.
    const shared = this.#stores.get(id) ?? this.#make(id, type, selector, transform);
    const store = shared.store as unknown as Store<T>;
    for (const [name, indexer] of Object.entries(indexes ?? {})) store.addIndex(name, indexer);
    return store;
  }

  /** Begins to fill all stores, and those that come later, until the signal is aborted. */
  start(signal: AbortSignal): void {
    this.#signal = signal;
    for (const shared of this.#stores.values()) this.#run(shared, signal);
  }

  /** Resolves when all reflectors have ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Resolves when every store has had its first complete list; says every ten seconds what is missing. */
  async whenSynced(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const tell = (): Timer =>
      clock.schedule(STILL_WAITING_MS, () => {
        log.warn({ waitingFor: this.unsynced() }, 'still waiting for the first list of some resources');
        timer = tell();
      });
    let timer = tell();
    try {
      await Promise.all(Array.from(this.#stores.values(), ({ store }) => store.whenSynced(signal)));
    } finally {
      timer.cancel();
    }
  }

  /** Resources that were not listed yet. */
  unsynced(): string[] {
    return Array.from(this.#stores.values())
      .filter(({ store }) => !store.synced)
      .map(({ name }) => name);
  }

  /** The table's keys name the type of what its functions take. */
  #transformOf<T extends KubeObject>(type: ResourceType<T>): Transform<T> | undefined {
    return this.#options.transforms?.get(type) as unknown as Transform<T> | undefined;
  }

  #numberOf(transform: unknown): number {
    if (transform === undefined) return 0;
    const number = this.#transforms.get(transform) ?? this.#transforms.size + 1;
    this.#transforms.set(transform, number);
    return number;
  }

  #make<T extends KubeObject>(
    id: string,
    type: ResourceType<T>,
    selector: Selector,
    transform: Transform<T> | undefined,
  ): SharedStore {
    const { client, log, metrics, clock, random } = this.#options;
    const name = resourceName(type);
    const store = makeStore<T>((error) => log.error({ err: error, resource: name }, 'a handler threw'));
    const onEvent = (event: Parameters<RuntimeMetrics['reflector']>[1]) => metrics.reflector(name, event);
    const options = { client, type, selector, transform, store, log, clock, random, onEvent };
    const shared = {
      store: store as unknown as Store<KubeObject>,
      name,
      run: (signal: AbortSignal) => runReflector(options, signal),
    };
    this.#stores.set(id, shared);
    if (this.#signal !== undefined) this.#run(shared, this.#signal);
    return shared;
  }

  #run(shared: SharedStore, signal: AbortSignal): void {
    const running = shared.run(signal).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }
}
