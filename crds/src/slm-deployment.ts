/** SLMDeployment: how a model is served. */
import type { Static } from 'typebox';
import { digest, type ObjectMeta, secretRef, tolerations } from './common.ts';
import { accessFields } from './deployment-access.ts';
import { Hardware } from './deployment-hardware.ts';
import { Strategy } from './deployment-strategy.ts';
import { boolean, integer, intOrPercent, list, mapOf, object, optional, passThrough, text, word } from './schema.ts';
import type { SLMDeploymentStatus } from './slm-deployment-status.ts';
import { SLMModelSpec } from './slm-model.ts';

/** A Kubernetes quantity such as `500m` or `2Gi`, or a plain number. */
function quantity(description: string) {
  return intOrQuantity(description);
}

function intOrQuantity(description: string) {
  const schema = intOrPercent({ description });
  return Object.assign({}, schema, { pattern: '^[0-9]+(\\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$' }) as typeof schema;
}

const resourceList = (description: string) => mapOf(quantity('Amount.'), { max: 16, description });

export const Engine = object(
  {
    contextLength: optional(
      integer({
        minimum: 128,
        maximum: 1048576,
        description:
          'Tokens of context for each parallel request (llama.cpp: n_ctx per sequence). Default: the smaller of the model’s own and 4096.',
      }),
    ),
    parallelRequests: optional(
      integer({
        minimum: 1,
        maximum: 64,
        description: 'Requests decoded together; more wait in the queue. Default 4.',
      }),
    ),
    batchSize: optional(
      integer({ minimum: 32, maximum: 8192, description: 'Tokens in one decode (llama.cpp: n_batch). Default 512.' }),
    ),
    threads: optional(
      integer({
        minimum: 1,
        maximum: 256,
        description: 'CPU threads. Default: the CPU limit rounded down, else one less than the cores of the node.',
      }),
    ),
    gpuLayers: optional(
      integer({
        minimum: 0,
        maximum: 1024,
        description:
          'Layers that a GPU computes, the rest is left to the CPU (llama.cpp: n_gpu_layers). Default: all. GGUF models only.',
      }),
    ),
    flashAttention: optional(
      word(['Auto', 'Enabled', 'Disabled'], { description: 'llama.cpp’s flash attention. Default Auto.' }),
    ),
    kvCache: optional(
      object(
        {
          type: optional(word(['F16', 'Q8_0', 'Q4_0'], { description: 'Type of the KV cache. Default F16.' })),
        },
        { description: 'The KV cache.' },
      ),
    ),
    speculation: optional(
      object(
        {
          type: optional(
            word(['None', 'NGram'], {
              description:
                'NGram guesses tokens from what was said before and verifies them together: up to twice as fast for text that is copied or edited, a few percent slower otherwise. Default None.',
            }),
          ),
          maxDraft: optional(
            integer({
              minimum: 1,
              maximum: 32,
              description: 'Tokens guessed at a time (llama.cpp: draft-max). Default 4.',
            }),
          ),
        },
        { description: 'Speculative decoding. Answers stay the same. GGUF models only.' },
      ),
    ),
    promptCache: optional(
      object(
        {
          maxSize: optional(
            quantity(
              'Memory such as 256Mi; 0 for none. Default: as much as the KV cache takes, at most 512Mi, and no more than spec.resources leaves.',
            ),
          ),
        },
        {
          description: 'Prompts that a server remembers after their slot went to another request. Part of its memory.',
        },
      ),
    ),
    maxQueue: optional(
      integer({ minimum: 0, maximum: 10000, description: 'Requests that may wait for a slot before 429. Default 64.' }),
    ),
  },
  { description: 'Settings of the engine, in llama.cpp’s words.' },
);
export type Engine = Static<typeof Engine>;

