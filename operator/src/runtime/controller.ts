/**
 * Controllers: which events wake which keys, and the function that brings one key to its desired state. Owns the
 * declaration and the mapping helpers; `controller-loop.ts` runs it, the manager decides when.
 */
import { apiVersionOf, type KubeObject, keyOf, makeKey, type ResourceType } from '../kube/resource.ts';
import type { Logger } from './log.ts';
import type { Outcome } from './outcome.ts';
import type { StoreOptions } from './shared-stores.ts';
import type { StoreEvent } from './store.ts';

/** Handed to every reconcile. */
export interface ReconcileContext {
  /** Aborted when the reconcile ran too long or the process stops; pass it to every call. */
  readonly signal: AbortSignal;
  /** Carries `controller` and `key`. */
  readonly log: Logger;
  /** How often this key failed in a row before now; 0 at the first try. */
  readonly attempt: number;
  /** Keys of this controller that wait for a worker: with many, what can wait should. Absent in tests: none. */
  readonly backlog?: number | undefined;
}

/** Keys to wake for an object. Called for the old and for the new object of an update. */
export type KeyMapper<T> = (object: T) => Iterable<string> | string | undefined;

/** False keeps an event from waking anything. */
export type Predicate<T> = (event: StoreEvent<T>) => boolean;

export interface WatchSourceOptions<T extends KubeObject> extends StoreOptions<T> {
  readonly predicate?: Predicate<T> | undefined;
  /**
   * Milliseconds that a key waits after an event, so that several events become one run; other sources wake it meanwhile all the
   * same. For events that nobody waits for. Default 0.
   */
  readonly delayMs?: number | ((event: StoreEvent<T>) => number) | undefined;
}

/** Where keys come from. Made by {@link watches} and {@link makeChannel}. */
export interface Source {
  /** For logs. */
  readonly name: string;
  /** Called once by the manager, before the caches fill. */
  readonly bind: (binding: SourceBinding) => void;
}

/** What the manager gives a source. */
export interface SourceBinding {
  readonly store: <T extends KubeObject>(type: ResourceType<T>, options?: StoreOptions<T>) => StoreSubscription<T>;
  /** @param delayMs after how many milliseconds the key is due; the earliest time counts. Default 0. */
  readonly enqueue: (key: string, delayMs?: number) => void;
  readonly onError: (error: unknown) => void;
}

export interface StoreSubscription<T> {
  subscribe(handler: (event: StoreEvent<T>) => void): () => void;
}

export interface ControllerOptions {
  /** Lower-case word, unique in a manager: label of metrics and logs. */
  readonly name: string;
  readonly sources: readonly Source[];
  /**
   * Brings one key to its desired state. Nothing returned means done. A thrown error means: try again with backoff.
   * The same key never runs twice at a time; events that come meanwhile run it again afterwards.
   */
  readonly reconcile: (key: string, context: ReconcileContext) => Promise<Outcome | void>;
  /** Keys worked on at the same time. Default 1. */
  readonly concurrency?: number | undefined;
  /** Milliseconds after which the signal is aborted and the run counts as failed. Default 60 000. */
  readonly reconcileTimeoutMs?: number | undefined;
  /** First and longest delay after failures of a key, doubled each time. Default 5 ms and 1000 s. */
  readonly backoff?: { readonly baseMs?: number | undefined; readonly maxMs?: number | undefined } | undefined;
  /** False runs it on every replica. Default true: only where this process leads. */
  readonly needsLeader?: boolean | undefined;
  /** Called after every run, for tests and for status of its own. */
  readonly onOutcome?:
    | ((key: string, outcome: Outcome | { readonly outcome: 'error'; readonly error: unknown }) => void)
    | undefined;
}

/** A checked declaration with its defaults filled in; give it to `manager.add`. */
export interface Controller {
  readonly name: string;
  readonly sources: readonly Source[];
  readonly reconcile: ControllerOptions['reconcile'];
  readonly concurrency: number;
  readonly reconcileTimeoutMs: number;
  readonly backoff: { readonly baseMs: number; readonly maxMs: number };
  readonly needsLeader: boolean;
  readonly onOutcome: NonNullable<ControllerOptions['onOutcome']>;
}

const NAME = /^[a-z][a-z0-9-]{0,62}$/;

