/**
 * A handler that believes what it is told, and complains when it is told nonsense: an update of something that it was
 * never given, an add of something that it has. Used by the tests of stores and reflectors.
 */
import type { KubeObject } from '../../kube/resource.ts';
import type { Store, StoreEvent } from '../store.ts';

export interface Mirror<T> {
  readonly objects: ReadonlyMap<string, T>;
  /** What was inconsistent, as sentences; empty when all was well. */
  readonly complaints: readonly string[];
  readonly events: readonly string[];
}

export function makeMirror<T extends KubeObject>(store: Store<T>): Mirror<T> {
  const objects = new Map<string, T>();
  const complaints: string[] = [];
  const events: string[] = [];
  store.subscribe((event: StoreEvent<T>) => {
    const { type, key, object } = event;
    const known = objects.get(key);
    events.push(`${type} ${key}`);
    if (type === 'add' && known !== undefined) complaints.push(`add of ${key}, which was there`);
    if (type !== 'add' && known === undefined) complaints.push(`${type} of ${key}, which was not there`);
    if (type === 'update' && event.previous !== known) complaints.push(`update of ${key} from an unknown state`);
    if (type === 'update' && known?.metadata?.uid !== object.metadata?.uid) {
      complaints.push(`update of ${key} into another object`);
    }
    if (type === 'delete') objects.delete(key);
    else objects.set(key, object);
  });
  return { objects, complaints, events };
}
