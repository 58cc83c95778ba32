/** What the Model controller looks at, as one plain value, and what the resolver has to say. Types only. */
import type { SLMDeployment, SLMModel, SLMNodeCache } from '@slm-operator/crds';
import type { NodeStock } from '../hardware/node-hardware.ts';
import type { Demand } from '../nodecache/demand.ts';
import type { RevisionUse } from '../nodecache/views.ts';
import type { SourceFailure } from '../sources/http-errors.ts';
import type { PastUse } from './history.ts';
import type { ModelResolution } from './parts.ts';

/** How far the resolving of one model's source and variants is. */
export interface ResolutionState {
  /** Hash of the source that it speaks of; see `sourceHash`. */
  readonly hash: string;
  /** Generation of the spec when it began. */
  readonly generation: number;
  /** Whether the source is being asked right now. */
  readonly running: boolean;
  /** Attempts that failed in a row. */
  readonly failures: number;
  readonly result?: ModelResolution | undefined;
  /** Of the last attempt, also while the next one runs. */
  readonly failure?: SourceFailure | undefined;
  /** When to try again, milliseconds since 1970; set with `failure`. */
  readonly retryAt?: number | undefined;
}

export interface ObservedModel {
  readonly model: SLMModel;
  /** Of the spec as it is now. */
  readonly sourceHash: string;
  readonly resolution: ResolutionState | undefined;
  readonly nodes: readonly NodeStock[];
  /** By node. */
  readonly caches: Pick<ReadonlyMap<string, SLMNodeCache>, 'get'>;
  /** Those that serve the model, or are to; of other namespaces those that may. */
  readonly deployments: readonly SLMDeployment[];
  /** What a demand is made with; that of the revision which the plan comes to. */
  readonly demandOf: (model: SLMModel) => Demand;
  /** Of this model. */
  readonly uses: readonly RevisionUse[];
  /** What ReplicaSets without pods were made from, which their deployments may go back to. */
  readonly past?: readonly PastUse[] | undefined;
  /** When this process last wrote the status, milliseconds since 1970. */
  readonly lastWrite: number | undefined;
  /** Since when nothing but the users of revisions differs from what is written, milliseconds since 1970. */
  readonly usersSince?: number | undefined;
}
