import type { KubeClient } from '../kube/client.ts';
import type { KubeObject, ResourceType } from '../kube/resource.ts';
import type { Clock } from './clock.ts';
import type { Logger } from './log.ts';

/** What to tell about an object. */
export interface EventMessage {
  /** Default Normal. */
  readonly type?: 'Normal' | 'Warning' | undefined;
  /** CamelCase, ≤ 128. */
  readonly reason: string;
  /** What the controller did or tried, CamelCase, ≤ 128. Default: the reason. */
  readonly action?: string | undefined;
  /** For people; cut at 1024 bytes. */
  readonly note: string;
}

export interface EventRecorder {
  /** Returns at once; writing happens behind, and its failure is logged, never thrown. */
  record<T extends KubeObject>(type: ResourceType<T>, regarding: NoInfer<T>, message: EventMessage): void;
  /** Writes what is still to write, for shutdown; gives up when aborted. */
  flush(signal?: AbortSignal): Promise<void>;
}

export interface EventRecorderOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  /** `reportingController`, for example `example.com/widget-operator`. */
  readonly controller: string;
  /** `reportingInstance`. Default: host name. */
  readonly instance?: string | undefined;
  readonly clock?: Clock | undefined;
}

export declare function makeEventRecorder(options: EventRecorderOptions): EventRecorder;
