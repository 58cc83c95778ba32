/**
 * A small Kubernetes API server for tests, over real HTTP sockets, that misbehaves on command: objects with resource
 * versions, paged lists, watches with bookmarks and history, optimistic concurrency. Owns no validation, no defaults
 * and no real server-side apply (it merges): for those there is the real API server.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import type { ClusterAccess } from '../../kube/config.ts';
import { type KubeObject, keyOf, type ResourceType } from '../../kube/resource.ts';
import { type Change, type Fault, inNamespace, type Target, Watcher } from './faulty-watch.ts';

export type { Fault } from './faulty-watch.ts';

export type Verb = 'list' | 'watch' | 'get' | 'write';

export interface FaultyApiServerOptions {
  /** Real milliseconds between bookmarks. Default 20. */
  readonly bookmarkMs?: number;
  /** Real milliseconds that stand for one second of `timeoutSeconds`. Default 1. */
  readonly secondMs?: number;
}

export interface FaultyApiServer extends AsyncDisposable {
  readonly access: ClusterAccess;
  /** Creates or replaces an object as somebody else would. Answers what is stored. */
  put(type: ResourceType, object: KubeObject): KubeObject;
  remove(type: ResourceType, key: string): void;
  /** Deletes and makes again under the same name, so that only the uid tells. */
  replace(type: ResourceType, object: KubeObject): KubeObject;
  /** Objects by key. */
  state(type: ResourceType): Map<string, KubeObject>;
  /** Forgets history: watches and page tokens from before now get 410. */
  compact(): void;
  /** Counts up the resource version as changes elsewhere would. */
  tick(): void;
  /** What the next request of that kind gets instead of an answer. Several queue up. */
  fail(verb: Verb, fault: Fault): void;
  /** Drops faults that nobody met. Streams that are silent because of one stay so: the client has to notice. */
  heal(): void;
  /** Cuts all connections, as a restart of the server would. */
  disconnect(): void;
  /** Faults that befell a request so far. */
  readonly faultsMet: number;
  /** Requests so far, as `list configmaps`, `watch configmaps`, `create leases`, … */
  readonly requests: readonly string[];
  /** Headers of the last request. */
  readonly lastHeaders: IncomingMessage['headers'];
  /** Query of the last request, from its question mark. */
  readonly lastQuery: string;
  /** Tokens accepted; undefined accepts all. */
  tokens: ReadonlySet<string> | undefined;
  readonly openSockets: number;
  /** Sockets ever opened. */
  readonly socketsOpened: number;
  close(): Promise<void>;
}

export async function startFaultyApiServer(options: FaultyApiServerOptions = {}): Promise<FaultyApiServer> {
  const server = new FakeApi(options);
  await server.listen();
  return server;
}

class FakeApi implements FaultyApiServer {
  readonly requests: string[] = [];
  lastHeaders: IncomingMessage['headers'] = {};
  lastQuery = '';
  tokens: ReadonlySet<string> | undefined;
  socketsOpened = 0;
  faultsMet = 0;
  readonly #options: Required<FaultyApiServerOptions>;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #collections = new Map<string, Map<string, KubeObject>>();
  readonly #faults = new Map<Verb, Fault[]>();
  readonly #watchers = new Set<Watcher>();
  readonly #pages = new Map<string, { readonly items: readonly KubeObject[]; readonly version: number }>();
  #history: Change[] = [];
  #compacted = 0;
  #version = 100;
  #uid = 0;
  #port = 0;

