/** SLMModel: what the bytes are, how they are checked and where they are pulled ahead of use. */
import type { Static } from 'typebox';
import {
  conditions,
  digest,
  ModelFile,
  ModelSource,
  type ObjectMeta,
  observedGeneration,
  secretRef,
  tolerations,
} from './common.ts';
import { labelSelector } from './label-selector.ts';
import { modelDefaultsFields } from './model-defaults.ts';
import { boolean, integer, list, mapOf, object, optional, text, time, word } from './schema.ts';

const source = object(
  {
    uri: text({
      max: 1024,
      min: 8,
      description:
        'Where the weights are: hf://ORG/REPO[@REVISION][/FILE or /FOLDER] or https://HOST/FILE. A branch or tag is resolved once to a commit; a changed uri makes a new revision. An ONNX model comes out of a repository, because its tokenizer belongs to it.',
      rules: [
        {
          rule: "self.startsWith('https://') || self.startsWith('http://') || self.startsWith('hf://')",
          message: 'must start with hf:// or https://; this release pulls from no other kind of source',
        },
        {
          rule: "!self.startsWith('hf://') || self.matches('^hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9][A-Za-z0-9._-]*)?(/[^@?#]+)?$')",
          message: 'must be hf://ORG/REPO, hf://ORG/REPO@REVISION or either with /FILE or /FOLDER after it',
        },
        {
          rule: "self.startsWith('hf://') || self.matches('^https?://[^/@?#]+/[^#]*[^/#]$')",
          message:
            'must name one file, as in https://host/folder/model.gguf, without user, password or #fragment; credentials go into source.secretRef',
        },
        { rule: "!self.contains('/../') && !self.endsWith('/..')", message: 'must not contain ..' },
      ],
    }),
    files: optional(
      list(
        text({
          max: 256,
          min: 1,
          description: 'Glob such as *.gguf or onnx/**.',
          rules: [
            {
              rule: "!self.contains('..') && !self.startsWith('/')",
              message: 'must be a path inside the repository, without .. or a leading /',
            },
          ],
        }),
        {
          max: 64,
          set: true,
          description:
            'Which files of a hf:// repository to take. Default: the only .gguf file there is; without one the ONNX model: of the only genai_config.json, else model_quantized.onnx (8 bit), else model.onnx, else the only .onnx file. Tokenizer, settings and external data of an ONNX model come along unnamed.',
        },
      ),
    ),
    secretRef: optional(secretRef),
    endpoint: optional(
      text({
        max: 512,
        pattern: '^https?://[^/@?#]+(/[^?#]*)?$',
        description:
          'Base address of a mirror that speaks the Hugging Face Hub API, for hf:// sources. Default: the operator configuration, https://huggingface.co.',
      }),
    ),
    insecure: optional(
      boolean({ description: 'Allow http:// in uri or endpoint. The digest is still checked. Default false.' }),
    ),
    caBundleRef: optional(
      object(
        {
          kind: word(['ConfigMap', 'Secret'], { description: 'Kind of the object.' }),
          name: text({ max: 253, min: 1, description: 'Its name, in the same namespace.' }),
          key: optional(text({ max: 253, min: 1, description: 'Key with the PEM bundle. Default ca.crt.' })),
        },
        { description: 'Certificate authorities to trust for this source, besides the public ones.' },
      ),
    ),
  },
  {
    description: 'Where the weights come from.',
    rules: [
      {
        rule: "!self.uri.startsWith('http://') || (has(self.insecure) && self.insecure)",
        message: 'an http:// uri needs source.insecure: true; write https:// where the server has it',
      },
      {
        rule: "!has(self.endpoint) || !self.endpoint.startsWith('http://') || (has(self.insecure) && self.insecure)",
        message: 'an http:// endpoint needs source.insecure: true; write https:// where the server has it',
      },
      {
        rule: "!has(self.endpoint) || self.uri.startsWith('hf://')",
        message: 'source.endpoint is for hf:// sources; for others put the host into source.uri',
      },
      {
        rule: "!has(self.files) || self.uri.startsWith('hf://')",
        message: 'source.files is for hf:// repositories; an https:// uri names one file itself',
      },
      {
        rule: "!has(self.files) || !self.uri.matches('^hf://[^/]+/[^/]+/.+')",
        message: 'give either a file in source.uri or globs in source.files, not both',
      },
    ],
  },
);

