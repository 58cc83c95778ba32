/** SLMNodeCache: what one node must hold (spec, by the operator) and holds (status, by that node's agent). */
import type { Static } from 'typebox';
import { conditions, digest, ModelFile, ModelSource, type ObjectMeta } from './common.ts';
import { hardwareClasses } from './deployment-hardware.ts';
import { boolean, integer, list, object, optional, text, time, word } from './schema.ts';

export const WantedModel = object(
  {
    digest: digest('Digest of the revision.'),
    size: integer({ minimum: 0, description: 'Bytes of all files.' }),
    files: list(ModelFile, { max: 256, atomic: true, description: 'The files.' }),
    sources: list(ModelSource, { max: 16, atomic: true, description: 'Where they are to be had, in order.' }),
    models: list(text({ max: 320, description: 'NAMESPACE/NAME.' }), {
      max: 64,
      atomic: true,
      description: 'The SLMModels that want it here.',
    }),
    namespaces: list(text({ max: 63, description: 'Name of a namespace.' }), {
      max: 256,
      atomic: true,
      description: 'Namespaces whose pods may mount it.',
    }),
  },
  { description: 'A revision that the node must hold.' },
);
export type WantedModel = Static<typeof WantedModel>;

export const SLMNodeCacheSpec = object(
  {
    limits: optional(
      object(
        {
          maxBytes: optional(
            integer({ minimum: 0, description: 'Most bytes of models on this node. Default: no bound.' }),
          ),
          minFreePercent: optional(
            integer({ minimum: 0, maximum: 95, description: 'Part of the file system that stays free. Default 10.' }),
          ),
        },
        { description: 'How much of the disk models may take.' },
      ),
    ),
    wanted: optional(list(WantedModel, { max: 512, keys: ['digest'], description: 'What the node must hold.' })),
  },
  { description: 'Written by the operator alone.' },
);
export type SLMNodeCacheSpec = Static<typeof SLMNodeCacheSpec>;

export const entryStates = ['Queued', 'Downloading', 'Verifying', 'Ready', 'Failed', 'Evicting'] as const;
export type EntryState = (typeof entryStates)[number];

export const CacheEntry = object(
  {
    digest: digest('Digest of the revision.'),
    state: word(entryStates, { description: 'Evicting: no longer wanted, kept while a pod has it mounted.' }),
    bytesDone: integer({ minimum: 0, description: 'Bytes on disk.' }),
    bytesTotal: integer({ minimum: 0, description: 'Bytes wanted.' }),
    bytesPerSecond: optional(integer({ minimum: 0, description: 'Over the last seconds; while Downloading.' })),
    from: optional(text({ max: 512, description: 'Host that the bytes come or came from.' })),
    error: optional(
      object(
        {
          reason: text({ max: 128, description: 'One word.' }),
          message: text({ max: 1024, description: 'What went wrong and what to do.' }),
          attempts: integer({ minimum: 0, description: 'How often it was tried in a row.' }),
          nextRetry: optional(
            time({ description: 'When it is tried again; absent when only a change of spec helps.' }),
          ),
        },
        { description: 'Why the last attempt failed.' },
      ),
    ),
  },
  { description: 'A revision on this node.' },
);
export type CacheEntry = Static<typeof CacheEntry>;

export const NodeDevice = object(
  {
    id: text({ max: 128, description: 'Address on its bus, such as 0000:01:00.0; cpu for the processors.' }),
    class: word(hardwareClasses, { description: 'npu, gpu or cpu.' }),
    vendor: optional(text({ max: 64, description: 'Who made it, such as nvidia, amd or intel.' })),
    name: optional(text({ max: 256, description: 'What it calls itself, else its PCI ids as VENDOR:DEVICE.' })),
    driver: optional(text({ max: 64, description: 'Kernel driver that is bound to it; absent: none.' })),
    memoryBytes: optional(integer({ minimum: 0, description: 'Memory of its own.' })),
    usable: boolean({ description: 'Whether it has a driver and a device file, so that a container could use it.' }),
    message: optional(text({ max: 512, description: 'What is missing for that.' })),
    flags: optional(
      list(text({ max: 32, description: 'Name as in NFD’s cpu-cpuid labels, such as AVX512F.' }), {
        max: 64,
        set: true,
        description: 'Instruction sets of the processors that speed up inference.',
      }),
    ),
    cores: optional(integer({ minimum: 1, description: 'Processors that the node has.' })),
  },
  { description: 'A device that models can be computed on.' },
);
export type NodeDevice = Static<typeof NodeDevice>;

export const SLMNodeCacheStatus = object(
  {
    observedGeneration: optional(integer({ minimum: 0, description: 'The spec that the agent last acted on.' })),
    conditions: optional(conditions),
    agentVersion: optional(text({ max: 64, description: 'Version of the agent.' })),
    capacityBytes: optional(integer({ minimum: 0, description: 'Size of the file system.' })),
    freeBytes: optional(integer({ minimum: 0, description: 'Free on it when an entry last changed.' })),
    usedBytes: optional(integer({ minimum: 0, description: 'Taken by models.' })),
    summary: optional(text({ max: 64, description: 'READY/WANTED for the column.' })),
    devices: optional(
      list(NodeDevice, { max: 64, keys: ['id'], description: 'What the node can compute on, as the agent sees it.' }),
    ),
    entries: optional(list(CacheEntry, { max: 1024, keys: ['digest'], description: 'What is here or on its way.' })),
  },
  { description: 'Written by the agent of this node alone.' },
);
export type SLMNodeCacheStatus = Static<typeof SLMNodeCacheStatus>;

/** The cache of one node; has the node's name and goes with it. */
export interface SLMNodeCache {
  readonly apiVersion: string;
  readonly kind: 'SLMNodeCache';
  readonly metadata: ObjectMeta;
  readonly spec?: SLMNodeCacheSpec;
  readonly status?: SLMNodeCacheStatus;
}
