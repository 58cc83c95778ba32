/**
 * Writes that happen only when there is something to write: server-side apply, status, delete. Owns the knowledge of what
 * was applied last; decides nothing about what should be.
 *
 * When is a write skipped? Each applied object carries a stamp: an annotation with the hash of what was asked for. An object
 * with the stamp of the same request, whose fields still are what was asked for, needs no write, whoever put the stamp there:
 * so a process that has just started looks at everything and writes nothing. Another hash means another request, also one that
 * leaves a field out, and is written.
 *
 * The server may spell what it stores its own way (`1000m` is `1` to it, and empty maps go). So we also remember two
 * fingerprints after each apply: of what we asked for, and of what the server made of exactly those fields. Nothing is compared
 * with a schema, so nothing has to be known about defaults. That memory is this process's own: whoever writes values in the
 * server's spelling needs no write after a restart, others one that changes nothing.
 *
 * Limits: in a list whose items carry an identity (`name`, `type`, …) foreign items and the order are not ours and not
 * noticed; any other list counts as a whole. Fields that we do not apply are never looked at.
 */
import { createHash } from 'node:crypto';
import type { CallOptions, KubeClient } from '../kube/client.ts';
import { ApiError, isConflict, isNotFound } from '../kube/errors.ts';
import { type KubeObject, keyOf, type ObjectMeta, type ResourceType, refOf, resourceName } from '../kube/resource.ts';

/** Result of a write that may have been unnecessary. */
export interface ApplyResult<T> {
  /** The object as it now is; the live one when nothing was written. */
  readonly object: T;
  readonly written: boolean;
}

export interface ApplierOptions {
  readonly client: Pick<KubeClient, 'apply' | 'applyStatus' | 'delete'>;
  /** Stable over releases: the server removes what this manager applied before and leaves out now. */
  readonly fieldManager: string;
  /** Annotation for the stamp of applied objects; without one nothing is known of what other processes applied. */
  readonly stamp?: string | undefined;
  /** Objects remembered; the one not asked for the longest goes first. Default 50 000. */
  readonly memory?: number | undefined;
}

export interface ApplyCallOptions extends CallOptions {
  /** Take fields from other managers. Default true: a controller's fields are its own. */
  readonly force?: boolean | undefined;
  /** Reject with a conflict (409) rather than touch an object that is there. Default false. */
  readonly mustBeNew?: boolean | undefined;
}

export interface DeleteCallOptions extends CallOptions {
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan' | undefined;
}

export interface Applier {
  /**
   * Makes the object hold `desired`; apiVersion and kind are filled in from the type.
   * @param live the object from the store, or undefined when the store has none (then it always writes)
   */
  apply<T extends KubeObject>(
    type: ResourceType<T>,
    desired: NoInfer<T> | KubeObject,
    live: NoInfer<T> | undefined,
    options?: ApplyCallOptions,
  ): Promise<ApplyResult<T>>;
  /** Whether this process has applied an object of that name before: then it may be there though the store lacks it. */
  remembers(type: ResourceType, desired: KubeObject): boolean;
  /**
   * Makes the object's status exactly `status`, as far as this manager owns it; no write when it is so already.
   * Answers undefined when the object is gone or another of the same name stands in its place: nobody is left to tell.
   */
  writeStatusIfChanged<T extends KubeObject & { readonly status?: unknown }>(
    type: ResourceType<T>,
    live: NoInfer<T>,
    status: NonNullable<NoInfer<T>['status']>,
    options?: CallOptions,
  ): Promise<ApplyResult<T> | undefined>;
  /** Deletes this very object (uid precondition). Answers false when it was already gone. */
  delete<T extends KubeObject>(type: ResourceType<T>, live: NoInfer<T>, options?: DeleteCallOptions): Promise<boolean>;
}

export function makeApplier(options: ApplierOptions): Applier {
  return new RememberingApplier(options);
}

interface Applied {
  readonly uid: string | undefined;
  /** Of the request. */
  readonly asked: string;
  /** Of the requested fields in the server's answer. */
  readonly got: string;
  /** The object's version after our write. A store that has an older one merely has not caught up. */
  readonly version: string | undefined;
}

