/**
 * The client's interface: what one can ask of a Kubernetes API server. Types only, so that tests can give a fake;
 * `http-client.ts` has the real one.
 */
import type { KubeObject, ObjectOf, ObjectRef, ResourceType, TokenReview } from './resource.ts';

/** Every call can be aborted; it then rejects with the signal's reason. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds for one attempt, headers and body each. Default 30 000. */
  readonly timeoutMs?: number | undefined;
}

/** Restricts lists and watches. */
export interface Selector {
  /** Default: all namespaces. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
}

export interface ListOptions extends CallOptions, Selector {
  /** Objects in one answer. Default: no limit for `list`, 500 for `listAll`. */
  readonly limit?: number | undefined;
  /** Token of the page before. */
  readonly continue?: string | undefined;
  readonly resourceVersion?: string | undefined;
}

export interface ObjectList<T> {
  readonly items: readonly T[];
  readonly resourceVersion: string;
  /** Present when there are more pages. */
  readonly continue?: string;
}

export interface WatchOptions extends Selector {
  readonly signal?: AbortSignal | undefined;
  /** Where to start; usually that of a list. */
  readonly resourceVersion?: string | undefined;
  /** Seconds after which the server ends the stream. Default 300. */
  readonly timeoutSeconds?: number | undefined;
  /** Ask for bookmarks. Default true. */
  readonly bookmarks?: boolean | undefined;
}

export type WatchEvent<T> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: T }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

export interface WriteOptions extends CallOptions {
  /** Name under which the server records who owns the fields. Default: the client's. */
  readonly fieldManager?: string | undefined;
  /** Check everything, store nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

export interface ApplyOptions extends WriteOptions {
  /** Take fields from other managers instead of failing with a conflict. Default false. */
  readonly force?: boolean | undefined;
}

/** `merge`: RFC 7386. `json`: RFC 6902. `strategic`: built-in kinds alone. */
export type PatchKind = 'merge' | 'json' | 'strategic';

export interface PatchOptions extends WriteOptions {
  /** For example `status` or `scale`. */
  readonly subresource?: string | undefined;
}

export interface DeleteOptions extends CallOptions {
  /** Delete only this very object; the server answers 409 otherwise. */
  readonly preconditions?: { readonly uid?: string | undefined; readonly resourceVersion?: string | undefined };
  /** Default: the resource's own (`Background` for most). */
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan' | undefined;
  readonly gracePeriodSeconds?: number | undefined;
}

export interface RawRequest extends CallOptions {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Absolute path on the server, for example `/version`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>> | undefined;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Default `application/json`. */
  readonly contentType?: string | undefined;
  /** For metrics: `get`, `list`, `create`, … Default: the method in lower case. */
  readonly verb?: string | undefined;
  /** For metrics: `pods`, `widgets.example.com`. Default: empty. */
  readonly resource?: string | undefined;
}

/** One answered or failed HTTP request, for counters. Retries are counted one by one. */
export interface RequestRecord {
  readonly method: string;
  /** `get`, `list`, `watch`, `create`, `update`, `patch`, `apply`, `delete`; or the method for raw requests. */
  readonly verb: string;
  /** `pods`, `widgets.example.com/status`; empty for raw requests. */
  readonly resource: string;
  /** HTTP status, or `<error>` when there was no answer. */
  readonly code: string;
  readonly host: string;
  /** Seconds until the headers came. */
  readonly seconds: number;
}

/**
 * A client for one cluster. All calls reject with `ApiError` when the server refuses, with `ConnectionError` when it
 * cannot be reached, and with the signal's reason when aborted. 429 and 5xx with `Retry-After` are waited out (bounded);
 * reads are repeated after a lost connection; writes are not, because nobody knows whether they happened.
 */
export interface KubeClient {
  readonly server: string;
  /** Namespace of the context or the pod, `default` when neither says. */
  readonly namespace: string;

  get<T extends KubeObject>(type: ResourceType<T>, ref: ObjectRef, options?: CallOptions): Promise<T>;
  /** Like `get`, but undefined instead of a 404. */
  find<T extends KubeObject>(type: ResourceType<T>, ref: ObjectRef, options?: CallOptions): Promise<T | undefined>;
  /** One page. */
  list<T extends KubeObject>(type: ResourceType<T>, options?: ListOptions): Promise<ObjectList<T>>;
  /** All pages of one consistent list. */
  listAll<T extends KubeObject>(type: ResourceType<T>, options?: ListOptions): Promise<ObjectList<T>>;
  /**
   * Events until the server ends the stream (the iterator is then done). An `ERROR` event is thrown as `ApiError`, a
   * lost connection as `ConnectionError`. Objects are complete or not delivered at all.
   */
  watch<T extends KubeObject>(type: ResourceType<T>, options?: WatchOptions): AsyncIterable<WatchEvent<T>>;

  create<T extends KubeObject>(type: ResourceType<T>, object: NoInfer<T>, options?: WriteOptions): Promise<T>;
  /** Replaces the object; with `metadata.resourceVersion` set only if nobody changed it meanwhile. */
  update<T extends KubeObject>(type: ResourceType<T>, object: NoInfer<T>, options?: WriteOptions): Promise<T>;
  updateStatus<T extends KubeObject>(type: ResourceType<T>, object: NoInfer<T>, options?: WriteOptions): Promise<T>;
  patch<T extends KubeObject>(
    type: ResourceType<T>,
    ref: ObjectRef,
    kind: PatchKind,
    patch: unknown,
    options?: PatchOptions,
  ): Promise<T>;
  /** Server-side apply: creates or merges; fields that we applied before and left out now are removed. */
  apply<T extends KubeObject>(
    type: ResourceType<T>,
    object: NoInfer<T> | KubeObject,
    options?: ApplyOptions,
  ): Promise<T>;
  /** Server-side apply of the status subresource. The object must exist. */
  applyStatus<T extends KubeObject>(
    type: ResourceType<T>,
    object: NoInfer<T> | KubeObject,
    options?: ApplyOptions,
  ): Promise<T>;
  /** Resolves also when the object only begins to go (finalizers). A 404 is an error: see `isNotFound`. */
  delete<T extends KubeObject>(type: ResourceType<T>, ref: ObjectRef, options?: DeleteOptions): Promise<void>;

  /** Asks the server whose token this is. `audiences` must all be given when the token was made for them. */
  reviewToken(
    token: string,
    audiences?: readonly string[],
    options?: CallOptions,
  ): Promise<NonNullable<ObjectOf<typeof TokenReview>['status']>>;

  /** Anything else; answers the parsed JSON, or the text when it is none. */
  request<T = unknown>(request: RawRequest): Promise<T>;

  /** Reads token and certificates again before the next call, sooner than by itself. */
  refreshCredentials(): void;

  /** Closes the pooled connections; running calls fail. */
  close(): Promise<void>;
}
