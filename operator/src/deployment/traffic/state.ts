/** Reads what Kubernetes objects say about traffic. Pure. */
import { annotations, labels, ports, type TrafficSetting, trafficStates } from '@slm-operator/crds';
import type { PodObject, ReplicaSetObject, ServiceObject } from '../observed.ts';

/** Whether the Service leads there; undefined: nobody has said so yet. */
export type TrafficState = (typeof trafficStates)[keyof typeof trafficStates];

/** What a pod passes nothing on with. That it has this annotation tells that it can read another one. */
export const NOTHING = '{}';

/** What the pods are like that this ReplicaSet makes. */
export function stateOfSet(set: ReplicaSetObject): TrafficState | undefined {
  return stateOf(set.spec?.template?.metadata?.labels);
}

export function stateOfPod(pod: PodObject): TrafficState | undefined {
  return stateOf(pod.metadata?.labels);
}

function stateOf(found: Readonly<Record<string, string>> | undefined): TrafficState | undefined {
  const value = found?.[labels.traffic];
  return value === trafficStates.open || value === trafficStates.closed ? value : undefined;
}

/** Whether the Service leads to open pods alone. */
export function selectsOpen(service: ServiceObject | undefined): boolean {
  return service?.spec?.selector?.[labels.traffic] === trafficStates.open;
}

/** The annotation; undefined of pods that cannot read it. */
export function settingOf(pod: PodObject): string | undefined {
  return pod.metadata?.annotations?.[annotations.traffic];
}

export function passesOn(pod: PodObject): boolean {
  return (settingOf(pod) ?? NOTHING) !== NOTHING;
}

/** What the annotation asks for; undefined: nothing. */
export function weightOf(pod: PodObject): number | undefined {
  const setting = settingOf(pod);
  if (setting === undefined || setting === NOTHING) return undefined;
  try {
    return (JSON.parse(setting) as Partial<TrafficSetting>).weight;
  } catch {
    return undefined;
  }
}

/** `IP:PORT` of a Service that has its address. */
export function addressOf(service: ServiceObject | undefined): string | undefined {
  const ip = service?.spec?.clusterIP;
  if (ip === undefined || ip === '' || ip === 'None') return undefined;
  return `${ip.includes(':') ? `[${ip}]` : ip}:${ports.ollama}`;
}

/** Whether a pod can still serve somebody new. */
export function isLiving(pod: PodObject): boolean {
  return (
    pod.metadata?.deletionTimestamp === undefined && pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed'
  );
}

export function revisionOfPod(pod: PodObject): string {
  return pod.metadata?.labels?.[labels.revision] ?? '';
}