export const SLMModelSpec = object(
  {
    source,
    variants: optional(
      list(
        object(
          {
            name: text({
              max: 32,
              min: 1,
              pattern: '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$',
              description: 'Name of the variant, such as fp16 or int4-npu.',
            }),
            accelerators: list(
              text({
                max: 32,
                min: 1,
                pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
                description: 'A class (npu, gpu, cpu) or a profile such as nvidia.',
              }),
              {
                max: 16,
                min: 1,
                set: true,
                description: 'Hardware that this file is for. A profile goes before a class.',
              },
            ),
            uri: source.properties.uri,
            files: source.properties.files,
            digest: optional(
              digest(
                'sha256:HEX that it must have, as integrity.digest is for source: of the file where there is one file, of the revision where there are several. Needed for https://.',
              ),
            ),
            format: optional(
              word(['Auto', 'GGUF', 'ONNX'], { description: 'What the files must be. Default Auto: told by them.' }),
            ),
          },
          {
            description: 'Another file of the same model, for other hardware.',
            rules: [
              {
                rule: "!self.uri.startsWith('http') || has(self.digest)",
                message:
                  'an https:// uri of a variant needs its digest: sha256:HEX (what sha256sum prints for the file)',
              },
              {
                rule: "!has(self.files) || self.uri.startsWith('hf://')",
                message: 'files of a variant is for hf:// repositories; an https:// uri names one file itself',
              },
              {
                rule: "!has(self.files) || !self.uri.matches('^hf://[^/]+/[^/]+/.+')",
                message: 'give a variant either a file in its uri or globs in files, not both',
              },
            ],
          },
        ),
        {
          max: 16,
          keys: ['name'],
          description:
            'Files of the same model for other hardware; source is for all the rest. Credentials, endpoint and certificates are those of source; the credentials go only to the host that source is on.',
          rules: [
            {
              rule: 'self.all(one, one.accelerators.all(name, self.exists_one(other, name in other.accelerators)))',
              message:
                'two variants name the same accelerator, so that it is open which of them it gets: name each class and each profile in one variant only',
            },
          ],
        },
      ),
    ),
    integrity: optional(
      object(
        {
          digest: optional(
            digest(
              'sha256:HEX that the source must have: of the file where there is one file, of the revision (status.latestRevision.digest) where there are several. Each variant has a digest of its own.',
            ),
          ),
        },
        { description: 'How the bytes are checked.' },
      ),
    ),
    prePull: optional(
      object(
        {
          policy: optional(
            word(['OnDemand', 'Nodes', 'None'], {
              description:
                'OnDemand (default): to the nodes where a deployment of this model may run. Nodes: to every node that matches, used or not. None: to a node when the first pod mounts it there. Of a model with variants each node gets the files that its hardware computes.',
            }),
          ),
          nodeSelector: optional(
            mapOf(text({ max: 63, description: 'Value of the label.' }), {
              max: 32,
              description: 'Labels of the nodes for policy Nodes. Default: all nodes.',
            }),
          ),
          tolerations: optional(tolerations),
        },
        {
          description: 'Where the bytes are pulled before a pod needs them.',
          rules: [
            {
              rule: "!has(self.nodeSelector) || (has(self.policy) && self.policy == 'Nodes')",
              message:
                'prePull.nodeSelector needs prePull.policy: Nodes; with OnDemand the deployments decide the nodes',
            },
            {
              rule: "!has(self.tolerations) || (has(self.policy) && self.policy == 'Nodes')",
              message:
                'prePull.tolerations needs prePull.policy: Nodes; with OnDemand the deployments decide the nodes',
            },
          ],
        },
      ),
    ),
    ...modelDefaultsFields,
    allowedNamespaces: optional(
      object(
        {
          from: optional(
            word(['Same', 'All', 'Selector'], {
              description:
                'Same: this namespace alone. All: every namespace. Selector: this one, and those with the labels of selector. Default Same.',
            }),
          ),
          selector: optional(
            labelSelector('Labels of the namespaces, for from: Selector. An empty one matches every namespace.'),
          ),
        },
        {
          description:
            'Namespaces whose SLMDeployments may serve this model, by modelRef.namespace. They get its bytes, read-only, and nothing of its Secrets.',
          rules: [
            {
              rule: "has(self.selector) == (has(self.from) && self.from == 'Selector')",
              message: 'allowedNamespaces.selector and from: Selector go together; from Same and All have no selector',
            },
          ],
        },
      ),
    ),
    suspend: optional(boolean({ description: 'Stop resolving and pulling; what is cached stays. Default false.' })),
  },
  {
    description: 'What the weights are.',
    rules: [
      {
        rule: "!has(self.variants) || (has(self.source.insecure) && self.source.insecure) || self.variants.all(one, !one.uri.startsWith('http://'))",
        message: 'an http:// uri of a variant needs source.insecure: true; write https:// where the server has it',
      },
      {
        rule: "!self.source.uri.startsWith('http') || (has(self.integrity) && has(self.integrity.digest))",
        message:
          'an https:// source needs integrity.digest: sha256:HEX (what sha256sum prints for the file), because the server could change the file at any time',
      },
    ],
  },
);
export type SLMModelSpec = Static<typeof SLMModelSpec>;

