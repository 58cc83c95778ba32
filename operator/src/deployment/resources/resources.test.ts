import { describe, expect, it } from 'vitest';
import { resolveEngine } from '../memory.ts';
import { deployment, digest } from '../testing/objects.ts';
import { makeApiKeysSecret } from './api-keys.ts';
import { makeDisruptionBudget } from './disruption-budget.ts';
import { makeModel } from './model.ts';
import { makeNetworkPolicy } from './network-policy.ts';
import { makeReplicaSet, modelPath } from './replica-set.ts';
import { makeCandidateService, makeService } from './service.ts';

type Spec = Parameters<typeof deployment>[0];

function set(spec: Spec = {}, change: Partial<Parameters<typeof makeReplicaSet>[0]> = {}) {
  const owner = deployment(spec);
  return makeReplicaSet({
    deployment: owner,
    wanted: { revision: '0123456789', settingsHash: 'settings00', image: 'server:1', images: { cpu: 'server:1' } },
    hardware: { tier: 'cpu', device: 'cpu' },
    image: 'server:1',
    number: 3,
    replicas: 2,
    model: { digest, files: [{ path: 'model.gguf' }] },
    engine: resolveEngine(owner.spec.engine, { metadata: { format: 'GGUF', contextLength: 2048 } }),
    promptCacheBytes: owner.spec.engine?.promptCache?.maxSize === 0 ? 0 : 134_217_728,
    resources: { requests: { cpu: '500m', memory: '512Mi' }, limits: { memory: '512Mi' } },
    imagePullPolicy: 'IfNotPresent',
    ...change,
  });
}

/** The parts of a ReplicaSet that tests look into. */
interface SetShape {
  readonly metadata: { readonly name: string; readonly labels: object };
  readonly spec: {
    readonly selector: { readonly matchLabels: object };
    readonly template: {
      readonly metadata: { readonly labels: object };
      readonly spec: { readonly containers: readonly { readonly env: { name: string; value: string }[] }[] };
    };
  };
}