  constructor(options: FaultyApiServerOptions) {
    this.#options = { bookmarkMs: options.bookmarkMs ?? 20, secondMs: options.secondMs ?? 1 };
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on('connection', (socket) => {
      this.socketsOpened += 1;
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => undefined);
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  get access(): ClusterAccess {
    return {
      server: `http://127.0.0.1:${this.#port}`,
      namespace: 'default',
      credentials: () => Promise.resolve({ headers: {}, tls: {} }),
    };
  }

  get openSockets(): number {
    return this.#sockets.size;
  }

  put(type: ResourceType, object: KubeObject): KubeObject {
    return this.#store(collectionOf(type), object);
  }

  remove(type: ResourceType, key: string): void {
    this.#delete(collectionOf(type), key);
  }

  replace(type: ResourceType, object: KubeObject): KubeObject {
    this.remove(type, keyOf(object));
    return this.put(type, object);
  }

  state(type: ResourceType): Map<string, KubeObject> {
    return this.#collection(collectionOf(type));
  }

  compact(): void {
    this.#history = [];
    this.#pages.clear();
    this.#compacted = this.#version;
  }

  tick(): void {
    this.#version += 1;
  }

  fail(verb: Verb, fault: Fault): void {
    const queue = this.#faults.get(verb);
    if (queue === undefined) this.#faults.set(verb, [fault]);
    else queue.push(fault);
  }

  heal(): void {
    this.#faults.clear();
  }

  disconnect(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    for (const watcher of this.#watchers) watcher.stop();
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #collection(name: string): Map<string, KubeObject> {
    const found = this.#collections.get(name);
    if (found !== undefined) return found;
    const made = new Map<string, KubeObject>();
    this.#collections.set(name, made);
    return made;
  }

  #store(collection: string, object: KubeObject): KubeObject {
    const objects = this.#collection(collection);
    const key = keyOf(object);
    const before = objects.get(key);
    this.#version += 1;
    const stored = {
      ...object,
      metadata: {
        ...object.metadata,
        uid: before?.metadata?.uid ?? `uid-${++this.#uid}`,
        resourceVersion: String(this.#version),
        managedFields: [{ manager: 'test', operation: 'Update' }],
      },
    };
    objects.set(key, stored);
    this.#publish({
      version: this.#version,
      collection,
      type: before === undefined ? 'ADDED' : 'MODIFIED',
      object: stored,
    });
    return stored;
  }

  #delete(collection: string, key: string): KubeObject | undefined {
    const objects = this.#collection(collection);
    const before = objects.get(key);
    if (before === undefined) return undefined;
    objects.delete(key);
    this.#version += 1;
    const last = { ...before, metadata: { ...before.metadata, resourceVersion: String(this.#version) } };
    this.#publish({ version: this.#version, collection, type: 'DELETED', object: last });
    return last;
  }

  #publish(change: Change): void {
    this.#history.push(change);
    for (const watcher of this.#watchers) watcher.offer(change);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = parseTarget(request.url ?? '/');
    const body = await readBody(request);
    this.lastHeaders = request.headers;
    this.lastQuery = new URL(request.url ?? '/', 'http://server').search;
    if (this.tokens !== undefined && !this.tokens.has((request.headers.authorization ?? '').replace('Bearer ', ''))) {
      sendStatus(response, 401, 'Unauthorized', 'Unauthorized');
      return;
    }
    if (target === undefined) {
      sendStatus(response, 404, 'NotFound', `no such path: ${request.url ?? ''}`);
      return;
    }
    const verb = verbOf(request.method ?? 'GET', target);
    this.requests.push(`${verb === 'write' ? (request.method ?? '').toLowerCase() : verb} ${target.plural}`);
    const fault = this.#faults.get(verb)?.shift();
    if (fault !== undefined) this.faultsMet += 1;
    if (fault !== undefined && this.#misbehave(fault, request, response)) return;
    if (verb === 'watch') this.#watch(target, response, fault);
    else if (verb === 'list') this.#list(target, response);
    else if (verb === 'get') this.#get(target, response);
    else this.#write(request, target, body, response);
  }

  /** True when the fault was all there is to the answer; false for those that befall a watch later. */
  #misbehave(fault: Fault, request: IncomingMessage, response: ServerResponse): boolean {
    switch (fault.kind) {
      case 'status': {
        const reason = fault.code === 410 ? 'Expired' : fault.code === 429 ? 'TooManyRequests' : 'InternalError';
        const headers = fault.retryAfterSeconds === undefined ? {} : { 'retry-after': String(fault.retryAfterSeconds) };
        sendStatus(response, fault.code, reason, `scripted ${fault.code}`, headers);
        return true;
      }
      case 'hang':
        return true;
      case 'reset':
        request.socket.destroy();
        return true;
      case 'garbage':
        response.writeHead(200, { 'content-type': 'application/json' }).end('<html>not an API server</html>\n');
        return true;
      case 'truncated':
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': '10000' });
        response.write('{"items":[{"metadata"');
        setImmediate(() => request.socket.destroy());
        return true;
      default:
        return false;
    }
  }

  #list(target: Target, response: ServerResponse): void {
    const limit = Number(target.query.get('limit') ?? 0);
    const token = target.query.get('continue');
    let page: { readonly items: readonly KubeObject[]; readonly version: number } | undefined;
    if (token === null) {
      const all = Array.from(this.#collection(target.collection).values());
      const items = all.filter((object) => inNamespace(object, target.namespace));
      page = { items, version: this.#version };
    } else page = this.#pages.get(token);
    if (page === undefined) {
      sendStatus(response, 410, 'Expired', 'The provided continue parameter is too old');
      return;
    }
    const size = limit > 0 ? limit : page.items.length;
    const rest = page.items.slice(size);
    const metadata: Record<string, string> = { resourceVersion: String(page.version) };
    if (rest.length > 0) {
      metadata['continue'] = `page-${this.#pages.size}-${page.version}`;
      this.#pages.set(metadata['continue'], { items: rest, version: page.version });
    }
    // Real lists leave apiVersion and kind of their items out.
    const items = page.items.slice(0, size).map(({ apiVersion: _a, kind: _k, ...item }) => item);
    sendJson(response, 200, { kind: 'List', apiVersion: 'v1', metadata, items });
  }

  #watch(target: Target, response: ServerResponse, fault: Fault | undefined): void {
    const from = Number(target.query.get('resourceVersion') ?? this.#version);
    response.writeHead(200, { 'content-type': 'application/json', 'transfer-encoding': 'chunked' });
    response.flushHeaders();
    const watcher = new Watcher(target, response, fault, () => this.#watchers.delete(watcher));
    if (from < this.#compacted) {
      watcher.fail(410, 'Expired', `too old resource version: ${from} (${this.#compacted})`);
      return;
    }
    this.#watchers.add(watcher);
    watcher.begin();
    for (const change of this.#history) if (change.version > from) watcher.offer(change);
    const seconds = Number(target.query.get('timeoutSeconds') ?? 300);
    watcher.run(seconds * this.#options.secondMs, this.#options.bookmarkMs, () => this.#version);
  }

  #get(target: Target, response: ServerResponse): void {
    const object = this.#collection(target.collection).get(keyOfTarget(target));
    if (object === undefined)
      sendStatus(response, 404, 'NotFound', `${target.plural} "${target.name ?? ''}" not found`);
    else sendJson(response, 200, object);
  }

  #write(request: IncomingMessage, target: Target, body: KubeObject, response: ServerResponse): void {
    const objects = this.#collection(target.collection);
    const key = request.method === 'POST' ? keyOf(body) : keyOfTarget(target);
    const before = objects.get(key);
    const isApply = request.headers['content-type'] === 'application/apply-patch+yaml';
    if (request.method === 'POST' && before !== undefined) {
      sendStatus(response, 409, 'AlreadyExists', `${key} already exists`);
    } else if (request.method !== 'POST' && before === undefined && !isApply) {
      sendStatus(response, 404, 'NotFound', `${key} not found`);
    } else if (request.method === 'DELETE') {
      sendJson(response, 200, this.#delete(target.collection, key));
    } else {
      const version = body.metadata?.resourceVersion;
      if (version !== undefined && version !== before?.metadata?.resourceVersion) {
        sendStatus(response, 409, 'Conflict', `${key} has been modified`);
        return;
      }
      const next = request.method === 'PATCH' && before !== undefined ? merge(before, body) : body;
      const unchanged = before !== undefined && sameContent(before, next);
      sendJson(response, before === undefined ? 201 : 200, unchanged ? before : this.#store(target.collection, next));
    }
  }
}

const PATH =
  /^\/(?:api|apis\/(?<group>[^/]+))\/[^/]+(?:\/namespaces\/(?<namespace>[^/]+))?\/(?<plural>[^/]+)(?:\/(?<name>[^/]+))?/;

function parseTarget(url: string): Target | undefined {
  const { pathname, searchParams } = new URL(url, 'http://server');
  const parts = PATH.exec(pathname)?.groups;
  const plural = parts?.['plural'];
  if (parts === undefined || plural === undefined) return undefined;
  const collection = `${parts['group'] ?? ''}/${plural}`;
  return { collection, plural, namespace: parts['namespace'], name: parts['name'], query: searchParams };
}

function collectionOf(type: ResourceType): string {
  return `${type.group}/${type.plural}`;
}

function keyOfTarget(target: Target): string {
  return keyOf({ name: target.name ?? '', namespace: target.namespace });
}

function verbOf(method: string, target: Target): Verb {
  if (method !== 'GET') return 'write';
  if (target.name !== undefined) return 'get';
  return target.query.get('watch') === 'true' ? 'watch' : 'list';
}

async function readBody(request: IncomingMessage): Promise<KubeObject> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text === '' ? {} : (JSON.parse(text) as KubeObject);
}

function sendJson(response: ServerResponse, code: number, body: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(code, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

function sendStatus(
  response: ServerResponse,
  code: number,
  reason: string,
  message: string,
  headers: Record<string, string> = {},
): void {
  sendJson(response, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message }, headers);
}

function merge(base: unknown, patch: unknown): KubeObject {
  if (!isRecord(base) || !isRecord(patch)) return patch as KubeObject;
  const result: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = isRecord(value) ? merge(result[name] ?? {}, value) : value;
  }
  return result;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function sameContent(before: KubeObject, next: KubeObject): boolean {
  const { uid, resourceVersion } = before.metadata ?? {};
  const managedFields = (before.metadata as { managedFields?: unknown } | undefined)?.managedFields;
  const metadata = { ...next.metadata, uid, resourceVersion, managedFields };
  return isDeepStrictEqual({ ...next, metadata }, before);
}
