import { describe, expect, it } from 'vitest';
import { causesOf } from './causes.ts';
import { causeOf, mountSentence, replicaSetCause, schedulerSentence } from './pod-causes.ts';
import { cache, observed, pod, replicaSet } from './testing/objects.ts';

type Status = NonNullable<Parameters<typeof pod>[1]>;
type ContainerStatus = NonNullable<Status['containerStatuses']>[number];

function container(change: Partial<ContainerStatus>): Status {
  const status = { name: 'server', image: '', imageID: '', ready: false, restartCount: 0, ...change };
  return { containerStatuses: [status] };
}

describe('causeOf', () => {
  const rows: [string, Status, string | undefined][] = [
    ['nothing is wrong with a pod that starts', {}, undefined],
    [
      'the scheduler’s sentence, readable',
      {
        conditions: [
          {
            type: 'PodScheduled',
            status: 'False',
            reason: 'Unschedulable',
            message: '0/1 nodes are available: 1 Insufficient cpu.',
          },
        ],
      },
      'Unschedulable: pod chat-x: no node can take it; of 1 node 1: too little cpu left',
    ],
    [
      'an image that cannot be pulled',
      container({ state: { waiting: { reason: 'ImagePullBackOff', message: 'Back-off pulling image' } } }),
      'ImagePullFailed: pod chat-x: node n1 cannot get image server:1: ImagePullBackOff: Back-off pulling image',
    ],
    [
      'the last words of a server that ended',
      container({
        restartCount: 1,
        state: { waiting: { reason: 'CrashLoopBackOff' } },
        lastState: { terminated: { exitCode: 1, message: 'loading\nfile is no GGUF: bad magic\n' } },
      }),
      'ContainerFailed: pod chat-x: the server ended with code 1, restarted 1 time: loading file is no GGUF: bad magic',
    ],
    [
      'too little memory, with the limit and what to do',
      container({ restartCount: 3, state: { terminated: { exitCode: 137, reason: 'OOMKilled' } } }),
      'OutOfMemory: pod chat-x: the server used more memory than its limit of 512Mi, restarted 3 times; raise spec.resources.limits.memory, or lower engine.contextLength or engine.parallelRequests',
    ],
    [
      'a container that cannot be made',
      container({ state: { waiting: { reason: 'CreateContainerConfigError', message: 'secret "k" not found' } } }),
      'ContainerFailed: pod chat-x: secret "k" not found',
    ],
    [
      'a pod that was evicted',
      { phase: 'Failed', reason: 'Evicted', message: 'The node was low on resource: memory.' },
      'ContainerFailed: pod chat-x: Evicted: The node was low on resource: memory.',
    ],
    [
      'nothing once a server that ended before serves',
      {
        ...container({ state: { running: {} }, lastState: { terminated: { exitCode: 1 } } }),
        conditions: [{ type: 'Ready', status: 'True' }],
      },
      undefined,
    ],
  ];
  it.each(rows)('%s', (_, status, expected) => {
    const cause = causeOf(pod('chat-x', status), undefined);
    expect(cause && `${cause.reason}: ${cause.message}`).toBe(expected);
  });

  it('what the kubelet says about a volume, without its wrapping', () => {
    const event = 'MountVolume.SetUp failed for volume "model" : rpc error: code = Unavailable desc = 62% of 98 MB';
    expect(causeOf(pod(), event)).toEqual({ reason: 'MountPending', message: 'pod chat-x: 62% of 98 MB' });
    expect(mountSentence('MountVolume.SetUp failed for volume "keys" : secret not found')).toBe('secret not found');
  });
});

describe('schedulerSentence', () => {
  it.each([
    [
      '0/4 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 1 Too many pods, 2 Insufficient memory. preemption: 0/4 nodes are available: 4 No preemption victims found for incoming pod.',
      'no node can take it; of 4 nodes 1: a taint that is not tolerated (gpu: yes), 1: no room for one more pod, 2: too little memory left',
    ],
    [
      "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
      'no node can take it; of 2 nodes 2: other labels than podTemplate.spec.nodeSelector asks for',
    ],
    ['0/1 nodes are available: 1 something new.', 'no node can take it; of 1 node 1: something new'],
    ['no nodes available to schedule pods', 'no nodes available to schedule pods'],
    ['', 'the scheduler finds no node for it'],
  ])('%s', (said, expected) => {
    expect(schedulerSentence(said)).toBe(expected);
  });
});

describe('replicaSetCause', () => {
  it.each([
    [
      'a quota',
      'pods "chat-a-b" is forbidden: exceeded quota: tight, requested: pods=1, used: pods=3, limited: pods=3',
      'QuotaExceeded: ResourceQuota tight allows pods=3, pods=3 is used and pods=1 more is asked for; raise the quota or ask for less',
    ],
    [
      'an admission',
      'pods "chat-a-b" is forbidden: violates PodSecurity "restricted:latest": x',
      'PodsRefused: the API server refuses pods of chat-a: violates PodSecurity "restricted:latest": x',
    ],
  ])('%s', (_, failure, expected) => {
    const cause = replicaSetCause(replicaSet('a', { failure }));
    expect(`${cause?.reason}: ${cause?.message}`).toBe(expected);
  });
});

describe('causesOf', () => {
  it('tells each reason once, of the update revision first', () => {
    const failed = (exitCode: number) => container({ state: { terminated: { exitCode } } });
    const pods = [pod('a-old', failed(1), 'old'), pod('b-new', failed(2), 'new'), pod('c-new', failed(2), 'new')];
    expect(causesOf(observed({ pods }), [replicaSet('new')], [replicaSet('old')])).toEqual([
      { reason: 'ContainerFailed', message: 'pod b-new: the server ended with code 2 (3 pods alike)' },
    ]);
  });

  it('tells how far the node of a mounting pod is, before it asks the kubelet', () => {
    const caches = new Map([
      ['n1', cache('n1', { state: 'Downloading', bytesDone: 49_181_216, bytesPerSecond: 10_000_000 })],
    ]);
    const mountEvents = new Map([['chat-x', 'something']]);
    expect(causesOf(observed({ pods: [pod()], caches, mountEvents }), [], [])).toEqual([
      { reason: 'MountPending', message: 'pod chat-x: node n1 has 50% of 98 MB of the model, 5 s left' },
    ]);
    expect(causesOf(observed({ pods: [pod()], mountEvents }), [], [])).toEqual([
      { reason: 'MountPending', message: 'pod chat-x: something' },
    ]);
  });

  it('says nothing of a refusal that is over', () => {
    const set = replicaSet('a', { desired: 1, current: 1, failure: 'pods "x" is forbidden: no' });
    expect(causesOf(observed(), [set], [])).toEqual([]);
  });
});