export const SLMDeploymentSpec = object(
  {
    modelRef: optional(
      object(
        {
          name: text({
            max: 63,
            min: 1,
            description: 'Name of an SLMModel. It may be created later.',
          }),
          namespace: optional(
            text({
              max: 63,
              min: 1,
              pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
              description:
                'Namespace of the SLMModel, whose spec.allowedNamespaces must let this one in. Default: the same.',
            }),
          ),
          revision: optional(
            text({
              max: 10,
              min: 10,
              pattern: '^[a-f0-9]{10}$',
              description:
                'Name of a revision in status.revisions of the SLMModel, which is served whatever comes later. Default: the latest.',
            }),
          ),
        },
        { description: 'The model to serve.' },
      ),
    ),
    model: optional(
      object(
        {
          uri: SLMModelSpec.properties.source.properties.uri,
          files: SLMModelSpec.properties.source.properties.files,
          digest: optional(digest('sha256:HEX of the file; needed for https://.')),
          secretRef: optional(secretRef),
        },
        {
          description:
            'The model to serve, written in place: makes an SLMModel of this deployment’s name, owned by it.',
          rules: [
            {
              rule: "!self.uri.startsWith('http://')",
              message: 'an http:// source needs an SLMModel with source.insecure: true and spec.modelRef here',
            },
            {
              rule: "!self.uri.startsWith('https://') || has(self.digest)",
              message: 'an https:// uri needs model.digest: sha256:HEX (what sha256sum prints for the file)',
            },
          ],
        },
      ),
    ),
    servedNames: optional(
      list(
        text({
          max: 128,
          min: 1,
          pattern: '^[A-Za-z0-9][A-Za-z0-9._:/@-]*$',
          description: 'A name such as phi4:mini.',
        }),
        {
          max: 16,
          min: 1,
          set: true,
          description: 'Names that clients use in "model". Default: the name of this deployment and that of the model.',
        },
      ),
    ),
    replicas: optional(
      integer({
        minimum: 0,
        maximum: 10000,
        description: 'Number of pods. Default 1; not with placement.mode: PerNode.',
      }),
    ),
    placement: optional(
      object(
        {
          mode: optional(
            word(['Replicas', 'PerNode'], {
              description:
                'Replicas: as many pods as spec.replicas says. PerNode: one pod on each node that podTemplate.spec lets it run on, and clients are served by the pod of their own node. Default Replicas.',
            }),
          ),
        },
        { description: 'How many pods there are, and where.' },
      ),
    ),
    hardware: optional(Hardware),
    engine: optional(Engine),
    resources: optional(
      object(
        {
          requests: optional(resourceList('What is reserved.')),
          limits: optional(resourceList('What is allowed.')),
        },
        {
          description:
            'Resources of the server container. Default: memory request and limit from the model’s size and the KV cache, 500m CPU requested.',
        },
      ),
    ),
    ...accessFields,
    service: optional(
      object(
        {
          type: optional(word(['ClusterIP', 'NodePort', 'LoadBalancer'], { description: 'Default ClusterIP.' })),
          annotations: optional(
            mapOf(text({ max: 1024, description: 'Value.' }), { max: 32, description: 'Annotations of the Service.' }),
          ),
        },
        { description: 'The Service in front of the pods.' },
      ),
    ),
    isolation: optional(
      object(
        {
          denyEgress: optional(
            boolean({
              description:
                'A NetworkPolicy lets the pods send nothing out, but for questions to the operator with auth.type: ServiceAccount. Default true.',
            }),
          ),
        },
        { description: 'What the network lets through, where the cluster enforces NetworkPolicy.' },
      ),
    ),
    strategy: optional(Strategy),
    rollbackTo: optional(
      object(
        {
          revision: text({
            max: 10,
            min: 10,
            pattern: '^[a-f0-9]{10}$',
            description: 'One of the revisions that ReplicaSets of this deployment are named by.',
          }),
        },
        {
          description:
            'Serve a revision of the history, whatever the rest of the spec asks for, until this is removed. By kubectl: the annotation slm.dev/rollback-to=REVISION.',
        },
      ),
    ),
    revisionHistoryLimit: optional(
      integer({ minimum: 0, maximum: 100, description: 'Old ReplicaSets that are kept at size 0. Default 3.' }),
    ),
    paused: optional(
      boolean({ description: 'Stop rolling where it is; size changes are still honoured. Default false.' }),
    ),
    podTemplate: optional(
      object(
        {
          metadata: optional(
            object(
              {
                labels: optional(
                  mapOf(text({ max: 63, description: 'Value.' }), {
                    max: 32,
                    description: 'Labels to add; not slm.dev/ or app.kubernetes.io/ ones.',
                  }),
                ),
                annotations: optional(
                  mapOf(text({ max: 4096, description: 'Value.' }), { max: 32, description: 'Annotations to add.' }),
                ),
              },
              {
                description: 'Labels and annotations for the pods.',
                rules: [
                  {
                    rule: "!has(self.labels) || self.labels.all(k, !k.startsWith('slm.dev/') && !k.startsWith('app.kubernetes.io/'))",
                    message: 'labels under slm.dev/ and app.kubernetes.io/ belong to the operator; use another prefix',
                  },
                ],
              },
            ),
          ),
          spec: optional(
            object(
              {
                nodeSelector: optional(
                  mapOf(text({ max: 63, description: 'Value of the label.' }), {
                    max: 32,
                    description: 'Labels that a node must have.',
                  }),
                ),
                tolerations: optional(tolerations),
                priorityClassName: optional(text({ max: 253, min: 1, description: 'PriorityClass of the pods.' })),
                imagePullSecrets: optional(
                  list(secretRef, { max: 8, atomic: true, description: 'Secrets for pulling the server image.' }),
                ),
                topologySpreadConstraints: optional(
                  passThrough<object[]>({
                    type: 'array',
                    max: 8,
                    description: 'As in a pod. Default: spread over nodes where possible.',
                  }),
                ),
              },
              { description: 'Where the pods may run.' },
            ),
          ),
        },
        { description: 'Additions to the pods.' },
      ),
    ),
    image: optional(
      text({
        max: 512,
        min: 1,
        description:
          'Server image. Default: the operator’s when a revision is made; a newer operator alone changes no running revision.',
      }),
    ),
  },
  {
    description: 'How a model is served.',
    rules: [
      {
        rule: 'has(self.modelRef) != has(self.model)',
        message: 'give exactly one of spec.modelRef (an SLMModel by name) and spec.model (a source written in place)',
      },
      {
        rule: '!has(self.api) || !has(self.api.management) || !self.api.management || !has(self.replicas) || self.replicas <= 1',
        message: 'api.management keeps models in one pod: set replicas to 1',
      },
      {
        rule: "!has(self.placement) || !has(self.placement.mode) || self.placement.mode != 'PerNode' || !has(self.replicas)",
        message:
          'placement.mode PerNode runs one pod on each node: leave out replicas, and choose nodes with podTemplate.spec.nodeSelector',
      },
      {
        rule: "!has(self.placement) || !has(self.placement.mode) || self.placement.mode != 'PerNode' || !has(self.strategy) || !has(self.strategy.type) || self.strategy.type == 'Rolling' || self.strategy.type == 'Recreate'",
        message: 'placement.mode PerNode moves node by node: use strategy.type Rolling or Recreate',
      },
      {
        rule: "!has(self.placement) || !has(self.placement.mode) || self.placement.mode != 'PerNode' || !has(self.hardware) || !has(self.hardware.promoteBack) || self.hardware.promoteBack == 'Never'",
        message:
          'placement.mode PerNode keeps one pod on a node, so none can come back to better hardware beside it: leave out hardware.promoteBack; the next revision takes the best hardware again',
      },
      {
        rule: "!has(self.placement) || !has(self.placement.mode) || self.placement.mode != 'PerNode' || !has(self.api) || !has(self.api.management) || !self.api.management",
        message: 'api.management keeps models in one pod, and placement.mode PerNode runs many: leave out one of them',
      },
      {
        rule: '!has(self.tracing) || (has(self.isolation) && has(self.isolation.denyEgress) && !self.isolation.denyEgress)',
        message:
          'spec.tracing sends spans out of the pods: set isolation.denyEgress: false, and a NetworkPolicy of your own where that is too much',
      },
    ],
  },
);
export type SLMDeploymentSpec = Static<typeof SLMDeploymentSpec>;

/** A served model. */
export interface SLMDeployment {
  readonly apiVersion: string;
  readonly kind: 'SLMDeployment';
  readonly metadata: ObjectMeta;
  readonly spec: SLMDeploymentSpec;
  readonly status?: SLMDeploymentStatus;
}
