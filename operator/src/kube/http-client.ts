/**
 * The real client: raw JSON over pooled connections. Owns the calls and the reading of answers; holds no state of
 * the cluster.
 */
import type {
  ApplyOptions,
  CallOptions,
  DeleteOptions,
  KubeClient,
  ListOptions,
  ObjectList,
  PatchKind,
  PatchOptions,
  RawRequest,
  RequestRecord,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from './client.ts';
import type { ClusterAccess } from './config.ts';
import { ApiError, apiErrorFrom, ConnectionError, isNotFound, isUnauthorized } from './errors.ts';
import { collectionPath, pathOf, queryString } from './paths.ts';
import {
  apiVersionOf,
  type KubeObject,
  type ObjectOf,
  type ObjectRef,
  type ResourceType,
  refOf,
  resourceName,
  TokenReview,
} from './resource.ts';
import { MAX_WAIT_MS, pauseBefore, pauseFor, reasonOf } from './retry.ts';
import { makeTransport, type Transport } from './transport.ts';
import { parseWatch } from './watch-stream.ts';

export interface KubeClientOptions {
  readonly access: ClusterAccess;
  /** For example `widget-operator/1.2.3`. */
  readonly userAgent: string;
  /** Default field manager of writes. Default: the user agent up to the first slash. */
  readonly fieldManager?: string | undefined;
  /** Default of `CallOptions.timeoutMs`. Default 30 000. */
  readonly timeoutMs?: number | undefined;
  /** Called for every HTTP request, retries too. Must not throw. */
  readonly onRequest?: ((record: RequestRecord) => void) | undefined;
}

const CALL_TIMEOUT_MS = 30_000;
const PAGE_SIZE = 500;
const WATCH_SECONDS = 300;
const PATCH_TYPES: Readonly<Record<PatchKind, string>> = {
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  strategic: 'application/strategic-merge-patch+json',
};
/** JSON is YAML; the server takes no other name for it here in every version that we support. */
const APPLY_TYPE = 'application/apply-patch+yaml';

export function makeKubeClient(options: KubeClientOptions): KubeClient {
  return new HttpKubeClient(options);
}

class HttpKubeClient implements KubeClient {
  readonly server: string;
  readonly namespace: string;
  readonly #transport: Transport;
  readonly #userAgent: string;
  readonly #fieldManager: string;
  readonly #timeoutMs: number;
  readonly #onRequest: (record: RequestRecord) => void;

  constructor(options: KubeClientOptions) {
    this.server = options.access.server;
    this.namespace = options.access.namespace ?? 'default';
    this.#transport = makeTransport(options.access);
    this.#userAgent = options.userAgent;
    this.#fieldManager = options.fieldManager ?? options.userAgent.replace(/\/.*$/, '');
    this.#timeoutMs = options.timeoutMs ?? CALL_TIMEOUT_MS;
    this.#onRequest = options.onRequest ?? (() => undefined);
  }

  async get<T extends KubeObject>(type: ResourceType<T>, ref: ObjectRef, options: CallOptions = {}): Promise<T> {
    return await this.#call<T>({ ...options, method: 'GET', path: pathOf(type, ref), ...named('get', type) });
  }

  async find<T extends KubeObject>(
    type: ResourceType<T>,
    ref: ObjectRef,
    options: CallOptions = {},
  ): Promise<T | undefined> {
    try {
      return await this.get(type, ref, options);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async list<T extends KubeObject>(type: ResourceType<T>, options: ListOptions = {}): Promise<ObjectList<T>> {
    const { signal, timeoutMs, namespace, ...query } = options;
    const answer = await this.#call<RawList<T>>({
      method: 'GET',
      path: collectionPath(type, namespace),
      query,
      signal,
      timeoutMs,
      ...named('list', type),
    });
    if (typeof answer.metadata?.resourceVersion !== 'string') {
      throw new ConnectionError(`GET ${collectionPath(type, namespace)}`, new Error('the answer is no list'));
    }
    const kind = { apiVersion: apiVersionOf(type), kind: type.kind };
    // Items of a list carry neither; the store and whoever writes them back need both.
    const items = (answer.items ?? []).map((item) => ({ ...kind, ...item }));
    const { resourceVersion, continue: next } = answer.metadata;
    return next === undefined || next === '' ? { items, resourceVersion } : { items, resourceVersion, continue: next };
  }

  async listAll<T extends KubeObject>(type: ResourceType<T>, options: ListOptions = {}): Promise<ObjectList<T>> {
    const first = await this.list(type, { limit: PAGE_SIZE, ...options });
    const items = [...first.items];
    let next = first.continue;
    while (next !== undefined) {
      const page = await this.list(type, { limit: PAGE_SIZE, ...options, resourceVersion: undefined, continue: next });
      items.push(...page.items);
      next = page.continue;
    }
    return { items, resourceVersion: first.resourceVersion };
  }

  async *watch<T extends KubeObject>(
    type: ResourceType<T>,
    options: WatchOptions = {},
  ): AsyncGenerator<WatchEvent<T>, void, undefined> {
    const { signal, namespace, bookmarks, ...query } = options;
    const path = collectionPath(type, namespace);
    const request = `WATCH ${path}`;
    const response = await this.#send({
      method: 'GET',
      path,
      query: { timeoutSeconds: WATCH_SECONDS, ...query, watch: true, allowWatchBookmarks: bookmarks ?? true },
      signal,
      bodyTimeoutMs: 0,
      ...named('watch', type),
    });
    try {
      for await (const event of parseWatch(response.body)) {
        if (event.type === 'ERROR') throw apiErrorFrom(request, 500, event.object, undefined);
        if (event.type === 'BOOKMARK') {
          const resourceVersion = (event.object as KubeObject).metadata?.resourceVersion;
          if (resourceVersion !== undefined) yield { type: 'BOOKMARK', resourceVersion };
        } else if (event.type === 'ADDED' || event.type === 'MODIFIED' || event.type === 'DELETED') {
          yield { type: event.type, object: event.object as T };
        }
      }
    } catch (error) {
      if (error instanceof ApiError) throw error;
      throw signal?.aborted ? reasonOf(signal) : new ConnectionError(request, error);
    } finally {
      response.body.on('error', () => undefined).destroy();
    }
  }

  async create<T extends KubeObject>(type: ResourceType<T>, object: T, options: WriteOptions = {}): Promise<T> {
    const path = collectionPath(type, object.metadata?.namespace);
    return await this.#write<T>(
      { method: 'POST', path, body: this.#typed(type, object), ...named('create', type) },
      options,
    );
  }

  async update<T extends KubeObject>(type: ResourceType<T>, object: T, options: WriteOptions = {}): Promise<T> {
    const path = pathOf(type, refOf(object));
    return await this.#write<T>(
      { method: 'PUT', path, body: this.#typed(type, object), ...named('update', type) },
      options,
    );
  }

  async updateStatus<T extends KubeObject>(type: ResourceType<T>, object: T, options: WriteOptions = {}): Promise<T> {
    const path = pathOf(type, refOf(object), 'status');
    const body = this.#typed(type, object);
    return await this.#write<T>({ method: 'PUT', path, body, ...named('update', type, 'status') }, options);
  }

  async patch<T extends KubeObject>(
    type: ResourceType<T>,
    ref: ObjectRef,
    kind: PatchKind,
    patch: unknown,
    options: PatchOptions = {},
  ): Promise<T> {
    const { subresource, ...rest } = options;
    const path = pathOf(type, ref, subresource);
    const contentType = PATCH_TYPES[kind];
    return await this.#write<T>(
      { method: 'PATCH', path, body: patch, contentType, ...named('patch', type, subresource) },
      rest,
    );
  }

  async apply<T extends KubeObject>(type: ResourceType<T>, object: KubeObject, options: ApplyOptions = {}): Promise<T> {
    return await this.#apply<T>(type, object, undefined, options);
  }

  async applyStatus<T extends KubeObject>(
    type: ResourceType<T>,
    object: KubeObject,
    options: ApplyOptions = {},
  ): Promise<T> {
    return await this.#apply<T>(type, object, 'status', options);
  }

  async delete<T extends KubeObject>(
    type: ResourceType<T>,
    ref: ObjectRef,
    options: DeleteOptions = {},
  ): Promise<void> {
    const { signal, timeoutMs, ...body } = options;
    await this.#call({
      method: 'DELETE',
      path: pathOf(type, ref),
      body: { apiVersion: 'v1', kind: 'DeleteOptions', ...body },
      signal,
      timeoutMs,
      ...named('delete', type),
    });
  }

  async reviewToken(
    token: string,
    audiences: readonly string[] = [],
    options: CallOptions = {},
  ): Promise<NonNullable<ObjectOf<typeof TokenReview>['status']>> {
    const spec = { token, ...(audiences.length === 0 ? {} : { audiences: [...audiences] }) };
    const review = await this.create(TokenReview, { metadata: {}, spec }, options);
    return review.status ?? { authenticated: false, error: 'the server gave no status' };
  }

  request<T = unknown>(request: RawRequest): Promise<T> {
    return this.#call<T>(request);
  }

  refreshCredentials(): void {
    this.#transport.refresh();
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }

  async #apply<T extends KubeObject>(
    type: ResourceType<T>,
    object: KubeObject,
    subresource: string | undefined,
    options: ApplyOptions,
  ): Promise<T> {
    const { force, ...rest } = options;
    return await this.#write<T>(
      {
        method: 'PATCH',
        path: pathOf(type, refOf(object), subresource),
        query: { force: force ?? false },
        body: this.#typed(type, object),
        contentType: APPLY_TYPE,
        ...named('apply', type, subresource),
      },
      rest,
    );
  }

  #typed(type: ResourceType, object: KubeObject): unknown {
    return { ...object, apiVersion: apiVersionOf(type), kind: type.kind };
  }

  #write<T>(request: RawRequest, options: WriteOptions): Promise<T> {
    const query = {
      ...request.query,
      fieldManager: options.fieldManager ?? this.#fieldManager,
      // A misspelt field is an error to repair, not a field to lose.
      fieldValidation: 'Strict',
      dryRun: options.dryRun ? 'All' : undefined,
    };
    return this.#call<T>({ ...request, query, signal: options.signal, timeoutMs: options.timeoutMs });
  }

  async #call<T>(request: RawRequest): Promise<T> {
    let waited = 0;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#attempt<T>(request);
      } catch (error) {
        if (isUnauthorized(error) && attempt === 0) {
          this.#transport.refresh();
          continue;
        }
        const pause = pauseBefore(error, request.method, attempt);
        if (pause === undefined || waited + pause > MAX_WAIT_MS) throw error;
        waited += pause;
        await pauseFor(pause, request.signal);
      }
    }
  }

  async #attempt<T>(request: RawRequest): Promise<T> {
    const response = await this.#send({ ...request, bodyTimeoutMs: request.timeoutMs ?? this.#timeoutMs });
    let text: string;
    try {
      text = await response.body.text();
    } catch (error) {
      throw request.signal?.aborted ? reasonOf(request.signal) : new ConnectionError(label(request), error);
    }
    const answer = parseBody(text);
    // A proxy's error page with status 200 must not pass for an object, least of all for an empty list.
    if (request.resource !== undefined && (typeof answer !== 'object' || answer === null)) {
      throw new ConnectionError(label(request), new Error('the answer is no JSON object: is there a proxy between?'));
    }
    return answer as T;
  }

  async #send(request: RawRequest & { readonly bodyTimeoutMs: number }) {
    const started = performance.now();
    const record = (code: string) =>
      this.#onRequest({
        method: request.method,
        verb: request.verb ?? request.method.toLowerCase(),
        resource: request.resource ?? '',
        code,
        host: this.#transport.host,
        seconds: (performance.now() - started) / 1000,
      });
    let response: Awaited<ReturnType<Transport['send']>>;
    try {
      response = await this.#transport.send({
        method: request.method,
        target: request.path + queryString(request.query),
        headers: {
          accept: 'application/json',
          'user-agent': this.#userAgent,
          ...(request.body === undefined ? {} : { 'content-type': request.contentType ?? 'application/json' }),
        },
        body: request.body === undefined ? undefined : JSON.stringify(request.body),
        signal: request.signal,
        headersTimeoutMs: request.timeoutMs ?? this.#timeoutMs,
        bodyTimeoutMs: request.bodyTimeoutMs,
      });
    } catch (error) {
      record('<error>');
      throw request.signal?.aborted ? reasonOf(request.signal) : new ConnectionError(label(request), error);
    }
    record(String(response.statusCode));
    if (response.statusCode < 400) return response;
    const text = await response.body.text().catch(() => '');
    const retryAfter = response.headers['retry-after'];
    const header = Array.isArray(retryAfter) ? retryAfter[0] : retryAfter;
    throw apiErrorFrom(label(request), response.statusCode, parseBody(text), header);
  }
}

interface RawList<T> {
  readonly items?: readonly T[] | null;
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
}

function label(request: RawRequest): string {
  return `${request.method} ${request.path}`;
}

function named(verb: string, type: ResourceType, subresource?: string): { verb: string; resource: string } {
  const name = resourceName(type);
  return { verb, resource: subresource === undefined ? name : `${name}/${subresource}` };
}

function parseBody(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
