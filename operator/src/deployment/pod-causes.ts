/**
 * Why pods do not serve, as sentences. Reads pods' status, what their ReplicaSets say, and the mount events of one pod; owns
 * the words for it. Pure.
 */
import type { ReadyReport, Reason } from '@slm-operator/crds';
import { labels, pod as podContract } from '@slm-operator/crds';
import { quotaSentence } from '../execution/refusal.ts';
import type { ObjectOf, Pod, ReplicaSet } from '../kube/resource.ts';
import { CPU_TIER } from './names.ts';
import { shorten } from './text.ts';

type PodObject = ObjectOf<typeof Pod>;
type ReplicaSetObject = ObjectOf<typeof ReplicaSet>;

/** One cause; several pods may have the same. */
export interface Cause {
  readonly reason: Extract<
    Reason,
    | 'Unschedulable'
    | 'ImagePullFailed'
    | 'ContainerFailed'
    | 'OutOfMemory'
    | 'MountPending'
    | 'QuotaExceeded'
    | 'PodsRefused'
    | 'DeviceNotFound'
    | 'DeviceLost'
    | 'InsufficientDeviceMemory'
    | 'NoVariant'
    | 'TooSlow'
  >;
  readonly message: string;
}

/** Longest text of a server's last words that is lifted. */
const MAX_LAST_WORDS = 400;

/**
 * What keeps this pod from serving, or undefined when nothing does or it is only starting.
 * @param mountEvent what the kubelet last said about a volume of this pod that does not mount
 * @param report what its server says of itself
 */
export function causeOf(pod: PodObject, mountEvent: string | undefined, report?: ReadyReport): Cause | undefined {
  const name = pod.metadata?.name ?? '';
  const scheduled = pod.status?.conditions?.find((condition) => condition.type === 'PodScheduled');
  if (scheduled?.status === 'False' && scheduled.reason === 'Unschedulable') {
    return { reason: 'Unschedulable', message: `pod ${name}: ${schedulerSentence(scheduled.message ?? '')}` };
  }
  if (isReady(pod)) return undefined;
  // A pod that was evicted or refused by its kubelet has a phase and no containers.
  if (pod.status?.phase === 'Failed' && pod.status.reason !== undefined) {
    const said = pod.status.message ?? '';
    const words = `${pod.status.reason}${said === '' ? '' : `: ${said}`}`;
    if (isRefusedDevice(pod)) {
      return {
        reason: 'DeviceLost',
        message: `pod ${name}: node ${pod.spec?.nodeName} has no device for it: ${words}`,
      };
    }
    return { reason: 'ContainerFailed', message: `pod ${name}: ${words}` };
  }
  const container = pod.status?.containerStatuses?.find((status) => status.name === podContract.container);
  const waiting = container?.state?.waiting;
  if (
    waiting?.reason !== undefined &&
    /^(ErrImage|ImagePull|InvalidImage|ErrImageNeverPull|ImageInspect)/.test(waiting.reason)
  ) {
    const image = pod.spec?.containers[0]?.image ?? '';
    const node = pod.spec?.nodeName ?? '';
    const said = waiting.message === undefined ? waiting.reason : `${waiting.reason}: ${waiting.message}`;
    return {
      reason: 'ImagePullFailed',
      message: `pod ${name}: node ${node} cannot get image ${image}: ${shorten(said, MAX_LAST_WORDS)}`,
    };
  }
  // Only a server that runs says so, whatever ended before it.
  if (report?.reason === 'too-slow' && container?.state?.terminated === undefined) {
    return { reason: 'TooSlow', message: `pod ${name}: ${report.message ?? 'the server is too slow'}` };
  }
  const ended = container?.state?.terminated ?? container?.lastState?.terminated;
  if (ended !== undefined && ended !== null) return endOf(name, ended, container?.restartCount ?? 0, pod);
  if (waiting?.reason === 'CreateContainerConfigError' || waiting?.reason === 'CreateContainerError') {
    return { reason: 'ContainerFailed', message: `pod ${name}: ${waiting.message ?? waiting.reason}` };
  }
  if (mountEvent !== undefined && isMounting(pod)) {
    return { reason: 'MountPending', message: `pod ${name}: ${mountSentence(mountEvent)}` };
  }
  return undefined;
}

/** The kubelet took the pod from the scheduler and then had no device for it. */
export function isRefusedDevice({ status }: PodObject): boolean {
  return (
    status?.phase === 'Failed' &&
    status.reason === 'UnexpectedAdmissionError' &&
    /\b(devices?|Allocate|allocation) /i.test(status.message ?? '')
  );
}

/** True while the pod is on a node and its containers were not made yet, which is when volumes are mounted. */
export function isMounting(pod: PodObject): boolean {
  if (pod.spec?.nodeName === undefined || pod.status?.phase !== 'Pending') return false;
  const container = pod.status.containerStatuses?.find((status) => status.name === podContract.container);
  return container === undefined || container.state?.waiting?.reason === 'ContainerCreating';
}

/** Condition Ready of a pod. */
export function isReady(pod: PodObject): boolean {
  return (
    pod.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ?? false
  );
}