it('the ReplicaSet of a revision', () => {
  expect(set()).toMatchInlineSnapshot(`
    {
      "apiVersion": "apps/v1",
      "kind": "ReplicaSet",
      "metadata": {
        "annotations": {
          "slm.dev/model-digest": "sha256:a1b2c3d4e5000000000000000000000000000000000000000000000000000000",
          "slm.dev/revision-number": "3",
          "slm.dev/server-images": "{"cpu":"server:1"}",
          "slm.dev/settings-hash": "settings00",
        },
        "labels": {
          "app.kubernetes.io/component": "server",
          "app.kubernetes.io/instance": "chat",
          "app.kubernetes.io/managed-by": "slm-operator",
          "app.kubernetes.io/name": "slm-server",
          "slm.dev/deployment": "chat",
          "slm.dev/model": "smollm2",
          "slm.dev/revision": "0123456789",
          "slm.dev/tier": "cpu",
        },
        "name": "chat-0123456789",
        "namespace": "demo",
        "ownerReferences": [
          {
            "apiVersion": "slm.dev/v1alpha1",
            "blockOwnerDeletion": true,
            "controller": true,
            "kind": "SLMDeployment",
            "name": "chat",
            "uid": "chat-uid",
          },
        ],
      },
      "spec": {
        "replicas": 2,
        "selector": {
          "matchLabels": {
            "slm.dev/deployment": "chat",
            "slm.dev/revision": "0123456789",
          },
        },
        "template": {
          "metadata": {
            "annotations": {
              "slm.dev/traffic": "{}",
            },
            "labels": {
              "app.kubernetes.io/component": "server",
              "app.kubernetes.io/instance": "chat",
              "app.kubernetes.io/managed-by": "slm-operator",
              "app.kubernetes.io/name": "slm-server",
              "slm.dev/deployment": "chat",
              "slm.dev/model": "smollm2",
              "slm.dev/revision": "0123456789",
              "slm.dev/tier": "cpu",
              "slm.dev/traffic": "open",
            },
          },
          "spec": {
            "automountServiceAccountToken": false,
            "containers": [
              {
                "env": [
                  {
                    "name": "SLM_MODEL_PATH",
                    "value": "/model/model.gguf",
                  },
                  {
                    "name": "SLM_MODEL_DIGEST",
                    "value": "sha256:a1b2c3d4e5000000000000000000000000000000000000000000000000000000",
                  },
                  {
                    "name": "SLM_SERVED_NAMES",
                    "value": "["chat","smollm2"]",
                  },
                  {
                    "name": "SLM_CONTEXT_LENGTH",
                    "value": "2048",
                  },
                  {
                    "name": "SLM_PARALLEL_REQUESTS",
                    "value": "4",
                  },
                  {
                    "name": "SLM_KV_CACHE_TYPE",
                    "value": "F16",
                  },
                  {
                    "name": "SLM_PROMPT_CACHE_BYTES",
                    "value": "134217728",
                  },
                  {
                    "name": "SLM_AUTH",
                    "value": "APIKey",
                  },
                  {
                    "name": "SLM_API_KEYS_DIR",
                    "value": "/etc/slm/api-keys",
                  },
                  {
                    "name": "SLM_DRAIN_TIMEOUT_SECONDS",
                    "value": "60",
                  },
                  {
                    "name": "SLM_SHUTDOWN_DELAY_SECONDS",
                    "value": "5",
                  },
                ],
                "image": "server:1",
                "imagePullPolicy": "IfNotPresent",
                "livenessProbe": {
                  "failureThreshold": 6,
                  "httpGet": {
                    "path": "/healthz",
                    "port": "ollama",
                  },
                  "periodSeconds": 10,
                  "timeoutSeconds": 5,
                },
                "name": "server",
                "ports": [
                  {
                    "containerPort": 11434,
                    "name": "ollama",
                    "protocol": "TCP",
                  },
                  {
                    "containerPort": 8080,
                    "name": "openai",
                    "protocol": "TCP",
                  },
                ],
                "readinessProbe": {
                  "failureThreshold": 2,
                  "httpGet": {
                    "path": "/readyz",
                    "port": "ollama",
                  },
                  "periodSeconds": 5,
                  "timeoutSeconds": 3,
                },
                "resources": {
                  "limits": {
                    "memory": "512Mi",
                  },
                  "requests": {
                    "cpu": "500m",
                    "memory": "512Mi",
                  },
                },
                "securityContext": {
                  "allowPrivilegeEscalation": false,
                  "capabilities": {
                    "drop": [
                      "ALL",
                    ],
                  },
                  "readOnlyRootFilesystem": true,
                },
                "startupProbe": {
                  "failureThreshold": 1800,
                  "httpGet": {
                    "path": "/readyz",
                    "port": "ollama",
                  },
                  "periodSeconds": 1,
                  "timeoutSeconds": 2,
                },
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [
                  {
                    "mountPath": "/model",
                    "name": "model",
                    "readOnly": true,
                  },
                  {
                    "mountPath": "/etc/slm/pod",
                    "name": "pod-info",
                    "readOnly": true,
                  },
                  {
                    "mountPath": "/etc/slm/api-keys",
                    "name": "api-keys",
                    "readOnly": true,
                  },
                  {
                    "mountPath": "/dev/shm",
                    "name": "prompt-cache",
                  },
                  {
                    "mountPath": "/tmp",
                    "name": "tmp",
                  },
                ],
              },
            ],
            "enableServiceLinks": false,
            "securityContext": {
              "runAsGroup": 65532,
              "runAsNonRoot": true,
              "runAsUser": 65532,
              "seccompProfile": {
                "type": "RuntimeDefault",
              },
            },
            "terminationGracePeriodSeconds": 70,
            "topologySpreadConstraints": [
              {
                "labelSelector": {
                  "matchLabels": {
                    "slm.dev/deployment": "chat",
                    "slm.dev/revision": "0123456789",
                  },
                },
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
              },
            ],
            "volumes": [
              {
                "csi": {
                  "driver": "models.slm.dev",
                  "readOnly": true,
                  "volumeAttributes": {
                    "digest": "sha256:a1b2c3d4e5000000000000000000000000000000000000000000000000000000",
                    "model": "demo/smollm2",
                  },
                },
                "name": "model",
              },
              {
                "downwardAPI": {
                  "items": [
                    {
                      "fieldRef": {
                        "apiVersion": "v1",
                        "fieldPath": "metadata.annotations['slm.dev/traffic']",
                      },
                      "path": "traffic",
                    },
                    {
                      "fieldRef": {
                        "apiVersion": "v1",
                        "fieldPath": "metadata.labels['slm.dev/revision']",
                      },
                      "path": "revision",
                    },
                  ],
                },
                "name": "pod-info",
              },
              {
                "name": "api-keys",
                "secret": {
                  "defaultMode": 292,
                  "secretName": "chat-api-keys",
                },
              },
              {
                "emptyDir": {
                  "medium": "Memory",
                  "sizeLimit": "128Mi",
                },
                "name": "prompt-cache",
              },
              {
                "emptyDir": {
                  "sizeLimit": "64Mi",
                },
                "name": "tmp",
              },
            ],
          },
        },
      },
    }
  `);
});

