/** Pieces that several kinds share: object metadata, conditions, references. */
import type { Static } from 'typebox';
import { boolean, integer, list, object, optional, text, time, word } from './schema.ts';

/** What this project reads of `metadata`. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly OwnerReference[];
}

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

export const digestPattern = '^sha256:[0-9a-f]{64}$';

export function digest(description: string) {
  return text({ max: 71, pattern: digestPattern, description });
}

/**
 * The generation that an object speaks of before the operator has looked at it. Tools that follow kstatus take an object without
 * status for one that is as it should be; with a generation that is none they wait.
 */
export const UNSEEN_GENERATION = -1;

/** `status.observedGeneration` of the kinds that people write. */
export const observedGeneration = integer({
  minimum: UNSEEN_GENERATION,
  description: 'The spec that this status speaks of; -1 before the operator has seen any.',
});

export const Condition = object(
  {
    type: text({ max: 316, description: 'Name of the condition in CamelCase.' }),
    status: word(['True', 'False', 'Unknown'], { description: 'Whether it holds.' }),
    observedGeneration: optional(integer({ minimum: 0, description: 'The spec that this was computed from.' })),
    lastTransitionTime: time({ description: 'When the status last changed.' }),
    reason: text({ max: 1024, min: 1, description: 'One word for programs.' }),
    message: text({ max: 32768, description: 'One sentence for people: what is so, and what to do.' }),
  },
  { description: 'One observation of the object.' },
);
export type Condition = Static<typeof Condition>;

export const conditions = list(Condition, {
  max: 32,
  keys: ['type'],
  description: 'Ready, and Reconciling or Stalled only while they are true, as kstatus reads them.',
});

export const secretRef = object(
  {
    name: text({ max: 253, min: 1, description: 'Name of a Secret in the same namespace.' }),
  },
  { description: 'A Secret in the same namespace.' },
);

export interface Toleration {
  readonly key?: string;
  readonly operator?: 'Exists' | 'Equal';
  readonly value?: string;
  readonly effect?: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';
  readonly tolerationSeconds?: number;
}

export const tolerations = list(
  object(
    {
      key: optional(text({ max: 316, description: 'Key of the taint; empty with Exists matches every key.' })),
      operator: optional(word(['Exists', 'Equal'], { description: 'Default Equal.' })),
      value: optional(text({ max: 63, description: 'Value of the taint.' })),
      effect: optional(
        word(['NoSchedule', 'PreferNoSchedule', 'NoExecute'], {
          description: 'Effect of the taint; empty matches all.',
        }),
      ),
      tolerationSeconds: optional(integer({ minimum: 0, description: 'How long a NoExecute taint is tolerated.' })),
    },
    { description: 'A taint that is tolerated.' },
  ),
  { max: 32, atomic: true, description: 'Taints that are tolerated, as in a pod.' },
);

/** One file of a model revision. */
export const ModelFile = object(
  {
    path: text({ max: 512, min: 1, description: 'Path below the model folder, with / between parts.' }),
    size: integer({ minimum: 0, description: 'Bytes.' }),
    digest: digest('SHA-256 of the bytes.'),
  },
  { description: 'One file.' },
);
export type ModelFile = Static<typeof ModelFile>;

/** Where the bytes of a revision are to be had. */
export const ModelSource = object(
  {
    url: text({
      max: 2048,
      min: 1,
      description: 'Address of a file; `{path}` in it stands for the path of the file, percent-encoded part by part.',
    }),
    needsGrant: optional(
      boolean({
        description:
          'A download needs a credential or a private CA: the node agent asks the operator for what this download needs. Default false.',
      }),
    ),
  },
  { description: 'An origin. Carries no secret.' },
);
export type ModelSource = Static<typeof ModelSource>;
