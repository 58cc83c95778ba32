/**
 * Reads `/metrics` of one serving pod. Pods are other people's, so their answers are bounded and nothing but numbers is taken from them.
 */
import { serverPaths } from '@slm-operator/crds';
import type { PodPlace } from '../pod-report.ts';
import { makePodRequest } from '../pod-request.ts';
import { type Reading, readNumbers } from './numbers.ts';

/** A busy pod still answers this, but not always at once. */
const TIMEOUT_MS = 4000;
/** Default metrics of a process, and histograms for each model and route. */
const MAX_BODY_BYTES = 1024 * 1024;

/** Rejects when the pod does not answer in time, or with something else. */
export type AskMetrics = (place: PodPlace) => Promise<Reading>;

/** Asks over HTTP. */
export function makeAskMetrics(): AskMetrics {
  const ask = makePodRequest(serverPaths.metrics, { timeoutMs: TIMEOUT_MS, maxBodyBytes: MAX_BODY_BYTES });
  return async (place) => {
    const { statusCode, text } = await ask(place);
    const reading = readNumbers(text);
    if (statusCode !== 200 || reading === undefined) throw new Error(`the pod answered ${statusCode} without metrics`);
    return reading;
  };
}