it('the ReplicaSet of a revision on a device', () => {
  const spec: Spec = {
    hardware: { preferred: 'gpu', minTokensPerSecond: 20 },
    engine: { gpuLayers: 12 },
    podTemplate: { spec: { tolerations: [{ key: 'team', operator: 'Exists' }] } },
  };
  const hardware = {
    tier: 'nvidia',
    device: 'cuda',
    tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists' as const }],
    runtimeClassName: 'nvidia',
    supplementalGroups: [109],
    affinity: { nodeAffinity: {} },
    env: { CUDA_MODULE_LOADING: 'LAZY' },
  };
  const resources = { requests: { memory: '512Mi', 'nvidia.com/gpu': '1' }, limits: { 'nvidia.com/gpu': '1' } };
  const cpu = set(spec) as unknown as SetShape;
  const gpu = set(spec, { hardware, resources, image: 'server-cuda:1' }) as unknown as SetShape;
  const claimed = set(spec, { hardware: { tier: 'nvidia', device: 'cuda', claimTemplate: 'one-gpu' } });
  const env = ({ spec: { template } }: SetShape) =>
    template.spec.containers[0]?.env
      .filter(({ name }) => /DEVICE|GPU|MIN_TOKENS|CUDA/.test(name))
      .map(({ name, value }) => `${name}=${value}`);
  expect(gpu.metadata.name).toBe('chat-0123456789-nvidia');
  expect(gpu.metadata.labels).toMatchObject({ 'slm.dev/tier': 'nvidia' });
  expect(gpu.spec.selector.matchLabels).toEqual({ ...cpu.spec.selector.matchLabels, 'slm.dev/tier': 'nvidia' });
  expect(gpu.spec.template.metadata.labels).toMatchObject(gpu.spec.selector.matchLabels);
  expect(gpu.spec.template.spec).toMatchObject({
    affinity: { nodeAffinity: {} },
    tolerations: [{ key: 'team' }, { key: 'nvidia.com/gpu' }],
    runtimeClassName: 'nvidia',
    securityContext: { runAsUser: 65532, supplementalGroups: [109] },
    topologySpreadConstraints: [{ labelSelector: gpu.spec.selector }],
    containers: [{ image: 'server-cuda:1', resources }],
  });
  expect([env(cpu), env(gpu)]).toEqual([
    ['SLM_MIN_TOKENS_PER_SECOND=20'],
    ['SLM_DEVICE=cuda', 'SLM_GPU_LAYERS=12', 'SLM_MIN_TOKENS_PER_SECOND=20', 'CUDA_MODULE_LOADING=LAZY'],
  ]);
  expect(claimed).toMatchObject({
    spec: {
      template: {
        spec: {
          resourceClaims: [{ name: 'device', resourceClaimTemplateName: 'one-gpu' }],
          containers: [{ resources: { requests: { cpu: '500m' }, claims: [{ name: 'device' }] } }],
        },
      },
    },
  });
});