/** No object ever has it: etcd counts from 1, when it is empty. As precondition of an apply it lets nothing pass but a creation. */
const NO_VERSION = '1';

class RememberingApplier implements Applier {
  readonly #client: ApplierOptions['client'];
  readonly #fieldManager: string;
  readonly #stamp: string | undefined;
  readonly #limit: number;
  readonly #applied = new Map<string, Applied>();

  constructor(options: ApplierOptions) {
    this.#client = options.client;
    this.#fieldManager = options.fieldManager;
    this.#stamp = options.stamp;
    this.#limit = options.memory ?? 50_000;
  }

  async apply<T extends KubeObject>(
    type: ResourceType<T>,
    desired: KubeObject,
    live: T | undefined,
    options: ApplyCallOptions = {},
  ): Promise<ApplyResult<T>> {
    const id = applyId(type, desired);
    const asked = fingerprint(desired);
    if (live !== undefined && this.#holds(id, desired, asked, live, () => this.#isStamped(desired, asked, live)))
      return { object: live, written: false };
    const { mustBeNew, ...rest } = options;
    const object = await this.#client.apply<T>(type, this.#written(desired, asked, mustBeNew === true), {
      force: true,
      ...rest,
      fieldManager: this.#fieldManager,
    });
    this.#remember(id, desired, asked, object);
    return { object, written: true };
  }

  remembers(type: ResourceType, desired: KubeObject): boolean {
    return this.#applied.has(applyId(type, desired));
  }

  async writeStatusIfChanged<T extends KubeObject & { readonly status?: unknown }>(
    type: ResourceType<T>,
    live: T,
    status: NonNullable<T['status']>,
    options: CallOptions = {},
  ): Promise<ApplyResult<T> | undefined> {
    const { name, namespace } = refOf(live);
    const id = `${resourceName(type)}/status ${keyOf(live)}`;
    const uid = live.metadata?.uid;
    // The uid makes the server refuse when the object was deleted and made again: that one's status is another's.
    const metadata: ObjectMeta = {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
    };
    const desired = { metadata, status };
    const asked = fingerprint(desired);
    const isEqual = () => stableJson(live.status) === stableJson(status);
    if (this.#holds(id, desired, asked, live, isEqual)) return { object: live, written: false };
    let object: T;
    try {
      object = await this.#client.applyStatus<T>(type, desired, {
        ...options,
        force: true,
        fieldManager: this.#fieldManager,
      });
    } catch (error) {
      if (isNotFound(error) || isAboutAnotherUid(error)) return undefined;
      throw error;
    }
    // For custom resources the server ignores the uid here. The new object's own reconcile puts its status right: it
    // comes after this one, and its copy in the store does not have what we just wrote.
    if (object.metadata?.uid !== uid) return undefined;
    this.#remember(id, desired, asked, object);
    return { object, written: true };
  }

  async delete<T extends KubeObject>(
    type: ResourceType<T>,
    live: T,
    options: DeleteCallOptions = {},
  ): Promise<boolean> {
    const id = keyOf(live);
    this.#applied.delete(applyId(type, live));
    this.#applied.delete(`${resourceName(type)}/status ${id}`);
    try {
      await this.#client.delete(type, refOf(live), { ...options, preconditions: { uid: live.metadata?.uid } });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  /** What is sent: the desired object with its stamp. */
  #written(desired: KubeObject, asked: string, mustBeNew: boolean): KubeObject {
    if (this.#stamp === undefined && !mustBeNew) return desired;
    const { metadata } = desired;
    const annotations =
      this.#stamp === undefined ? {} : { annotations: { ...metadata?.annotations, [this.#stamp]: asked } };
    return {
      ...desired,
      metadata: { ...metadata, ...annotations, ...(mustBeNew ? { resourceVersion: NO_VERSION } : {}) },
    };
  }

  #isStamped(desired: KubeObject, asked: string, live: KubeObject): boolean {
    if (this.#stamp === undefined || live.metadata?.annotations?.[this.#stamp] !== asked) return false;
    return stableJson(project(live, desired)) === stableJson(desired);
  }

  /**
   * True when the object is known to hold what is desired; false when it has to be written.
   * @param isEqual tells by looking at the object alone, which proves nothing while it is older than our last write
   */
  #holds(id: string, desired: KubeObject, asked: string, live: KubeObject, isEqual: () => boolean): boolean {
    const before = this.#applied.get(id);
    if (before === undefined || before.uid !== live.metadata?.uid) return isEqual();
    const sameAsked = before.asked === asked;
    // Behind our own write the store's copy proves nothing: our last request is the newest that we know.
    if (isOlder(live.metadata?.resourceVersion, before.version)) return sameAsked;
    const holds = (sameAsked && before.got === fingerprint(project(live, desired))) || isEqual();
    if (holds && sameAsked) {
      // Moves it to the young end.
      this.#applied.delete(id);
      this.#applied.set(id, before);
    }
    return holds;
  }

  #remember(id: string, desired: KubeObject, asked: string, object: KubeObject): void {
    this.#applied.delete(id);
    this.#applied.set(id, {
      uid: object.metadata?.uid,
      asked,
      got: fingerprint(project(object, desired)),
      version: object.metadata?.resourceVersion,
    });
    const [oldest] = this.#applied.keys();
    if (this.#applied.size > this.#limit && oldest !== undefined) this.#applied.delete(oldest);
  }
}

