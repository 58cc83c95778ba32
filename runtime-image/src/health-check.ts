/**
 * Asks the server beside it whether it is ready: what HEALTHCHECK of the image runs, for plain Docker. Reads the same settings as
 * the server, so it finds another port and HTTPS; changes nothing.
 */
import { get as getHttp } from 'node:http';
import { get as getHttps } from 'node:https';
import { isIPv6 } from 'node:net';
import { serverPaths } from '@slm-operator/crds/contract';
import { readConfig } from './config.ts';

/** Docker's own limit is in the image; this one ends the question in any case, in milliseconds. */
const TIMEOUT_MS = 5000;

/** The address to ask. @throws StartupError for settings that the server refuses too */
export function healthUrl(env: Readonly<Record<string, string | undefined>>): string {
  const { host, port, tls } = readConfig(env);
  const name = host === undefined || host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return `${tls ? 'https' : 'http'}://${isIPv6(name) ? `[${name}]` : name}:${port}${serverPaths.readyz}`;
}

/** @returns whether the server is ready */
export function isHealthy(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    // It asks itself: whose certificate that is does not matter.
    const asking = url.startsWith('https')
      ? getHttps(url, { signal, rejectUnauthorized: false })
      : getHttp(url, { signal });
    asking.once('error', () => resolve(false));
    asking.once('response', (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
  });
}