const filesFields = {
  files: list(ModelFile, { max: 256, keys: ['path'], description: 'The files.' }),
  sources: list(ModelSource, { max: 8, atomic: true, description: 'Where they are to be had, in order.' }),
};

const revisionFields = {
  name: text({
    max: 63,
    description:
      'First ten hex digits of the digest; with variants, of the hash over all digests and what they are for.',
  }),
  digest: digest('SHA-256 over the list of files, one line "HEX  PATH" each, sorted by path.'),
  sourceRevision: optional(text({ max: 256, description: 'Commit that a branch or tag was resolved to.' })),
  size: integer({ minimum: 0, description: 'Bytes of all files.' }),
  resolvedAt: time({ description: 'When it was resolved.' }),
};

export const ModelMetadata = object(
  {
    format: word(['GGUF', 'ONNX'], { description: 'Told by the files.' }),
    architecture: optional(text({ max: 64, description: 'For example llama.' })),
    parameters: optional(integer({ minimum: 0, description: 'Number of weights.' })),
    parametersText: optional(text({ max: 16, description: 'The same for people, for example 135M.' })),
    quantization: optional(
      text({
        max: 32,
        description: 'For example Q4_K_M; of an ONNX model the type that most weights have, for example INT8.',
      }),
    ),
    contextLength: optional(integer({ minimum: 0, description: 'Tokens that the model was trained for.' })),
    layers: optional(integer({ minimum: 0, description: 'Transformer blocks.' })),
    license: optional(text({ max: 256, description: 'As the file says.' })),
    hasChatTemplate: optional(boolean({ description: 'Whether a chat template comes with it.' })),
  },
  { description: 'What the header of the file says, or the files of an ONNX model.' },
);
export type ModelMetadata = Static<typeof ModelMetadata>;

export const ModelEstimate = object(
  {
    weights: integer({ minimum: 0, description: 'Bytes of the weights.' }),
    kvCachePer1kTokens: optional(
      integer({
        minimum: 0,
        description:
          'Bytes of KV cache for 1024 tokens: at f16; of an ONNX model in the type that it was exported with.',
      }),
    ),
  },
  { description: 'Memory that serving takes, from the header.' },
);
export type ModelEstimate = Static<typeof ModelEstimate>;