function applyId(type: ResourceType, object: KubeObject): string {
  return `${resourceName(type)} ${keyOf(object)}`;
}

/** Resource versions are decimal numbers that grow (guaranteed since Kubernetes 1.35, and true before). */
export function isOlder(left: string | undefined, right: string | undefined): boolean {
  if (left === undefined || right === undefined) return false;
  return left.length === right.length ? left < right : left.length < right.length;
}

/** The object was deleted and made again: built-in kinds answer 422 about an immutable field, others 409. */
function isAboutAnotherUid(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  if (error.status === 422) return error.causes.some((cause) => cause.field === 'metadata.uid');
  return isConflict(error) && /\buid\b/i.test(error.message);
}

/** Fields that tell items of a list apart, most telling first. */
const IDENTITIES = ['name', 'key', 'type', 'uid', 'mountPath', 'containerPort', 'port', 'ip', 'topologyKey'] as const;

/** The part of `live` that `desired` speaks about, in a form that compares. Exported for tests. */
export function project(live: unknown, desired: unknown): unknown {
  if (Array.isArray(desired)) return projectList(live, desired);
  if (!isRecord(desired) || !isRecord(live)) return live;
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(desired)) {
    if (value !== undefined) result[name] = project(live[name], value);
  }
  return result;
}

function projectList(live: unknown, desired: readonly unknown[]): unknown {
  if (!Array.isArray(live) || desired.length === 0 || !desired.every(isRecord)) return live;
  const identity = IDENTITIES.find((field) => {
    const values = desired.map((item) => item[field]);
    return (
      values.every((value) => typeof value === 'string' || typeof value === 'number') &&
      new Set(values).size === values.length
    );
  });
  if (identity === undefined) return live;
  return desired.map((item) => {
    const twins = live.filter((other) => isRecord(other) && other[identity] === item[identity]);
    return twins.length === 1 ? project(twins[0], item) : twins;
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function fingerprint(value: unknown): string {
  return createHash('sha1').update(stableJson(value)).digest('base64');
}

/** JSON with sorted keys; what JSON leaves out is left out. By hand, since a replacer takes several times as long. Exported for tests. */
export function stableJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(stableJson).join(',')}]`;
  if (!isRecord(value)) return JSON.stringify(value) ?? 'null';
  const entries: string[] = [];
  for (const key of Object.keys(value).sort()) {
    const inner = value[key];
    if (inner !== undefined) entries.push(`${JSON.stringify(key)}:${stableJson(inner)}`);
  }
  return `{${entries.join(',')}}`;
}
