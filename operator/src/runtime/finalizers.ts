/**
 * Finalizers: add and remove one's own, leave the others alone. Owns no policy about when.
 */
import type { CallOptions, KubeClient } from '../kube/client.ts';
import { isNotFound } from '../kube/errors.ts';
import { type KubeObject, type ResourceType, refOf } from '../kube/resource.ts';

/** True while the object carries this finalizer. */
export function hasFinalizer(object: KubeObject, finalizer: string): boolean {
  return object.metadata?.finalizers?.includes(finalizer) ?? false;
}

/** True once somebody asked for the object's deletion; it stays until its finalizers are gone. */
export function isBeingDeleted(object: KubeObject): boolean {
  return object.metadata?.deletionTimestamp !== undefined;
}

/**
 * Adds the finalizer where it is missing; no write otherwise. Answers the object as it then is.
 * Rejects with a conflict when the object changed since it was read (read again, or let the queue retry), and when it
 * is already being deleted: the server allows no new finalizers then.
 */
export async function ensureFinalizer<T extends KubeObject>(
  client: KubeClient,
  type: ResourceType<T>,
  object: NoInfer<T>,
  finalizer: string,
  options: CallOptions = {},
): Promise<T> {
  if (hasFinalizer(object, finalizer)) return object;
  return await writeFinalizers(client, type, object, [...(object.metadata?.finalizers ?? []), finalizer], options);
}

/** Removes the finalizer where it is present; no write otherwise, and no error when the object is already gone. */
export async function removeFinalizer<T extends KubeObject>(
  client: KubeClient,
  type: ResourceType<T>,
  object: NoInfer<T>,
  finalizer: string,
  options: CallOptions = {},
): Promise<void> {
  if (!hasFinalizer(object, finalizer)) return;
  const rest = (object.metadata?.finalizers ?? []).filter((name) => name !== finalizer);
  try {
    await writeFinalizers(client, type, object, rest, options);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

function writeFinalizers<T extends KubeObject>(
  client: KubeClient,
  type: ResourceType<T>,
  object: KubeObject,
  finalizers: readonly string[],
  options: CallOptions,
): Promise<T> {
  // The list is atomic in a merge patch: the resource version keeps us from undoing somebody else's change.
  const metadata = { resourceVersion: object.metadata?.resourceVersion, uid: object.metadata?.uid, finalizers };
  return client.patch(type, refOf(object), 'merge', { metadata }, options);
}
