/**
 * The watches of the faulty API server: events in order, bookmarks, and everything that can go wrong in the middle of a
 * stream. Knows no object and no HTTP but the response it writes to.
 */
import type { ServerResponse } from 'node:http';
import type { KubeObject } from '../../kube/resource.ts';

/** One thing that goes wrong. Each is taken by the next request that it fits. */
export type Fault =
  /** Answers with an error status. */
  | { readonly kind: 'status'; readonly code: number; readonly retryAfterSeconds?: number }
  /** Takes the request and never answers. */
  | { readonly kind: 'hang' }
  /** Closes the socket before any answer. */
  | { readonly kind: 'reset' }
  /** Answers 200 with something that is no JSON. */
  | { readonly kind: 'garbage' }
  /** Announces more bytes than it sends, then closes. */
  | { readonly kind: 'truncated' }
  /** Watch: closes in the middle of the bytes of the next event, after so many whole ones. */
  | { readonly kind: 'cut'; readonly afterEvents: number }
  /** Watch: sends FIN without ending the body, keeps its reading side open. */
  | { readonly kind: 'half-closed'; readonly afterEvents: number }
  /** Watch: says nothing any more, not even bookmarks; the socket stays open. */
  | { readonly kind: 'silent'; readonly afterEvents: number }
  /** Watch: ends well, but early. */
  | { readonly kind: 'end'; readonly afterEvents: number }
  /** Watch: an ERROR event inside the stream, then the end. */
  | { readonly kind: 'error-event'; readonly code: number; readonly afterEvents: number };

/** One change in the server's history. */
export interface Change {
  readonly version: number;
  readonly collection: string;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: KubeObject;
}

/** What a request is about. */
export interface Target {
  readonly collection: string;
  readonly plural: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly query: URLSearchParams;
}

/** One open watch on the server's side. */
export class Watcher {
  readonly #target: Target;
  readonly #response: ServerResponse;
  readonly #fault: Fault | undefined;
  readonly #onEnd: () => void;
  #sent = 0;
  #lastVersion = 0;
  #over = false;
  #timers: NodeJS.Timeout[] = [];

  constructor(target: Target, response: ServerResponse, fault: Fault | undefined, onEnd: () => void) {
    this.#target = target;
    this.#response = response;
    this.#fault = fault;
    this.#onEnd = onEnd;
    response.on('close', () => this.stop());
    response.on('error', () => this.stop());
  }

  /** Lets a fault strike that is due before the first event. */
  begin(): void {
    this.#strike(undefined);
  }

  run(timeoutMs: number, bookmarkMs: number, version: () => number): void {
    if (this.#over) return;
    this.#timers.push(setTimeout(() => this.#end(), timeoutMs));
    if (this.#target.query.get('allowWatchBookmarks') !== 'true') return;
    const bookmark = () => {
      const now = version();
      if (now <= this.#lastVersion) return;
      this.#lastVersion = now;
      this.#send({ type: 'BOOKMARK', object: { kind: 'Object', metadata: { resourceVersion: String(now) } } });
    };
    this.#timers.push(setInterval(bookmark, bookmarkMs));
  }

  offer(change: Change): void {
    if (this.#over || change.collection !== this.#target.collection) return;
    if (!inNamespace(change.object, this.#target.namespace)) return;
    const event = { type: change.type, object: change.object };
    if (this.#strike(event)) return;
    this.#lastVersion = change.version;
    this.#send(event);
    this.#sent += 1;
    this.#strike(undefined);
  }

  fail(code: number, reason: string, message: string): void {
    this.#send({ type: 'ERROR', object: { kind: 'Status', code, reason, message } });
    this.#end();
  }

  stop(): void {
    this.#over = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers = [];
    this.#onEnd();
  }

  /** Lets the fault happen when its time has come; true when the event it was given is lost to this stream. */
  #strike(event: unknown): boolean {
    const fault = this.#fault;
    if (this.#over || fault === undefined || !('afterEvents' in fault) || this.#sent < fault.afterEvents) return false;
    const { socket } = this.#response;
    switch (fault.kind) {
      case 'cut':
        // Half of an event has to be on its way first, so this one waits for something to send.
        if (event === undefined) return false;
        this.stop();
        this.#response.write(JSON.stringify(event).slice(0, 25), () => setImmediate(() => socket?.destroy()));
        return true;
      case 'half-closed':
        this.stop();
        socket?.end();
        return true;
      case 'silent':
        this.stop();
        return true;
      case 'error-event':
        this.fail(fault.code, fault.code === 410 ? 'Expired' : 'InternalError', `scripted ${fault.code}`);
        return true;
      default:
        this.#end();
        return true;
    }
  }

  #send(event: unknown): void {
    if (!this.#over) this.#response.write(`${JSON.stringify(event)}\n`);
  }

  #end(): void {
    this.stop();
    this.#response.end();
  }
}

/** True when no namespace is asked for, or the object is in it. */
export function inNamespace(object: KubeObject, namespace: string | undefined): boolean {
  return namespace === undefined || object.metadata?.namespace === namespace;
}
