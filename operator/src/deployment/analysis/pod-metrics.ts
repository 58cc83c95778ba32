/**
 * Reads `/metrics` of one serving pod. Pods are other people's, so their answers are bounded and nothing but numbers is taken from them.
 */
import { serverPaths } from '@slm-operator/crds';
import { Agent } from 'undici';
import type { PodPlace } from '../pod-report.ts';
import { type Reading, readNumbers } from './numbers.ts';

/** A busy pod still answers this, but not always at once. */
const TIMEOUT_MS = 4000;
/** Default metrics of a process, and histograms for each model and route. */
const MAX_BODY_BYTES = 1024 * 1024;

/** Rejects when the pod does not answer in time, or with something else. */
export type AskMetrics = (place: PodPlace) => Promise<Reading>;

/** Asks over HTTP. Certificates are not verified, as the kubelet's probes do not: nothing secret is sent or learned. */
export function makeAskMetrics(): AskMetrics {
  const dispatcher = new Agent({
    connect: { timeout: TIMEOUT_MS, rejectUnauthorized: false },
    headersTimeout: TIMEOUT_MS,
    bodyTimeout: TIMEOUT_MS,
    pipelining: 0,
    maxResponseSize: MAX_BODY_BYTES,
  });
  return async ({ ip, port, tls }) => {
    const host = ip.includes(':') ? `[${ip}]` : ip;
    const { statusCode, body } = await dispatcher.request({
      origin: `${tls ? 'https' : 'http'}://${host}:${port}`,
      path: serverPaths.metrics,
      method: 'GET',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const reading = readNumbers(await body.text());
    if (statusCode !== 200 || reading === undefined) throw new Error(`the pod answered ${statusCode} without metrics`);
    return reading;
  };
}
