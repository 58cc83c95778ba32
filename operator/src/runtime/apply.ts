import type { CallOptions, KubeClient } from '../kube/client.ts';
import type { KubeObject, ResourceType } from '../kube/resource.ts';

/** Result of a write that may have been unnecessary. */
export interface ApplyResult<T> {
  /** The object as it now is; the live one when nothing was written. */
  readonly object: T;
  readonly written: boolean;
}

export interface ApplierOptions {
  readonly client: KubeClient;
  /** Stable over releases: the server removes what this manager applied before and leaves out now. */
  readonly fieldManager: string;
}

/**
 * Server-side apply that writes only when there is something to write.
 */
export interface Applier {
  /**
   * Makes the object hold `desired`, which must name apiVersion, kind and metadata.
   * @param live the object from the store, or undefined when the store has none (then it always writes)
   * @param options.force take fields from other managers. Default true: a controller's fields are its own.
   */
  apply<T extends KubeObject>(
    type: ResourceType<T>,
    desired: KubeObject,
    live: NoInfer<T> | undefined,
    options?: CallOptions & { readonly force?: boolean | undefined },
  ): Promise<ApplyResult<T>>;
  /**
   * Makes the object's status exactly `status` (as far as this manager owns it); no write when it is so already.
   * Answers undefined when the object is gone meanwhile: there is nobody left to tell.
   */
  writeStatusIfChanged<T extends KubeObject & { readonly status?: unknown }>(
    type: ResourceType<T>,
    live: NoInfer<T>,
    status: NonNullable<NoInfer<T>['status']>,
    options?: CallOptions,
  ): Promise<ApplyResult<T> | undefined>;
  /** Deletes this very object (uid precondition); no error when it is already gone. */
  delete<T extends KubeObject>(
    type: ResourceType<T>,
    live: NoInfer<T>,
    options?: CallOptions & { readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan' | undefined },
  ): Promise<void>;
}

export declare function makeApplier(options: ApplierOptions): Applier;
