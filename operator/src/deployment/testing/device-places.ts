/** Where pods that ask for devices go in tests without a scheduler: the first node with one left. Pure. */
import type { PodObject } from '../observed.ts';

/** The extended resource that a pod asks for. */
export function deviceOf(pod: PodObject): string | undefined {
  return Object.keys(pod.spec?.containers[0]?.resources?.requests ?? {}).find((name) => name.includes('/'));
}

/**
 * Nodes for the pods that ask for a device and have no node; undefined where none is left.
 * @param offers devices by node and resource
 */
export function placesFor(
  pods: readonly PodObject[],
  offers: ReadonlyMap<string, ReadonlyMap<string, number>>,
): ReadonlyMap<PodObject, string | undefined> {
  const taken = new Map<string, number>();
  const take = (node: string, device: string) => {
    const key = `${node} ${device}`;
    taken.set(key, (taken.get(key) ?? 0) + 1);
  };
  for (const pod of pods) if (pod.spec?.nodeName !== undefined) take(pod.spec.nodeName, deviceOf(pod) ?? '');
  const places = new Map<PodObject, string | undefined>();
  for (const pod of pods) {
    const device = deviceOf(pod);
    if (device === undefined || pod.spec?.nodeName !== undefined) continue;
    const node = Array.from(offers).find(
      ([name, amounts]) => (amounts.get(device) ?? 0) > (taken.get(`${name} ${device}`) ?? 0),
    )?.[0];
    if (node !== undefined) take(node, device);
    places.set(pod, node);
  }
  return places;
}
