/** One bounded question to a serving pod over HTTP. Believes nothing of the answer and keeps nothing; who asks reads it. */
import { Agent } from 'undici';
import type { PodPlace } from './pod-report.ts';

export interface PodAnswer {
  readonly statusCode: number;
  readonly text: string;
}

export interface PodRequestOptions {
  /** Milliseconds for the connection, the headers, the body, and all of it together. */
  readonly timeoutMs: number;
  /** Longer answers are refused. */
  readonly maxBodyBytes: number;
}

/**
 * A GET of one path of any pod; rejects when it does not answer in time or says too much. Certificates are not verified, as the
 * kubelet's probes do not: nothing secret is sent or learned.
 */
export function makePodRequest(
  path: string,
  { timeoutMs, maxBodyBytes }: PodRequestOptions,
): (place: PodPlace) => Promise<PodAnswer> {
  const dispatcher = new Agent({
    connect: { timeout: timeoutMs, rejectUnauthorized: false },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    // Each pod is asked now and then, so no connection is worth keeping.
    pipelining: 0,
    maxResponseSize: maxBodyBytes,
  });
  return async ({ ip, port, tls }) => {
    const host = ip.includes(':') ? `[${ip}]` : ip;
    const { statusCode, body } = await dispatcher.request({
      origin: `${tls ? 'https' : 'http'}://${host}:${port}`,
      path,
      method: 'GET',
      signal: AbortSignal.timeout(timeoutMs),
    });
    return { statusCode, text: await body.text() };
  };
}
