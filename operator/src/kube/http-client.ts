import type { KubeClient, RequestRecord } from './client.ts';
import type { ClusterAccess } from './config.ts';

export interface KubeClientOptions {
  readonly access: ClusterAccess;
  /** For example `widget-operator/1.2.3`. */
  readonly userAgent: string;
  /** Default field manager of writes. Default: the user agent up to the first slash. */
  readonly fieldManager?: string | undefined;
  /** Called for every HTTP request, retries too. Must not throw. */
  readonly onRequest?: ((record: RequestRecord) => void) | undefined;
}

export declare function makeKubeClient(options: KubeClientOptions): KubeClient;