it('the settings of a pod that people may choose', () => {
  const { spec } = set({
    auth: { type: 'None' },
    servedNames: ['phi4:mini'],
    engine: {
      threads: 4,
      batchSize: 256,
      flashAttention: 'Enabled',
      maxQueue: 8,
      kvCache: { type: 'Q8_0' },
      promptCache: { maxSize: 0 },
      speculation: { type: 'NGram', maxDraft: 6 },
    },
    strategy: { drainTimeoutSeconds: 10 },
    podTemplate: {
      metadata: { labels: { team: 'a' }, annotations: { note: 'b' } },
      spec: {
        nodeSelector: { disk: 'fast' },
        tolerations: [{ key: 'gpu', operator: 'Exists' }],
        priorityClassName: 'high',
        imagePullSecrets: [{ name: 'registry' }],
        topologySpreadConstraints: [],
      },
    },
  }) as unknown as { spec: { template: { metadata: object; spec: Record<string, unknown> } } };
  const { containers, ...pod } = spec.template.spec;
  const [container] = containers as { env: object[]; volumeMounts: object[] }[];
  const { env, volumeMounts } = container ?? { env: [], volumeMounts: [] };
  expect({ metadata: spec.template.metadata, pod, env, volumeMounts }).toMatchInlineSnapshot(`
    {
      "env": [
        {
          "name": "SLM_MODEL_PATH",
          "value": "/model/model.gguf",
        },
        {
          "name": "SLM_MODEL_DIGEST",
          "value": "sha256:a1b2c3d4e5000000000000000000000000000000000000000000000000000000",
        },
        {
          "name": "SLM_SERVED_NAMES",
          "value": "["phi4:mini"]",
        },
        {
          "name": "SLM_CONTEXT_LENGTH",
          "value": "2048",
        },
        {
          "name": "SLM_PARALLEL_REQUESTS",
          "value": "4",
        },
        {
          "name": "SLM_KV_CACHE_TYPE",
          "value": "Q8_0",
        },
        {
          "name": "SLM_PROMPT_CACHE_BYTES",
          "value": "0",
        },
        {
          "name": "SLM_SPECULATION",
          "value": "NGram",
        },
        {
          "name": "SLM_MAX_DRAFT",
          "value": "6",
        },
        {
          "name": "SLM_BATCH_SIZE",
          "value": "256",
        },
        {
          "name": "SLM_THREADS",
          "value": "4",
        },
        {
          "name": "SLM_FLASH_ATTENTION",
          "value": "Enabled",
        },
        {
          "name": "SLM_MAX_QUEUE",
          "value": "8",
        },
        {
          "name": "SLM_AUTH",
          "value": "None",
        },
        {
          "name": "SLM_DRAIN_TIMEOUT_SECONDS",
          "value": "10",
        },
        {
          "name": "SLM_SHUTDOWN_DELAY_SECONDS",
          "value": "5",
        },
      ],
      "metadata": {
        "annotations": {
          "note": "b",
          "slm.dev/traffic": "{}",
        },
        "labels": {
          "app.kubernetes.io/component": "server",
          "app.kubernetes.io/instance": "chat",
          "app.kubernetes.io/managed-by": "slm-operator",
          "app.kubernetes.io/name": "slm-server",
          "slm.dev/deployment": "chat",
          "slm.dev/model": "smollm2",
          "slm.dev/revision": "0123456789",
          "slm.dev/tier": "cpu",
          "slm.dev/traffic": "open",
          "team": "a",
        },
      },
      "pod": {
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "imagePullSecrets": [
          {
            "name": "registry",
          },
        ],
        "nodeSelector": {
          "disk": "fast",
        },
        "priorityClassName": "high",
        "securityContext": {
          "runAsGroup": 65532,
          "runAsNonRoot": true,
          "runAsUser": 65532,
          "seccompProfile": {
            "type": "RuntimeDefault",
          },
        },
        "terminationGracePeriodSeconds": 20,
        "tolerations": [
          {
            "key": "gpu",
            "operator": "Exists",
          },
        ],
        "topologySpreadConstraints": [],
        "volumes": [
          {
            "csi": {
              "driver": "models.slm.dev",
              "readOnly": true,
              "volumeAttributes": {
                "digest": "sha256:a1b2c3d4e5000000000000000000000000000000000000000000000000000000",
                "model": "demo/smollm2",
              },
            },
            "name": "model",
          },
          {
            "downwardAPI": {
              "items": [
                {
                  "fieldRef": {
                    "apiVersion": "v1",
                    "fieldPath": "metadata.annotations['slm.dev/traffic']",
                  },
                  "path": "traffic",
                },
                {
                  "fieldRef": {
                    "apiVersion": "v1",
                    "fieldPath": "metadata.labels['slm.dev/revision']",
                  },
                  "path": "revision",
                },
              ],
            },
            "name": "pod-info",
          },
          {
            "emptyDir": {
              "sizeLimit": "64Mi",
            },
            "name": "tmp",
          },
        ],
      },
      "volumeMounts": [
        {
          "mountPath": "/model",
          "name": "model",
          "readOnly": true,
        },
        {
          "mountPath": "/etc/slm/pod",
          "name": "pod-info",
          "readOnly": true,
        },
        {
          "mountPath": "/tmp",
          "name": "tmp",
        },
      ],
    }
  `);
});

