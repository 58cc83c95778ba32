/**
 * An API server of a few lines for tests of what is written: keeps objects, refuses what it is told to refuse, remembers
 * every call. Owns no rule of Kubernetes but names, versions and preconditions.
 */
import type { KubeClient } from '../kube/client.ts';
import { ApiError } from '../kube/errors.ts';
import { type KubeObject, keyOf, type ObjectRef, type ResourceType } from '../kube/resource.ts';

/** A write or read that reached the fake. */
export interface Call {
  readonly verb: 'find' | 'create' | 'apply' | 'applyStatus' | 'patch' | 'delete';
  readonly kind: string;
  readonly key: string;
  readonly body?: unknown;
  readonly options?: unknown;
}

type Verb = Call['verb'];

export class FakeClient {
  readonly objects = new Map<string, KubeObject>();
  readonly calls: Call[] = [];
  readonly #failures: { verb: Verb; kind: string; error: Error }[] = [];
  #version = 100;

  /** As much of a client as an executor uses. */
  get client(): KubeClient {
    return this as unknown as KubeClient;
  }

  /** The next such call is refused with this. */
  fail(verb: Verb, kind: string, error: Error): this {
    this.#failures.push({ verb, kind, error });
    return this;
  }

  add(kind: string, object: KubeObject): this {
    this.objects.set(`${kind} ${keyOf(object)}`, object);
    return this;
  }

  /** Writes in the order in which they came: `apply Service a/b`. */
  get writes(): string[] {
    return this.calls.filter((call) => call.verb !== 'find').map((call) => `${call.verb} ${call.kind} ${call.key}`);
  }

  find(type: ResourceType, ref: ObjectRef): Promise<KubeObject | undefined> {
    return this.#run('find', type, keyOf(ref), undefined, undefined, (id) => this.objects.get(id));
  }

  create(type: ResourceType, object: KubeObject, options?: unknown): Promise<KubeObject> {
    return this.#run('create', type, keyOf(object), object, options, (id) => {
      if (this.objects.has(id)) throw refused(409, 'AlreadyExists', `${id} already exists`);
      return this.#store(id, object);
    });
  }

  apply(type: ResourceType, object: KubeObject, options?: unknown): Promise<KubeObject> {
    return this.#run('apply', type, keyOf(object), object, options, (id) => {
      const version = object.metadata?.resourceVersion;
      const live = this.objects.get(id);
      if (version !== undefined && live !== undefined && live.metadata?.resourceVersion !== version)
        throw refused(409, 'Conflict', `${id}: the object has been modified`);
      return this.#store(id, object);
    });
  }

  applyStatus(type: ResourceType, object: KubeObject, options?: unknown): Promise<KubeObject> {
    return this.#run('applyStatus', type, keyOf(object), object, options, (id) =>
      this.#store(id, { ...this.objects.get(id), ...object }),
    );
  }

  patch(type: ResourceType, ref: ObjectRef, _kind: string, body: unknown, options?: unknown): Promise<KubeObject> {
    return this.#run('patch', type, keyOf(ref), body, options, (id) => this.#store(id, this.objects.get(id) ?? {}));
  }

  delete(type: ResourceType, ref: ObjectRef, options?: unknown): Promise<void> {
    return this.#run('delete', type, keyOf(ref), undefined, options, (id) => {
      if (!this.objects.delete(id)) throw refused(404, 'NotFound', `${id} not found`);
    });
  }

  #store(id: string, object: KubeObject): KubeObject {
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    this.objects.set(id, stored);
    return stored;
  }

  // Async, so that what an action throws is a rejection, as it is with the real client.
  async #run<R>(
    verb: Verb,
    type: ResourceType,
    key: string,
    body: unknown,
    options: unknown,
    action: (id: string) => R,
  ): Promise<R> {
    await Promise.resolve();
    this.calls.push({ verb, kind: type.kind, key, body, options });
    const index = this.#failures.findIndex((failure) => failure.verb === verb && failure.kind === type.kind);
    const [failure] = index < 0 ? [] : this.#failures.splice(index, 1);
    if (failure !== undefined) throw failure.error;
    return action(`${type.kind} ${key}`);
  }
}

/** An answer of the API server. */
export function refused(status: number, reason: string, message: string, cause?: string): ApiError {
  const request = 'PATCH /x';
  const causes = cause === undefined ? [] : [{ reason: cause }];
  return new ApiError({ status, reason, message: `${request}: ${message}`, request, causes });
}
