/** The kinds as CustomResourceDefinitions. Owns names, columns and subresources; the fields are in the kinds' own files. */
import type { TSchema } from 'typebox';
import { UNSEEN_GENERATION } from './common.ts';
import { GROUP, VERSION } from './contract.ts';
import { type CelRule, toStructural } from './schema.ts';
import { SLMDeploymentSpec } from './slm-deployment.ts';
import { SLMDeploymentStatus } from './slm-deployment-status.ts';
import { SLMModelSpec } from './slm-model.ts';
import { SLMModelStatus } from './slm-model-status.ts';
import { SLMNodeCacheSpec, SLMNodeCacheStatus } from './slm-node-cache.ts';
import { SLMRolloutSpec, SLMRolloutStatus } from './slm-rollout.ts';

interface Column {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date';
  readonly jsonPath: string;
  readonly description?: string;
  /** Above 0: only with `kubectl get -o wide`. */
  readonly priority?: number;
}

/** A kind of this API. */
export interface Kind {
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortName: string;
  readonly namespaced: boolean;
  readonly description: string;
  readonly spec: TSchema;
  readonly specRequired: boolean;
  readonly status: TSchema;
  /** People and their tools write it, and wait for its status. */
  readonly awaited: boolean;
  readonly rules: readonly CelRule[];
  readonly columns: readonly Column[];
  readonly scale?: { specReplicasPath: string; statusReplicasPath: string; labelSelectorPath: string };
}

const condition = (type: string, field: 'status' | 'reason' | 'message' = 'status') =>
  `.status.conditions[?(@.type=="${type}")].${field}`;
const age: Column = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };

export const slmModelKind: Kind = {
  kind: 'SLMModel',
  plural: 'slmmodels',
  singular: 'slmmodel',
  shortName: 'slmm',
  namespaced: true,
  description: 'What the weights of a model are, how they are checked, and which nodes pull them ahead of use.',
  spec: SLMModelSpec,
  specRequired: true,
  status: SLMModelStatus,
  awaited: true,
  rules: [
    {
      rule: 'size(self.metadata.name) <= 63',
      message: 'the name of an SLMModel may have 63 characters at most: it becomes the value of a label',
    },
  ],
  columns: [
    { name: 'Ready', type: 'string', jsonPath: condition('Ready') },
    { name: 'Format', type: 'string', jsonPath: '.status.metadata.format' },
    { name: 'Quant', type: 'string', jsonPath: '.status.metadata.quantization' },
    { name: 'Params', type: 'string', jsonPath: '.status.metadata.parametersText' },
    { name: 'Cached', type: 'string', jsonPath: '.status.cache.nodes' },
    { name: 'Progress', type: 'string', jsonPath: '.status.cache.progress' },
    age,
    { name: 'Revision', type: 'string', jsonPath: '.status.latestRevision.name', priority: 1 },
    { name: 'Source', type: 'string', jsonPath: '.spec.source.uri', priority: 1 },
    { name: 'Reason', type: 'string', jsonPath: condition('Ready', 'message'), priority: 1 },
  ],
};

