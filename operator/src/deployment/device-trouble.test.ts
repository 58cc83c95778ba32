import { describe, expect, it } from 'vitest';
import { isShortOfDevices, type TroubleInput, troubleOf } from './device-trouble.ts';
import type { PodObject } from './observed.ts';
import { ago, now, pod, replicaSet } from './testing/objects.ts';

const GPU = 'nvidia.com/gpu';

function trouble(change: Partial<TroubleInput>): string | undefined {
  const found = troubleOf({
    resource: GPU,
    claimed: false,
    count: 1,
    ownImage: false,
    set: replicaSet('x', { tier: 'nvidia', desired: 2 }),
    pods: [],
    reports: new Map(),
    offered: () => 1,
    now,
    ...change,
  });
  return found && `${found.pods} ${found.reason}: ${found.message}`;
}

function unscheduled(message: string): PodObject {
  const made = pod('chat-x', {
    conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }],
  });
  return { ...made, spec: { containers: [] } };
}

function container(state: object, lastState: object = {}, restartCount = 0) {
  return [{ name: 'server', image: '', imageID: '', ready: false, restartCount, state, lastState }];
}

/** A pod on a kind of hardware whose server ended with these words. */
function onTier(tier: string, message: string): PodObject {
  const made = pod('chat-x', { containerStatuses: container({ terminated: { exitCode: 3, message } }) });
  return { ...made, metadata: { ...made.metadata, labels: { ...made.metadata?.labels, 'slm.dev/tier': tier } } };
}

const refused = (name: string, seconds: number): PodObject => {
  const made = pod(name, {
    phase: 'Failed',
    reason: 'UnexpectedAdmissionError',
    message: `Allocate failed due to requested number of devices unavailable for ${GPU}. Requested: 1, Available: 0, which is unexpected`,
  });
  return { ...made, metadata: { ...made.metadata, creationTimestamp: ago(seconds) } };
};

describe('pods are kept back by the hardware', () => {
  const rows: [string, Partial<TroubleInput>, string][] = [
    [
      'when no device is free',
      { pods: [unscheduled(`0/3 nodes are available: 3 Insufficient ${GPU}. preemption: 0/3 nodes are available.`)] },
      `1 WaitingForDevice: pod chat-x: no node can take it; of 3 nodes 3: too little ${GPU}`,
    ],
    [
      'when the claim for one cannot be met',
      {
        resource: undefined,
        claimed: true,
        pods: [unscheduled('0/1 nodes are available: 1 cannot allocate all claims.')],
      },
      '1 WaitingForDevice: pod chat-x: no node can take it; of 1 node 1: no free device for the pod’s claim',
    ],
    [
      'when a quota allows no more devices, for as many pods as are missing',
      {
        set: replicaSet('x', {
          tier: 'nvidia',
          desired: 3,
          current: 1,
          failure: `pods "chat-x-1" is forbidden: exceeded quota: gpus, requested: requests.${GPU}=1, used: requests.${GPU}=1, limited: requests.${GPU}=1`,
        }),
      },
      `2 QuotaExceeded: ResourceQuota gpus allows requests.${GPU}=1, requests.${GPU}=1 is used and requests.${GPU}=1 more is asked for; raise the quota or ask for less`,
    ],
    [
      'when a kubelet has no device for them, however often the pod was made anew',
      { pods: [refused('a', 60), refused('b', 30), refused('c', 1)] },
      `1 DeviceLost: pod a: node n1 has no device for it: UnexpectedAdmissionError: Allocate failed due to requested number of devices unavailable for ${GPU}. Requested: 1, Available: 0, which is unexpected`,
    ],
    [
      'when the engine finds none',
      {
        pods: [
          pod('chat-x', {
            phase: 'Running',
            containerStatuses: container(
              { waiting: { reason: 'CrashLoopBackOff' } },
              {
                terminated: {
                  exitCode: 4,
                  message: 'starting\nDeviceNotFound: this pod was promised a gpu: no driver.',
                },
              },
              2,
            ),
          }),
        ],
      },
      '1 DeviceNotFound: pod chat-x, node n1, restarted 2 times: this pod was promised a gpu: no driver.',
    ],
    [
      'when the model does not fit into the device',
      {
        pods: [
          pod('chat-x', {
            containerStatuses: container({
              terminated: { exitCode: 4, message: 'InsufficientDeviceMemory: lower gpuLayers.' },
            }),
          }),
        ],
      },
      '1 InsufficientDeviceMemory: pod chat-x, node n1: lower gpuLayers.',
    ],
    [
      'when it loads the model and cannot compute it',
      { pods: [onTier('nvidia', 'UnsupportedFormat: WebGPU cannot compute this model: it requires f16.')] },
      '1 NoVariant: pod chat-x, node n1: WebGPU cannot compute this model: it requires f16.',
    ],
    [
      'when the image for it cannot be had',
      {
        ownImage: true,
        pods: [pod('chat-x', { containerStatuses: container({ waiting: { reason: 'ImagePullBackOff' } }) })],
      },
      '1 ImagePullFailed: pod chat-x: node n1 cannot get image server:1: ImagePullBackOff',
    ],
    [
      'when they are too slow there',
      {
        pods: [pod('chat-x', { phase: 'Running', containerStatuses: container({ running: {} }) })],
        reports: new Map([['chat-x-uid', { reason: 'too-slow', message: '3 of 20 tokens a second', at: now }]]),
      },
      '1 TooSlow: pod chat-x: 3 of 20 tokens a second',
    ],
    [
      'when their node offers none any more',
      { pods: [pod('chat-x', {}), pod('chat-y', {})], offered: () => 0 },
      `2 DeviceLost: pod chat-x: node n1 offers no ${GPU} any more`,
    ],
  ];
  it.each(rows)('%s', (_, change, expected) => {
    expect(trouble(change)).toBe(expected);
  });
});

