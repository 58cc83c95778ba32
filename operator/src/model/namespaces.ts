/** What is read of Namespaces: their labels, for models that are shared by label. Asks a store; keeps nothing. */
import { isAlike } from '../deployment/revision.ts';
import type { Namespace, ObjectOf } from '../kube/resource.ts';
import type { Store, StoreEvent } from '../runtime/store.ts';
import type { NamespaceLabels } from './sharing.ts';

type NamespaceObject = ObjectOf<typeof Namespace>;

/** The labels as the store has them. */
export function labelsIn(namespaces: Pick<Store<NamespaceObject>, 'get'>): NamespaceLabels {
  return (name) => {
    const namespace = namespaces.get(name);
    return namespace && (namespace.metadata?.labels ?? {});
  };
}

/** Whether an event may change who is let in. */
export function labelsChanged(event: StoreEvent<NamespaceObject>): boolean {
  if (event.type !== 'update') return true;
  return !isAlike(event.object.metadata?.labels, event.previous.metadata?.labels);
}