export const slmDeploymentKind: Kind = {
  kind: 'SLMDeployment',
  plural: 'slmdeployments',
  singular: 'slmdeployment',
  shortName: 'slmd',
  namespaced: true,
  description: 'A model served by a number of pods, with Ollama’s and OpenAI’s APIs.',
  spec: SLMDeploymentSpec,
  specRequired: true,
  status: SLMDeploymentStatus,
  awaited: true,
  rules: [
    {
      // A pod's name is NAME-<10>-<5> and must stay within 63; its Service's name must begin with a letter.
      rule: 'size(self.metadata.name) <= 46',
      message: 'the name of an SLMDeployment may have 46 characters at most: the names of its pods are made from it',
    },
    {
      rule: "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
      message:
        'the name of an SLMDeployment must begin with a letter and hold only a-z, 0-9 and -, because its Service has the same name',
    },
  ],
  columns: [
    { name: 'Ready', type: 'string', jsonPath: condition('Ready') },
    { name: 'Model', type: 'string', jsonPath: '.status.modelName' },
    { name: 'Revision', type: 'string', jsonPath: '.status.updateRevision' },
    { name: 'Replicas', type: 'string', jsonPath: '.status.readyText' },
    { name: 'Hardware', type: 'string', jsonPath: '.status.hardware.summary' },
    { name: 'Status', type: 'string', jsonPath: '.status.statusText' },
    age,
    { name: 'Endpoint', type: 'string', jsonPath: '.status.endpoints.openai', priority: 1 },
  ],
  scale: {
    specReplicasPath: '.spec.replicas',
    statusReplicasPath: '.status.replicas',
    labelSelectorPath: '.status.selector',
  },
};

export const slmNodeCacheKind: Kind = {
  kind: 'SLMNodeCache',
  plural: 'slmnodecaches',
  singular: 'slmnodecache',
  shortName: 'slmnc',
  namespaced: false,
  description:
    'The models that one node must hold and holds. Made by the operator for every node; not for people to edit.',
  spec: SLMNodeCacheSpec,
  specRequired: false,
  status: SLMNodeCacheStatus,
  awaited: false,
  rules: [],
  columns: [
    { name: 'Ready', type: 'string', jsonPath: condition('Ready') },
    { name: 'Models', type: 'string', jsonPath: '.status.summary' },
    { name: 'Status', type: 'string', jsonPath: condition('Ready', 'message') },
    age,
    { name: 'Used', type: 'integer', jsonPath: '.status.usedBytes', priority: 1 },
    { name: 'Free', type: 'integer', jsonPath: '.status.freeBytes', priority: 1 },
  ],
};

export const slmRolloutKind: Kind = {
  kind: 'SLMRollout',
  plural: 'slmrollouts',
  singular: 'slmrollout',
  shortName: 'slmr',
  namespaced: false,
  description: 'In which order the deployments of a cluster take over new revisions.',
  spec: SLMRolloutSpec,
  specRequired: true,
  status: SLMRolloutStatus,
  awaited: true,
  rules: [],
  columns: [
    { name: 'Ready', type: 'string', jsonPath: condition('Ready') },
    { name: 'Wave', type: 'string', jsonPath: '.status.wave' },
    { name: 'Updated', type: 'string', jsonPath: '.status.progressText' },
    { name: 'Status', type: 'string', jsonPath: '.status.statusText' },
    age,
  ],
};

/** Every kind, in the order in which they are installed. */
export const kinds: readonly Kind[] = [slmModelKind, slmDeploymentKind, slmRolloutKind, slmNodeCacheKind];

/** The CustomResourceDefinition of a kind. */
export function makeCrd(kind: Kind): Record<string, unknown> {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${kind.plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: kind.namespaced ? 'Namespaced' : 'Cluster',
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural: kind.plural,
        singular: kind.singular,
        shortNames: [kind.shortName],
        categories: ['slm'],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          additionalPrinterColumns: kind.columns.map((column) => ({ ...column })),
          subresources: { status: {}, ...(kind.scale ? { scale: kind.scale } : {}) },
          schema: {
            openAPIV3Schema: {
              type: 'object',
              description: kind.description,
              required: kind.specRequired ? ['spec'] : [],
              properties: {
                apiVersion: { type: 'string' },
                kind: { type: 'string' },
                metadata: { type: 'object' },
                spec: toStructural(kind.spec),
                status: {
                  ...toStructural(kind.status),
                  ...(kind.awaited ? { default: { observedGeneration: UNSEEN_GENERATION } } : {}),
                },
              },
              ...(kind.rules.length > 0 ? { 'x-kubernetes-validations': kind.rules } : {}),
            },
          },
        },
      ],
    },
  };
}