describe('pods are not kept back by the hardware', () => {
  const rows: [string, Partial<TroubleInput>][] = [
    [
      'when the image cannot be had that other hardware needs too',
      { pods: [pod('chat-x', { containerStatuses: container({ waiting: { reason: 'ImagePullBackOff' } }) })] },
    ],
    [
      'when processors cannot compute the model',
      { resource: undefined, pods: [onTier('cpu', 'UnsupportedFormat: the file has no tokenizer.')] },
    ],
    ['when they are starting', { pods: [pod('chat-x', {})] }],
    ['when too little memory is left', { pods: [unscheduled('0/2 nodes are available: 2 Insufficient memory.')] }],
    [
      'when a quota allows no more memory',
      {
        set: replicaSet('x', {
          desired: 2,
          current: 0,
          failure: `exceeded quota: q, requested: requests.memory=1Gi, used: requests.memory=1Gi,requests.${GPU}=1, limited: requests.memory=1Gi`,
        }),
      },
    ],
    [
      'when the server fails for another reason',
      {
        pods: [pod('chat-x', { containerStatuses: container({ terminated: { exitCode: 1, message: 'bad magic' } }) })],
      },
    ],
    [
      'while one loads its model, also when the plugin is gone meanwhile',
      { pods: [pod('chat-x', { containerStatuses: container({ running: {} }) })], offered: () => 0 },
    ],
    [
      'when they serve, also on a node that offers none any more',
      { pods: [pod('chat-x', { conditions: [{ type: 'Ready', status: 'True' }] })], offered: () => 0 },
    ],
    ['when the kubelet refused one long ago', { pods: [refused('a', 3600)] }],
    ['on processors', { resource: undefined, pods: [pod('chat-x', {})], offered: () => 0 }],
  ];
  it.each(rows)('%s', (_, change) => {
    expect(trouble(change)).toBeUndefined();
  });
});

describe('the scheduler is short of devices', () => {
  const rows: [string, boolean][] = [
    [`0/5 nodes are available: 5 Insufficient ${GPU}.`, true],
    [`0/5 nodes are available: 1 node(s) had untolerated taint {team: ml}, 4 Insufficient ${GPU}.`, true],
    [`0/5 nodes are available: 2 Insufficient memory, 5 Insufficient ${GPU}.`, true],
    [`0/5 nodes are available: 1 Insufficient memory, 4 Insufficient ${GPU}.`, false],
    [`0/5 nodes are available: 1 Too many pods, 4 Insufficient ${GPU}.`, false],
    ['0/5 nodes are available: 5 Insufficient amd.com/gpu.', false],
    ['no nodes available to schedule pods', false],
  ];
  it.each(rows)('%s', (said, expected) => {
    expect(isShortOfDevices(said, { resource: GPU, claimed: false })).toBe(expected);
  });
});