/** Why the API server lets a ReplicaSet make no pods, if it does. */
export function replicaSetCause(set: ReplicaSetObject): Cause | undefined {
  const failure = set.status?.conditions?.find((condition) => condition.type === 'ReplicaFailure');
  if (failure?.status !== 'True') return undefined;
  const said = (failure.message ?? '').replace(/^pods "[^"]*" is forbidden: /, '');
  if (/exceeded quota|must specify/.test(said)) return { reason: 'QuotaExceeded', message: quotaSentence(said) };
  return { reason: 'PodsRefused', message: `the API server refuses pods of ${set.metadata?.name}: ${said}` };
}

interface Terminated {
  readonly exitCode: number;
  readonly signal?: number | undefined;
  readonly reason?: string | undefined;
  readonly message?: string | undefined;
}

/** What a server says last when it cannot have its device, or the device cannot compute the model. */
const lastWords = /^(DeviceNotFound|InsufficientDeviceMemory|UnsupportedFormat): (.*)$/ms;

/** Reasons by the server's words for them. */
const deviceReasons: Readonly<Record<string, Cause['reason']>> = {
  DeviceNotFound: 'DeviceNotFound',
  InsufficientDeviceMemory: 'InsufficientDeviceMemory',
  UnsupportedFormat: 'NoVariant',
};

function endOf(name: string, ended: Terminated, restarts: number, pod: PodObject): Cause {
  const times = restarts > 0 ? `, restarted ${restarts} ${restarts === 1 ? 'time' : 'times'}` : '';
  if (ended.reason === 'OOMKilled') {
    const limit = pod.spec?.containers[0]?.resources?.limits?.['memory'];
    return {
      reason: 'OutOfMemory',
      message: `pod ${name}: the server used more memory than its limit${limit === undefined ? '' : ` of ${limit}`}${times}; raise spec.resources.limits.memory, or lower engine.contextLength or engine.parallelRequests`,
    };
  }
  const words = (ended.message ?? '').trim();
  const aboutDevice = lastWords.exec(words);
  const reason = deviceReasons[aboutDevice?.[1] ?? ''];
  // What processors cannot compute no other file is made for.
  const onDevice = (pod.metadata?.labels?.[labels.tier] ?? CPU_TIER) !== CPU_TIER;
  if (reason !== undefined && (reason !== 'NoVariant' || onDevice)) {
    const sentence = aboutDevice?.[2] ?? '';
    const node = pod.spec?.nodeName ?? '';
    return {
      reason,
      message: `pod ${name}, node ${node}${times}: ${shorten(sentence.replaceAll('\n', ' '), MAX_LAST_WORDS)}`,
    };
  }
  const said = words === '' ? '' : `: ${shorten(words.split('\n').slice(-5).join(' '), MAX_LAST_WORDS)}`;
  return {
    reason: 'ContainerFailed',
    message: `pod ${name}: the server ended with code ${ended.exitCode}${times}${said}`,
  };
}

/** What the scheduler says of nodes, in the words of {@link schedulerSentence}. */
const schedulerWords: readonly (readonly [RegExp, (match: RegExpExecArray) => string])[] = [
  [/^Insufficient (\S+)$/, ([, what]) => `too little ${what === 'memory' || what === 'cpu' ? `${what} left` : what}`],
  [/^cannot allocate all claims$/, () => 'no free device for the pod’s claim'],
  [/^Too many pods$/, () => 'no room for one more pod'],
  [
    /^node\(s\) had untolerated taint\(?s?\)? ?\{([^}]*)\}$/,
    ([, taint]) => `a taint that is not tolerated (${taint?.replace(/: $/, '')})`,
  ],
  [/^node\(s\) had untolerated taint\(s\)$/, () => 'a taint that is not tolerated'],
  [
    /^node\(s\) didn't match Pod's node affinity\/selector$/,
    () => 'other labels than podTemplate.spec.nodeSelector asks for',
  ],
  [/^node\(s\) were unschedulable$/, () => 'cordoned'],
  [/^node\(s\) didn't match pod topology spread constraints/, () => 'a place that topologySpreadConstraints rules out'],
];

/**
 * `0/3 nodes are available: 3 Insufficient memory. preemption: …` as `no node has room: of 3 nodes 3: too little memory
 * left`. What is not known stays in the scheduler's words.
 */
export function schedulerSentence(said: string): string {
  const match = /^0\/(\d+) nodes are available: (.*?)(?:\.? preemption: .*|\.)?$/s.exec(said.trim());
  if (!match) return said === '' ? 'the scheduler finds no node for it' : said;
  const [, total, list = ''] = match;
  const parts = list.split(/, (?=\d+ )/).map((part) => {
    const piece = /^(\d+) (.*?)\.?$/s.exec(part);
    if (!piece) return part;
    const [, count, text = ''] = piece;
    for (const [pattern, words] of schedulerWords) {
      const found = pattern.exec(text);
      if (found) return `${count}: ${words(found)}`;
    }
    return `${count}: ${text}`;
  });
  return `no node can take it; of ${total} ${total === '1' ? 'node' : 'nodes'} ${parts.join(', ')}`;
}

/** The kubelet's `MountVolume.SetUp failed for volume "model" : rpc error: code = X desc = TEXT`, without its wrapping. */
export function mountSentence(said: string): string {
  const text = /desc = (.*)$/s.exec(said)?.[1] ?? said.replace(/^MountVolume\.SetUp failed for volume "[^"]*" : /, '');
  return shorten(text.trim(), MAX_LAST_WORDS);
}
