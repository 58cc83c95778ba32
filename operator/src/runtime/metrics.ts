import type { Registry } from 'prom-client';
import type { RequestRecord } from '../kube/client.ts';

export interface RuntimeMetrics {
  readonly registry: Registry;
  /** Give it to `makeKubeClient({onRequest})`. */
  readonly onRequest: (record: RequestRecord) => void;
}
export declare function makeRuntimeMetrics(registry?: Registry): RuntimeMetrics;