it('the Service', () => {
  expect(makeService(deployment())).toMatchInlineSnapshot(`
    {
      "apiVersion": "v1",
      "kind": "Service",
      "metadata": {
        "labels": {
          "app.kubernetes.io/component": "server",
          "app.kubernetes.io/instance": "chat",
          "app.kubernetes.io/managed-by": "slm-operator",
          "app.kubernetes.io/name": "slm-server",
          "slm.dev/deployment": "chat",
        },
        "name": "chat",
        "namespace": "demo",
        "ownerReferences": [
          {
            "apiVersion": "slm.dev/v1alpha1",
            "blockOwnerDeletion": true,
            "controller": true,
            "kind": "SLMDeployment",
            "name": "chat",
            "uid": "chat-uid",
          },
        ],
      },
      "spec": {
        "ports": [
          {
            "appProtocol": "http",
            "name": "ollama",
            "port": 11434,
            "protocol": "TCP",
            "targetPort": "ollama",
          },
          {
            "appProtocol": "http",
            "name": "openai",
            "port": 8080,
            "protocol": "TCP",
            "targetPort": "openai",
          },
        ],
        "selector": {
          "app.kubernetes.io/managed-by": "slm-operator",
          "slm.dev/deployment": "chat",
        },
        "type": "ClusterIP",
      },
    }
  `);
});

it('a Service of another type, with annotations', () => {
  const service = makeService(deployment({ service: { type: 'LoadBalancer', annotations: { pool: 'a' } } }));
  expect(service).toMatchObject({ metadata: { annotations: { pool: 'a' } }, spec: { type: 'LoadBalancer' } });
});

it('the NetworkPolicy', () => {
  expect(makeNetworkPolicy(deployment())).toMatchInlineSnapshot(`
    {
      "apiVersion": "networking.k8s.io/v1",
      "kind": "NetworkPolicy",
      "metadata": {
        "labels": {
          "app.kubernetes.io/component": "server",
          "app.kubernetes.io/instance": "chat",
          "app.kubernetes.io/managed-by": "slm-operator",
          "app.kubernetes.io/name": "slm-server",
          "slm.dev/deployment": "chat",
        },
        "name": "chat",
        "namespace": "demo",
        "ownerReferences": [
          {
            "apiVersion": "slm.dev/v1alpha1",
            "blockOwnerDeletion": true,
            "controller": true,
            "kind": "SLMDeployment",
            "name": "chat",
            "uid": "chat-uid",
          },
        ],
      },
      "spec": {
        "ingress": [
          {
            "ports": [
              {
                "port": 11434,
                "protocol": "TCP",
              },
              {
                "port": 8080,
                "protocol": "TCP",
              },
            ],
          },
        ],
        "podSelector": {
          "matchLabels": {
            "app.kubernetes.io/managed-by": "slm-operator",
            "slm.dev/deployment": "chat",
          },
        },
        "policyTypes": [
          "Ingress",
          "Egress",
        ],
      },
    }
  `);
});

it('a NetworkPolicy of pods that pass requests on to each other', () => {
  const peers = {
    to: [
      {
        podSelector: { matchLabels: { 'app.kubernetes.io/managed-by': 'slm-operator', 'slm.dev/deployment': 'chat' } },
      },
    ],
    ports: [
      { port: 11434, protocol: 'TCP' },
      { port: 8080, protocol: 'TCP' },
    ],
  };
  const egressOf = (policy: object) => (policy as { spec: { egress?: object[] } }).spec.egress;
  expect(egressOf(makeNetworkPolicy(deployment(), undefined, true))).toEqual([peers]);
  expect(egressOf(makeNetworkPolicy(deployment(), { namespace: 'slm-system' }, true))).toEqual([
    expect.objectContaining({ ports: [{ port: 9443, protocol: 'TCP' }] }),
    peers,
  ]);
  expect(
    egressOf(makeNetworkPolicy(deployment({ isolation: { denyEgress: false } }), undefined, true)),
  ).toBeUndefined();
});

