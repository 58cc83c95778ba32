/**
 * URLs of the Kubernetes API. Owns paths and queries; sends nothing.
 */
import type { RawRequest } from './client.ts';
import type { ObjectRef, ResourceType } from './resource.ts';

/** Path of all objects of a resource, or of those in one namespace. */
export function collectionPath(type: ResourceType, namespace: string | undefined): string {
  const root = type.group === '' ? `/api/${type.version}` : `/apis/${type.group}/${type.version}`;
  const inside = type.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `${root}${inside}/${type.plural}`;
}

/** Path of one object or of a subresource of it. Throws when the namespace is missing. */
export function pathOf(type: ResourceType, ref: ObjectRef, subresource?: string): string {
  if (type.namespaced && (ref.namespace === undefined || ref.namespace === '')) {
    throw new Error(`${type.kind} ${ref.name}: metadata.namespace is missing, and ${type.plural} live in namespaces`);
  }
  const tail = subresource === undefined ? '' : `/${subresource}`;
  return `${collectionPath(type, ref.namespace)}/${encodeURIComponent(ref.name)}${tail}`;
}

/** From the question mark on; empty when nothing is set. */
export function queryString(query: RawRequest['query']): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  return parameters.size === 0 ? '' : `?${parameters.toString()}`;
}
