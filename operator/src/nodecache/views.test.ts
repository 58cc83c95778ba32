import { describe, expect, test } from 'vitest';
import type { Node, ObjectOf, Pod, ReplicaSet } from '../kube/resource.ts';
import { boundPods, nodeView, revisionUse } from './views.ts';

type SetObject = ObjectOf<typeof ReplicaSet>;

describe('a ReplicaSet uses a revision', () => {
  const set = (spec: object, status: object = {}, metadata: object = {}): SetObject =>
    ({
      metadata: {
        namespace: 'demo',
        name: 'chat-1',
        labels: { 'slm.dev/model': 'tiny', 'slm.dev/deployment': 'chat' },
        annotations: { 'slm.dev/model-digest': 'sha256:a' },
        ...metadata,
      },
      spec: { template: { spec: { nodeSelector: { pool: 'slm' } } }, ...spec },
      status,
    }) as unknown as SetObject;

  test.each<[string, SetObject, boolean]>([
    ['when it wants pods', set({ replicas: 1 }), true],
    ['while it still has pods', set({ replicas: 0 }, { replicas: 1 }), true],
    ['not when it has and wants none', set({ replicas: 0 }, { replicas: 0 }), false],
    ['not when it belongs to somebody else', set({ replicas: 1 }, {}, { annotations: {} }), false],
  ])('%s', (_, object, expected) => {
    expect(revisionUse(object) !== undefined).toBe(expected);
  });

  test('where its own pods may run, not those of the deployment of now', () => {
    expect(revisionUse(set({ replicas: 1 }))).toMatchObject({
      model: 'tiny',
      deployment: 'chat',
      digest: 'sha256:a',
      nodeSelector: { pool: 'slm' },
      requests: { pods: 1 },
      claims: false,
    });
  });
});

describe('a pod', () => {
  const pod = (spec: object, phase = 'Running') =>
    ({ metadata: { namespace: 'demo', name: 'p' }, spec, status: { phase } }) as ObjectOf<typeof Pod>;
  const volumes = [
    { name: 'model', csi: { driver: 'models.slm.dev', volumeAttributes: { digest: 'sha256:a', model: 'demo/tiny' } } },
    { name: 'other', csi: { driver: 'else', volumeAttributes: { digest: 'sha256:b' } } },
    { name: 'keys', secret: { secretName: 's' } },
  ];
  test('mounts what its model volumes say, once it has a node', () => {
    const expected = [{ namespace: 'demo', node: 'n1', digest: 'sha256:a', model: 'demo/tiny' }];
    expect(boundPods(pod({ nodeName: 'n1', volumes }, 'Pending'))).toEqual(expected);
    expect(boundPods(pod({ volumes }))).toEqual([]);
    expect(boundPods(pod({ nodeName: 'n1', volumes }, 'Succeeded'))).toEqual([]);
  });
});

test('a node is ready, cordoned and tainted as it says', () => {
  const node = {
    metadata: { name: 'n1', labels: { a: 'b' } },
    spec: { unschedulable: true, taints: [{ key: 'x', effect: 'NoSchedule' }] },
    status: { conditions: [{ type: 'Ready', status: 'Unknown' }] },
  } as ObjectOf<typeof Node>;
  expect(nodeView(node)).toEqual({
    name: 'n1',
    labels: { a: 'b' },
    taints: [{ key: 'x', effect: 'NoSchedule' }],
    ready: false,
    cordoned: true,
    deleted: false,
  });
});