it('the Service of open pods alone, and the one of a candidate', () => {
  const own = { 'app.kubernetes.io/managed-by': 'slm-operator', 'slm.dev/deployment': 'chat' };
  expect(makeService(deployment(), { 'slm.dev/traffic': 'open' })).toMatchObject({
    metadata: { name: 'chat' },
    spec: { selector: { ...own, 'slm.dev/traffic': 'open' } },
  });
  const candidate = makeCandidateService(
    deployment({ service: { type: 'LoadBalancer', annotations: { pool: 'a' } } }),
    '0123456789',
  );
  expect(candidate).toMatchObject({
    metadata: { name: 'chat-candidate' },
    spec: { type: 'ClusterIP', selector: { ...own, 'slm.dev/revision': '0123456789' } },
  });
  expect(candidate.metadata.annotations).toBeUndefined();
});

it('a ReplicaSet of pods that get no requests yet', () => {
  const closed = { labels: { 'slm.dev/traffic': 'closed' }, annotations: { 'slm.dev/traffic': '{}' } };
  const { spec } = set({}, { traffic: closed }) as unknown as SetShape;
  expect(spec.template.metadata.labels).toMatchObject(closed.labels);
  // Which pods are whose never depends on it.
  expect(Object.keys(spec.selector.matchLabels)).not.toContain('slm.dev/traffic');
});

it('a NetworkPolicy that lets pods send', () => {
  const policy = makeNetworkPolicy(deployment({ isolation: { denyEgress: false } }));
  expect(policy).toMatchObject({ spec: { policyTypes: ['Ingress'] } });
});

it('the PodDisruptionBudget', () => {
  expect(makeDisruptionBudget(deployment())).toMatchInlineSnapshot(`
    {
      "apiVersion": "policy/v1",
      "kind": "PodDisruptionBudget",
      "metadata": {
        "labels": {
          "app.kubernetes.io/component": "server",
          "app.kubernetes.io/instance": "chat",
          "app.kubernetes.io/managed-by": "slm-operator",
          "app.kubernetes.io/name": "slm-server",
          "slm.dev/deployment": "chat",
        },
        "name": "chat",
        "namespace": "demo",
        "ownerReferences": [
          {
            "apiVersion": "slm.dev/v1alpha1",
            "blockOwnerDeletion": true,
            "controller": true,
            "kind": "SLMDeployment",
            "name": "chat",
            "uid": "chat-uid",
          },
        ],
      },
      "spec": {
        "maxUnavailable": 1,
        "selector": {
          "matchLabels": {
            "app.kubernetes.io/managed-by": "slm-operator",
            "slm.dev/deployment": "chat",
          },
        },
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
      },
    }
  `);
});

it('the Secret with API keys', () => {
  expect(makeApiKeysSecret(deployment(), ['sk-slm-a', 'sk-slm-b'])).toMatchInlineSnapshot(`
    {
      "apiVersion": "v1",
      "kind": "Secret",
      "metadata": {
        "labels": {
          "app.kubernetes.io/component": "server",
          "app.kubernetes.io/instance": "chat",
          "app.kubernetes.io/managed-by": "slm-operator",
          "app.kubernetes.io/name": "slm-server",
          "slm.dev/deployment": "chat",
        },
        "name": "chat-api-keys",
        "namespace": "demo",
        "ownerReferences": [
          {
            "apiVersion": "slm.dev/v1alpha1",
            "blockOwnerDeletion": true,
            "controller": true,
            "kind": "SLMDeployment",
            "name": "chat",
            "uid": "chat-uid",
          },
        ],
      },
      "stringData": {
        "key-1": "sk-slm-a",
        "key-2": "sk-slm-b",
      },
      "type": "Opaque",
    }
  `);
});

it('the SLMModel of a source written in place', () => {
  const inline = deployment({
    model: { uri: 'hf://org/repo', files: ['*.gguf'], digest, secretRef: { name: 'hf' } },
  });
  expect(makeModel(inline)?.spec).toMatchInlineSnapshot(`
    {
      "integrity": {
        "digest": "sha256:a1b2c3d4e5000000000000000000000000000000000000000000000000000000",
      },
      "source": {
        "files": [
          "*.gguf",
        ],
        "secretRef": {
          "name": "hf",
        },
        "uri": "hf://org/repo",
      },
    }
  `);
  expect(makeModel(deployment())).toBeUndefined();
});