/** Checks a declaration and fills in the defaults. Throws when the name or a number is of no use. */
export function defineController(options: ControllerOptions): Controller {
  if (!NAME.test(options.name)) {
    throw new Error(`controller name ${JSON.stringify(options.name)}: write lower-case letters, digits and dashes`);
  }
  const concurrency = options.concurrency ?? 1;
  if (!Number.isInteger(concurrency) || concurrency < 1) {
    throw new Error(`controller ${options.name}: concurrency must be a whole number of at least 1`);
  }
  const baseMs = options.backoff?.baseMs ?? 5;
  const maxMs = options.backoff?.maxMs ?? 1_000_000;
  if (!(baseMs > 0) || !(maxMs >= baseMs)) {
    throw new Error(`controller ${options.name}: backoff needs 0 < baseMs <= maxMs, not ${baseMs} and ${maxMs}`);
  }
  return {
    name: options.name,
    sources: options.sources,
    reconcile: options.reconcile,
    concurrency,
    reconcileTimeoutMs: options.reconcileTimeoutMs ?? 60_000,
    backoff: { baseMs, maxMs },
    needsLeader: options.needsLeader ?? true,
    onOutcome: options.onOutcome ?? (() => undefined),
  };
}

/**
 * Wakes keys when objects of a resource change. Without a mapper the object's own key.
 * The store behind it is the manager's shared one for this resource and selector.
 */
export function watches<T extends KubeObject>(
  type: ResourceType<T>,
  map: KeyMapper<NoInfer<T>> = keyOf,
  options: WatchSourceOptions<NoInfer<T>> = {},
): Source {
  const { predicate, delayMs = 0, ...storeOptions } = options;
  return {
    name: type.kind,
    bind({ store, enqueue, onError }) {
      store(type, storeOptions).subscribe((event) => {
        try {
          if (predicate !== undefined && !predicate(event)) return;
          const keys = new Set(keysOf(map, event.object));
          // An object that moves from one owner to another concerns both.
          if (event.type === 'update') for (const key of keysOf(map, event.previous)) keys.add(key);
          const delay = typeof delayMs === 'number' ? delayMs : delayMs(event);
          for (const key of keys) enqueue(key, delay);
        } catch (error) {
          onError(error);
        }
      });
    },
  };
}

function keysOf<T>(map: KeyMapper<T>, object: T): Iterable<string> {
  const keys = map(object);
  if (keys === undefined) return [];
  return typeof keys === 'string' ? [keys] : keys;
}

/** Maps a child to its controlling owner of that kind (`ownerReferences[].controller`). */
export function ownedBy(owner: ResourceType): KeyMapper<KubeObject> {
  const apiVersion = apiVersionOf(owner);
  return (object) =>
    (object.metadata?.ownerReferences ?? [])
      .filter((reference) => reference.controller === true)
      .filter((reference) => reference.kind === owner.kind && sameGroup(reference.apiVersion, apiVersion))
      .map((reference) => makeKey(owner.namespaced ? object.metadata?.namespace : undefined, reference.name));
}

function sameGroup(left: string, right: string): boolean {
  return groupOf(left) === groupOf(right);
}

function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}

/** Keys named by a label or annotation, for children whose owner is cluster-scoped or in another namespace. */
export function byLabel(label: string): KeyMapper<KubeObject> {
  return (object) => object.metadata?.labels?.[label];
}

/** Lets through adds, deletes, the begin of a deletion, and updates that changed the spec (`metadata.generation`). */
export function generationChanged(event: StoreEvent<KubeObject>): boolean {
  if (event.type !== 'update') return true;
  const before = event.previous.metadata;
  const after = event.object.metadata;
  return before?.generation !== after?.generation || before?.deletionTimestamp !== after?.deletionTimestamp;
}

/** Keys pushed by code rather than by the API server: timers, file watchers, running downloads. */
export interface Channel extends Source {
  /** Wakes a key. Before the controller is bound, keys are kept. */
  push(key: string): void;
}

export function makeChannel(name: string): Channel {
  const early = new Set<string>();
  let enqueue: (key: string) => void = (key) => early.add(key);
  return {
    name,
    push: (key) => enqueue(key),
    bind(binding) {
      enqueue = binding.enqueue;
      for (const key of early) enqueue(key);
      early.clear();
    },
  };
}
