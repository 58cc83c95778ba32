import { expect, it } from 'vitest';
import { podRequests } from '../hardware/amounts.ts';
import { factsOf } from '../hardware/node-facts.ts';
import { type KubeObject, Node, ReplicaSet } from '../kube/resource.ts';
import { boundPods, revisionUse } from '../nodecache/views.ts';
import { SLMDeployment } from './kinds.ts';
import { cutNode, cutPodSpec, cutReplicaSet, storedParts } from './stored-parts.ts';

const spec = {
  nodeName: 'n1',
  nodeSelector: { disk: 'fast' },
  tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists' }],
  resourceClaims: [{ name: 'device', resourceClaimTemplateName: 'chat-0123456789-gpu' }],
  overhead: { memory: '10Mi' },
  containers: [
    {
      name: 'server',
      image: 'server:1',
      env: [{ name: 'SLM_MODEL_PATH', value: '/model/model.gguf-with-a-name-that-is-long' }],
      volumeMounts: [{ name: 'model', mountPath: '/model' }],
      resources: { requests: { cpu: '500m', memory: '512Mi' }, limits: { memory: '512Mi', 'nvidia.com/gpu': '1' } },
    },
  ],
  initContainers: [{ name: 'sidecar', restartPolicy: 'Always', resources: { requests: { cpu: '100m' } } }],
  volumes: [
    {
      name: 'model',
      csi: { driver: 'models.slm.dev', volumeAttributes: { digest: 'sha256:1', model: 'demo/smollm2' } },
    },
    { name: 'tmp', emptyDir: {} },
  ],
};
const metadata = {
  name: 'chat-0123456789',
  namespace: 'demo',
  uid: 'u',
  resourceVersion: '7',
  labels: { 'slm.dev/deployment': 'chat', 'slm.dev/model': 'smollm2', 'slm.dev/revision': '0123456789' },
  annotations: { 'slm.dev/model-digest': 'sha256:1' },
};
const set = {
  metadata,
  spec: { replicas: 2, selector: {}, template: { metadata: {}, spec } },
  status: { replicas: 2 },
};
const size = (value: unknown) => JSON.stringify(value).length;

it('a ReplicaSet tells the same of its revision, in fewer bytes', () => {
  const cut = cutReplicaSet(set);
  expect(revisionUse(cut)).toEqual(revisionUse(set));
  expect(cut.spec?.template?.spec).toMatchObject({
    containers: [{ image: 'server:1', resources: spec.containers[0]?.resources }],
    resourceClaims: spec.resourceClaims,
  });
  expect(cut.metadata).toEqual(metadata);
  expect(size(cut)).toBeLessThan(size(set) - 100);
});

it('a pod takes the same from its node, and mounts the same models', () => {
  const cut = cutPodSpec(spec);
  expect(podRequests(cut)).toEqual(podRequests(spec));
  const pod = { metadata, status: { phase: 'Running' } };
  expect(boundPods({ ...pod, spec: cut })).toEqual(boundPods({ ...pod, spec }));
  expect(boundPods({ ...pod, spec: cut })).toHaveLength(1);
});

it('a Node offers the same, without the names of its images', () => {
  const node = {
    metadata: { name: 'n1', labels: { zone: 'a' }, annotations: { volumes: 'x' } },
    spec: { taints: [{ key: 'gpu', effect: 'NoSchedule' }], unschedulable: true },
    status: {
      capacity: { cpu: '8', 'nvidia.com/gpu': '2' },
      allocatable: { cpu: '7500m', 'nvidia.com/gpu': '2' },
      conditions: [{ type: 'Ready', status: 'True' }],
      images: [{ names: ['registry.example.com/image:1'], sizeBytes: 1 }],
      addresses: [{ type: 'Hostname', address: 'n1' }],
    },
  };
  const cut = cutNode(node);
  expect(factsOf(cut, [])).toEqual(factsOf(node, []));
  expect(cut.status).not.toHaveProperty('images');
});

it('what kubectl remembers beside a spec is left out, and nothing else', () => {
  const last = 'kubectl.kubernetes.io/last-applied-configuration';
  const deployment: KubeObject = { metadata: { name: 'chat', annotations: { [last]: '{…}', team: 'a' } } };
  const cut = storedParts.get(SLMDeployment) as unknown as (object: KubeObject) => KubeObject;
  expect(cut(deployment)).toEqual({ metadata: { name: 'chat', annotations: { team: 'a' } } });
  const plain = { metadata: { name: 'chat' } };
  expect(cut(plain)).toBe(plain);
});

it('an object that nobody has looked at has no status, whatever the API server shows', () => {
  const cut = storedParts.get(SLMDeployment) as unknown as (object: object) => object;
  const metadata = { name: 'chat', generation: 1 };
  expect(cut({ metadata, status: { observedGeneration: -1 } })).toEqual({ metadata });
  const seen = { metadata, status: { observedGeneration: 1, readyText: '0/1' } };
  expect(cut(seen)).toBe(seen);
});

it('every kind that is cut is cut in all stores', () => {
  expect([...storedParts.keys()]).toEqual(expect.arrayContaining([Node, ReplicaSet]));
});