it.each([
  ['the only file', ['model.gguf'], '/model/model.gguf'],
  [
    'the first part of a split model',
    ['m-00002-of-00002.gguf', 'm-00001-of-00002.gguf'],
    '/model/m-00001-of-00002.gguf',
  ],
  ['the model, not its projector', ['mmproj-f16.gguf', 'sub/model.GGUF', 'README.md'], '/model/sub/model.GGUF'],
  ['the folder of a model of another format', ['model.onnx', 'genai_config.json'], '/model'],
])('the server opens %s', (_, paths, expected) => {
  expect(modelPath(paths.map((path) => ({ path })))).toBe(expected);
});

describe('who may ask, and how', () => {
  const partsOf = (spec: Spec) => {
    const { template } = (set(spec) as unknown as { spec: { template: { spec: PodSpec } } }).spec;
    const [container] = template.spec.containers;
    return {
      env: Object.fromEntries((container?.env ?? []).map(({ name, value }) => [name, value])),
      scheme: container?.livenessProbe.httpGet.scheme,
      volumes: template.spec.volumes.map(({ name }) => name),
    };
  };
  interface PodSpec {
    readonly containers: readonly {
      readonly env: readonly { name: string; value: string }[];
      readonly livenessProbe: { readonly httpGet: { readonly scheme?: string } };
    }[];
    readonly volumes: readonly { readonly name: string }[];
  }

  it.each<[string, Spec, Record<string, string | undefined>]>([
    ['nothing', {}, { SLM_AUTH: 'APIKey', SLM_MAX_TOKENS: undefined, SLM_AUDIT: undefined, SLM_OPENAI_API: undefined }],
    ['no auth', { auth: { type: 'None' } }, { SLM_AUTH: 'None', SLM_API_KEYS_DIR: undefined }],
    [
      'ServiceAccounts',
      { auth: { type: 'ServiceAccount' } },
      { SLM_AUTH: 'ServiceAccount', SLM_TOKEN_AUDIENCE: 'chat.demo.svc', SLM_BROKER_DIR: '/etc/slm/broker' },
    ],
    [
      'limits',
      { limits: { maxTokens: 5, maxBodyBytes: 2048, requestTimeoutSeconds: 9, maxConnections: 7 } },
      {
        SLM_MAX_TOKENS: '5',
        SLM_MAX_BODY_BYTES: '2048',
        SLM_REQUEST_TIMEOUT_SECONDS: '9',
        SLM_MAX_CONNECTIONS: '7',
      },
    ],
    ['one API', { api: { openai: false, ollama: true } }, { SLM_OPENAI_API: 'false', SLM_OLLAMA_API: undefined }],
    [
      'management',
      { api: { management: true } },
      { SLM_MANAGEMENT: 'true', SLM_MODELS_DIR: '/models', SLM_OLLAMA_API: undefined },
    ],
    ['an audit log', { audit: { enabled: true } }, { SLM_AUDIT: 'true', SLM_AUDIT_CONTENT: undefined }],
    ['an audit log with content', { audit: { enabled: true, content: true } }, { SLM_AUDIT_CONTENT: 'true' }],
    [
      'traces',
      { tracing: { endpoint: 'http://c:4318', samplingPercent: 10 } },
      {
        OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318',
        OTEL_SERVICE_NAME: 'chat',
        OTEL_RESOURCE_ATTRIBUTES: 'k8s.namespace.name=demo',
        OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
        OTEL_TRACES_SAMPLER_ARG: '0.1',
      },
    ],
  ])('%s', (_, spec, expected) => {
    const { env, scheme } = partsOf(spec);
    expect(Object.fromEntries(Object.keys(expected).map((name) => [name, env[name]]))).toEqual(expected);
    expect(scheme).toBeUndefined();
  });

  it('a certificate: HTTPS for clients and probes', () => {
    const spec = { tls: { secretRef: { name: 'cert' } } };
    expect(partsOf(spec)).toMatchObject({
      scheme: 'HTTPS',
      volumes: expect.arrayContaining(['tls', 'api-keys']) as string[],
      env: { SLM_TLS_CERT_FILE: '/etc/slm/tls/tls.crt', SLM_TLS_KEY_FILE: '/etc/slm/tls/tls.key' },
    });
    const service = makeService(deployment(spec)) as unknown as { spec: { ports: { appProtocol: string }[] } };
    expect(service.spec.ports.map(({ appProtocol }) => appProtocol)).toEqual(['https', 'https']);
  });
});
