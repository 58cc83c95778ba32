/**
 * A typed, indexed copy of one resource in memory. The reflector alone writes it; everybody reads. Objects are deeply
 * frozen: changing one throws a TypeError in strict mode. Never talks to a server.
 */
import { type KubeObject, keyOf, type ResourceType } from '../kube/resource.ts';

/** Values under which an object is found in an index. */
export type Indexer<T> = (object: T) => Iterable<string> | string | undefined;

/** Makes of an object what a store keeps of it. */
export type Transform<T> = (object: T) => T;

/** A table of them; each gets objects of its own type only. */
export type Transforms = ReadonlyMap<ResourceType, (object: never) => KubeObject>;

/** What changed in a store. `previous` is the object as handlers last saw it. */
export type StoreEvent<T> =
  | { readonly type: 'add'; readonly key: string; readonly object: T }
  | { readonly type: 'update'; readonly key: string; readonly object: T; readonly previous: T }
  /** `object` is the last state known; changes made while we were not looking are not in it. */
  | { readonly type: 'delete'; readonly key: string; readonly object: T };

export type StoreHandler<T> = (event: StoreEvent<T>) => void;

/** Read side of a store. */
export interface Store<T extends KubeObject> {
  /** By `namespace/name`, or `name` for cluster-scoped objects. */
  get(key: string): T | undefined;
  /** All objects, in no order that means anything. */
  list(): T[];
  /** Objects in a namespace. */
  inNamespace(namespace: string): T[];
  /** Objects that the index has under this value. Throws when there is no such index. */
  byIndex(index: string, value: string): T[];
  /** Adds an index, also to a store that is filled. Adding the same function again is no error; another one is. */
  addIndex(name: string, indexer: Indexer<T>): void;
  /**
   * Calls back for every change from now on, after an `add` for each object that is already there. A handler that
   * throws is logged and called again for the next change. Answers a function that ends it.
   */
  subscribe(handler: StoreHandler<T>): () => void;
  readonly size: number;
  /** True after the first complete list. */
  readonly synced: boolean;
  /** Resolves at the first complete list; rejects when aborted. */
  whenSynced(signal?: AbortSignal): Promise<void>;
}

/** Write side, for the reflector. */
export interface WritableStore<T extends KubeObject> extends Store<T> {
  /** Adds or updates. Nothing happens when the resource version is the same. */
  put(object: T): void;
  remove(object: T): void;
  /** Makes the store equal to a complete list: adds, updates, and deletes what the list lacks. Marks it synced. */
  replace(objects: readonly T[]): void;
}

/** @param onHandlerError called with what a handler threw */
export function makeStore<T extends KubeObject>(onHandlerError: (error: unknown) => void): WritableStore<T> {
  return new MemoryStore<T>(onHandlerError);
}

interface Index<T> {
  readonly indexer: Indexer<T>;
  readonly keys: Map<string, Set<string>>;
}

class MemoryStore<T extends KubeObject> implements WritableStore<T> {
  readonly #objects = new Map<string, T>();
  readonly #indexes = new Map<string, Index<T>>();
  readonly #handlers = new Set<StoreHandler<T>>();
  readonly #onHandlerError: (error: unknown) => void;
  readonly #waiters = new Set<() => void>();
  #synced = false;

  constructor(onHandlerError: (error: unknown) => void) {
    this.#onHandlerError = onHandlerError;
    this.addIndex(NAMESPACE, (object) => object.metadata?.namespace);
  }

  get size(): number {
    return this.#objects.size;
  }