export const ModelVariant = object(
  {
    name: text({ max: 32, description: 'Name as in spec.variants.' }),
    accelerators: list(text({ max: 32, description: 'A class or a profile.' }), {
      max: 16,
      set: true,
      description: 'Hardware that it is for.',
    }),
    digest: digest('SHA-256 over the list of its files, as that of the revision.'),
    resolvedSource: optional(text({ max: 64, description: 'Hash of the fields that it was resolved from.' })),
    sourceRevision: optional(text({ max: 256, description: 'Commit that a branch or tag was resolved to.' })),
    size: integer({ minimum: 0, description: 'Bytes of all its files.' }),
    ...filesFields,
    metadata: optional(ModelMetadata),
    estimate: optional(ModelEstimate),
  },
  { description: 'Files of the model for other hardware.' },
);
export type ModelVariant = Static<typeof ModelVariant>;

export const ModelRevision = object(
  {
    ...revisionFields,
    ...filesFields,
    variants: optional(
      list(ModelVariant, { max: 16, keys: ['name'], description: 'The other files, for other hardware.' }),
    ),
    metadata: optional(ModelMetadata),
    estimate: optional(ModelEstimate),
    usedBy: optional(
      list(text({ max: 317, description: 'Name of an SLMDeployment; NAMESPACE/NAME of one in another namespace.' }), {
        max: 64,
        atomic: true,
        description: 'Deployments that serve it.',
      }),
    ),
  },
  { description: 'Bytes that never change.' },
);
export type ModelRevision = Static<typeof ModelRevision>;

export const ModelFailure = object(
  {
    node: text({ max: 253, description: 'Name of the node.' }),
    reason: text({ max: 128, description: 'One word.' }),
    message: text({ max: 1024, description: 'What went wrong and what to do.' }),
    attempts: integer({ minimum: 0, description: 'How often it was tried.' }),
    nextRetryTime: optional(time({ description: 'When it is tried again; absent when only a change of spec helps.' })),
  },
  { description: 'A node that cannot hold the model now.' },
);
export type ModelFailure = Static<typeof ModelFailure>;

export const SLMModelStatus = object(
  {
    observedGeneration: optional(observedGeneration),
    conditions: optional(conditions),
    resolvedSource: optional(
      text({ max: 64, description: 'Hash of the source fields that latestRevision was resolved from.' }),
    ),
    latestRevision: optional(object(revisionFields, { description: 'The revision that deployments move to.' })),
    revisions: optional(
      list(ModelRevision, {
        max: 10,
        keys: ['name'],
        description:
          'The latest revision and older ones still of use: served, pinned by modelRef.revision, or in the history of a deployment. Newest first.',
      }),
    ),
    metadata: optional(ModelMetadata),
    estimate: optional(ModelEstimate),
    cache: optional(
      object(
        {
          desiredNodes: integer({ minimum: 0, description: 'Nodes that are to hold the latest revision.' }),
          readyNodes: integer({ minimum: 0, description: 'Nodes that hold it, verified.' }),
          downloadingNodes: integer({ minimum: 0, description: 'Nodes that are pulling it.' }),
          failedNodes: integer({ minimum: 0, description: 'Nodes that cannot.' }),
          bytesDone: integer({ minimum: 0, description: 'Bytes there, over all nodes.' }),
          bytesTotal: integer({ minimum: 0, description: 'Bytes wanted, over all nodes.' }),
          percent: integer({ minimum: 0, maximum: 100, description: 'bytesDone of bytesTotal.' }),
          bytesPerSecond: integer({ minimum: 0, description: 'Sum over the nodes that are pulling.' }),
          secondsLeft: optional(
            integer({ minimum: 0, description: 'Until the slowest node is done, at the present rates.' }),
          ),
          nodes: text({ max: 32, description: 'READY/DESIRED for the CACHED column.' }),
          progress: text({ max: 64, description: 'For the PROGRESS column, for example "62% 41 MB/s 12s".' }),
        },
        { description: 'How far the nodes are.' },
      ),
    ),
    failures: optional(
      list(ModelFailure, { max: 32, keys: ['node'], description: 'Nodes that failed, the first 32.' }),
    ),
  },
  { description: 'What is.' },
);
export type SLMModelStatus = Static<typeof SLMModelStatus>;

/** A model. */
export interface SLMModel {
  readonly apiVersion: string;
  readonly kind: 'SLMModel';
  readonly metadata: ObjectMeta;
  readonly spec: SLMModelSpec;
  readonly status?: SLMModelStatus;
}
