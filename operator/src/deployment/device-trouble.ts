/**
 * Which pods of one kind of hardware cannot run there because of the hardware: no free device, a quota on it, a device that
 * is gone, that its engine does not find or that is too slow, an image for it that cannot be had. What ails pods otherwise is not its business: such a pod would
 * fare no better elsewhere. Pure.
 */
import { pod as podContract, type Reason } from '@slm-operator/crds';
import type { Obstacle } from '../hardware/placement-types.ts';
import type { PodObject, ReplicaSetObject } from './observed.ts';
import { causeOf, isReady, isRefusedDevice, replicaSetCause, schedulerSentence } from './pod-causes.ts';
import type { PodReport } from './pod-reports.ts';

export interface TroubleInput {
  /** What a pod takes of the hardware; neither on processors. */
  readonly resource: string | undefined;
  readonly claimed: boolean;
  readonly count: number;
  /** Its server image is another one than that of the next hardware in line. */
  readonly ownImage: boolean;
  /** ReplicaSet of the wanted revision there. */
  readonly set: ReplicaSetObject | undefined;
  /** Its pods. */
  readonly pods: readonly PodObject[];
  /** By uid. */
  readonly reports: ReadonlyMap<string, PodReport>;
  /** Devices that a node's kubelet offers; undefined when there is no such node. */
  readonly offered: (node: string) => number | undefined;
  /** Wall clock, milliseconds since 1970. */
  readonly now: number;
}

export type Trouble = Obstacle & { readonly pods: number };

const aboutHardware: ReadonlySet<Reason> = new Set<Reason>([
  'DeviceNotFound',
  'DeviceLost',
  'InsufficientDeviceMemory',
  'NoVariant',
  'TooSlow',
]);

/** A pod that the kubelet refused this long ago says nothing of now: its place was filled at once. */
const REFUSED_AGE_MS = 5 * 60_000;

/** Pods that cannot run and the most telling reason; undefined when none is kept back by the hardware. */
export function troubleOf(input: TroubleInput): Trouble | undefined {
  const { set, pods } = input;
  const desired = set?.spec?.replicas ?? 0;
  const troubles = pods.flatMap((pod) => troubleOfPod(input, pod) ?? []);
  const unmade = set === undefined ? undefined : refusedByQuota(input, set);
  const [first] = [...(unmade === undefined ? [] : [unmade]), ...troubles];
  if (first === undefined) return undefined;
  // Pods that the kubelet refused were replaced, so counting them would count a place twice.
  const alive = troubles.filter(({ refused }) => !refused).length;
  const counted = (unmade?.pods ?? 0) + Math.max(alive, troubles.some(({ refused }) => refused) ? 1 : 0);
  const { reason, message } = first;
  return { reason, message, pods: Math.min(Math.max(1, counted), Math.max(1, desired)) };
}

function troubleOfPod(input: TroubleInput, pod: PodObject): (Obstacle & { readonly refused: boolean }) | undefined {
  if (pod.metadata?.deletionTimestamp !== undefined || isReady(pod)) return undefined;
  const name = pod.metadata?.name ?? '';
  const node = pod.spec?.nodeName;
  if (node === undefined) {
    const scheduled = pod.status?.conditions?.find(({ type }) => type === 'PodScheduled');
    const said = scheduled?.status === 'False' ? (scheduled.message ?? '') : '';
    if (!isShortOfDevices(said, input)) return undefined;
    return { reason: 'WaitingForDevice', message: `pod ${name}: ${schedulerSentence(said)}`, refused: false };
  }
  if (isRefusedDevice(pod)) {
    const age = input.now - Date.parse(pod.metadata?.creationTimestamp ?? '');
    if (age > REFUSED_AGE_MS) return undefined;
  }
  const cause = causeOf(pod, undefined, input.reports.get(pod.metadata?.uid ?? ''));
  const isAboutIt = cause !== undefined && (aboutHardware.has(cause.reason) || (input.ownImage && isImage(cause)));
  if (isAboutIt) return { ...cause, refused: isRefusedDevice(pod) };
  return lostDevice(input, pod, node);
}

/** Of an image that the site does not have, a pod of other hardware knows nothing. */
function isImage({ reason }: Obstacle): boolean {
  return reason === 'ImagePullFailed';
}

/** A pod that does not serve, on a node that offers no device any more. */
function lostDevice(
  { resource, count, offered }: TroubleInput,
  pod: PodObject,
  node: string,
): (Obstacle & { readonly refused: boolean }) | undefined {
  if (resource === undefined || pod.status?.phase === 'Failed') return undefined;
  const container = pod.status?.containerStatuses?.find(({ name }) => name === podContract.container);
  // One that loads its model has its device already, whatever the plugin offers to others.
  if (container?.state?.running !== undefined) return undefined;
  const amount = offered(node);
  if (amount !== undefined && amount >= count) return undefined;
  const what = amount === undefined ? `node ${node} is gone` : `node ${node} offers no ${resource} any more`;
  return { reason: 'DeviceLost', message: `pod ${pod.metadata?.name}: ${what}`, refused: false };
}

/** A quota on the device itself; one on memory or pods is met on other hardware too. */
function refusedByQuota({ resource }: TroubleInput, set: ReplicaSetObject): Trouble | undefined {
  if (resource === undefined) return undefined;
  const pods = (set.spec?.replicas ?? 0) - (set.status?.replicas ?? 0);
  const said = set.status?.conditions?.find(({ type }) => type === 'ReplicaFailure')?.message ?? '';
  const asked = /requested: (.*?), used: /.exec(said)?.[1] ?? '';
  const cause = replicaSetCause(set);
  if (pods <= 0 || cause?.reason !== 'QuotaExceeded') return undefined;
  if (!asked.split(',').some((part) => part.startsWith(`requests.${resource}=`))) return undefined;
  return { ...cause, pods };
}

/**
 * Whether the scheduler finds no node because of the device: every node that nothing else rules out has too little of it. A
 * node with a free device and too little memory is not short of devices.
 */
export function isShortOfDevices(
  said: string,
  { resource, claimed }: Pick<TroubleInput, 'resource' | 'claimed'>,
): boolean {
  const match = /^0\/(\d+) nodes are available: (.*?)(?:\.? preemption: .*|\.)?$/s.exec(said.trim());
  if (match === null) return false;
  const total = Number(match[1]);
  let short = 0;
  let ruledOut = 0;
  for (const part of (match[2] ?? '').split(/, (?=\d+ )/)) {
    const [, count, text = ''] = /^(\d+) (.*?)\.?$/s.exec(part) ?? [];
    const isDevice =
      (resource !== undefined && text === `Insufficient ${resource}`) ||
      (claimed && /cannot allocate all claims|waiting for .*claim/i.test(text));
    if (isDevice) short += Number(count);
    // What a node has too little of besides is said of the same node once more.
    else if (!/^(Insufficient |Too many pods)/.test(text)) ruledOut += Number(count);
  }
  return short > 0 && short + ruledOut >= total;
}