  get synced(): boolean {
    return this.#synced;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  list(): T[] {
    return [...this.#objects.values()];
  }

  inNamespace(namespace: string): T[] {
    return this.byIndex(NAMESPACE, namespace);
  }

  byIndex(index: string, value: string): T[] {
    const found = this.#indexes.get(index);
    if (found === undefined) throw new Error(`the store has no index ${index}: add it with addIndex before it is used`);
    const objects: T[] = [];
    for (const key of found.keys.get(value) ?? []) {
      const object = this.#objects.get(key);
      if (object !== undefined) objects.push(object);
    }
    return objects;
  }

  addIndex(name: string, indexer: Indexer<T>): void {
    const existing = this.#indexes.get(name);
    if (existing !== undefined) {
      if (existing.indexer === indexer) return;
      throw new Error(`the store already has another index ${name}: share the function or choose another name`);
    }
    const index: Index<T> = { indexer, keys: new Map() };
    this.#indexes.set(name, index);
    for (const [key, object] of this.#objects) this.#link(index, key, object);
  }

  subscribe(handler: StoreHandler<T>): () => void {
    for (const [key, object] of this.#objects) this.#call(handler, { type: 'add', key, object });
    this.#handlers.add(handler);
    return () => {
      this.#handlers.delete(handler);
    };
  }

  put(object: T): void {
    const key = keyOf(object);
    const previous = this.#objects.get(key);
    if (previous !== undefined && previous.metadata?.uid !== object.metadata?.uid) {
      // Deleted and made again under the same name while we were not looking: two objects, two lives.
      this.#delete(key, previous);
      this.#insert(key, object);
      return;
    }
    if (previous === undefined) {
      this.#insert(key, object);
      return;
    }
    if (previous.metadata?.resourceVersion === object.metadata?.resourceVersion) return;
    for (const index of this.#indexes.values()) this.#unlink(index, key, previous);
    this.#objects.set(key, object);
    for (const index of this.#indexes.values()) this.#link(index, key, object);
    this.#emit({ type: 'update', key, object, previous });
  }

  remove(object: T): void {
    const key = keyOf(object);
    if (this.#objects.has(key)) this.#delete(key, object);
  }

  replace(objects: readonly T[]): void {
    const present = new Set(objects.map((object) => keyOf(object)));
    for (const [key, object] of Array.from(this.#objects)) if (!present.has(key)) this.#delete(key, object);
    for (const object of objects) this.put(object);
    this.#synced = true;
    for (const wake of this.#waiters) wake();
  }

  whenSynced(signal?: AbortSignal): Promise<void> {
    if (this.#synced) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const settle = () => {
        this.#waiters.delete(settle);
        signal?.removeEventListener('abort', settle);
        if (this.#synced) resolve();
        else
          reject(
            signal?.reason instanceof Error ? signal.reason : new Error('aborted while waiting for the first list'),
          );
      };
      this.#waiters.add(settle);
      signal?.addEventListener('abort', settle, { once: true });
      if (signal?.aborted) settle();
    });
  }

  #insert(key: string, object: T): void {
    this.#objects.set(key, object);
    for (const index of this.#indexes.values()) this.#link(index, key, object);
    this.#emit({ type: 'add', key, object });
  }

  #delete(key: string, last: T): void {
    const stored = this.#objects.get(key);
    if (stored !== undefined) for (const index of this.#indexes.values()) this.#unlink(index, key, stored);
    this.#objects.delete(key);
    this.#emit({ type: 'delete', key, object: last });
  }

  #link(index: Index<T>, key: string, object: T): void {
    for (const value of this.#valuesOf(index, object)) {
      const keys = index.keys.get(value);
      if (keys === undefined) index.keys.set(value, new Set([key]));
      else keys.add(key);
    }
  }

  #unlink(index: Index<T>, key: string, object: T): void {
    for (const value of this.#valuesOf(index, object)) {
      const keys = index.keys.get(value);
      keys?.delete(key);
      if (keys?.size === 0) index.keys.delete(value);
    }
  }

  #valuesOf(index: Index<T>, object: T): Iterable<string> {
    try {
      const values = index.indexer(object);
      if (values === undefined) return [];
      return typeof values === 'string' ? [values] : [...values];
    } catch (error) {
      // An object that an index function cannot read must not keep the others out of the store.
      this.#onHandlerError(error);
      return [];
    }
  }

  #emit(event: StoreEvent<T>): void {
    for (const handler of Array.from(this.#handlers)) this.#call(handler, event);
  }

  #call(handler: StoreHandler<T>, event: StoreEvent<T>): void {
    try {
      handler(event);
    } catch (error) {
      this.#onHandlerError(error);
    }
  }
}

const NAMESPACE = 'metadata.namespace';

/** Texts as long as names, times, images and digests: shorter ones V8 shares by itself, longer ones are seldom the same. */
const SHARED = { least: 11, most: 256, count: 20_000 } as const;
const texts = new Map<string, string>();

/** The text that was seen first of all that are the same: each parsed object brings its own copies, most of what it weighs. */
function shared(text: string): string {
  if (text.length < SHARED.least || text.length > SHARED.most) return text;
  const known = texts.get(text);
  if (known !== undefined) return known;
  if (texts.size >= SHARED.count) texts.clear();
  texts.set(text, text);
  return text;
}

/** Freezes an object and all that hangs on it, and lets it share its texts with others; answers the same object. */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  const parts = value as Record<string, unknown>;
  for (const key of Object.keys(parts)) {
    const inner = parts[key];
    if (typeof inner === 'string') parts[key] = shared(inner);
    else deepFreeze(inner);
  }
  return Object.freeze(value);
}
