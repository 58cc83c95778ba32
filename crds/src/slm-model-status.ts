/** What an SLMModel’s status tells: revisions, what their headers say, and how far the nodes are. */
import type { Static } from 'typebox';
import { conditions, digest, ModelFile, ModelSource, observedGeneration } from './common.ts';
import { boolean, integer, list, object, optional, text, time, word } from './schema.ts';

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
